"""The stages of the GPU backend: buffers and launches; nothing here waits for the GPU."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from vultus.kernels import triton_tiles as tiles
from vultus.kernels.gaussian_raster import _gpu_layout as layout
from vultus.kernels.gaussian_raster._gpu_bins import filter_lists, list_large
from vultus.kernels.gaussian_raster._gpu_project import project
from vultus.kernels.gaussian_raster._gpu_project_backward import project_backward
from vultus.kernels.gaussian_raster._gpu_raster import blend
from vultus.kernels.gaussian_raster._gpu_raster_backward import FIRST_CHANNEL_PLANE, blend_backward
from vultus.kernels.gaussian_raster._types import RasterSettings
from vultus.kernels.triton_lists import largest_network, sort_lists
from vultus.kernels.triton_pairs import Pairs, number_pairs, sum_pairs
from vultus.kernels.triton_runtime import is_interpreted, launch

__all__ = [
    "Blended",
    "ImageGrads",
    "InputGrads",
    "Inputs",
    "Lists",
    "blend_lists",
    "gradients_of_inputs",
    "gradients_of_records",
    "make_lists",
]

# Launch parameters; those of the prototype and of the surfels, measured on an H100.
_PROJECT_LANES, _PROJECT_BACKWARD_LANES, _LARGE_LANES, _FILTER_LANES = 32, 32, 128, 64
_MANY_BINS, _LARGE_PROGRAMS = 24, 512
_SORT_WARPS = 4
_BLEND_CHUNK, _FEATURES_PER_LAUNCH = 8, 16
_PIXELS_PER_TRIP, _PIXELS_WITH_FEATURES, _FEW_FEATURES = 8, 4, 4
"""More pixels hide more latency, fewer leave registers to the sums of many channels."""


@dataclass(frozen=True)
class Inputs:
    """Contiguous inputs of a call, and its sizes."""

    means: Tensor
    quats: Tensor | None
    scales: Tensor | None
    opacities: Tensor
    covariances: Tensor | None
    features: Tensor | None
    sh_coeffs: Tensor | None
    jacobians: Tensor | None
    background: Tensor | None
    world_to_camera: Tensor
    intrinsics: Tensor
    width: int
    height: int
    settings: RasterSettings

    @property
    def batch(self) -> int:
        return self.means.shape[0]

    @property
    def num(self) -> int:
        return self.means.shape[1]

    @property
    def rows(self) -> int:
        return self.batch * self.num

    @property
    def has_color(self) -> bool:
        return self.sh_coeffs is not None

    @property
    def num_features(self) -> int:
        return 0 if self.features is None else self.features.shape[2]

    @property
    def channels(self) -> int:
        return 3 * self.has_color + self.num_features

    @property
    def bins(self) -> tuple[int, int]:
        edge = tiles.BIN.value
        return -(-self.width // edge), -(-self.height // edge)

    @property
    def num_bins(self) -> int:
        return self.batch * self.bins[0] * self.bins[1]

    def has(self, output: str) -> bool:
        """Whether a map was asked for."""
        return output in self.settings.outputs

    def shape_flags(self) -> dict[str, bool | int]:
        """What the projection and its backward pass are compiled for."""
        return {
            "HAS_COVARIANCES": self.covariances is not None,
            "HAS_JACOBIANS": self.jacobians is not None,
            "NORMALIZES": self.settings.normalizes_quats,
            "SH_TERMS": (self.settings.sh_degree + 1) ** 2 if self.has_color else 0,
            "SH_STORED": 0 if self.sh_coeffs is None else self.sh_coeffs.shape[2],
            "IS_ANTIALIASED": self.settings.is_antialiased,
        }


@dataclass(frozen=True)
class Lists:
    """Records of a batch, and the lists of its subtiles."""

    records: Tensor
    radii: Tensor
    counts: Tensor
    lists: Tensor
    lengths: Tensor
    per_list: int

    def counters(self) -> Tensor:
        """What the kernels have counted beside the bins' lengths."""
        return self.counts[-tiles.NUM_COUNTERS.value :]


@dataclass(frozen=True)
class Blended:
    """Images, and what the backward pass needs from the forward pass beside them."""

    image: Tensor
    alpha: Tensor
    depth: Tensor | None
    median: Tensor | None
    positions: Tensor | None
    ends: Tensor


def _or(tensor: Tensor | None, other: Tensor) -> Tensor:
    """A tensor, or for kernels that will not look at it any other one."""
    return other if tensor is None else tensor


