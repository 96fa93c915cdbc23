"""Volume rendering of planes in plain PyTorch: written to be read, differentiable throughout."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import leaky_relu, linear, softplus

from vultus.kernels.triplane_volume.lookup import (
    sample_dual_spheres,
    sample_tri_grid,
    sample_tri_plane,
)
from vultus.kernels.triplane_volume.marching import (
    box_limits,
    composite_rays,
    merge_samples,
    resample_depths,
    spread_depths,
)

__all__ = [
    "DecoderActivation",
    "DecoderWeights",
    "Representation",
    "VolumeDraws",
    "VolumeRender",
    "VolumeSettings",
    "decode",
    "query_points",
    "render_planes",
    "sample_planes",
]

Representation = Literal["dual_sphere", "tri_plane", "tri_grid"]
DecoderActivation = Literal["none", "sigmoid", "lrelu"]

_CROPPED_DENSITY = -1000.0


class DecoderWeights(NamedTuple):
    """Two linear layers as they are applied, softplus between them."""

    hidden_weight: Float[Tensor, "k d"]
    hidden_bias: Float[Tensor, " k"]
    out_weight: Float[Tensor, "e k"]
    """Row 0 gives the raw density, the others the features."""
    out_bias: Float[Tensor, " e"]
    activation: DecoderActivation = "none"
    """Of the features."""


@dataclass(frozen=True)
class VolumeSettings:
    """Where rays are sampled, and what counts as outside."""

    representation: Representation = "dual_sphere"
    grid_depth: int = 1
    """Layers of a tri-grid."""
    box_size: float = 1.0
    """Side of the cube that the planes cover, in world units."""
    limits: tuple[float, float] | Literal["box"] = (2.25, 3.3)
    """Nearest and farthest sample, or where each ray meets the box."""
    is_in_disparity: bool = False
    """Samples are equally spaced in 1 / depth."""
    coarse_samples: int = 48
    fine_samples: int = 48
    """0 composites the coarse samples."""
    density_noise: float = 0.0
    """Standard deviation of noise on the raw density."""
    crop_margin: float | None = 0.1
    """Nothing is closer to the box's side in x and z, in world units; None does not crop."""
    is_white_behind: bool = False
    parity: Literal["official", "fixed"] = "fixed"
    """``"official"`` repeats two slips of the release: rays that miss the box end at the largest
    *start* of all rays, and depths are bounded by the extremes of the whole batch."""

    def __post_init__(self) -> None:
        """Reject contradictions."""
        least = 4 if self.fine_samples else 2
        if self.coarse_samples < least:
            raise ValueError(f"coarse_samples must be at least {least}, got {self.coarse_samples}")
        if self.limits != "box" and not 0.0 < self.limits[0] < self.limits[1]:
            raise ValueError(f"limits must rise from above 0, got {self.limits}")


class VolumeDraws(NamedTuple):
    """All random numbers of one rendering; noise is None where the settings have none."""

    jitter: Float[Tensor, "b r t"]
    uniforms: Float[Tensor, "b r n"]
    coarse_noise: Float[Tensor, "b r t"] | None = None
    fine_noise: Float[Tensor, "b r n"] | None = None

    @classmethod
    def draw(
        cls,
        shape: tuple[int, int],
        settings: VolumeSettings,
        generator: torch.Generator,
        device: torch.device | str = "cpu",
    ) -> VolumeDraws:
        """Draw for a batch of rays; the generator must be the device's."""
        coarse, fine = (*shape, settings.coarse_samples), (*shape, settings.fine_samples)

        def uniform(size: tuple[int, ...]) -> Tensor:
            return torch.rand(size, generator=generator, device=device)

        def normal(size: tuple[int, ...]) -> Tensor | None:
            if settings.density_noise == 0.0:
                return None
            return torch.randn(size, generator=generator, device=device)

        return cls(uniform(coarse), uniform(fine), normal(coarse), normal(fine))


class VolumeRender(NamedTuple):
    """What rays gather."""

    features: Float[Tensor, "b r d"]
    depth: Float[Tensor, "b r 1"]
    """Distance along the ray."""
    opacity: Float[Tensor, "b r 1"]


def sample_planes(
    planes: Float[Tensor, "b ..."], points: Float[Tensor, "b p 3"], settings: VolumeSettings
) -> Float[Tensor, "b 3 p d"]:
    """Sample the features of world points, one per plane."""
    scaled = points * (2.0 / settings.box_size)
    if settings.representation == "dual_sphere":
        return sample_dual_spheres(planes, scaled)
    if settings.representation == "tri_plane":
        return sample_tri_plane(planes, scaled)
    return sample_tri_grid(planes, scaled, settings.grid_depth)


def decode(
    features: Float[Tensor, "b 3 p d"], decoder: DecoderWeights
) -> tuple[Float[Tensor, "b p e"], Float[Tensor, "b p"]]:
    """Decode the mean over the planes to features and raw densities."""
    hidden = softplus(linear(features.mean(dim=1), decoder.hidden_weight, decoder.hidden_bias))
    out = linear(hidden, decoder.out_weight, decoder.out_bias)
    density, decoded = out[..., 0], out[..., 1:]
    if decoder.activation == "sigmoid":
        # Slightly more than [0, 1], so that saturation still has gradients (mip-NeRF).
        decoded = decoded.sigmoid() * 1.002 - 0.001
    elif decoder.activation == "lrelu":
        decoded = leaky_relu(decoded, 0.2) * 2.0**0.5
    return decoded, density


