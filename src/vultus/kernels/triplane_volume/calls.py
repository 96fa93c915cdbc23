"""What the fast backends do before and after their kernels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from vultus.kernels.triplane_volume.settings import (
    DecoderActivation,
    Representation,
    VolumeDraws,
    VolumeRender,
    VolumeSettings,
    bound_depth,
    check_draws,
    coarse_depths,
)

__all__ = ["RayInputs", "RayPlan", "finish_rays", "prepare_rays", "texels_of"]

_REPRESENTATIONS: dict[Representation, int] = {"dual_sphere": 0, "tri_plane": 1, "tri_grid": 2}
_ACTIVATIONS: dict[DecoderActivation, int] = {"none": 0, "sigmoid": 1, "lrelu": 2}


@dataclass(frozen=True)
class RayPlan:
    """What does not change from ray to ray, as kernels take it."""

    kind: int
    """0 for two spheres, 1 for tri-planes, 2 for tri-grids."""
    activation: int
    """0 for none, 1 for the sigmoid, 2 for the leaky ReLU."""
    coarse: int
    fine: int
    scale: float
    """Half boxes per world unit."""
    crop: float
    """Largest |x| and |z|, in world units."""
    noise: float
    is_half: bool = False
    """Whether the gpu backend keeps planes and features as float16."""

    @classmethod
    def of(
        cls,
        settings: VolumeSettings,
        activation: DecoderActivation = "none",
        *,
        is_half: bool = False,
    ) -> RayPlan:
        """Plan of settings and a decoder."""
        margin = settings.crop_margin
        return cls(
            _REPRESENTATIONS[settings.representation],
            _ACTIVATIONS[activation],
            settings.coarse_samples,
            settings.fine_samples,
            2.0 / settings.box_size,
            float("inf") if margin is None else 0.5 * settings.box_size - margin,
            settings.density_noise,
            is_half,
        )

    @property
    def samples(self) -> int:
        """Of a ray, in both passes."""
        return self.coarse + self.fine


class RayInputs(NamedTuple):
    """Per ray, what kernels read; fine samples in the order of depth."""

    depths: Float[Tensor, "b r t"]
    uniforms: Float[Tensor, "b r n"]
    coarse_noise: Float[Tensor, "b r t"] | None
    fine_noise: Float[Tensor, "b r n"] | None


def texels_of(
    planes: Float[Tensor, "b ..."], settings: VolumeSettings
) -> Float[Tensor, "b planes layers h w d"]:
    """View planes of any kind by texel; differentiable, nothing is copied.

    Raises:
        ValueError: If the planes are not square.
    """
    if planes.shape[-1] != planes.shape[-2]:
        raise ValueError(
            f'planes must be square, got {tuple(planes.shape[-2:])}; backend="ref" takes others'
        )
    if settings.representation == "dual_sphere":
        return planes.flatten(1, 2).permute(0, 1, 3, 4, 2)[:, :, None]
    if settings.representation == "tri_plane":
        return planes.permute(0, 1, 3, 4, 2)[:, :, None]
    layered = planes.unflatten(2, (-1, settings.grid_depth))
    return layered.permute(0, 1, 3, 4, 5, 2)


def prepare_rays(
    origins: Float[Tensor, "b r 3"],
    directions: Float[Tensor, "b r 3"],
    settings: VolumeSettings,
    draws: VolumeDraws,
) -> RayInputs:
    """Place the coarse samples, and bring draws to the order of depth.

    Raises:
        ValueError: If the draws are not those of the settings and rays, or if limits are those of
            the box and no ray meets it.
    """
    check_draws(draws, origins, settings)
    depths = coarse_depths(origins, directions, settings, draws.jitter)
    uniforms, fine_noise = draws.uniforms, draws.fine_noise
    if not draws.is_sorted:
        uniforms, order = uniforms.sort(dim=-1)
        fine_noise = None if fine_noise is None else fine_noise.gather(-1, order)
    if settings.density_noise == 0.0:
        return RayInputs(depths, uniforms, None, None)
    return RayInputs(depths, uniforms, draws.coarse_noise, fine_noise)


def finish_rays(
    features: Float[Tensor, "n d"],
    depth: Float[Tensor, " n"],
    opacity: Float[Tensor, " n"],
    fine_ends: tuple[Float[Tensor, " n"], Float[Tensor, " n"]],
    depths: Float[Tensor, "b r t"],
    settings: VolumeSettings,
) -> VolumeRender:
    """Add what is behind the rays, and bound their depths.

    Args:
        features: Of all rays of all images.
        depth: Mean depths; infinite where nothing is.
        opacity: Sums of weights.
        fine_ends: Depths of the first and the last fine sample.
        depths: Of the coarse samples.
        settings: Background and rule of the bounds.
    """
    shape = (*depths.shape[:2], -1)
    features, depth, opacity = (x.reshape(shape) for x in (features, depth, opacity))
    if settings.is_white_behind:
        features = features + 1.0 - opacity
    first, last = (x.reshape(shape) for x in fine_ends)
    nearest = torch.minimum(first, depths[..., :1])
    farthest = torch.maximum(last, depths[..., -1:])
    return VolumeRender(features, bound_depth(depth, nearest, farthest, settings), opacity)
