"""Launches of the kernels that activate parameters, tied into autograd. A lane has a surfel."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from vultus.kernels.surfel_activations import ActivatedSurfels
from vultus.kernels.triton_calls import check_tensors, contiguous, empty_like, or_other
from vultus.kernels.triton_math import load4, store4
from vultus.kernels.triton_runtime import constexpr, jit, launch, tl
from vultus.kernels.triton_shares import logits_to_shares, shares_gradient

__all__ = ["activate_surfels"]

_LANES, _WARPS = 128, 4


def activate_surfels(
    log_scales: Tensor, opacity_logits: Tensor, blend_weight_logits: Tensor | None
) -> ActivatedSurfels:
    """See ``vultus.kernels.surfel_activations.activate_surfels``."""
    inputs = {
        "log_scales": log_scales,
        "opacity_logits": opacity_logits,
        "blend_weight_logits": blend_weight_logits,
    }
    check_tensors(inputs, log_scales.device)
    return ActivatedSurfels(*_Activate.apply(*inputs.values()))


class _Activate(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, *logits: Any) -> Any:
        inputs = contiguous(logits)
        results = empty_like(inputs)
        log_scales, opacity_logits, blend_logits = inputs
        num = opacity_logits.shape[0]
        launch(
            activate, (-(-num // _LANES),), *or_other(inputs, log_scales),
            *or_other(results, log_scales), num,
            HAS_BLEND=blend_logits is not None, LANES=_LANES, num_warps=_WARPS,
        )  # fmt: skip
        ctx.save_for_backward(results[0], results[1], blend_logits)
        return results

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Any) -> Any:
        saved = ctx.saved_tensors
        scales, opacities, blend_logits = saved
        results, num = empty_like(saved), opacities.shape[0]
        launch(
            activate_backward, (-(-num // _LANES),), *or_other(saved, scales),
            *or_other(contiguous(grads), scales), *or_other(results, scales), num,
            HAS_BLEND=blend_logits is not None, LANES=_LANES, num_warps=_WARPS,
        )  # fmt: skip
        return results


@jit
def activate(
    log_scales, opacity_logits, blend_logits, scales, opacities, blend_weights, num,
    HAS_BLEND: constexpr, LANES: constexpr,
):  # fmt: skip
    """Write activated scales [n 2], opacities [n] and blend weights [n 4]."""
    surfel = tl.program_id(0) * LANES + tl.arange(0, LANES)
    mask = surfel < num
    for k in tl.static_range(2):
        log_scale = tl.load(log_scales + 2 * surfel + k, mask=mask, other=0.0)
        tl.store(scales + 2 * surfel + k, tl.exp(log_scale), mask=mask)
    logit = tl.load(opacity_logits + surfel, mask=mask, other=0.0)
    tl.store(opacities + surfel, tl.sigmoid(logit), mask=mask)
    if HAS_BLEND:
        shares, _sigmoids, _inverse = logits_to_shares(load4(blend_logits + 4 * surfel, mask))
        store4(blend_weights + 4 * surfel, shares[0], shares[1], shares[2], shares[3], mask)


@jit
def activate_backward(
    scales, opacities, blend_logits, grad_scales, grad_opacities, grad_blend_weights,
    grad_log_scales, grad_opacity_logits, grad_blend_logits, num,
    HAS_BLEND: constexpr, LANES: constexpr,
):  # fmt: skip
    """Gradients of what ``activate`` has read; the last three are written."""
    surfel = tl.program_id(0) * LANES + tl.arange(0, LANES)
    mask = surfel < num
    for k in tl.static_range(2):
        scale = tl.load(scales + 2 * surfel + k, mask=mask, other=0.0)
        grad = tl.load(grad_scales + 2 * surfel + k, mask=mask, other=0.0)
        tl.store(grad_log_scales + 2 * surfel + k, grad * scale, mask=mask)
    opacity = tl.load(opacities + surfel, mask=mask, other=0.0)
    grad = tl.load(grad_opacities + surfel, mask=mask, other=0.0)
    tl.store(grad_opacity_logits + surfel, grad * opacity * (1.0 - opacity), mask=mask)
    if HAS_BLEND:
        shares, sigmoids, inverse = logits_to_shares(load4(blend_logits + 4 * surfel, mask))
        upstream = load4(grad_blend_weights + 4 * surfel, mask)
        a, b, c, d = shares_gradient(shares, sigmoids, inverse, upstream)
        store4(grad_blend_logits + 4 * surfel, a, b, c, d, mask)
