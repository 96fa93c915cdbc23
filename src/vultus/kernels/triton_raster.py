"""Kinds of calls, lists and sums of gradients, for the GPU backends of both rasterizers.

Eager calls take longer on the host than on the GPU, so that allocations are few (what lives as long
as the lists is parts of one, but for radii) and launches are prepared once for each kind of call.
What stages hand to each other are named tuples, which take a third of the time that frozen
dataclasses take to make.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, cached_property, lru_cache
from typing import Any, NamedTuple

import torch
from torch import Tensor

from vultus.kernels import triton_tiles as tiles
from vultus.kernels.parts import Layout, Part
from vultus.kernels.triton_lists import (
    LARGEST_NETWORK,
    largest_network,
    merge_chunks,
    sort_chunks,
    sort_lists,
)
from vultus.kernels.triton_pairs import Pairs, number_pairs, sum_pairs
from vultus.kernels.triton_runtime import Buffer, Launcher, fill_with_zeros

__all__ = [
    "MAX_KINDS",
    "BatchKind",
    "Lists",
    "Ordering",
    "Sizes",
    "Unsorted",
    "filled",
    "gather_gradients",
    "new_lists",
    "sizes_of",
    "view_gradient",
]

MAX_KINDS = 64
"""Kinds of calls whose launches are kept."""

# Launch parameters, chosen by measurement on an H100.
_LARGE_PROGRAMS, _LARGE_LANES, _LARGE_WARPS, _SORT_WARPS, _FILTER_LANES = 512, 128, 4, 4, 64
_CHUNK_PROGRAMS = 1024
_FEATURES_PER_LAUNCH = 16


@dataclass(frozen=True, eq=False)
class Sizes:
    """Of a batch: primitives per frame, pixels, bins.

    Hashed by identity, as kinds are: ``sizes_of`` makes equal ones once.
    """

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


sizes_of = lru_cache(maxsize=MAX_KINDS)(Sizes)
"""The sizes of calls that are alike, made once."""


@dataclass(frozen=True, eq=False, kw_only=True)
class BatchKind:
    """What calls of one kind share, which is all but their tensors.

    Hashed by identity, so that launches are found at once: the rasterizers make equal ones once.
    """

    sizes: Sizes
    num_features: int
    """Channels beside the colour."""
    sh_stored: int
    """Coefficients per channel, used or not; 0 without SH."""
    has_jacobians: bool
    has_background: bool
    camera_dtypes: tuple[torch.dtype, torch.dtype]

    @property
    def has_color(self) -> bool:
        """Whether there is a colour in front of the features."""
        return self.sh_stored > 0

    @cached_property
    def channels(self) -> int:
        """Of the image."""
        return 3 * self.has_color + self.num_features


class Lists(NamedTuple):
    """Records of a batch, and the lists of its subtiles."""

    counts: Part
    """The counters of `triton_tiles`, then the length of every bin's list."""
    records: Part
    lists: Part
    """Rows of records by depth, one segment of ``per_list`` per subtile."""
    lengths: Part
    """Of the subtiles' lists; -1 where the bin's list did not fit."""
    ends: Part
    """Length of the part of every list that blending needs, which writes it."""
    radii: Tensor
    per_list: int
    bin_rows: Part | None = None
    """The bins' sorted lists, where nothing splits them: rows fill the first half of a segment of
    ``2 * per_list``. The other lists then hold nothing."""

    @property
    def counters(self) -> Tensor:
        """What the kernels have counted beside the bins' lengths."""
        return self.counts.head(tiles.NUM_COUNTERS.value)


class Unsorted(NamedTuple):
    """What lists need until they are sorted."""

    keys: Part
    """Sort keys, one segment per bin."""
    words: Part
    """The same memory as integers."""
    large: Part
    """Rows of large primitives, which are listed last."""


def filled(unused: Buffer, *buffers: Buffer | None) -> list[Buffer]:
    """The buffers; any other one in place of those that kernels will not look at."""
    return [unused if buffer is None else buffer for buffer in buffers]


def new_lists(
    sizes: Sizes, record_columns: int, per_list: int, means: Tensor, *, is_split: bool
) -> tuple[Lists, Unsorted]:
    """Buffers for the lists of a call.

    Args:
        sizes: Of the batch.
        record_columns: Length of a record.
        per_list: Room for primitives per bin.
        means: Buffers are made on their device.
        is_split: Whether the bins' lists will be split for the subtiles.
    """
    kept, dropped = _layouts(sizes, record_columns, per_list)
    radii = means.new_empty((sizes.batch, sizes.num), dtype=torch.int32)
    counts, records, rows, lengths, ends = kept.divide(radii.new_empty(kept.words))
    keys, large = dropped.divide(radii.new_empty(dropped.words))
    words = keys.as_integers()
    fill_with_zeros(counts)
    bin_rows = None if is_split else words
    lists = Lists(counts, records, rows, lengths, ends, radii, per_list, bin_rows)
    return lists, Unsorted(keys, words, large)


