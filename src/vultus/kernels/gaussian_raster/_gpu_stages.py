"""The stages of the GPU backend: buffers and launches; nothing here waits for the GPU."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

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
from vultus.kernels.triton_pairs import Pairs
from vultus.kernels.triton_raster import (
    MAX_KINDS,
    BatchKind,
    Lists,
    Ordering,
    filled,
    gather_gradients,
    new_lists,
    view_gradient,
)
from vultus.kernels.triton_runtime import Buffer, Launcher, is_interpreted

__all__ = [
    "Blended",
    "ImageGrads",
    "InputGrads",
    "Inputs",
    "blend_lists",
    "gradients_of_inputs",
    "gradients_of_records",
    "kind_of",
    "make_lists",
]

# Launch parameters; those of the prototype and of the surfels, measured on an H100.
_PROJECT_LANES, _PROJECT_BACKWARD_LANES, _MANY_BINS = 32, 32, 256
"""Gaussians of more bins than the last wait for a launch of their own."""
_BLEND_CHUNK, _BLEND_CHUNK_OF_BINS, _BLEND_CHUNK_OF_MANY, _FEW_SUMS = 32, 16, 8, 16
"""Gaussians per trip: where a lane keeps few sums, and where it keeps more, for two pixels or one.
More hide more latency, but must stay in registers, as must the sums: of channels and depth, while a
median counts as three, for each pixel of a lane."""
_PIXELS_PER_TRIP, _PIXELS_WITH_FEATURES, _FEW_FEATURES = 8, 4, 4
"""More pixels hide more latency, fewer leave registers to the sums of many channels."""
_CHANNELS_OF_BINS = 8
"""As many sums of two pixels fit into a lane's registers."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Kind(BatchKind):
    """What calls of one kind share."""

    settings: RasterSettings
    has_covariances: bool

    def has(self, output: str) -> bool:
        """Whether a map was asked for."""
        return output in self.settings.outputs

    def shape_flags(self) -> dict[str, bool | int]:
        """What the projection and its backward pass are compiled for."""
        return {
            "HAS_COVARIANCES": self.has_covariances,
            "HAS_JACOBIANS": self.has_jacobians,
            "NORMALIZES": self.settings.normalizes_quats,
            "SH_TERMS": (self.settings.sh_degree + 1) ** 2 if self.has_color else 0,
            "SH_STORED": self.sh_stored,
            "IS_ANTIALIASED": self.settings.is_antialiased,
        }


kind_of = lru_cache(maxsize=MAX_KINDS)(Kind)
"""The kind of calls that are alike, made once."""


class Inputs(NamedTuple):
    """Contiguous inputs of a call."""

    kind: Kind
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

    def parameters(self, unused: Buffer) -> list[Buffer]:
        """What the projection and its backward pass read of every Gaussian."""
        return filled(
            unused, self.means, self.quats, self.scales, self.covariances, self.opacities,
            self.jacobians, self.sh_coeffs,
        )  # fmt: skip


class Blended(NamedTuple):
    """Images, and what the backward pass needs from the forward pass beside them."""

    image: Tensor
    alpha: Tensor
    depth: Tensor | None
    median: Tensor | None
    positions: Tensor | None


def make_lists(inputs: Inputs, per_list: int, *, is_recorded: bool) -> Lists:
    """Project all Gaussians and list them, sorted by depth, ``per_list`` per bin at most.

    Splitting lists for the subtiles pays where a backward pass walks them once more, or where the
    sums of many channels leave a lane no registers for two pixels.
    """
    kind = inputs.kind
    is_split = is_recorded or kind.channels > _CHANNELS_OF_BINS
    lists, unsorted = new_lists(
        kind.sizes, layout.RECORD.value, per_list, inputs.means, is_split=is_split
    )
    _projection(kind, per_list)(
        inputs.world_to_camera, inputs.intrinsics, *inputs.parameters(lists.records),
        lists.records, lists.radii, lists.counts, unsorted.keys, unsorted.large,
    )  # fmt: skip
    _ordering(kind, per_list, is_split)(lists, unsorted)
    return lists


