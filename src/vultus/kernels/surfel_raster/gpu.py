"""GPU backend in Triton: forward and exact gradients of everything but the intrinsics.

Stages of a batch: project surfels to records and list them per bin (`_gpu_project`), sort each list
by depth (`triton_lists`), split it for the two subtiles of a bin, blend (`_gpu_raster`). A batch is
nothing special: its rows are ``frame * n + i`` and its bins follow each other.

Nothing waits for the GPU except the check of the lists' capacity, as told in `kernels.capacity`,
and nothing depends on data, so that calls can be captured into CUDA graphs. Images are bitwise
reproducible; with ``torch.use_deterministic_algorithms(True)`` gradients are, too.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from vultus.geometry.cameras import Camera
from vultus.kernels import triton_tiles as tiles
from vultus.kernels.capacity import Capacity, CapacityExceededError, Reading, shared_capacity
from vultus.kernels.surfel_raster._gpu_stages import (
    Blended,
    ImageGrads,
    Inputs,
    Lists,
    blend_lists,
    count_pairs,
    gradients_of_inputs,
    gradients_of_records,
    make_lists,
)
from vultus.kernels.surfel_raster._types import Images, RasterSettings, Surfels
from vultus.kernels.triton_runtime import is_interpreted, is_recording

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

_INPUTS = (
    "background", "camera", "settings", "is_recorded", "means", "quats", "scales", "opacities",
    "features", "sh_coeffs", "jacobians", "screen_gradient", "world_to_camera",
)  # fmt: skip


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
    if camera.intrinsics.requires_grad:
        raise ValueError("camera.intrinsics must not require a gradient on backend gpu; use ref")
    device = surfels.means.device
    if device.type != "cuda" and not (is_interpreted() or is_recording()):
        raise TypeError(f"means must be on a GPU for backend gpu, got {device}")
    for name in ("means", "quats", "scales", "opacities", "features", "sh_coeffs", "jacobians"):
        tensor = getattr(surfels, name)
        if tensor is None or (tensor.dtype == torch.float32 and tensor.device == device):
            continue
        raise TypeError(f"{name} must be float32 on {device}, got {tensor.dtype}, {tensor.device}")
    tensors = (
        surfels.means, surfels.quats, surfels.scales, surfels.opacities, surfels.features,
        surfels.sh_coeffs, surfels.jacobians, surfels.screen_gradient, camera.world_to_camera,
    )  # fmt: skip
    # Inside of the function gradients are disabled, and what needs them does not depend on that.
    is_recorded = torch.is_grad_enabled() and any(
        tensor is not None and tensor.requires_grad for tensor in (background, *tensors)
    )
    return _Rasterize.apply(background, camera, settings, is_recorded, *tensors)


def _gather_inputs(
    background: Tensor | None, camera: Camera, settings: RasterSettings, tensors: tuple[Any, ...]
) -> Inputs:
    """Make contiguous what kernels expect to be."""
    means, quats, scales, opacities, features, sh_coeffs, jacobians, _, matrix = tensors
    device = means.device

    def plain(tensor: Tensor | None) -> Tensor | None:
        return None if tensor is None else tensor.detach().contiguous()

    return Inputs(
        means=means.detach().contiguous(),
        quats=quats.detach().contiguous(),
        scales=scales.detach().contiguous(),
        opacities=opacities.detach().contiguous(),
        features=plain(features),
        sh_coeffs=plain(sh_coeffs),
        jacobians=plain(jacobians),
        background=None if background is None else background.detach().float().contiguous(),
        world_to_camera=matrix.detach().to(device, non_blocking=True).contiguous(),
        intrinsics=camera.intrinsics.detach().to(device, non_blocking=True).contiguous(),
        width=camera.width,
        height=camera.height,
        settings=settings,
    )


def _check(values: list[int], capacity: Capacity) -> bool:
    """Report bad inputs; learn from the lists' lengths whether they fitted."""
    problems = values[tiles.COUNT_PROBLEMS.value]
    for bit, message in enumerate(_PROBLEMS):
        if problems >> bit & 1:
            raise ValueError(message)
    return capacity.update(values[tiles.COUNT_LONGEST.value])


