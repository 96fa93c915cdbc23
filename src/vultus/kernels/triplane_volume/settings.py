"""What is rendered and how: decoder, settings, random numbers, and what all backends share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from vultus.kernels.triplane_volume.marching import box_limits, spread_depths

__all__ = [
    "DecoderActivation",
    "DecoderWeights",
    "Representation",
    "VolumeDraws",
    "VolumeRender",
    "VolumeSettings",
    "bound_depth",
    "check_draws",
    "coarse_depths",
]

Representation = Literal["dual_sphere", "tri_plane", "tri_grid"]
DecoderActivation = Literal["none", "sigmoid", "lrelu"]


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
    """What features lie on: planes of two spheres, three planes, or three stacks of planes."""
    grid_depth: int = 1
    """Layers of a tri-grid."""
    box_size: float = 1.0
    """Side of the cube that the planes cover, in world units."""
    limits: tuple[float, float] | Literal["box"] = (2.25, 3.3)
    """Nearest and farthest sample, or where each ray meets the box."""
    is_in_disparity: bool = False
    """Samples are equally spaced in 1 / depth."""
    coarse_samples: int = 48
    """Samples of a ray in the first pass."""
    fine_samples: int = 48
    """0 composites the coarse samples."""
    density_noise: float = 0.0
    """Standard deviation of noise on the raw density."""
    crop_margin: float | None = 0.1
    """Nothing is closer to the box's side in x and z, in world units; None does not crop."""
    is_white_behind: bool = False
    """Rays that nothing stops end in white, otherwise in black."""
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
    is_sorted: bool = False
    """``uniforms`` rise along each ray, so that no backend needs to sort them."""

    @classmethod
    def draw(
        cls,
        shape: tuple[int, int],
        settings: VolumeSettings,
        generator: torch.Generator,
        device: torch.device | str = "cpu",
    ) -> VolumeDraws:
        """Draw for a batch of rays; the generator must be the device's.

        Sums of exponential numbers over their total are uniform numbers in order: no sort. Memory
        holds all rays of one sample side by side, as the GPU reads them.
        """
        coarse, fine = settings.coarse_samples, settings.fine_samples
        jitter = torch.rand((coarse, *shape), generator=generator, device=device)
        steps = torch.empty((fine + 1, *shape), device=device).exponential_(generator=generator)
        sums = steps.cumsum(dim=0)

        def normal(count: int) -> Tensor | None:
            if settings.density_noise == 0.0:
                return None
            drawn = torch.randn((count, *shape), generator=generator, device=device)
            return drawn.permute(1, 2, 0)

        return cls(
            jitter.permute(1, 2, 0),
            (sums[:-1] / sums[-1]).permute(1, 2, 0),
            normal(coarse),
            normal(fine),
            is_sorted=True,
        )


class VolumeRender(NamedTuple):
    """What rays gather."""

    features: Float[Tensor, "b r d"]
    depth: Float[Tensor, "b r 1"]
    """Distance along the ray."""
    opacity: Float[Tensor, "b r 1"]


def check_draws(
    draws: VolumeDraws, origins: Float[Tensor, "b r 3"], settings: VolumeSettings
) -> None:
    """Check that the draws are those of the settings and rays.

    Raises:
        ValueError: If not.
    """
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


def coarse_depths(
    origins: Float[Tensor, "b r 3"],
    directions: Float[Tensor, "b r 3"],
    settings: VolumeSettings,
    jitter: Float[Tensor, "b r t"],
) -> Float[Tensor, "b r t"]:
    """Depths of the first pass.

    Raises:
        ValueError: If limits are those of the box and no ray meets it.
    """
    start, end = _limits(origins, directions, settings)
    return spread_depths(start, end, jitter, is_in_disparity=settings.is_in_disparity)


def bound_depth(
    depth: Float[Tensor, "b r 1"],
    nearest: Float[Tensor, "b r 1"],
    farthest: Float[Tensor, "b r 1"],
    settings: VolumeSettings,
) -> Float[Tensor, "b r 1"]:
    """Keep depths, infinite ones included, between a ray's first and last sample."""
    if settings.parity == "official":
        return depth.clamp(nearest.min(), farthest.max())
    return depth.clamp(nearest, farthest)


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
