"""Volume rendering of planes in plain PyTorch: written to be read, differentiable throughout."""

from __future__ import annotations

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
    composite_rays,
    merge_samples,
    resample_depths,
)
from vultus.kernels.triplane_volume.settings import (
    DecoderWeights,
    VolumeDraws,
    VolumeRender,
    VolumeSettings,
    bound_depth,
    check_draws,
    coarse_depths,
)

__all__ = [
    "CROPPED_DENSITY",
    "DecoderWeights",
    "VolumeDraws",
    "VolumeSettings",
    "decode",
    "decode_points",
    "render_planes",
    "sample_planes",
]

CROPPED_DENSITY = -1000.0


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
    return _decode_mean(features.mean(dim=1), decoder)


def decode_points(
    features: Float[Tensor, "b p d"],
    decoder: DecoderWeights,
    points: Float[Tensor, "b p 3"],
    settings: VolumeSettings,
    *,
    is_cropped: bool = True,
    noise: Float[Tensor, "b p"] | None = None,
) -> tuple[Float[Tensor, "b p e"], Float[Tensor, "b p"]]:
    """Decode mean features of world points, with noise and crop; as for ``query_points``."""
    decoded, density = _decode_mean(features, decoder)
    if noise is not None:
        density = density + settings.density_noise * noise
    if is_cropped and settings.crop_margin is not None:
        reach = points[..., ::2].abs().amax(dim=-1)
        is_outside = reach > 0.5 * settings.box_size - settings.crop_margin
        density = torch.where(is_outside, CROPPED_DENSITY, density)
    return decoded, density


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
    check_draws(draws, origins, settings)

    def evaluate(depths: Tensor, noise: Tensor | None) -> tuple[Tensor, Tensor]:
        points = origins[:, :, None] + depths[..., None] * directions[:, :, None]
        flat_noise = None if noise is None else noise.flatten(1)
        flat_points = points.flatten(1, 2)
        mean = sample_planes(planes, flat_points, settings).mean(dim=1)
        features, density = decode_points(mean, decoder, flat_points, settings, noise=flat_noise)
        return features.unflatten(1, depths.shape[1:]), density.unflatten(1, depths.shape[1:])

    depths = coarse_depths(origins, directions, settings, draws.jitter)
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
    depth = bound_depth(composite.depth, depths[..., :1], depths[..., -1:], settings)
    return VolumeRender(composite.features, depth, composite.opacity)


def _decode_mean(features: Tensor, decoder: DecoderWeights) -> tuple[Tensor, Tensor]:
    hidden = softplus(linear(features, decoder.hidden_weight, decoder.hidden_bias))
    out = linear(hidden, decoder.out_weight, decoder.out_bias)
    density, decoded = out[..., 0], out[..., 1:]
    if decoder.activation == "sigmoid":
        # Slightly more than [0, 1], so that saturation still has gradients (mip-NeRF).
        decoded = decoded.sigmoid() * 1.002 - 0.001
    elif decoder.activation == "lrelu":
        decoded = leaky_relu(decoded, 0.2) * 2.0**0.5
    return decoded, density
