"""Read the light off pictures, as a yardstick for pictures that should show a requested light.

A ridge regression from descriptions of pictures to lights, fitted to real pictures whose light is
known. It knows nothing of any generator, and how well it does on real pictures that it was not
fitted to is what generated ones can be held against.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import normalize

from vultus.metrics.side_light import correlation

__all__ = ["LightProbe", "fit_light_probe", "light_correlation", "light_distance", "light_slope"]

_STRENGTHS = (1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0)
"""Of the ridge, relative to the mean variance of a description's numbers, which is 1."""
_LEAST_SPREAD = 1e-6


@dataclass(frozen=True)
class LightProbe:
    """What was fitted."""

    center: Float[Tensor, " d"]
    spread: Float[Tensor, " d"]
    """Of the numbers that describe pictures."""
    weights: Float[Tensor, "d l"]
    mean_light: Float[Tensor, " l"]

    def __call__(self, features: Float[Tensor, "n d"]) -> Float[Tensor, "n l"]:
        """Lights of pictures."""
        standard = (features.double() - self.center) / self.spread
        return (standard @ self.weights + self.mean_light).to(features)


def fit_light_probe(
    features: Float[Tensor, "n d"],
    lights: Float[Tensor, "n l"],
    held_features: Float[Tensor, "m d"],
    held_lights: Float[Tensor, "m l"],
) -> LightProbe:
    """Fit, with the strength of the ridge that serves held-out pictures best.

    Args:
        features: Descriptions of pictures.
        lights: Their lights, in axes that pictures show: those of the cameras.
        held_features: Of others.
        held_lights: Of those.
    """
    x, y = features.double(), lights.double()
    center, mean_light = x.mean(dim=0), y.mean(dim=0)
    spread = x.std(dim=0).clamp(min=_LEAST_SPREAD)
    standard = (x - center) / spread
    covariance = standard.T @ standard / len(x)
    target = standard.T @ (y - mean_light) / len(x)
    identity = torch.eye(len(covariance), dtype=x.dtype, device=x.device)
    probes = [
        LightProbe(
            center, spread, torch.linalg.solve(covariance + strength * identity, target), mean_light
        )
        for strength in _STRENGTHS
    ]
    return min(
        probes, key=lambda probe: float((probe(held_features) - held_lights).square().mean())
    )


def light_distance(
    found: Float[Tensor, "n l"], wanted: Float[Tensor, "n l"]
) -> Float[Tensor, " n"]:
    """Distance between lights, whatever their strengths: 0 for the same, 2 for opposite ones."""
    return (normalize(found, dim=1) - normalize(wanted, dim=1)).norm(dim=1)


def light_correlation(
    found: Float[Tensor, "n l"], wanted: Float[Tensor, "n l"]
) -> Float[Tensor, ""]:
    """Mean of Pearson's correlations of the coefficients of lights."""
    pairs = zip(found.T, wanted.T, strict=True)
    return torch.stack([correlation(one, other) for one, other in pairs]).mean()


def light_slope(found: Float[Tensor, "n l"], wanted: Float[Tensor, "n l"]) -> Float[Tensor, ""]:
    """Slope of the regression of found on wanted coefficients, all in one, about their means.

    1 where lights are found at their full contrast, 0 where they do not follow; a ridge holds them
    back, so that it is below 1 for real pictures, too.
    """
    one, other = found - found.mean(dim=0), wanted - wanted.mean(dim=0)
    return (one * other).sum() / other.square().sum()