@lru_cache(maxsize=MAX_KINDS)
def _projection(kind: Kind, per_list: int) -> Launcher:
    sizes, settings = kind.sizes, kind.settings
    return Launcher(
        project, (-(-sizes.num // _PROJECT_LANES), sizes.batch),
        sizes.num, sizes.width, sizes.height, *sizes.bins, per_list,
        float(settings.near), float(settings.dilation), 0.5 - float(settings.pixel_center),
        settings.max_alpha,
        **kind.shape_flags(), HAS_PUBLISHED_CULL=settings.cull == "3sigma",
        MANY_BINS=_MANY_BINS, LANES=_PROJECT_LANES,
    )  # fmt: skip


@lru_cache(maxsize=MAX_KINDS)
def _ordering(kind: Kind, per_list: int, is_split: bool) -> Ordering:
    return Ordering(kind.sizes, per_list, list_large, filter_lists if is_split else None)


def blend_lists(inputs: Inputs, lists: Lists) -> Blended:
    """Blend all subtiles, or all bins where lists have not been split."""
    kind, is_whole = inputs.kind, lists.bin_rows is not None
    sizes = kind.sizes

    def empty(channels: int) -> Tensor:
        return inputs.means.new_empty(sizes.batch, channels, sizes.height, sizes.width)

    has_median = kind.has("median_depth")
    blended = Blended(
        image=empty(kind.channels),
        alpha=empty(1),
        depth=empty(1) if kind.has("depth") else None,
        median=empty(1) if has_median else None,
        positions=empty(1) if has_median else None,
    )
    _blending(kind, lists.per_list, is_whole)(
        *filled(lists.lists, lists.bin_rows), lists.lengths, lists.records,
        *filled(lists.records, inputs.features, inputs.background), lists.counts,
        blended.image, blended.alpha,
        *filled(lists.records, blended.depth, blended.median, blended.positions), lists.ends,
    )  # fmt: skip
    return blended


@lru_cache(maxsize=MAX_KINDS)
def _blending(kind: Kind, per_list: int, is_whole: bool) -> Launcher:
    sizes = kind.sizes
    return Launcher(
        blend, (sizes.num_bins if is_whole else 2 * sizes.num_bins,),
        sizes.width, sizes.height, *sizes.bins, per_list, kind.settings.max_alpha,
        HAS_COLOR=kind.has_color, NUM_FEATURES=kind.num_features,
        HAS_DEPTH=kind.has("depth"), HAS_MEDIAN=kind.has("median_depth"),
        HAS_BACKGROUND=kind.has_background, IS_WHOLE=is_whole,
        CHUNK=_blend_chunk(kind, is_whole),
    )  # fmt: skip


def _blend_chunk(kind: Kind, is_whole: bool) -> int:
    sums = kind.channels + kind.has("depth") + 3 * kind.has("median_depth")
    if sums * (1 + is_whole) <= _FEW_SUMS:
        return _BLEND_CHUNK
    return _BLEND_CHUNK_OF_BINS if is_whole else _BLEND_CHUNK_OF_MANY


class ImageGrads(NamedTuple):
    """Gradients of the images; None where there is none."""

    image: Tensor | None
    alpha: Tensor | None
    depth: Tensor | None
    median: Tensor | None


class InputGrads(NamedTuple):
    """Gradients of the inputs; None where there is no such input or none was asked for."""

    means: Tensor
    quats: Tensor | None
    scales: Tensor | None
    opacities: Tensor
    covariances: Tensor | None
    sh_coeffs: Tensor | None
    jacobians: Tensor | None
    screen: Tensor
    world_to_camera: Tensor | None = None


def gradients_of_records(
    inputs: Inputs, lists: Lists, blended: Blended, grads: ImageGrads, num_pairs: int | None
) -> tuple[Tensor, Tensor | None]:
    """Gradients of the records and of the features, one row per Gaussian.

    ``num_pairs``: see ``triton_raster.gather_gradients``.
    """

    def launch_group(
        group: tuple[int, int], target: Tensor, features: Tensor | None, pairs: Pairs | None
    ) -> None:
        _launch_backward(inputs, lists, blended, grads, group, (target, features), pairs)

    columns = (layout.GRADIENT.value, inputs.kind.num_features)
    return gather_gradients(launch_group, lists, columns, num_pairs)


def _launch_backward(
    inputs: Inputs,
    lists: Lists,
    blended: Blended,
    grads: ImageGrads,
    group: tuple[int, int],
    targets: tuple[Tensor, Tensor | None],
    pairs: Pairs | None,
) -> None:
    """Run the backward pass of one group of channels."""
    kind, unused = inputs.kind, lists.records
    has_depth = grads.depth is not None
    planes = _scratch_planes(kind, group, has_depth)
    grad_image = grads.image
    if grad_image is None:
        grad_image = torch.zeros_like(blended.image)
    launcher = _backward_blending(
        kind, lists.per_list, group, None if pairs is None else pairs.num,
        has_alpha=grads.alpha is not None, has_depth=has_depth, has_median=grads.median is not None,
    )  # fmt: skip
    launcher(
        lists.lists, lists.ends, lists.records,
        *filled(unused, inputs.features, inputs.background),
        inputs.means.new_empty(2 * kind.sizes.num_bins, planes * tiles.PIXELS.value),
        blended.image, blended.alpha, *filled(unused, blended.depth, blended.positions),
        grad_image, *filled(unused, grads.alpha, grads.depth, grads.median, *targets),
        unused if pairs is None else pairs.first,
    )  # fmt: skip


def _scratch_planes(kind: Kind, group: tuple[int, int], has_depth: bool) -> int:
    """Values per pixel that the backward pass of a group of channels keeps."""
    is_first, count = group[0] == 0, group[1] - group[0]
    return FIRST_CHANNEL_PLANE.value + count + is_first * (3 * kind.has_color + has_depth)


@lru_cache(maxsize=MAX_KINDS)
def _backward_blending(
    kind: Kind,
    per_list: int,
    group: tuple[int, int],
    num_pairs: int | None,
    *,
    has_alpha: bool,
    has_depth: bool,
    has_median: bool,
) -> Launcher:
    sizes, settings, is_first = kind.sizes, kind.settings, group[0] == 0
    return Launcher(
        blend_backward, (2 * sizes.num_bins,),
        num_pairs or 0, sizes.width, sizes.height, *sizes.bins, per_list, kind.channels,
        _scratch_planes(kind, group, has_depth), settings.max_alpha,
        FIRST_CHANNEL=0 if is_first else 3 * kind.has_color + group[0],
        HAS_COLOR=kind.has_color and is_first,
        FIRST=group[0], END=group[1], NUM_FEATURES=kind.num_features,
        HAS_ALPHA=is_first and has_alpha,
        HAS_DEPTH=is_first and has_depth,
        HAS_MEDIAN=is_first and has_median,
        HAS_BACKGROUND=kind.has_background,
        HAS_PUBLISHED_GRADIENTS=settings.gradients == "published",
        IS_DETERMINISTIC=num_pairs is not None, IS_FAST=not is_interpreted(),
        STEP=_PIXELS_PER_TRIP if group[1] - group[0] <= _FEW_FEATURES else _PIXELS_WITH_FEATURES,
    )  # fmt: skip


def gradients_of_inputs(
    inputs: Inputs, lists: Lists, gradients: Tensor, *, has_depth: bool, needs_view: bool
) -> InputGrads:
    """Carry the gradients of the records to the inputs."""
    sizes, new = inputs.kind.sizes, inputs.means.new_empty

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
        screen=new(sizes.batch, sizes.num, 2),
    )
    sums = None
    if needs_view:
        programs = -(-sizes.num // _PROJECT_BACKWARD_LANES)
        sums = new(sizes.batch, programs, 12, dtype=torch.float64)
    unused = lists.records
    _backward_projection(inputs.kind, has_depth, needs_view)(
        inputs.world_to_camera, inputs.intrinsics, *inputs.parameters(unused), lists.records,
        gradients,
        *filled(
            unused, grads.means, grads.quats, grads.scales, grads.covariances, grads.opacities,
            grads.jacobians, grads.sh_coeffs, grads.screen, sums,
        ),
    )  # fmt: skip
    if sums is None:
        return grads
    return grads._replace(world_to_camera=view_gradient(sums, inputs.world_to_camera))


@lru_cache(maxsize=MAX_KINDS)
def _backward_projection(kind: Kind, has_depth: bool, needs_view: bool) -> Launcher:
    sizes, settings = kind.sizes, kind.settings
    return Launcher(
        project_backward, (-(-sizes.num // _PROJECT_BACKWARD_LANES), sizes.batch),
        sizes.num, sizes.width, sizes.height, float(settings.dilation),
        **kind.shape_flags(),
        HAS_PUBLISHED_GRADIENTS=settings.gradients == "published", HAS_DEPTH=has_depth,
        NEEDS_VIEW=needs_view, LANES=_PROJECT_BACKWARD_LANES,
    )  # fmt: skip
