"""The stages of the GPU backend: buffers and launches; nothing here waits for the GPU."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

import torch
from torch import Tensor

from vultus.kernels import triton_tiles as tiles
from vultus.kernels.surfel_raster import _gpu_layout as layout
from vultus.kernels.surfel_raster._gpu_bins import filter_lists, list_large
from vultus.kernels.surfel_raster._gpu_project import project
from vultus.kernels.surfel_raster._gpu_project_backward import project_backward
from vultus.kernels.surfel_raster._gpu_raster import blend
from vultus.kernels.surfel_raster._gpu_raster_backward import FIRST_CHANNEL_PLANE, blend_backward
from vultus.kernels.surfel_raster._types import RasterSettings
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

# Launch parameters, chosen by measurement on an H100.
_PROJECT_LANES, _PROJECT_BACKWARD_LANES, _MANY_BINS = 32, 32, 256
"""Surfels of more bins than the last wait for a launch of their own."""
_BLEND_CHUNK, _PIXELS_PER_TRIP = 8, 4


@dataclass(frozen=True, eq=False, kw_only=True)
class Kind(BatchKind):
    """What calls of one kind share."""

    settings: RasterSettings

    def has(self, output: str) -> bool:
        """Whether a map was asked for."""
        return output in self.settings.outputs

    @property
    def is_surfhead(self) -> bool:
        """Which convention to follow."""
        return self.settings.convention == "surfhead"

    def shape_flags(self) -> dict[str, bool | int]:
        """What the projection and its backward pass are compiled for."""
        return {
            "HAS_JACOBIANS": self.has_jacobians,
            "SH_TERMS": (self.settings.sh_degree + 1) ** 2 if self.has_color else 0,
            "SH_STORED": self.sh_stored,
            "IS_SURFHEAD": self.is_surfhead,
        }


kind_of = lru_cache(maxsize=MAX_KINDS)(Kind)
"""The kind of calls that are alike, made once."""


class Inputs(NamedTuple):
    """Contiguous inputs of a call."""

    kind: Kind
    means: Tensor
    quats: Tensor
    scales: Tensor
    opacities: Tensor
    features: Tensor | None
    sh_coeffs: Tensor | None
    jacobians: Tensor | None
    background: Tensor | None
    world_to_camera: Tensor
    intrinsics: Tensor

    def parameters(self, unused: Buffer) -> list[Buffer]:
        """What the projection and its backward pass read of every surfel."""
        return filled(
            unused, self.means, self.quats, self.scales, self.opacities, self.jacobians,
            self.sh_coeffs,
        )  # fmt: skip


class Blended(NamedTuple):
    """Images, and what the backward pass needs from the forward pass beside them."""

    image: Tensor
    alpha: Tensor
    normal: Tensor | None
    depth: Tensor | None
    median: Tensor | None
    distortion: Tensor | None
    moments: Tensor | None


def make_lists(inputs: Inputs, per_list: int) -> Lists:
    """Project all surfels and list them, sorted by depth, ``per_list`` per bin at most."""
    kind = inputs.kind
    lists, unsorted = new_lists(
        kind.sizes, layout.RECORD.value, per_list, inputs.means, is_split=True
    )
    _projection(kind, per_list)(
        inputs.world_to_camera, inputs.intrinsics, *inputs.parameters(lists.records),
        lists.records, lists.radii, lists.counts, unsorted.keys, unsorted.large,
    )  # fmt: skip
    _ordering(kind, per_list)(lists, unsorted)
    return lists


@lru_cache(maxsize=MAX_KINDS)
def _projection(kind: Kind, per_list: int) -> Launcher:
    sizes, settings = kind.sizes, kind.settings
    return Launcher(
        project, (-(-sizes.num // _PROJECT_LANES), sizes.batch),
        sizes.num, sizes.width, sizes.height, *sizes.bins, per_list, float(settings.near),
        **kind.shape_flags(), HAS_PUBLISHED_CULL=settings.cull == "3sigma",
        MANY_BINS=_MANY_BINS, LANES=_PROJECT_LANES,
    )  # fmt: skip


@lru_cache(maxsize=MAX_KINDS)
def _ordering(kind: Kind, per_list: int) -> Ordering:
    return Ordering(kind.sizes, per_list, list_large, filter_lists)


def blend_lists(inputs: Inputs, lists: Lists) -> Blended:
    """Blend all subtiles."""
    kind, sizes = inputs.kind, inputs.kind.sizes

    def empty(channels: int, is_needed: bool = True) -> Any:
        if not is_needed:
            return None
        return inputs.means.new_empty(sizes.batch, channels, sizes.height, sizes.width)

    has_median, has_distortion = kind.has("median_depth"), kind.has("distortion")
    blended = Blended(
        image=empty(kind.channels),
        alpha=empty(1),
        normal=empty(3, kind.has("normal")),
        depth=empty(1, kind.has("depth")),
        median=empty(1, has_median),
        distortion=empty(1, has_distortion),
        moments=empty(3, has_median or has_distortion),
    )
    _blending(kind, lists.per_list)(
        lists.lists, lists.lengths, lists.records,
        *filled(lists.records, inputs.features, inputs.background), lists.counts,
        *filled(
            lists.records, blended.image, blended.alpha, blended.normal, blended.depth,
            blended.median, blended.distortion, blended.moments,
        ),
        lists.ends,
    )  # fmt: skip
    return blended


@lru_cache(maxsize=MAX_KINDS)
def _blending(kind: Kind, per_list: int) -> Launcher:
    sizes = kind.sizes
    return Launcher(
        blend, (2 * sizes.num_bins,),
        sizes.width, sizes.height, *sizes.bins, per_list, float(kind.settings.near),
        HAS_COLOR=kind.has_color, NUM_FEATURES=kind.num_features,
        HAS_NORMAL=kind.has("normal"), HAS_DEPTH=kind.has("depth"),
        HAS_MEDIAN=kind.has("median_depth"), HAS_DISTORTION=kind.has("distortion"),
        HAS_BACKGROUND=kind.has_background, IS_SURFHEAD=kind.is_surfhead,
        IS_FAST=not is_interpreted(),
        CHUNK=tiles.CHUNK.value if is_interpreted() else _BLEND_CHUNK,
    )  # fmt: skip


class ImageGrads(NamedTuple):
    """Gradients of the images; None where there is none."""

    image: Tensor | None
    alpha: Tensor | None
    depth: Tensor | None
    normal: Tensor | None
    median: Tensor | None
    distortion: Tensor | None


class InputGrads(NamedTuple):
    """Gradients of the inputs; None where none was asked for."""

    means: Tensor
    quats: Tensor
    scales: Tensor
    opacities: Tensor
    sh_coeffs: Tensor | None
    jacobians: Tensor | None
    screen: Tensor
    world_to_camera: Tensor | None = None


def gradients_of_records(
    inputs: Inputs, lists: Lists, blended: Blended, grads: ImageGrads, num_pairs: int | None
) -> tuple[Tensor, Tensor | None]:
    """Gradients of the records and of the features, one row per surfel.

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
    planes = _scratch_planes(group)
    grad_image = grads.image
    if grad_image is None:
        grad_image = torch.zeros_like(blended.image)
    launcher = _backward_blending(
        kind, lists.per_list, group, None if pairs is None else pairs.num,
        has_alpha=grads.alpha is not None,
        has_normal=grads.normal is not None,
        has_depth=grads.depth is not None,
        has_median=grads.median is not None,
        has_distortion=grads.distortion is not None,
    )  # fmt: skip
    launcher(
        lists.lists, lists.ends, lists.records,
        *filled(unused, inputs.features, inputs.background),
        inputs.means.new_empty(2 * kind.sizes.num_bins, planes * tiles.PIXELS.value),
        blended.image, blended.alpha,
        *filled(unused, blended.normal, blended.depth, blended.distortion, blended.moments),
        grad_image, *filled(unused, grads.alpha, grads.normal, grads.depth, grads.median),
        *filled(unused, grads.distortion, *targets), unused if pairs is None else pairs.first,
    )  # fmt: skip


