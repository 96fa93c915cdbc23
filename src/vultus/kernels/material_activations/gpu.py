"""Launches of the kernels that activate materials, tied into autograd. A lane has a Gaussian."""

from __future__ import annotations

from typing import Any

from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from vultus.kernels.triton_calls import check_tensors, contiguous
from vultus.kernels.triton_matrices import load_vector, store_vector
from vultus.kernels.triton_runtime import constexpr, jit, launch, tl

__all__ = ["activate_materials"]

_LANES, _WARPS = 128, 4


def activate_materials(
    albedo: Tensor, roughness: Tensor, specular: Tensor, min_roughness: float
) -> tuple[Tensor, Tensor, Tensor]:
    """See ``vultus.kernels.material_activations.activate_materials``."""
    stored = {"albedo": albedo, "roughness": roughness, "specular": specular}
    check_tensors(stored, albedo.device)
    return _Activate.apply(float(min_roughness), *stored.values())


@jit
def activate(
    stored_albedo, stored_roughness, stored_specular, albedo, roughness, specular, num,
    min_roughness, LANES: constexpr,
):  # fmt: skip
    """Write activated albedo [m 3], roughness [m] and specular [m 3]."""
    row = (tl.program_id(0) * LANES + tl.arange(0, LANES)).to(tl.int64)
    mask = row < num
    color = load_vector(stored_albedo, 3 * row, mask)
    color = (tl.sigmoid(color[0]), tl.sigmoid(color[1]), tl.sigmoid(color[2]))
    store_vector(albedo, 3 * row, color, mask)
    share = tl.sigmoid(tl.load(stored_roughness + row, mask=mask, other=0.0))
    tl.store(roughness + row, min_roughness + (1.0 - min_roughness) * share, mask=mask)
    gain = tl.sigmoid(tl.load(stored_specular + row, mask=mask, other=0.0))
    store_vector(specular, 3 * row, (gain, gain, gain), mask)


@jit
def activate_backward(
    albedo, stored_roughness, specular, grad_albedo, grad_roughness, grad_specular,
    grad_stored_albedo, grad_stored_roughness, grad_stored_specular, num, min_roughness,
    LANES: constexpr,
):  # fmt: skip
    """Gradients of what ``activate`` has read; those named ``grad_stored`` are written."""
    row = (tl.program_id(0) * LANES + tl.arange(0, LANES)).to(tl.int64)
    mask = row < num
    color, grad = load_vector(albedo, 3 * row, mask), load_vector(grad_albedo, 3 * row, mask)
    for k in tl.static_range(3):
        slope = color[k] * (1.0 - color[k])
        tl.store(grad_stored_albedo + 3 * row + k, slope * grad[k], mask=mask)
    # Not from what was written: a minimum near 1 would leave nothing of the share.
    share = tl.sigmoid(tl.load(stored_roughness + row, mask=mask, other=0.0))
    slope = (1.0 - min_roughness) * share * (1.0 - share)
    rough = tl.load(grad_roughness + row, mask=mask, other=0.0)
    tl.store(grad_stored_roughness + row, slope * rough, mask=mask)
    gain = tl.load(specular + 3 * row, mask=mask, other=0.0)
    grad = load_vector(grad_specular, 3 * row, mask)
    slope = gain * (1.0 - gain)
    tl.store(grad_stored_specular + row, slope * (grad[0] + grad[1] + grad[2]), mask=mask)


class _Activate(Function):
    @staticmethod
    def forward(
        ctx: Any, min_roughness: float, albedo: Tensor, roughness: Tensor, specular: Tensor
    ) -> Any:
        stored = contiguous((albedo, roughness, specular))
        colors, gains = albedo.new_empty(albedo.shape), albedo.new_empty(albedo.shape)
        activated = colors, roughness.new_empty(roughness.shape[:-1]), gains
        num = roughness.numel()
        launch(
            activate, (-(-num // _LANES),), *stored, *activated, num, min_roughness,
            LANES=_LANES, num_warps=_WARPS,
        )  # fmt: skip
        ctx.save_for_backward(colors, stored[1], gains)
        ctx.min_roughness = min_roughness
        return activated

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Any) -> Any:
        colors, stored_roughness, gains = ctx.saved_tensors
        num = stored_roughness.numel()
        results = tuple(
            colors.new_empty(shape)
            for shape in (colors.shape, stored_roughness.shape, stored_roughness.shape)
        )
        launch(
            activate_backward, (-(-num // _LANES),), colors, stored_roughness, gains,
            *contiguous(grads), *results, num, ctx.min_roughness, LANES=_LANES, num_warps=_WARPS,
        )  # fmt: skip
        return None, *results
