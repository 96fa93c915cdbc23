"""From stored Gaussians, a driving vector and a camera to what the rasterizer draws (section 4)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import normalize

from vultus.methods.gaussianhead.appearance import AppearanceNetwork
from vultus.methods.gaussianhead.config import ModelConfig
from vultus.methods.gaussianhead.deformation import Deformation, DeformationNetwork

__all__ = ["PosedGaussians", "pose_gaussians"]


@dataclass(frozen=True)
class PosedGaussians:
    """Gaussians of b frames with activated parameters, in scene units."""

    means: Float[Tensor, "b n 3"]
    quats: Float[Tensor, "b n 4"]
    scales: Float[Tensor, "b n 3"]
    opacities: Float[Tensor, "b n"]
    sh_coeffs: Float[Tensor, "b n k 3"]


def pose_gaussians(
    gaussians: Mapping[str, Tensor],
    motion: DeformationNetwork | None,
    appearance: AppearanceNetwork,
    driving: Float[Tensor, "b e"],
    camera_centers: Float[Tensor, "b 3"],
    config: ModelConfig,
) -> PosedGaussians:
    """Move Gaussians, then decode what they look like from their camera.

    Args:
        gaussians: ``means``, ``log_scales``, ``quats``; ``derivation`` unless the mode is none;
            ``opacity_offsets`` if there are.
        motion: Network that moves them; ``None`` leaves them where they are (warm-up).
        appearance: Tri-planes and decoders.
        driving: One vector per frame.
        camera_centers: In scene units, one per frame.
        config: Rules of deformation and derivation.
    """
    positions = gaussians["means"]
    batch = driving.shape[0]
    deformation = None
    if motion is not None:
        deformation = motion(positions.detach(), driving)
    means, quats, scales = _deformed(gaussians, deformation, batch, config)
    directions = normalize(positions - camera_centers[:, None], dim=-1)
    if not config.view_directions:
        directions = torch.zeros_like(directions)
    sampled_at = means if config.sample_at == "deformed" else positions.expand(batch, -1, -1)
    decoded = appearance(sampled_at, directions, config.derivation, gaussians.get("derivation"))
    logits = decoded.opacity_logits
    if "opacity_offsets" in gaussians:
        logits = logits + gaussians["opacity_offsets"]
    return PosedGaussians(means, quats, scales, logits.sigmoid(), decoded.sh_coeffs)


def _deformed(
    gaussians: Mapping[str, Tensor],
    deformation: Deformation | None,
    batch: int,
    config: ModelConfig,
) -> tuple[Tensor, Tensor, Tensor]:
    means, log_scales = gaussians["means"], gaussians["log_scales"]
    quats = normalize(gaussians["quats"], dim=-1)
    if deformation is None:
        means, quats, scales = (x.expand(batch, -1, -1) for x in (means, quats, log_scales.exp()))
        return means, quats, scales
    if config.scale_offsets == "log":
        scales = (log_scales + deformation.scales).exp()
    else:
        scales = log_scales.exp() + deformation.scales
    quats = quats + deformation.quats
    if config.normalize_deformed_quats:
        quats = normalize(quats, dim=-1)
    return means + deformation.means, quats, scales
