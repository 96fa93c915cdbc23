"""Inputs, lists and sums of gradients on the host, for the GPU backends of both rasterizers.

Eager calls take longer on the host than on the GPU, so that buffers are few: what lives as long as
the lists is one allocation.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from typing import Any

import torch
from torch import Tensor

from vultus.kernels import triton_tiles as tiles
from vultus.kernels.triton_lists import (
    LARGEST_NETWORK,
    largest_network,
    merge_chunks,
    sort_chunks,
    sort_lists,
)
from vultus.kernels.triton_pairs import Pairs, number_pairs, sum_pairs
from vultus.kernels.triton_runtime import launch

__all__ = [
    "BatchInputs",
    "Lists",
    "Sizes",
    "feature_groups",
    "filled",
    "gather_gradients",
    "new_lists",
    "order_lists",
    "sizes_of",
    "view_gradient",
]

# Launch parameters, chosen by measurement on an H100.
_LARGE_PROGRAMS, _LARGE_LANES, _LARGE_WARPS, _SORT_WARPS, _FILTER_LANES = 512, 128, 4, 4, 64
_CHUNK_PROGRAMS = 1024
_FEATURES_PER_LAUNCH = 16


@dataclass(frozen=True)
class Sizes:
    """Of a batch: primitives per frame, pixels, bins."""

    batch: int
    num: int
    width: int
    height: int

    @cached_property
    def rows(self) -> int:
        """Primitives of all frames."""
        return self.batch * self.num

    @cached_property
    def bins(self) -> tuple[int, int]:
        """Bins across and down a frame."""
        edge = tiles.BIN.value
        return -(-self.width // edge), -(-self.height // edge)

    @cached_property
    def num_bins(self) -> int:
        """Bins of all frames."""
        return self.batch * self.bins[0] * self.bins[1]


@lru_cache(maxsize=64)
def sizes_of(batch: int, num: int, width: int, height: int) -> Sizes:
    """The sizes of calls that are alike, computed once."""
    return Sizes(batch, num, width, height)


@dataclass(frozen=True, kw_only=True)
class BatchInputs:
    """Contiguous inputs of a call that both rasterizers have, and its sizes."""

    means: Tensor
    opacities: Tensor
    features: Tensor | None
    sh_coeffs: Tensor | None
    jacobians: Tensor | None
    background: Tensor | None
    world_to_camera: Tensor
    intrinsics: Tensor
    width: int
    height: int

    @cached_property
    def sizes(self) -> Sizes:
        """Of the batch."""
        return sizes_of(*self.means.shape[:2], self.width, self.height)

    @property
    def has_color(self) -> bool:
        """Whether there is a colour in front of the features."""
        return self.sh_coeffs is not None

    @property
    def num_features(self) -> int:
        """Channels beside the colour."""
        return 0 if self.features is None else self.features.shape[2]

    @property
    def channels(self) -> int:
        """Of the image."""
        return 3 * self.has_color + self.num_features


@dataclass(frozen=True)
class Lists:
    """Records of a batch, and the lists of its subtiles."""

    records: Tensor
    radii: Tensor
    counts: Tensor
    """The counters of `triton_tiles`, then the length of every bin's list."""
    lists: Tensor
    """Rows of records by depth, one segment of ``per_list`` per subtile."""
    lengths: Tensor
    """Of the subtiles' lists; -1 where the bin's list did not fit."""
    ends: Tensor
    """Length of the part of every list that blending needs, which writes it."""
    per_list: int
    bin_rows: Tensor | None = None
    """The bins' sorted lists, where nothing splits them: rows fill the first half of a segment of
    ``2 * per_list``. The other lists then hold nothing."""

    @property
    def counters(self) -> Tensor:
        """What the kernels have counted beside the bins' lengths."""
        return self.counts[: tiles.NUM_COUNTERS.value]


def filled(unused: Tensor, *tensors: Tensor | None) -> tuple[Tensor, ...]:
    """The tensors; any other one in place of those that kernels will not look at."""
    return tuple(unused if tensor is None else tensor for tensor in tensors)


def new_lists(
    sizes: Sizes, record_columns: int, per_list: int, device: torch.device
) -> tuple[Lists, Tensor, Tensor]:
    """Buffers for the lists of a call.

    Returns:
        Also two that are only needed until lists are sorted: keys, and room for the rows of large
        primitives.
    """

    def empty(*shape: int, dtype: torch.dtype = torch.int32) -> Tensor:
        return torch.empty(shape, dtype=dtype, device=device)

    subtiles = 2 * sizes.num_bins
    parts = (subtiles * per_list, subtiles, subtiles)
    lists, lengths, ends = empty(sum(parts)).split(parts)
    num_counts = tiles.NUM_COUNTERS.value + sizes.num_bins
    result = Lists(
        records=empty(sizes.rows, record_columns, dtype=torch.float32),
        radii=empty(sizes.batch, sizes.num),
        counts=torch.zeros(num_counts, dtype=torch.int32, device=device),
        lists=lists,
        lengths=lengths,
        ends=ends,
        per_list=per_list,
    )
    return result, empty(sizes.num_bins, per_list, dtype=torch.int64), empty(sizes.rows)


