"""Colours of primitives in many lights, from their albedo and transfer vectors.

Written in PyTorch this is half a dozen passes over all primitives; on a GPU, without gradients, it
is one launch that writes the channels as the rasterizer blends them.

Reference: Sloan et al., Precomputed Radiance Transfer, 2002.
"""

from __future__ import annotations

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from vultus.kernels.dispatch import are_for_kernels
from vultus.kernels.raster_calls import check_choices
from vultus.kernels.transfer_shading import ref
from vultus.kernels.transfer_shading.ref import SH_C0, multiply_transfers

__all__ = ["SH_C0", "Backend", "multiply_transfers", "shade_transfers"]

Backend = Literal["auto", "ref", "gpu"]


def shade_transfers(
    albedo: Float[Tensor, "b n 3"],
    transfer: Float[Tensor, "b n t"],
    light: Float[Tensor, "#b m k c"],
    *,
    backend: Backend = "auto",
) -> Float[Tensor, "b n 3*m"]:
    """Light primitives: max(0, albedo C0 <transfer, light>), channels of one light after another.

    C0 is the constant spherical harmonic.

    Args:
        albedo: In [0, 1].
        transfer: A vector of k terms for all colours, or three of them, colour by colour.
        light: Lights of every frame, or of all frames if there is one set; c is 1 for the same
            light in all colours, or 3.
        backend: ``auto`` takes gpu for float32 tensors on a GPU where no gradients are recorded,
            else ref, which is differentiable.

    Raises:
        ValueError: If albedo, transfers and lights do not match.
        TypeError: If the backend does not support device or dtype, or gradients are asked of gpu.
    """
    check_choices(backend=(backend, Backend))
    terms, colors = light.shape[2:]
    if colors not in (1, 3) or transfer.shape[2] not in (terms, 3 * terms):
        raise ValueError(
            f"transfer must have {terms} or {3 * terms} numbers and light 1 or 3 colours, got "
            f"{transfer.shape[2]} and {colors}"
        )
    if albedo.shape[:2] != transfer.shape[:2] or light.shape[0] not in (1, albedo.shape[0]):
        shapes = ", ".join(str(tuple(each.shape)) for each in (albedo, transfer, light))
        raise ValueError(
            "albedo, transfer and light must be of the same frames and primitives (one set of "
            f"lights may serve all frames), got shapes {shapes}"
        )
    tensors = albedo, transfer, light
    is_recorded = torch.is_grad_enabled() and any(t.requires_grad for t in tensors)
    if backend == "ref" or (backend == "auto" and (is_recorded or not are_for_kernels(*tensors))):
        return ref.shade_transfers(*tensors)
    if is_recorded:
        raise TypeError('backend="gpu" computes no gradients; use ref')
    from vultus.kernels.transfer_shading import gpu  # Triton exists on Linux only.

    return gpu.shade_transfers(*tensors)
