"""Loss terms of the base method (spec section 5.1)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from vultus.kernels.ssim import l1_ssim
from vultus.methods.relightable_blendshapes.config import LossWeights
from vultus.methods.relightable_blendshapes.mouth import MouthCylinder, cylinder_distance
from vultus.nets.perceptual import LpipsNetwork

__all__ = ["alpha_term", "anisotropy", "picture_terms", "shape_terms"]

_SCALE_MARGIN = 1e-3
"""Added to both scales of a ratio, metres; published."""


def picture_terms(
    image: Float[Tensor, "b 3 h w"],
    target: Float[Tensor, "b 3 h w"],
    weights: LossWeights,
    lpips: LpipsNetwork | None,
) -> dict[str, Tensor]:
    """Weighted differences of pictures.

    Args:
        image: Rendered.
        target: Of the capture, over the same background.
        weights: Of the terms.
        lpips: ``None`` leaves the perceptual term out.
    """
    difference, similarity = l1_ssim(image, target)
    terms = {
        "l1": (1.0 - weights.ssim_weight) * difference,
        "ssim": weights.ssim_weight * (1.0 - similarity),
    }
    if lpips is not None:
        terms["lpips"] = weights.lpips_weight * lpips(image, target).mean()
    return terms


def alpha_term(
    alpha: Float[Tensor, "b 1 h w"], mask: Float[Tensor, "b 1 h w"], weights: LossWeights
) -> Float[Tensor, ""]:
    """Weighted mean squared difference of opacity and mask."""
    return weights.alpha_weight * (alpha - mask).square().mean()


def shape_terms(
    means: Float[Tensor, "n 3"],
    scales: Float[Tensor, "n 3"],
    strips: Sequence[Int[Tensor, " _"]],
    cylinder: MouthCylinder,
    weights: LossWeights,
) -> dict[str, Tensor]:
    """Weighted terms on neutral Gaussians.

    Args:
        means: Of all.
        scales: Of all, activated.
        strips: Rows of each strip of teeth; none has no rows.
        cylinder: Room of the teeth.
        weights: Of the terms.
    """
    terms = {}
    if weights.teeth_weight > 0 and weights.teeth_confinement == "soft" and strips:
        distances = [cylinder_distance(means.index_select(0, rows), cylinder) for rows in strips]
        means_of_strips = torch.stack([each.mean() for each in distances])
        terms["teeth"] = weights.teeth_weight * means_of_strips.sum()
    if weights.isotropy_weight > 0:
        terms["isotropy"] = weights.isotropy_weight * anisotropy(scales)
    return terms


def anisotropy(scales: Float[Tensor, "n 3"]) -> Float[Tensor, ""]:
    """Mean squared excess of the largest over the smallest scale, as a ratio."""
    ratios = (scales.amax(dim=1) + _SCALE_MARGIN) / (scales.amin(dim=1) + _SCALE_MARGIN)
    return (ratios - 1.0).square().mean()