def query_points(
    planes: Float[Tensor, "b ..."],
    decoder: DecoderWeights,
    points: Float[Tensor, "b p 3"],
    settings: VolumeSettings,
    *,
    is_cropped: bool = True,
    noise: Float[Tensor, "b p"] | None = None,
) -> tuple[Float[Tensor, "b p e"], Float[Tensor, "b p"]]:
    """Features and raw densities at world points.

    Args:
        planes: b 2 3 d h w for two spheres, b 3 d h w for planes, b 3 d*layers h w for grids.
        decoder: Applied weights.
        points: World positions.
        settings: Representation, box, crop and strength of the noise.
        is_cropped: Points outside get the density that rays see there.
        noise: Normal numbers for the noise on the density.
    """
    features, density = decode(sample_planes(planes, points, settings), decoder)
    if noise is not None:
        density = density + settings.density_noise * noise
    if is_cropped and settings.crop_margin is not None:
        reach = points[..., [0, 2]].abs().amax(dim=-1)
        is_outside = reach > 0.5 * settings.box_size - settings.crop_margin
        density = torch.where(is_outside, _CROPPED_DENSITY, density)
    return features, density


def render_planes(
    planes: Float[Tensor, "b ..."],
    decoder: DecoderWeights,
    origins: Float[Tensor, "b r 3"],
    directions: Float[Tensor, "b r 3"],
    settings: VolumeSettings,
    draws: VolumeDraws,
) -> VolumeRender:
    """Render rays: coarse samples, then fine ones where the coarse pass found weight.

    Args:
        planes: As for ``query_points``.
        decoder: Applied weights.
        origins: World positions.
        directions: Unit vectors.
        settings: How to sample.
        draws: The random numbers; ``VolumeDraws.draw`` makes them.

    Raises:
        ValueError: If the draws are not those of the settings and rays, or if limits are those of
            the box and no ray meets it.
    """
    _check_draws(draws, origins, settings)

    def evaluate(depths: Tensor, noise: Tensor | None) -> tuple[Tensor, Tensor]:
        points = origins[:, :, None] + depths[..., None] * directions[:, :, None]
        flat_noise = None if noise is None else noise.flatten(1)
        features, density = query_points(
            planes, decoder, points.flatten(1, 2), settings, noise=flat_noise
        )
        return features.unflatten(1, depths.shape[1:]), density.unflatten(1, depths.shape[1:])

    start, end = _limits(origins, directions, settings)
    depths = spread_depths(start, end, draws.jitter, is_in_disparity=settings.is_in_disparity)
    features, densities = evaluate(depths, draws.coarse_noise)
    if settings.fine_samples:
        weights = composite_rays(features, densities, depths).weights
        fine_depths = resample_depths(depths, weights, draws.uniforms)
        fine_features, fine_densities = evaluate(fine_depths, draws.fine_noise)
        features, densities, depths = merge_samples(
            (features, fine_features), (densities, fine_densities), (depths, fine_depths)
        )
    composite = composite_rays(
        features, densities, depths, is_white_behind=settings.is_white_behind
    )
    depth = _bounded(composite.depth, depths, settings)
    return VolumeRender(composite.features, depth, composite.opacity)


def _check_draws(draws: VolumeDraws, origins: Tensor, settings: VolumeSettings) -> None:
    for name, drawn, count in (
        ("jitter", draws.jitter, settings.coarse_samples),
        ("uniforms", draws.uniforms, settings.fine_samples),
    ):
        wanted = (*origins.shape[:2], count)
        if drawn.shape != wanted:
            raise ValueError(f"{name} must have the shape {wanted}, got {tuple(drawn.shape)}")
    has_noise = draws.coarse_noise is not None and draws.fine_noise is not None
    if settings.density_noise > 0.0 and not has_noise:
        raise ValueError("draws must hold noise, as density_noise is above 0")


def _limits(
    origins: Tensor, directions: Tensor, settings: VolumeSettings
) -> tuple[Float[Tensor, "#b #r 1"], Float[Tensor, "#b #r 1"]]:
    if settings.limits != "box":
        start, end = (origins.new_full((1, 1, 1), limit) for limit in settings.limits)
        return start, end
    start, end, is_hit = box_limits(origins, directions, settings.box_size)
    if not is_hit.any():
        raise ValueError("no ray meets the box")
    hit_start = start[is_hit]
    last = hit_start if settings.parity == "official" else end[is_hit]
    return (
        torch.where(is_hit, start, hit_start.min()),
        torch.where(is_hit, end, last.max()),
    )


def _bounded(depth: Tensor, depths: Tensor, settings: VolumeSettings) -> Tensor:
    """Keep depths, infinite ones included, between the samples."""
    if settings.parity == "official":
        return depth.clamp(depths.min(), depths.max())
    return depth.clamp(depths.amin(dim=-1, keepdim=True), depths.amax(dim=-1, keepdim=True))
