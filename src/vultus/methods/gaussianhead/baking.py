"""Posed Gaussians as splats of the world, for programs that know neither network nor plane."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import normalize

from vultus.gaussians.splat_files import Splats
from vultus.geometry.rotations import matrix_to_quaternion
from vultus.geometry.sh_rotation import rotate_color_sh
from vultus.methods.gaussianhead.config import ModelConfig
from vultus.methods.gaussianhead.posing import PosedGaussians
from vultus.methods.gaussianhead.start import Scene

__all__ = ["world_splats"]

_MIN_SCALE = 1e-12
_MIN_OPACITY = 1e-7


def world_splats(
    posed: PosedGaussians, motion: Float[Tensor, "4 4"], scene: Scene, model: ModelConfig
) -> Splats:
    """Bake the first frame of posed Gaussians into splats of the world, on the CPU.

    Args:
        posed: In the scene's frame.
        motion: Rigid motion of the head.
        scene: The frame.
        model: Says whether quaternions were normalised: raw ones also stretch Gaussians.
    """
    rotation, translation = motion[:3, :3], motion[:3, 3]
    means = posed.means[0].cpu() / scene.scale + scene.center
    quats, scales = posed.quats[0].cpu(), posed.scales[0].cpu() / scene.scale
    if model.normalize_deformed_quats:
        quats = normalize(quats, dim=-1)
    axes = _raw_rotations(quats)
    left, scales, _ = torch.linalg.svd(rotation @ (axes * scales[:, None, :]))
    left = torch.cat([left[..., :2], left[..., 2:] * torch.linalg.det(left)[:, None, None]], -1)
    coefficients = rotate_color_sh(posed.sh_coeffs[0].cpu(), rotation)
    opacities = posed.opacities[0].cpu().clamp(_MIN_OPACITY, 1.0 - _MIN_OPACITY)
    return Splats(
        means=means @ rotation.T + translation,
        log_scales=scales.clamp(min=_MIN_SCALE).log(),
        quats=matrix_to_quaternion(left),
        opacity_logits=opacities.logit(),
        sh_dc=coefficients[:, :1],
        sh_rest=coefficients[:, 1:],
    )


def _raw_rotations(quats: Tensor) -> Tensor:
    """The rotation matrix's polynomial in a quaternion of any norm, as rasterizers evaluate it."""
    w, x, y, z = quats.unbind(-1)
    rows = [
        1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y),
        2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x),
        2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y),
    ]  # fmt: skip
    return torch.stack(rows, dim=-1).unflatten(-1, (3, 3))
