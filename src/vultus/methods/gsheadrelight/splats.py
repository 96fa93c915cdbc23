"""Generated heads as splat files that other programs show: light is baked into the colours."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from vultus.gaussians.splat_files import Splats
from vultus.methods.gsheadrelight.gaussians import HeadGaussians
from vultus.methods.gsheadrelight.rendering import SH_C0, ShadeMode, shade

__all__ = ["lit_splats"]


def lit_splats(
    gaussians: HeadGaussians, light: Float[Tensor, "9 c"], mode: ShadeMode = "lit", index: int = 0
) -> Splats:
    """Bake a light into one head; write the result with ``gaussians.splat_files.write_splats``.

    Args:
        gaussians: Heads.
        light: In axes of the head.
        mode: What the colours show.
        index: Of the head.
    """
    one = gaussians.select(index)
    color = shade(one, light[None], mode)[0]
    no_rest: Tensor = torch.zeros(len(color), 0, 3, dtype=color.dtype, device=color.device)
    return Splats(
        means=one.means[0],
        log_scales=one.log_scales[0],
        quats=one.quats[0],
        opacity_logits=one.opacity_logits[0, :, 0],
        sh_dc=((color - 0.5) / SH_C0)[:, None],
        sh_rest=no_rest,
    )
