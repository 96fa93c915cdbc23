"""SurfHead's loss terms beside the photometric ones, gathered from ``losses``."""

from __future__ import annotations

from collections.abc import Mapping

from jaxtyping import Float, Int
from torch import Tensor

from vultus.data.frame_store import Batch
from vultus.losses import regularizers
from vultus.methods.surfhead.config import LossWeights, SurfHeadConfig
from vultus.methods.surfhead.jacobian_blending import blend_weights
from vultus.methods.surfhead.transport import PosedSurfels
from vultus.render.output import RenderOutput

__all__ = ["image_terms", "surfel_terms"]


def image_terms(
    output: RenderOutput, batch: Batch, weights: LossWeights, compare_normals: bool, distort: bool
) -> dict[str, Tensor]:
    """Terms on rendered maps: alpha, smooth depth, normals against depth normals, distortion."""
    terms: dict[str, Tensor] = {}
    if weights.alpha_weight > 0 and batch.mask is not None:
        terms["alpha"] = weights.alpha_weight * (output.alpha - batch.mask).abs().mean()
    if weights.depth_smoothness_weight > 0:
        terms["depth_smoothness"] = (
            weights.depth_smoothness_weight
            * regularizers.inverse_depth_smoothness(output.require("depth"), batch.rgb)
        )
    if compare_normals:
        mask = batch.mask if weights.mask_normals else None
        terms["surfel_normal"] = weights.surfel_normal_weight * regularizers.surfel_normal(
            output.require("normals"), output.require("depth_normals"), mask
        )
    if distort:
        terms["distortion"] = weights.distortion_weight * output.require("distortion").mean()
    return terms


def surfel_terms(
    surfels: Mapping[str, Tensor],
    placed: PosedSurfels,
    radii: Int[Tensor, "b n"],
    eyeballs: Int[Tensor, " e"],
    face_scales: Float[Tensor, " n"],
    config: SurfHeadConfig,
) -> dict[str, Tensor]:
    """Terms on the surfels themselves; "visible" means touched by a pixel in any frame.

    Args:
        surfels: Raw parameters.
        placed: The same surfels in the world.
        radii: On the screen, 0 where not visible.
        eyeballs: Indices of the surfels on eyeballs.
        face_scales: Sizes of the surfels' triangles at rest, metres.
        config: Weights, and which terms there are.
    """
    weights = config.losses
    visible = (radii > 0).any(dim=0)
    means, scales = surfels["local_means"], surfels["log_scales"].exp()
    if weights.metric_xyz:
        offsets = face_scales[:, None] * means
        xyz = regularizers.metric_xyz(offsets, visible, weights.xyz_threshold)
    else:
        xyz = regularizers.xyz(means, visible, weights.xyz_threshold)
    if weights.metric_scale:
        scales = face_scales[:, None] * scales
    terms = {
        "xyz": weights.xyz_weight * xyz,
        "scale": weights.scale_weight
        * regularizers.scale(scales, visible, weights.scale_threshold),
    }
    if weights.eye_alpha_weight > 0 and eyeballs.numel() > 0:
        opacities = surfels["opacity_logits"].index_select(0, eyeballs).sigmoid()
        terms["eye_alpha"] = weights.eye_alpha_weight * regularizers.eye_alpha(opacities)
    if weights.blend_weight_weight > 0 and "blend_weight_logits" in surfels:
        terms["blend_weight"] = weights.blend_weight_weight * regularizers.blend_weight(
            blend_weights(surfels["blend_weight_logits"]), visible
        )
    if weights.normal_norm_weight > 0 and placed.jacobians is not None:
        terms["normal_norm"] = weights.normal_norm_weight * regularizers.normal_norm(
            placed.normals()[0], visible
        )
    return terms
