"""SurfHead's loss terms beside the photometric ones.

``losses`` defines them; on a GPU they come from one kernel for maps and one for surfels.
"""

from __future__ import annotations

from collections.abc import Mapping

from jaxtyping import Bool, Float, Int
from torch import Tensor

from vultus.data.frame_store import Batch
from vultus.kernels import loss_terms
from vultus.kernels.dispatch import are_for_kernels
from vultus.kernels.loss_terms import MeasuredMaps, MeasuredSurfels
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
    has_alpha = weights.alpha_weight > 0 and batch.mask is not None
    maps = MeasuredMaps(
        alpha=output.alpha if has_alpha else None,
        mask=batch.mask,
        normals=output.require("normals") if compare_normals else None,
        depth_normals=output.require("depth_normals") if compare_normals else None,
        distortion=output.require("distortion") if distort else None,
    )
    measure = loss_terms.map_terms if are_for_kernels(output.alpha) else _map_terms
    terms = measure(maps, weights)
    if weights.depth_smoothness_weight > 0:
        terms["depth_smoothness"] = (
            weights.depth_smoothness_weight
            * regularizers.inverse_depth_smoothness(output.require("depth"), batch.rgb)
        )
    return terms


def surfel_terms(
    surfels: Mapping[str, Tensor],
    placed: PosedSurfels,
    radii: Int[Tensor, "b n"],
    eyeballs: Bool[Tensor, " n"] | None,
    face_scales: Float[Tensor, " n"],
    config: SurfHeadConfig,
) -> dict[str, Tensor]:
    """Terms on the surfels themselves; "visible" means touched by a pixel in any frame.

    Args:
        surfels: Raw parameters.
        placed: The same surfels in the world.
        radii: On the screen, 0 where not visible.
        eyeballs: Which surfels lie on eyeballs; ``None`` if none does.
        face_scales: Sizes of the surfels' triangles at rest, metres.
        config: Weights, and which terms there are.
    """
    weights = config.losses
    has_eyes = weights.eye_alpha_weight > 0 and eyeballs is not None
    has_blending = weights.blend_weight_weight > 0
    has_normals = weights.normal_norm_weight > 0 and placed.jacobians is not None
    measured = MeasuredSurfels(
        surfels["local_means"],
        surfels["log_scales"],
        face_scales,
        opacity_logits=surfels["opacity_logits"] if has_eyes else None,
        eyeballs=eyeballs if has_eyes else None,
        blend_weight_logits=surfels.get("blend_weight_logits") if has_blending else None,
        normals=placed.normals() if has_normals else None,
    )
    if are_for_kernels(measured.local_means):
        free = regularizers.FREE_BLEND_WEIGHT
        return loss_terms.surfel_terms(measured, radii, weights, free_blend_weight=free)
    return _surfel_terms(measured, radii, weights)


def _map_terms(maps: MeasuredMaps, weights: LossWeights) -> dict[str, Tensor]:
    """What ``loss_terms.map_terms`` computes."""
    terms: dict[str, Tensor] = {}
    if maps.alpha is not None and maps.mask is not None:
        terms["alpha"] = weights.alpha_weight * (maps.alpha - maps.mask).abs().mean()
    if maps.normals is not None and maps.depth_normals is not None:
        mask = maps.mask if weights.mask_normals else None
        terms["surfel_normal"] = weights.surfel_normal_weight * regularizers.surfel_normal(
            maps.normals, maps.depth_normals, mask
        )
    if maps.distortion is not None:
        terms["distortion"] = weights.distortion_weight * regularizers.distortion(maps.distortion)
    return terms


def _surfel_terms(
    surfels: MeasuredSurfels, radii: Tensor, weights: LossWeights
) -> dict[str, Tensor]:
    """What ``loss_terms.surfel_terms`` computes."""
    visible = (radii > 0).any(dim=0)
    means, scales = surfels.local_means, surfels.log_scales.exp()
    if weights.metric_xyz:
        offsets = surfels.face_scales[:, None] * means
        xyz = regularizers.metric_xyz(offsets, visible, weights.xyz_threshold)
    else:
        xyz = regularizers.xyz(means, visible, weights.xyz_threshold)
    if weights.metric_scale:
        scales = surfels.face_scales[:, None] * scales
    terms = {
        "xyz": weights.xyz_weight * xyz,
        "scale": weights.scale_weight
        * regularizers.scale(scales, visible, weights.scale_threshold),
    }
    if surfels.opacity_logits is not None and surfels.eyeballs is not None:
        opacities = surfels.opacity_logits[surfels.eyeballs].sigmoid()
        terms["eye_alpha"] = weights.eye_alpha_weight * regularizers.eye_alpha(opacities)
    if surfels.blend_weight_logits is not None:
        terms["blend_weight"] = weights.blend_weight_weight * regularizers.blend_weight(
            blend_weights(surfels.blend_weight_logits), visible
        )
    if surfels.normals is not None:
        terms["normal_norm"] = weights.normal_norm_weight * regularizers.normal_norm(
            surfels.normals[0], visible
        )
    return terms
