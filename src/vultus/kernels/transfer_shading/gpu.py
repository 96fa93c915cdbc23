"""Colours from transfer vectors in Triton: a lane keeps a primitive's and walks over the lights.

For one light of the published heads this reads 48 bytes of each primitive and writes 12.
"""

# ruff: noqa: RUF005, D417 -- Triton unpacks no tuples; sizes explain themselves.
from __future__ import annotations

import torch
from torch import Tensor

from vultus.kernels.transfer_shading.ref import SH_C0
from vultus.kernels.triton_calls import check_tensors
from vultus.kernels.triton_runtime import constexpr, jit, launch, tl

__all__ = ["shade_transfers"]

_LANES, _WARPS = 128, 4


def shade_transfers(albedo: Tensor, transfer: Tensor, light: Tensor) -> Tensor:
    """See ``vultus.kernels.transfer_shading.shade_transfers``.

    Raises:
        TypeError: If the tensors are not float32 on one GPU.
    """
    check_tensors({"albedo": albedo, "transfer": transfer, "light": light}, albedo.device)
    (batch, num, _), (light_batch, num_lights, terms, light_colors) = albedo.shape, light.shape
    colors = torch.empty(batch, num, 3 * num_lights, device=albedo.device)
    launch(
        shade, (-(-num // _LANES), batch),
        albedo.contiguous(), transfer.contiguous(), light.contiguous(), colors, num, num_lights,
        SH_C0, TERMS=terms, VECTORS=transfer.shape[2] // terms, LIGHT_COLORS=light_colors,
        IS_SHARED=light_batch == 1, LANES=_LANES, num_warps=_WARPS,
    )  # fmt: skip
    return colors


@jit
def shade(
    albedo, transfer, light, colors, num, num_lights, factor,
    TERMS: constexpr, VECTORS: constexpr, LIGHT_COLORS: constexpr, IS_SHARED: constexpr,
    LANES: constexpr,
):  # fmt: skip
    """Write the colours of some primitives of a frame.

    Args:
        albedo: [frames num 3].
        transfer: [frames num VECTORS TERMS].
        light: [frames lights TERMS LIGHT_COLORS], or with one frame, for all, if IS_SHARED.
        colors: Written, [frames num lights 3].
        factor: Of the brightness.
    """
    frame = tl.program_id(1)
    local = tl.program_id(0) * LANES + tl.arange(0, LANES)
    mask = local < num
    row = frame.to(tl.int64) * num + local
    terms = ()
    for k in tl.static_range(VECTORS * TERMS):
        terms = terms + (tl.load(transfer + row * (VECTORS * TERMS) + k, mask=mask, other=0.0),)
    white = ()
    for color in tl.static_range(3):
        white = white + (factor * tl.load(albedo + row * 3 + color, mask=mask, other=0.0),)
    first_light = 0 if IS_SHARED else frame * num_lights
    for j in range(num_lights):
        coefficients = light + (first_light + j) * (TERMS * LIGHT_COLORS)
        target = colors + (row * num_lights + j) * 3
        for color in tl.static_range(3):
            total = tl.zeros([LANES], tl.float32)
            for k in tl.static_range(TERMS):
                coefficient = tl.load(coefficients + k * LIGHT_COLORS + color % LIGHT_COLORS)
                total += terms[color % VECTORS * TERMS + k] * coefficient
            value = white[color] * total
            # Unlike a maximum, this keeps what is not a number.
            tl.store(target + color, tl.where(value < 0.0, 0.0, value), mask=mask)