def order_lists(
    lists: Lists,
    keys: Tensor,
    large: Tensor,
    sizes: Sizes,
    list_large: Any,
    filter_lists: Any | None,
) -> Lists:
    """Complete the bins' lists, sort them by depth and split them for the subtiles.

    Args:
        lists: Their records have been written, and all but large primitives listed.
        keys: Sort keys, one segment per bin.
        large: Rows that are still to be listed.
        sizes: Of the batch.
        list_large: The rasterizer's kernel that lists them.
        filter_lists: Its kernel that splits lists; ``None`` leaves them to ``bin_rows``.
    """
    bins_x, bins_y = sizes.bins
    words = keys.view(torch.int32)
    launch(
        list_large, (min(_LARGE_PROGRAMS, sizes.rows),), lists.records, lists.counts, keys, large,
        sizes.num, bins_x, bins_y, lists.per_list, LANES=_LARGE_LANES, num_warps=_LARGE_WARPS,
    )  # fmt: skip
    _sort(lists, keys, words, sizes)
    if filter_lists is None:
        return replace(lists, bin_rows=words)
    launch(
        filter_lists, (2 * sizes.num_bins,), lists.records, lists.counts, words, lists.lists,
        lists.lengths, bins_x, bins_y, lists.per_list, LANES=_FILTER_LANES,
    )  # fmt: skip
    return lists


def _sort(lists: Lists, keys: Tensor, words: Tensor, sizes: Sizes) -> None:
    """Sort the bins' lists; those longer than the largest network in chunks."""
    largest = largest_network(lists.per_list)
    has_chunks = 0 < largest < lists.per_list
    chunk = LARGEST_NETWORK if has_chunks else 0
    most = sizes.num_bins * -(-lists.per_list // chunk) if has_chunks else 0
    chunks = lists.counts.new_empty(most) if has_chunks else lists.counts
    launch(
        sort_lists, (sizes.num_bins,), keys, words, lists.lists, lists.counts, chunks,
        lists.per_list, LARGEST=largest, CHUNK=chunk, num_warps=_SORT_WARPS,
    )  # fmt: skip
    if not has_chunks:
        return
    programs, bits = (min(_CHUNK_PROGRAMS, most),), chunk.bit_length() - 1
    launch(
        sort_chunks, programs, keys, words, lists.lists, lists.counts, chunks, lists.per_list,
        CHUNK=chunk, BITS=bits, num_warps=_SORT_WARPS,
    )  # fmt: skip
    launch(
        merge_chunks, programs, words, lists.lists, lists.counts, chunks, lists.per_list,
        CHUNK=chunk, BITS=bits, num_warps=_SORT_WARPS,
    )  # fmt: skip


def feature_groups(num_features: int) -> list[tuple[int, int]]:
    """Ranges of features that one launch handles; the first launch also does everything else."""
    return [
        (first, min(first + _FEATURES_PER_LAUNCH, num_features))
        for first in range(0, max(num_features, 1), _FEATURES_PER_LAUNCH)
    ]


def gather_gradients(
    launch_group: Callable[[tuple[int, int], Tensor, Tensor | None, Pairs | None], None],
    lists: Lists,
    columns: tuple[int, int],
    num_pairs: int | None,
) -> tuple[Tensor, Tensor | None]:
    """Gradients of the records and of the features, one row per primitive.

    Args:
        launch_group: Adds the gradients of a group of features to its targets, or with pairs
            writes one row per pair.
        lists: After blending.
        columns: Of the gradients of a record and of its features.
        num_pairs: Room for pairs if sums must not depend on the order of arrival, else None. If
            there are more pairs the result is NaN.
    """
    rows = lists.records.shape[0]

    def zeros(count: int) -> tuple[Tensor, Tensor | None]:
        new = lists.records.new_zeros
        return new(count, columns[0]), new(count, columns[1]) if columns[1] else None

    totals = zeros(rows)
    if num_pairs is None:
        for group in feature_groups(columns[1]):
            launch_group(group, *totals, None)
        return totals
    pairs = number_pairs(lists.lists, lists.per_list, lists.ends, rows, num_pairs)
    for group in feature_groups(columns[1]):
        sources = zeros(pairs.num)
        launch_group(group, *sources, pairs)
        for source, total in zip(sources, totals, strict=True):
            if source is not None and total is not None:
                total.add_(sum_pairs(source, pairs, rows))
    return totals


def view_gradient(sums: Tensor, world_to_camera: Tensor) -> Tensor:
    """Gradient of rigid transforms from the programs' sums: nine of the rotation, three more."""
    gradient = torch.zeros_like(world_to_camera)
    total = sums.sum(1).to(gradient.dtype)
    gradient[:, :3, :3] = total[:, :9].view(-1, 3, 3)
    gradient[:, :3, 3] = total[:, 9:]
    return gradient