def _is_capturing(tensor: Tensor) -> bool:
    return tensor.is_cuda and torch.cuda.is_current_stream_capturing()


def _forward(
    inputs: Inputs, capacity: Capacity, is_recorded: bool
) -> tuple[Lists, Blended, Reading | None]:
    """Run the stages until the lists fit; leave the check to the backward pass where there is one.

    Returns:
        Also the counters that are still to be checked.
    """
    while True:
        lists = make_lists(inputs, capacity.per_list)
        if _is_capturing(inputs.means):
            longest = tiles.COUNT_LONGEST.value
            capacity.capture(lists.counters()[longest : longest + 1])
            return lists, blend_lists(inputs, lists), None
        capacity.prepare_capture(inputs.means.device)
        blended = blend_lists(inputs, lists)
        reading = Reading(lists.counters())
        if is_recorded and capacity.is_settled:
            return lists, blended, reading
        if _check(reading.wait(), capacity):
            return lists, blended, None


def _room_for_pairs(blended: Blended, capacity: Capacity) -> int | None:
    """How many pairs deterministic gradients must provide for; None if they need not be that."""
    if not torch.are_deterministic_algorithms_enabled():
        return None
    pairs = count_pairs(blended)
    if _is_capturing(blended.ends):
        capacity.capture_pairs(pairs)
    else:
        capacity.update(0, int(pairs))
    return max(1, capacity.pairs)


class _Rasterize(torch.autograd.Function):
    """Ties the stages into autograd."""

    @staticmethod
    def forward(
        ctx: Any, background: Any, camera: Camera, settings: Any, is_recorded: bool, *tensors: Any
    ) -> Any:
        inputs = _gather_inputs(background, camera, settings, tensors)
        sizes = (inputs.batch, inputs.width, inputs.height)
        ctx.capacity = shared_capacity("surfels", inputs.means.device, *sizes)
        lists, blended, ctx.reading = _forward(inputs, ctx.capacity, is_recorded)
        # Outputs must be saved this way: as attributes they would keep their own graph alive.
        ctx.save_for_backward(
            blended.image, blended.alpha, blended.normal, blended.depth, blended.median,
            blended.distortion,
        )  # fmt: skip
        ctx.inputs, ctx.lists, ctx.moments, ctx.ends = inputs, lists, blended.moments, blended.ends
        ctx.set_materialize_grads(False)
        ctx.mark_non_differentiable(lists.radii)
        return (
            blended.image, blended.alpha, blended.depth, blended.normal, blended.median,
            blended.distortion, lists.radii,
        )  # fmt: skip

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Any) -> Any:
        inputs: Inputs = ctx.inputs
        if ctx.reading is not None and not _check(ctx.reading.wait(), ctx.capacity):
            raise CapacityExceededError(
                f"lists of {inputs.num} surfels at {inputs.width} x {inputs.height} did not fit; "
                "buffers have grown: repeat the step"
            )
        image, alpha, normal, depth, median, distortion = ctx.saved_tensors
        blended = Blended(image, alpha, normal, depth, median, distortion, ctx.moments, ctx.ends)
        image_grads = ImageGrads(
            *(None if grad is None else grad.contiguous() for grad in grads[:6])
        )
        gradients, grad_features = gradients_of_records(
            inputs, ctx.lists, blended, image_grads, _room_for_pairs(blended, ctx.capacity)
        )
        needs = dict(zip(_INPUTS, ctx.needs_input_grad, strict=True))
        result = gradients_of_inputs(
            inputs, ctx.lists, gradients,
            has_normal=image_grads.normal is not None,
            needs_jacobians=needs["jacobians"], needs_view=needs["world_to_camera"],
        )  # fmt: skip
        grad_background = None
        if needs["background"] and image_grads.image is not None:
            grad_background = (image_grads.image * (1 - blended.alpha)).sum((0, 2, 3))
        if inputs.features is not None:
            grad_features = grad_features.view(inputs.features.shape)
        return (
            grad_background, None, None, None, result.means, result.quats, result.scales,
            result.opacities, grad_features if inputs.features is not None else None,
            result.sh_coeffs, result.jacobians, result.screen, result.world_to_camera,
        )  # fmt: skip
