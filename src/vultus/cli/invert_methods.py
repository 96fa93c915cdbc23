"""What ``vultus invert`` does in its own way for each method."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from vultus.cli.generator_weights import RELIGHTABLE, SPHERE_HEAD, SavedSource, open_saved
from vultus.core.image_io import write_image
from vultus.core.run_folder import RunFolder
from vultus.export.relit_people import relit_sheet
from vultus.methods.generated_heads import PeopleSampler
from vultus.methods.generator_bundles import GeneratorFile, SavedGenerator
from vultus.methods.gsheadrelight.inversion import (
    LIGHT_EXTRA,
    InvertibleRelightable,
    LightSearch,
    RelightableInversionConfig,
)
from vultus.methods.gsheadrelight.light_files import write_light
from vultus.methods.gsheadrelight.light_sources import LightSettings, LightSource, open_light
from vultus.methods.gsheadrelight.sampling import RelightableSampler
from vultus.methods.gsheadrelight.sampling import SamplingSettings as LitSettings
from vultus.methods.head_views import Motion
from vultus.methods.inversion import Inversion, InversionConfig, Invertible
from vultus.methods.spherehead.inversion import InvertibleSphereHead, NoiseSearch
from vultus.methods.spherehead.sampling import HeadSampler, SamplingSettings

__all__ = [
    "INVERSIONS",
    "SEARCHES",
    "InversionMethod",
    "RelightableSearch",
    "open_inversion",
]

_SHOWN_LIGHTS = ("albedo", "front", "left", "right", "above")


@dataclass(frozen=True)
class RelightableSearch(LightSearch):
    """Options that only GSHeadRelight has."""

    first_light: str = "front"
    """What the search for the light begins with: front, left, right, above, below, even, or a file
    with 9 or 27 coefficients."""


SEARCHES: dict[str, type] = {"spherehead": NoiseSearch, "gsheadrelight": RelightableSearch}
"""Method -> its own options."""
INVERSIONS: dict[str, type[InversionConfig]] = {
    "spherehead": InversionConfig,
    "gsheadrelight": RelightableInversionConfig,
}
"""Method -> the options of both, with its defaults."""


@dataclass(frozen=True)
class InversionMethod(ABC):
    """A generator that a photo is inverted with."""

    file: GeneratorFile[Any]
    """Writes the tuned generator."""
    saved: SavedGenerator[Any]
    invertible: Invertible

    @property
    @abstractmethod
    def motion(self) -> Motion:
        """Of the camera in films of the result."""

    @abstractmethod
    def sampler(self, generator: Invertible, found: Inversion) -> PeopleSampler[Any]:
        """Shows what was found with the generator or its tuned copy."""

    @abstractmethod
    def write_extras(self, run: RunFolder, generator: Invertible, found: Inversion) -> None:
        """Write what is found beside styles, in the way of the method."""


class _SphereHeadInversion(InversionMethod):
    @property
    def motion(self) -> Motion:
        return "orbit"

    def sampler(self, generator: Invertible, found: Inversion) -> HeadSampler:
        assert isinstance(generator, InvertibleSphereHead)
        offset = generator.search.camera_offset
        settings = SamplingSettings(truncation=1.0, camera_offset=offset)
        return HeadSampler(generator.network, self.saved.rig, settings)

    def write_extras(self, run: RunFolder, generator: Invertible, found: Inversion) -> None:
        """Noise is in the generator's file."""


class _RelightableInversion(InversionMethod):
    @property
    def motion(self) -> Motion:
        return "face"

    def sampler(self, generator: Invertible, found: Inversion) -> RelightableSampler:
        assert isinstance(generator, InvertibleRelightable)
        settings = LitSettings(truncation=1.0, light=found.extras[LIGHT_EXTRA])
        return RelightableSampler(generator.network, self.saved.rig, settings)

    def write_extras(self, run: RunFolder, generator: Invertible, found: Inversion) -> None:
        """The light as a file, and the head in that light and in others."""
        light = found.extras[LIGHT_EXTRA].cpu()
        write_light(run.path / "light.json", light)
        sampler = self.sampler(generator, found)
        others = [open_light(name, LightSettings()) for name in _SHOWN_LIGHTS]
        lights = [LightSource("found", light), *others]
        sheet = relit_sheet(sampler, sampler.people_of_styles(found.ws), lights, found.label)
        write_image(run.media_path / "relit.png", sheet)


def open_inversion(
    search: NoiseSearch | RelightableSearch, weights: Path | None, device: torch.device
) -> InversionMethod:
    """Read the generator of a method, and check the method's own options.

    Raises:
        FileNotFoundError: As ``generator_weights.open_saved``.
        ValueError: If weights or options do not fit.
    """
    source = SavedSource(weights, device=device)
    if isinstance(search, NoiseSearch):
        planes = open_saved(SPHERE_HEAD, source)
        frontal = planes.rig.label().to(device)
        plain = InvertibleSphereHead.open(planes.generator, search, frontal)
        return _SphereHeadInversion(SPHERE_HEAD.file, planes, plain)
    light = open_light(search.first_light, LightSettings()).light
    gaussians = open_saved(RELIGHTABLE, source)
    lit = InvertibleRelightable(gaussians.generator, search, light)
    return _RelightableInversion(RELIGHTABLE.file, gaussians, lit)
