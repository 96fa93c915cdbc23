"""The stages of the GPU backend: buffers and launches; nothing here waits for the GPU."""

from __future__ import annotations

from dataclasses import dataclass, replace

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

# Launch parameters; those of the prototype and of the surfels, measured on an H100.
_PROJECT_LANES, _PROJECT_BACKWARD_LANES, _MANY_BINS = 32, 32, 24
_BLEND_CHUNK, _BLEND_CHUNK_OF_BINS = 8, 16
_PIXELS_PER_TRIP, _PIXELS_WITH_FEATURES, _FEW_FEATURES = 8, 4, 4
"""More pixels hide more latency, fewer leave registers to the sums of many channels."""
_CHANNELS_OF_BINS = 8
"""As many sums of two pixels fit into a lane's registers."""


@dataclass(frozen=True, kw_only=True)
class Inputs(BatchInputs):
    """Contiguous inputs of a call."""

    quats: Tensor | None
    scales: Tensor | None
    covariances: Tensor | None
    settings: RasterSettings

    def has(self, output: str) -> bool:
        """Whether a map was asked for."""
        return output in self.settings.outputs

    def parameters(self, unused: Tensor) -> tuple[Tensor, ...]:
        """What the projection and its backward pass read of every Gaussian."""
        return filled(
            unused, self.means, self.quats, self.scales, self.covariances, self.opacities,
            self.jacobians, self.sh_coeffs,
        )  # fmt: skip

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
class Blended:
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
    sizes, settings = inputs.sizes, inputs.settings
    lists, keys, large = new_lists(sizes, layout.RECORD.value, per_list, inputs.means.device)
    launch(
        project, (-(-sizes.num // _PROJECT_LANES), sizes.batch),
        inputs.world_to_camera, inputs.intrinsics, *inputs.parameters(lists.records),
        lists.records, lists.radii, lists.counts, keys, large,
        sizes.num, sizes.width, sizes.height, *sizes.bins, per_list,
        float(settings.near), float(settings.dilation), 0.5 - float(settings.pixel_center),
        settings.max_alpha,
        **inputs.shape_flags(), HAS_PUBLISHED_CULL=settings.cull == "3sigma",
        MANY_BINS=_MANY_BINS, LANES=_PROJECT_LANES,
    )  # fmt: skip
    is_split = is_recorded or inputs.channels > _CHANNELS_OF_BINS
    splitter = filter_lists if is_split else None
    return order_lists(lists, keys, large, sizes, list_large, splitter)


def blend_lists(inputs: Inputs, lists: Lists) -> Blended:
    """Blend all subtiles, or all bins where lists have not been split."""
    sizes, is_whole = inputs.sizes, lists.bin_rows is not None

    def empty(channels: int) -> Tensor:
        return inputs.means.new_empty(sizes.batch, channels, sizes.height, sizes.width)

    has_median = inputs.has("median_depth")
    blended = Blended(
        image=empty(inputs.channels),
        alpha=empty(1),
        depth=empty(1) if inputs.has("depth") else None,
        median=empty(1) if has_median else None,
        positions=empty(1) if has_median else None,
    )
    launch(
        blend, (sizes.num_bins if is_whole else 2 * sizes.num_bins,),
        *filled(lists.lists, lists.bin_rows), lists.lengths, lists.records,
        *filled(lists.records, inputs.features, inputs.background), lists.counts,
        blended.image, blended.alpha,
        *filled(lists.records, blended.depth, blended.median, blended.positions), lists.ends,
        sizes.width, sizes.height, *sizes.bins, lists.per_list, inputs.settings.max_alpha,
        HAS_COLOR=inputs.has_color, NUM_FEATURES=inputs.num_features,
        HAS_DEPTH=inputs.has("depth"), HAS_MEDIAN=has_median,
        HAS_BACKGROUND=inputs.background is not None, IS_WHOLE=is_whole,
        CHUNK=_BLEND_CHUNK_OF_BINS if is_whole else _BLEND_CHUNK,
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
    count = group[1] - group[0]
    has_depth = is_first and grads.depth is not None
    planes = FIRST_CHANNEL_PLANE.value + 3 * has_color + count + has_depth
    sizes = inputs.sizes
    scratch = inputs.means.new_empty(2 * sizes.num_bins, planes * tiles.PIXELS.value)
    unused = lists.records
    grad_image = grads.image
    if grad_image is None:
        grad_image = torch.zeros_like(blended.image)
    launch(
        blend_backward, (2 * sizes.num_bins,), lists.lists, lists.ends, lists.records,
        *filled(unused, inputs.features, inputs.background), scratch, blended.image, blended.alpha,
        *filled(unused, blended.depth, blended.positions),
        grad_image, *filled(unused, grads.alpha, grads.depth, grads.median, *targets),
        unused if pairs is None else pairs.first,
        0 if pairs is None else pairs.num,
        sizes.width, sizes.height, *sizes.bins, lists.per_list, inputs.channels, planes,
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
    sizes, new = inputs.sizes, inputs.means.new_empty
    programs = -(-sizes.num // _PROJECT_BACKWARD_LANES)

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
    sums = new(sizes.batch, programs, 12, dtype=torch.float64) if needs_view else None
    unused = lists.records
    launch(
        project_backward, (programs, sizes.batch), inputs.world_to_camera, inputs.intrinsics,
        *inputs.parameters(unused), lists.records, gradients,
        *filled(
            unused, grads.means, grads.quats, grads.scales, grads.covariances, grads.opacities,
            grads.jacobians, grads.sh_coeffs, grads.screen, sums,
        ),
        sizes.num, sizes.width, sizes.height, float(inputs.settings.dilation),
        **inputs.shape_flags(),
        HAS_PUBLISHED_GRADIENTS=inputs.settings.gradients == "published", HAS_DEPTH=has_depth,
        NEEDS_VIEW=needs_view, LANES=_PROJECT_BACKWARD_LANES,
    )  # fmt: skip
    if sums is None:
        return grads
    return replace(grads, world_to_camera=view_gradient(sums, inputs.world_to_camera))
