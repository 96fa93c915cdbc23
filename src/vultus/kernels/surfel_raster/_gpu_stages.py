"""The stages of the GPU backend: buffers and launches; nothing here waits for the GPU."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

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
    BatchInputs,
    Lists,
    filled,
    gather_gradients,
    new_lists,
    order_lists,
    view_gradient,
)
from vultus.kernels.triton_runtime import is_interpreted, launch

__all__ = [
    "Blended",
    "ImageGrads",
    "InputGrads",
    "Inputs",
    "blend_lists",
    "gradients_of_inputs",
    "gradients_of_records",
    "make_lists",
]

# Launch parameters, chosen by measurement on an H100.
_PROJECT_LANES, _PROJECT_BACKWARD_LANES, _MANY_BINS = 32, 32, 32
_BLEND_CHUNK, _PIXELS_PER_TRIP = 8, 4


@dataclass(frozen=True, kw_only=True)
class Inputs(BatchInputs):
    """Contiguous inputs of a call."""

    quats: Tensor
    scales: Tensor
    settings: RasterSettings

    def has(self, output: str) -> bool:
        """Whether a map was asked for."""
        return output in self.settings.outputs

    def parameters(self, unused: Tensor) -> tuple[Tensor, ...]:
        """What the projection and its backward pass read of every surfel."""
        return filled(
            unused, self.means, self.quats, self.scales, self.opacities, self.jacobians,
            self.sh_coeffs,
        )  # fmt: skip

    def shape_flags(self) -> dict[str, bool | int]:
        """What the projection and its backward pass are compiled for."""
        return {
            "HAS_JACOBIANS": self.jacobians is not None,
            "SH_TERMS": (self.settings.sh_degree + 1) ** 2 if self.has_color else 0,
            "SH_STORED": 0 if self.sh_coeffs is None else self.sh_coeffs.shape[2],
            "IS_SURFHEAD": self.settings.convention == "surfhead",
        }


@dataclass(frozen=True)
class Blended:
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
    sizes, settings = inputs.sizes, inputs.settings
    lists, keys, large = new_lists(sizes, layout.RECORD.value, per_list, inputs.means.device)
    launch(
        project, (-(-sizes.num // _PROJECT_LANES), sizes.batch),
        inputs.world_to_camera, inputs.intrinsics, *inputs.parameters(lists.records),
        lists.records, lists.radii, lists.counts, keys, large,
        sizes.num, sizes.width, sizes.height, *sizes.bins, per_list, float(settings.near),
        **inputs.shape_flags(), HAS_PUBLISHED_CULL=settings.cull == "3sigma",
        MANY_BINS=_MANY_BINS, LANES=_PROJECT_LANES,
    )  # fmt: skip
    order_lists(lists, keys, large, sizes, list_large, filter_lists)
    return lists


def blend_lists(inputs: Inputs, lists: Lists) -> Blended:
    """Blend all subtiles."""
    sizes = inputs.sizes

    def empty(channels: int, is_needed: bool = True) -> Any:
        shape = (sizes.batch, channels, sizes.height, sizes.width)
        return inputs.means.new_empty(shape) if is_needed else None

    blended = Blended(
        image=empty(inputs.channels),
        alpha=empty(1),
        normal=empty(3, inputs.has("normal")),
        depth=empty(1, inputs.has("depth")),
        median=empty(1, inputs.has("median_depth")),
        distortion=empty(1, inputs.has("distortion")),
        moments=empty(3, inputs.has("median_depth") or inputs.has("distortion")),
    )
    launch(
        blend, (2 * sizes.num_bins,), lists.lists, lists.lengths, lists.records,
        *filled(lists.records, inputs.features, inputs.background), lists.counts,
        *filled(
            lists.records, blended.image, blended.alpha, blended.normal, blended.depth,
            blended.median, blended.distortion, blended.moments,
        ),
        lists.ends,
        sizes.width, sizes.height, *sizes.bins, lists.per_list, float(inputs.settings.near),
        HAS_COLOR=inputs.has_color, NUM_FEATURES=inputs.num_features,
        HAS_NORMAL=inputs.has("normal"), HAS_DEPTH=inputs.has("depth"),
        HAS_MEDIAN=inputs.has("median_depth"), HAS_DISTORTION=inputs.has("distortion"),
        HAS_BACKGROUND=inputs.background is not None,
        IS_SURFHEAD=inputs.settings.convention == "surfhead",
        IS_FAST=not is_interpreted(),
        CHUNK=tiles.CHUNK.value if is_interpreted() else _BLEND_CHUNK,
    )  # fmt: skip
    return blended


@dataclass(frozen=True)
class ImageGrads:
    """Gradients of the images; None where there is none."""

    image: Tensor | None
    alpha: Tensor | None
    depth: Tensor | None
    normal: Tensor | None
    median: Tensor | None
    distortion: Tensor | None


@dataclass(frozen=True)
class InputGrads:
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

    columns = (layout.GRADIENT.value, inputs.num_features)
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
    is_first, has_color = group[0] == 0, inputs.has_color and group[0] == 0
    color_channels = 3 * inputs.has_color
    planes = FIRST_CHANNEL_PLANE.value + 6 + group[1] - group[0]
    sizes = inputs.sizes
    scratch = inputs.means.new_empty(2 * sizes.num_bins, planes * tiles.PIXELS.value)
    unused = lists.records
    grad_image = grads.image
    if grad_image is None:
        grad_image = torch.zeros_like(blended.image)
    launch(
        blend_backward, (2 * sizes.num_bins,), lists.lists, lists.ends, lists.records,
        *filled(unused, inputs.features, inputs.background), scratch, blended.image, blended.alpha,
        *filled(unused, blended.normal, blended.depth, blended.distortion, blended.moments),
        grad_image, *filled(unused, grads.alpha, grads.normal, grads.depth, grads.median),
        *filled(unused, grads.distortion, *targets), unused if pairs is None else pairs.first,
        0 if pairs is None else pairs.num,
        sizes.width, sizes.height, *sizes.bins, lists.per_list, inputs.channels, planes,
        float(inputs.settings.near),
        FIRST_CHANNEL=0 if is_first else color_channels + group[0], HAS_COLOR=has_color,
        FIRST=group[0], END=group[1], NUM_FEATURES=inputs.num_features,
        HAS_ALPHA=is_first and grads.alpha is not None,
        HAS_NORMAL=is_first and grads.normal is not None,
        HAS_DEPTH=is_first and grads.depth is not None,
        HAS_MEDIAN=is_first and grads.median is not None,
        HAS_DISTORTION=is_first and grads.distortion is not None,
        HAS_BACKGROUND=inputs.background is not None,
        IS_DETACHED=inputs.settings.has_detached_weights,
        IS_SURFHEAD=inputs.settings.convention == "surfhead",
        IS_DETERMINISTIC=pairs is not None, IS_FAST=not is_interpreted(),
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
    sizes, new = inputs.sizes, inputs.means.new_empty
    programs = -(-sizes.num // _PROJECT_BACKWARD_LANES)
    grads = InputGrads(
        means=torch.empty_like(inputs.means),
        quats=torch.empty_like(inputs.quats),
        scales=torch.empty_like(inputs.scales),
        opacities=torch.empty_like(inputs.opacities),
        sh_coeffs=None if inputs.sh_coeffs is None else torch.empty_like(inputs.sh_coeffs),
        jacobians=new(sizes.batch, sizes.num, 3, 3) if needs_jacobians else None,
        screen=new(sizes.batch, sizes.num, 2),
    )
    sums = new(sizes.batch, programs, 12, dtype=torch.float64) if needs_view else None
    unused = lists.records
    launch(
        project_backward, (programs, sizes.batch), inputs.world_to_camera, inputs.intrinsics,
        *inputs.parameters(unused), lists.records, gradients,
        grads.means, grads.quats, grads.scales, grads.opacities,
        *filled(unused, grads.jacobians, grads.sh_coeffs, grads.screen, sums),
        sizes.num, sizes.width, sizes.height, **inputs.shape_flags(), HAS_NORMAL=has_normal,
        NEEDS_JACOBIANS=needs_jacobians, NEEDS_VIEW=needs_view, LANES=_PROJECT_BACKWARD_LANES,
    )  # fmt: skip
    if sums is None:
        return grads
    return replace(grads, world_to_camera=view_gradient(sums, inputs.world_to_camera))
