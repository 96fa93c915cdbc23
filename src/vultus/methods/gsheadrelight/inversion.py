"""GSHeadRelight under inversion: the light of the photo is found with the head."""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from vultus.methods.gsheadrelight.generator import Generator
from vultus.methods.inversion import Extras, InversionConfig, StyleInvertible

__all__ = ["LIGHT_EXTRA", "InvertibleRelightable", "LightSearch", "RelightableInversionConfig"]

LIGHT_EXTRA = "light"
"""Name of the light among the extras."""


@dataclass(frozen=True)
class RelightableInversionConfig(InversionConfig):
    """The search of the release's projector, which no longer runs; tuning is SphereHead's."""

    learning_rate: float = 0.01
    """Of the styles, at its highest."""
    pixel_weight: float = 0.0
    """Of the mean squared difference of colours in [-1, 1]."""
    style_weight: float = 0.0
    """Of the mean squared distance from the mean style."""
    mean_samples: int = 600
    """Styles that mean and deviation are measured on."""


@dataclass(frozen=True)
class LightSearch:
    """How light is found; ours, as the release does not."""

    light_rate: float = 0.02
    """Learning rate of the light's coefficients; 0 keeps the first light."""
    light_weight: float = 0.01
    """Of the mean squared distance from the first light: a darker head in a brighter light looks
    the same."""
    colored_light: bool = False
    """Find 27 coefficients, 9 for each colour, instead of 9; light can then explain a skin's
    colour."""

    def __post_init__(self) -> None:
        """Reject what cannot be meant."""
        for name in ("light_rate", "light_weight"):
            if not 0.0 <= getattr(self, name) < math.inf:
                raise ValueError(f"{name} must not be negative, got {getattr(self, name)}")


@dataclass(frozen=True)
class InvertibleRelightable(StyleInvertible):
    """A generator of heads that can be lit; an ``Invertible`` whose extra is the light."""

    network: Generator
    search: LightSearch
    first_light: Float[Tensor, "9 c"]
    """What the search begins with, in axes of the head."""

    @property
    def extra_rate(self) -> float | None:
        """Learning rate of the light."""
        return self.search.light_rate

    def first_extras(self, random: torch.Generator) -> dict[str, Tensor]:
        """The first light, with as many colours as are to be found."""
        channels = 3 if self.search.colored_light else self.first_light.shape[1]
        light = self.first_light.to(random.device).expand(-1, channels)
        return {LIGHT_EXTRA: light.clone()}

    def render(
        self,
        ws: Float[Tensor, "1 n w"],
        label: Float[Tensor, "1 25"],
        extras: Extras,
        random: torch.Generator,
    ) -> Float[Tensor, "1 3 s s"]:
        """The head in [0, 1], unclamped."""
        gaussians = self.network.gaussians(ws)
        return 0.5 * self.network.render(gaussians, extras[LIGHT_EXTRA][None], label).image + 0.5

    def penalties(self, extras: Extras) -> dict[str, Float[Tensor, ""]]:
        """Distance from the first light."""
        light = extras[LIGHT_EXTRA]
        difference = light - self.first_light.to(light.device)
        return {"light": self.search.light_weight * difference.square().mean()}

    def constrain(self, extras: Extras) -> None:
        """Light may be anything."""

    def copy(self, extras: Extras) -> InvertibleRelightable:
        """A copy of the network."""
        return InvertibleRelightable(copy.deepcopy(self.network), self.search, self.first_light)
