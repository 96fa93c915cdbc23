"""GPU backend in Triton: forward and exact gradients of everything but the intrinsics.

Stages of a batch: project surfels to records and list them per bin (`_gpu_project`; those of very
many bins by `_gpu_bins`, both with `triton_listing`), sort each list by depth (`triton_lists`),
split it for the two subtiles of a bin, blend (`_gpu_raster`). A batch is nothing special: its rows
are ``frame * n + i`` and its bins follow each other.

Nothing waits for the GPU except the check of the lists' capacity, as told in `kernels.capacity`,
and nothing depends on data, so that calls can be captured into CUDA graphs. Images are bitwise
reproducible; with ``torch.use_deterministic_algorithms(True)`` gradients are, too, for which eager
calls wait once more.
"""

from __future__ import annotations

from operator import attrgetter
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from vultus.geometry.cameras import Camera
from vultus.kernels.capacity import Capacity, Reading, shared_capacity
from vultus.kernels.surfel_raster._gpu_stages import (
    Blended,
    ImageGrads,
    Inputs,
    blend_lists,
    gradients_of_inputs,
    gradients_of_records,
    kind_of,
    make_lists,
)
from vultus.kernels.surfel_raster._types import Images, RasterSettings, Surfels
from vultus.kernels.triton_calls import (
    background_gradient,
    check_reading,
    checked_call,
    contiguous,
    forward_until_it_fits,
    moved,
    room_for_pairs,
)
from vultus.kernels.triton_raster import Lists, sizes_of

__all__ = ["rasterize"]

_PROBLEMS = (
    "means must be finite",
    "quats and scales must be finite",
    "opacities must be finite",
    "jacobians must be finite and invertible",
    "sh_coeffs must be finite",
    "camera.intrinsics must have no skew",
    "features must be finite",
)
"""What the bits of the problem mask stand for."""

_TENSORS = (
    "means", "quats", "scales", "opacities", "features", "sh_coeffs", "jacobians",
    "screen_gradient",
)  # fmt: skip
_tensors_of = attrgetter(*_TENSORS)


def rasterize(
    surfels: Surfels, background: Tensor | None, camera: Camera, settings: RasterSettings
) -> Images:
    """Rasterize with Triton kernels.

    Gradients reach all surfel parameters, the background and ``world_to_camera``.

    Raises:
        ValueError: If a gradient of the intrinsics is asked for, or if inputs are not finite; where
            gradients are recorded, the backward pass may be the one to report that.
        TypeError: If the tensors are not float32 on one GPU.
        CapacityExceededError: From the backward pass, as told in `kernels.capacity`.
    """
    own: dict[str, Tensor | None] = dict(zip(_TENSORS, _tensors_of(surfels), strict=True))
    background, tensors, is_recorded = checked_call(own, background, camera)
    if is_recorded:
        return _Rasterize.apply(background, camera, settings, *tensors)
    inputs = _gather_inputs(background, camera, settings, tensors)
    lists, blended, _ = _forward(inputs, _capacity_of(inputs), is_recorded=False)
    return _images(blended, lists)


def _gather_inputs(
    background: Tensor | None, camera: Camera, settings: RasterSettings, tensors: tuple[Any, ...]
) -> Inputs:
    """Make contiguous what kernels expect to be; gradients are disabled, or nothing needs them."""
    matrix, means, quats, scales, opacities, features, sh_coeffs, jacobians = contiguous(
        tensors[:-1]
    )
    kind = kind_of(
        sizes=sizes_of(*means.shape[:2], camera.width, camera.height),
        settings=settings,
        num_features=0 if features is None else features.shape[2],
        sh_stored=0 if sh_coeffs is None else sh_coeffs.shape[2],
        has_jacobians=jacobians is not None,
        has_background=background is not None,
        camera_dtypes=(matrix.dtype, camera.intrinsics.dtype),
    )
    return Inputs(
        kind=kind,
        means=means,
        quats=quats,
        scales=scales,
        opacities=opacities,
        features=features,
        sh_coeffs=sh_coeffs,
        jacobians=jacobians,
        background=None if background is None else background.contiguous(),
        world_to_camera=moved(matrix, means),
        intrinsics=moved(camera.intrinsics, means).contiguous(),
    )


def _forward(
    inputs: Inputs, capacity: Capacity, *, is_recorded: bool
) -> tuple[Lists, Blended, Reading | None]:
    """Run the forward stages; also returns counters that are still to be checked."""
    return forward_until_it_fits(
        lambda per_list: make_lists(inputs, per_list),
        lambda lists: blend_lists(inputs, lists),
        capacity,
        _PROBLEMS,
        is_recorded=is_recorded,
    )


def _images(blended: Blended, lists: Lists) -> Images:
    """What a backend returns."""
    return (
        blended.image, blended.alpha, blended.depth, blended.normal, blended.median,
        blended.distortion, lists.radii,
    )  # fmt: skip


def _capacity_of(inputs: Inputs) -> Capacity:
    """What is shared by calls with as many bins."""
    sizes = inputs.kind.sizes
    return shared_capacity("surfels", inputs.means.device, sizes.batch, sizes.width, sizes.height)


class _Rasterize(torch.autograd.Function):
    """Ties the stages into autograd."""

    @staticmethod
    def forward(ctx: Any, background: Any, camera: Camera, settings: Any, *tensors: Any) -> Any:
        inputs = _gather_inputs(background, camera, settings, tensors)
        ctx.capacity = _capacity_of(inputs)
        lists, blended, ctx.reading = _forward(inputs, ctx.capacity, is_recorded=True)
        # Outputs must be saved this way: as attributes they would keep their own graph alive.
        ctx.save_for_backward(
            blended.image, blended.alpha, blended.normal, blended.depth, blended.median,
            blended.distortion,
        )  # fmt: skip
        ctx.inputs, ctx.lists, ctx.moments = inputs, lists, blended.moments
        ctx.set_materialize_grads(False)
        ctx.mark_non_differentiable(lists.radii)
        return _images(blended, lists)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Any) -> Any:
        inputs: Inputs = ctx.inputs
        image, alpha, normal, depth, median, distortion = ctx.saved_tensors
        blended = Blended(image, alpha, normal, depth, median, distortion, ctx.moments)
        image_grads = ImageGrads(*contiguous(grads[:6]))
        gradients, grad_features = gradients_of_records(
            inputs, ctx.lists, blended, image_grads, room_for_pairs(ctx.lists, ctx.capacity)
        )
        needs_background, _, _, needs_view, *_, needs_jacobians, _ = ctx.needs_input_grad
        result = gradients_of_inputs(
            inputs, ctx.lists, gradients,
            has_normal=image_grads.normal is not None,
            needs_jacobians=needs_jacobians, needs_view=needs_view,
        )  # fmt: skip
        grad_background = None
        if needs_background:
            grad_background = background_gradient(image_grads.image, alpha)
        if inputs.features is not None and grad_features is not None:
            grad_features = grad_features.view(inputs.features.shape)
        # Last, so that the host need not wait until the forward pass is through; kernels do nothing
        # with lists that did not fit.
        check_reading(ctx.reading, ctx.capacity, _PROBLEMS, "surfels", inputs.kind.sizes)
        return (
            grad_background, None, None, result.world_to_camera, result.means, result.quats,
            result.scales, result.opacities, grad_features,
            result.sh_coeffs, result.jacobians, result.screen,
        )  # fmt: skip