@lru_cache(maxsize=MAX_KINDS)
def _layouts(sizes: Sizes, record_columns: int, per_list: int) -> tuple[Layout, Layout]:
    """What lives as long as the lists, and what does not."""
    num_bins, num_counts = sizes.num_bins, tiles.NUM_COUNTERS.value + sizes.num_bins
    kept = Layout(
        counts=((num_counts,), torch.int32),
        records=((sizes.rows, record_columns), torch.float32),
        lists=((2 * num_bins * per_list,), torch.int32),
        lengths=((2 * num_bins,), torch.int32),
        ends=((2 * num_bins,), torch.int32),
    )
    return kept, Layout(
        keys=((num_bins, per_list), torch.int64), large=((sizes.rows,), torch.int32)
    )


class Ordering:
    """Completes the bins' lists, sorts them by depth and splits them for the subtiles."""

    def __init__(
        self, sizes: Sizes, per_list: int, list_large: Any, filter_lists: Any | None
    ) -> None:
        """Prepare the launches.

        Args:
            sizes: Of the batch.
            per_list: Room for primitives per bin.
            list_large: The rasterizer's kernel that lists large primitives.
            filter_lists: Its kernel that splits lists; ``None`` leaves them to ``bin_rows``.
        """
        self._list_large = Launcher(
            list_large, (min(_LARGE_PROGRAMS, sizes.rows),), sizes.num, *sizes.bins, per_list,
            LANES=_LARGE_LANES, num_warps=_LARGE_WARPS,
        )  # fmt: skip
        largest = largest_network(per_list)
        # Lists longer than the largest network are sorted in chunks, which are then merged.
        has_chunks = 0 < largest < per_list
        chunk = LARGEST_NETWORK if has_chunks else 0
        self._num_chunks = sizes.num_bins * -(-per_list // chunk) if has_chunks else 0
        self._sort = Launcher(
            sort_lists, (sizes.num_bins,), per_list, LARGEST=largest, CHUNK=chunk,
            num_warps=_SORT_WARPS,
        )  # fmt: skip
        self._sort_chunks, self._merge_chunks = (
            Launcher(
                kernel, (min(_CHUNK_PROGRAMS, self._num_chunks),), per_list,
                CHUNK=chunk, BITS=chunk.bit_length() - 1, num_warps=_SORT_WARPS,
            )
            for kernel in (sort_chunks, merge_chunks)
        )  # fmt: skip
        self._filter = None
        if filter_lists is not None:
            self._filter = Launcher(
                filter_lists, (sizes.num_bins,), *sizes.bins, per_list, LANES=_FILTER_LANES
            )

    def __call__(self, lists: Lists, unsorted: Unsorted) -> None:
        """Order lists whose records have been written, and all but large primitives listed."""
        keys, words, counts = unsorted.keys, unsorted.words, lists.counts
        self._list_large(lists.records, counts, keys, unsorted.large)
        chunks: Buffer = counts
        if self._num_chunks:
            chunks = lists.radii.new_empty(self._num_chunks)
        self._sort(keys, words, lists.lists, counts, chunks)
        if self._num_chunks:
            self._sort_chunks(keys, words, lists.lists, counts, chunks)
            self._merge_chunks(words, lists.lists, counts, chunks)
        if self._filter is not None:
            self._filter(lists.records, counts, words, lists.lists, lists.lengths)


@cache
def _feature_groups(num_features: int) -> tuple[tuple[int, int], ...]:
    """Ranges of features that one launch handles; the first launch also does everything else."""
    return tuple(
        (first, min(first + _FEATURES_PER_LAUNCH, num_features))
        for first in range(0, max(num_features, 1), _FEATURES_PER_LAUNCH)
    )


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
    rows = lists.radii.numel()

    def zeros(count: int) -> tuple[Tensor, Tensor | None]:
        return new_zeros(count, columns[0]), new_zeros(count, columns[1]) if columns[1] else None

    def new_zeros(*shape: int) -> Tensor:
        tensor = lists.radii.new_empty(shape, dtype=torch.float32)
        fill_with_zeros(tensor)
        return tensor

    totals = zeros(rows)
    if not rows:
        return totals
    if num_pairs is None:
        for group in _feature_groups(columns[1]):
            launch_group(group, *totals, None)
        return totals
    pairs = number_pairs(lists.lists.tensor(), lists.per_list, lists.ends.tensor(), rows, num_pairs)
    for group in _feature_groups(columns[1]):
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
