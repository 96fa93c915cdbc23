"""Options that choose the light of generated heads."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from vultus.methods.gsheadrelight.light_sources import (
    LightSettings,
    LightSource,
    light_of_map,
    open_lights,
)

__all__ = ["LightOptions"]


@dataclass(frozen=True)
class LightOptions(LightSettings):
    """The one light that people are shown in."""

    light: str | None = None
    """front, left, right, above, below or even; or a file of 9 or 27 coefficients (.json of
    envmap-light, .npz, or .txt as DPR's). Default: front."""
    envmap: Path | None = None
    """Map of the surroundings (.hdr, .exr) that light people, instead of --light."""
    albedo: bool = False
    """Show people without any light, instead of --light."""

    def source(self) -> LightSource:
        """Find or read the light.

        Raises:
            FileNotFoundError: If there is no such file.
            ValueError: If it is no light, or there are two.
        """
        if self.albedo and not (self.light is None and self.envmap is None):
            raise ValueError("--albedo and --light or --envmap must not both be given")
        if self.envmap is None:
            (source,) = open_lights([self.light or "front"], self)
        elif self.light is None:
            source = light_of_map(self.envmap, self)
        else:
            raise ValueError(f"--light {self.light} and --envmap must not both be given")
        return replace(source, mode="albedo") if self.albedo else source