def _scratch_planes(group: tuple[int, int]) -> int:
    """Values per pixel that the backward pass of a group of channels keeps."""
    return FIRST_CHANNEL_PLANE.value + 6 + group[1] - group[0]


@lru_cache(maxsize=MAX_KINDS)
def _backward_blending(
    kind: Kind,
    per_list: int,
    group: tuple[int, int],
    num_pairs: int | None,
    *,
    has_alpha: bool,
    has_normal: bool,
    has_depth: bool,
    has_median: bool,
    has_distortion: bool,
) -> Launcher:
    sizes, is_first = kind.sizes, group[0] == 0
    return Launcher(
        blend_backward, (2 * sizes.num_bins,),
        num_pairs or 0, sizes.width, sizes.height, *sizes.bins, per_list, kind.channels,
        _scratch_planes(group), float(kind.settings.near),
        FIRST_CHANNEL=0 if is_first else 3 * kind.has_color + group[0],
        HAS_COLOR=kind.has_color and is_first,
        FIRST=group[0], END=group[1], NUM_FEATURES=kind.num_features,
        HAS_ALPHA=is_first and has_alpha,
        HAS_NORMAL=is_first and has_normal,
        HAS_DEPTH=is_first and has_depth,
        HAS_MEDIAN=is_first and has_median,
        HAS_DISTORTION=is_first and has_distortion,
        HAS_BACKGROUND=kind.has_background,
        IS_DETACHED=kind.settings.has_detached_weights, IS_SURFHEAD=kind.is_surfhead,
        IS_DETERMINISTIC=num_pairs is not None, IS_FAST=not is_interpreted(),
        STEP=tiles.PIXELS.value if is_interpreted() else _PIXELS_PER_TRIP,
    )  # fmt: skip