def make_lists(inputs: Inputs, per_list: int) -> Lists:
    """Project all Gaussians and list them, sorted by depth, ``per_list`` per bin at most."""
    device, (bins_x, bins_y), num_bins = inputs.means.device, inputs.bins, inputs.num_bins
    settings = inputs.settings

    def empty(*shape: int, dtype: torch.dtype = torch.int32) -> Tensor:
        return torch.empty(shape, dtype=dtype, device=device)

    records = empty(inputs.rows, layout.RECORD.value, dtype=torch.float32)
    radii = empty(inputs.batch, inputs.num)
    counts = torch.zeros(num_bins + tiles.NUM_COUNTERS.value, dtype=torch.int32, device=device)
    keys, large = empty(num_bins, per_list, dtype=torch.int64), empty(inputs.rows)
    lists, lengths = empty(2 * num_bins, per_list), empty(2 * num_bins)
    launch(
        project, (-(-inputs.num // _PROJECT_LANES), inputs.batch),
        inputs.world_to_camera, inputs.intrinsics, inputs.means, _or(inputs.quats, records),
        _or(inputs.scales, records), _or(inputs.covariances, records), inputs.opacities,
        _or(inputs.jacobians, records), _or(inputs.sh_coeffs, records),
        records, radii, counts, keys, large,
        inputs.num, inputs.width, inputs.height, bins_x, bins_y, num_bins, per_list,
        float(settings.near), float(settings.dilation), 0.5 - float(settings.pixel_center),
        settings.max_alpha,
        **inputs.shape_flags(), HAS_PUBLISHED_CULL=settings.cull == "3sigma",
        MANY_BINS=_MANY_BINS, LANES=_PROJECT_LANES,
    )  # fmt: skip
    launch(
        list_large, (min(_LARGE_PROGRAMS, inputs.rows),), records, counts, keys, large,
        inputs.num, bins_x, bins_y, num_bins, per_list, LANES=_LARGE_LANES, num_warps=4,
    )  # fmt: skip
    words = keys.view(torch.int32)
    longest = counts[num_bins + tiles.COUNT_LONGEST.value :]
    launch(
        sort_lists, (num_bins,), keys, words, lists, counts, longest, per_list,
        LARGEST=largest_network(per_list), num_warps=_SORT_WARPS,
    )  # fmt: skip
    launch(
        filter_lists, (2 * num_bins,), records, counts, words, lists, lengths, bins_x, bins_y,
        per_list, LANES=_FILTER_LANES,
    )  # fmt: skip
    return Lists(records, radii, counts, lists, lengths, per_list)


def blend_lists(inputs: Inputs, lists: Lists) -> Blended:
    """Blend all subtiles."""

    def empty(channels: int) -> Tensor:
        return inputs.means.new_empty(inputs.batch, channels, inputs.height, inputs.width)

    has_median = inputs.has("median_depth")
    blended = Blended(
        image=empty(inputs.channels),
        alpha=empty(1),
        depth=empty(1) if inputs.has("depth") else None,
        median=empty(1) if has_median else None,
        positions=empty(1) if has_median else None,
        ends=torch.empty_like(lists.lengths),
    )
    unused = lists.records
    launch(
        blend, (2 * inputs.num_bins,), lists.lists, lists.lengths, lists.records,
        _or(inputs.features, unused), _or(inputs.background, unused),
        lists.counters()[tiles.COUNT_PROBLEMS.value :],
        blended.image, blended.alpha, _or(blended.depth, unused), _or(blended.median, unused),
        _or(blended.positions, unused), blended.ends,
        inputs.width, inputs.height, *inputs.bins, lists.per_list, inputs.settings.max_alpha,
        HAS_COLOR=inputs.has_color, NUM_FEATURES=inputs.num_features,
        HAS_DEPTH=inputs.has("depth"), HAS_MEDIAN=has_median,
        HAS_BACKGROUND=inputs.background is not None, CHUNK=_BLEND_CHUNK,
    )  # fmt: skip
    return blended


@dataclass(frozen=True)
class ImageGrads:
    """Gradients of the images; None where there is none."""

    image: Tensor | None
    alpha: Tensor | None
    depth: Tensor | None
    median: Tensor | None


@dataclass(frozen=True)
class InputGrads:
    """Gradients of the inputs; None where there is no such input or none was asked for."""

    means: Tensor
    quats: Tensor | None
    scales: Tensor | None
    opacities: Tensor
    covariances: Tensor | None
    sh_coeffs: Tensor | None
    jacobians: Tensor | None
    screen: Tensor
    world_to_camera: Tensor | None


def _groups(inputs: Inputs) -> list[tuple[int, int]]:
    """Ranges of features that one launch handles; the first launch also does everything else."""
    count = inputs.num_features
    return [
        (first, min(first + _FEATURES_PER_LAUNCH, count))
        for first in range(0, max(count, 1), _FEATURES_PER_LAUNCH)
    ]


def gradients_of_records(
    inputs: Inputs, lists: Lists, blended: Blended, grads: ImageGrads, num_pairs: int | None
) -> tuple[Tensor, Tensor]:
    """Gradients of the records and of the features, one row per Gaussian.

    Args:
        inputs: Of the call.
        lists: From ``make_lists``.
        blended: From ``blend_lists``.
        grads: Of the images.
        num_pairs: Room for pairs if sums must not depend on the order of arrival, else None. If
            there are more pairs the result is NaN.
    """
    sizes = (layout.GRADIENT.value, inputs.num_features)
    totals = tuple(inputs.means.new_zeros(inputs.rows, size) for size in sizes)
    pairs = None
    if num_pairs is not None:
        pairs = number_pairs(lists.lists, lists.per_list, blended.ends, inputs.rows, num_pairs)
    for group in _groups(inputs):
        if pairs is None:
            _launch_backward(inputs, lists, blended, grads, group, totals, None)
            continue
        rows = tuple(inputs.means.new_zeros(pairs.num, size) for size in sizes)
        _launch_backward(inputs, lists, blended, grads, group, rows, pairs)
        for source, total in zip(rows, totals, strict=True):
            total.add_(sum_pairs(source, pairs, inputs.rows))
    return totals[0], totals[1]


def _launch_backward(
    inputs: Inputs,
    lists: Lists,
    blended: Blended,
    grads: ImageGrads,
    group: tuple[int, int],
    targets: tuple[Tensor, ...],
    pairs: Pairs | None,
) -> None:
    """Run the backward pass of one group of channels."""
    is_first, has_color = group[0] == 0, inputs.has_color and group[0] == 0
    count = group[1] - group[0]
    has_depth = is_first and grads.depth is not None
    planes = FIRST_CHANNEL_PLANE.value + 3 * has_color + count + has_depth
    scratch = inputs.means.new_empty(2 * inputs.num_bins, planes * tiles.PIXELS.value)
    unused = lists.records
    grad_image = grads.image
    if grad_image is None:
        grad_image = torch.zeros_like(blended.image)
    launch(
        blend_backward, (2 * inputs.num_bins,), lists.lists, blended.ends, lists.records,
        _or(inputs.features, unused), _or(inputs.background, unused), scratch,
        blended.image, blended.alpha, _or(blended.depth, unused), _or(blended.positions, unused),
        grad_image, _or(grads.alpha, unused), _or(grads.depth, unused), _or(grads.median, unused),
        *targets, unused if pairs is None else pairs.first, 0 if pairs is None else pairs.num,
        inputs.width, inputs.height, *inputs.bins, lists.per_list, inputs.channels, planes,
        inputs.settings.max_alpha,
        FIRST_CHANNEL=0 if is_first else 3 * inputs.has_color + group[0], HAS_COLOR=has_color,
        FIRST=group[0], END=group[1], NUM_FEATURES=inputs.num_features,
        HAS_ALPHA=is_first and grads.alpha is not None,
        HAS_DEPTH=has_depth,
        HAS_MEDIAN=is_first and grads.median is not None,
        HAS_BACKGROUND=inputs.background is not None,
        HAS_PUBLISHED_GRADIENTS=inputs.settings.gradients == "published",
        IS_DETERMINISTIC=pairs is not None, IS_FAST=not is_interpreted(),
        STEP=_PIXELS_PER_TRIP if count <= _FEW_FEATURES else _PIXELS_WITH_FEATURES,
    )  # fmt: skip


def gradients_of_inputs(
    inputs: Inputs, lists: Lists, gradients: Tensor, *, has_depth: bool, needs_view: bool
) -> InputGrads:
    """Carry the gradients of the records to the inputs."""
    new, programs = inputs.means.new_empty, -(-inputs.num // _PROJECT_BACKWARD_LANES)

    def like(tensor: Tensor | None) -> Tensor | None:
        return None if tensor is None else torch.empty_like(tensor)

    grads = InputGrads(
        means=torch.empty_like(inputs.means),
        quats=like(inputs.quats),
        scales=like(inputs.scales),
        opacities=torch.empty_like(inputs.opacities),
        covariances=like(inputs.covariances),
        sh_coeffs=like(inputs.sh_coeffs),
        jacobians=like(inputs.jacobians),
        screen=new(inputs.batch, inputs.num, 2),
        world_to_camera=torch.zeros_like(inputs.world_to_camera) if needs_view else None,
    )
    sums = new(inputs.batch, programs, 12, dtype=torch.float64) if needs_view else None
    unused = lists.records
    launch(
        project_backward, (programs, inputs.batch), inputs.world_to_camera, inputs.intrinsics,
        inputs.means, _or(inputs.quats, unused), _or(inputs.scales, unused),
        _or(inputs.covariances, unused), inputs.opacities, _or(inputs.jacobians, unused),
        _or(inputs.sh_coeffs, unused), lists.records, gradients,
        grads.means, _or(grads.quats, unused), _or(grads.scales, unused),
        _or(grads.covariances, unused), grads.opacities, _or(grads.jacobians, unused),
        _or(grads.sh_coeffs, unused), grads.screen, _or(sums, unused),
        inputs.num, inputs.width, inputs.height, float(inputs.settings.dilation),
        **inputs.shape_flags(),
        HAS_PUBLISHED_GRADIENTS=inputs.settings.gradients == "published", HAS_DEPTH=has_depth,
        NEEDS_VIEW=needs_view, LANES=_PROJECT_BACKWARD_LANES,
    )  # fmt: skip
    if grads.world_to_camera is not None and sums is not None:
        total = sums.sum(1).to(grads.world_to_camera.dtype)
        grads.world_to_camera[:, :3, :3] = total[:, :9].view(-1, 3, 3)
        grads.world_to_camera[:, :3, 3] = total[:, 9:]
    return grads