def gradients_of_inputs(
    inputs: Inputs,
    lists: Lists,
    gradients: Tensor,
    *,
    has_normal: bool,
    needs_jacobians: bool,
    needs_view: bool,
) -> InputGrads:
    """Carry the gradients of the records to the inputs."""
    sizes, new = inputs.kind.sizes, inputs.means.new_empty
    grads = InputGrads(
        means=torch.empty_like(inputs.means),
        quats=torch.empty_like(inputs.quats),
        scales=torch.empty_like(inputs.scales),
        opacities=torch.empty_like(inputs.opacities),
        sh_coeffs=None if inputs.sh_coeffs is None else torch.empty_like(inputs.sh_coeffs),
        jacobians=new(sizes.batch, sizes.num, 3, 3) if needs_jacobians else None,
        screen=new(sizes.batch, sizes.num, 2),
    )
    sums = None
    if needs_view:
        programs = -(-sizes.num // _PROJECT_BACKWARD_LANES)
        sums = new(sizes.batch, programs, 12, dtype=torch.float64)
    unused = lists.records
    _backward_projection(inputs.kind, has_normal, needs_jacobians, needs_view)(
        inputs.world_to_camera, inputs.intrinsics, *inputs.parameters(unused), lists.records,
        gradients, grads.means, grads.quats, grads.scales, grads.opacities,
        *filled(unused, grads.jacobians, grads.sh_coeffs, grads.screen, sums),
    )  # fmt: skip
    if sums is None:
        return grads
    return grads._replace(world_to_camera=view_gradient(sums, inputs.world_to_camera))


@lru_cache(maxsize=MAX_KINDS)
def _backward_projection(
    kind: Kind, has_normal: bool, needs_jacobians: bool, needs_view: bool
) -> Launcher:
    sizes = kind.sizes
    return Launcher(
        project_backward, (-(-sizes.num // _PROJECT_BACKWARD_LANES), sizes.batch),
        sizes.num, sizes.width, sizes.height, **kind.shape_flags(), HAS_NORMAL=has_normal,
        NEEDS_JACOBIANS=needs_jacobians, NEEDS_VIEW=needs_view, LANES=_PROJECT_BACKWARD_LANES,
    )  # fmt: skip
