"""Generate people from seeds, light them, and look at them: one view, or many lights at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import torch
from jaxtyping import Float
from torch import Tensor

from vultus.methods.generated_heads import GeneratorOutput, HeadView
from vultus.methods.gsheadrelight.gaussians import (
    ActivatedHeads,
    HeadGaussians,
    SceneryGaussians,
    activate_heads,
)
from vultus.methods.gsheadrelight.generator import Generator
from vultus.methods.gsheadrelight.light_sources import LightSource, named_light
from vultus.methods.gsheadrelight.rendering import (
    HEAD_REACH,
    Pictures,
    ShadeMode,
    label_camera,
    lit_channels,
    render_channels,
)
from vultus.methods.gsheadrelight.shown_gaussians import ShownGaussians, shown_gaussians
from vultus.methods.head_views import ViewRig
from vultus.methods.people import DrawSettings, People, StyleSampler
from vultus.nets.ranges import from_signed
from vultus.nets.weights import count_weights

__all__ = ["RelightableHead", "RelightableSampler", "SamplingSettings"]

_OUTPUTS: tuple[GeneratorOutput, ...] = ("rgb", "albedo", "shading", "depth", "mask", "normals")
_LEAST_ALPHA = 1e-6
_MOST_LIGHTS = 21
"""That a pass of the rasterizer takes: it has 64 channels."""


@dataclass(frozen=True)
class SamplingSettings(DrawSettings):
    """How people are drawn and shown."""

    light: Float[Tensor, "9 c"] = field(default_factory=lambda: named_light("front"))
    """What views are lit by, in axes of the head."""
    mode: ShadeMode = "lit"
    """What views show as rgb."""
    has_scenery: bool = False
    """Show what the generator has learned to be behind heads."""
    backdrop: tuple[float, float, float] = (0.0, 0.0, 0.0)
    """Colour behind everything."""
    size: int | None = None
    """Side of the pictures; default: that of the training."""
    shown: ShownGaussians = field(default_factory=ShownGaussians)
    """Which Gaussians of heads."""

    def __post_init__(self) -> None:
        """Reject what shows nothing."""
        super().__post_init__()
        if self.size is not None and self.size < 1:
            raise ValueError(f"size must be positive, got {self.size}")
        if not all(0.0 <= value <= 1.0 for value in self.backdrop):
            raise ValueError(f"backdrop must be in [0, 1], got {self.backdrop}")


@dataclass(frozen=True)
class RelightableHead:
    """Gaussians of one person, to be lit by anything and seen from anywhere."""

    gaussians: HeadGaussians
    scenery: SceneryGaussians | None = None

    @cached_property
    def activated(self) -> ActivatedHeads:
        """What all pictures of the head have in common."""
        return activate_heads(self.gaussians)


@dataclass(frozen=True)
class RelightableSampler(StyleSampler):
    """A generator with all that decides on its images; a ``PeopleSampler``."""

    generator: Generator
    rig: ViewRig
    """Cameras of its views."""
    settings: SamplingSettings
    training_rig: ViewRig | None = None
    """Cameras of the training, one of which people are conditioned on; default: ``rig``."""

    def __post_init__(self) -> None:
        """Reject scenery that was never learned, and Gaussians that are not there."""
        self.settings.shown.check(self.generator.config)
        if self.settings.has_scenery and self.generator.background is None:
            raise ValueError("has_scenery: this generator has learned nothing behind heads")

    @property
    def outputs(self) -> tuple[GeneratorOutput, ...]:
        """What its views show."""
        return _OUTPUTS

    @property
    def shows_all_sides(self) -> bool:
        """Whether heads have a back that is meant to be seen: photographs show faces."""
        return False

    @property
    def depth_bounds(self) -> tuple[float, float]:
        """Least and largest depth that heads have in frontal views."""
        return self.rig.distance - HEAD_REACH, self.rig.distance + HEAD_REACH

    @property
    def size(self) -> int:
        """Side of the pictures."""
        return self.settings.size or self.generator.config.image_size

    @property
    def description(self) -> str:
        """What it is, in a few words."""
        return (
            f"generator of {self.generator.config.num_gaussians} relightable Gaussians with "
            f"{count_weights(self.generator) / 1e6:.1f} M weights"
        )

    @torch.no_grad()
    def people_of_styles(self, ws: Float[Tensor, "b n w"]) -> People:
        """People of styles as they are, without truncation."""
        ws = ws.to(self.device)
        return People(ws, ws.new_zeros(len(ws), 3), (0,) * len(ws))

    @torch.no_grad()
    def head(self, person: People) -> RelightableHead:
        """Make the Gaussians of one person."""
        scenery = self.generator.scenery(person.ws) if self.settings.has_scenery else None
        gaussians, nodes = self.generator.gaussians_and_anchors(person.ws)
        shown = shown_gaussians(gaussians, nodes, self.settings.shown, self.generator.config)
        return RelightableHead(shown, scenery)

    @torch.no_grad()
    def look(self, head: RelightableHead, label: Float[Tensor, "1 25"]) -> HeadView:
        """Render one view: in the light of the settings, as albedo and as shading, in one pass."""
        light = self.settings.light.to(self.device)[None]
        modes: tuple[ShadeMode, ...] = (self.settings.mode, "albedo", "shading")
        channels = [lit_channels(head.activated, light, mode) for mode in modes]
        seen = self._render(head, channels, label, self._backdrop())
        rgb, albedo, shading = from_signed(seen.image)[0].cpu().split(3)
        alpha, depth = seen.alpha[0].clamp(0.0, 1.0).cpu(), seen.depth[0].cpu()
        if self.generator.config.parity == "official":
            depth = torch.where(alpha > 0.0, depth / alpha.clamp(min=_LEAST_ALPHA), 0.0)
        return HeadView(
            rgb=rgb,
            alpha=alpha,
            depth=depth,
            camera=label_camera(label, self.size, self.generator.config.parity),
            albedo=albedo,
            shading=shading,
        )

    @torch.no_grad()
    def relit(
        self,
        head: RelightableHead,
        lights: Sequence[LightSource],
        label: Float[Tensor, "1 25"],
    ) -> Iterator[tuple[Float[Tensor, "3 h w"], Float[Tensor, "1 h w"]]]:
        """Show a head in many lights from one camera: pictures in [0, 1] over black, and alpha.

        As many lights as the rasterizer takes are rendered at once.
        """
        for first in range(0, len(lights), _MOST_LIGHTS):
            channels = [
                lit_channels(
                    head.activated, light.light.expand(-1, 3).to(self.device)[None], light.mode
                )
                for light in lights[first : first + _MOST_LIGHTS]
            ]
            seen = self._render(head, channels, label)
            alpha = seen.alpha[0].clamp(0.0, 1.0).cpu()
            for picture in from_signed(seen.image)[0].cpu().split(3):
                yield picture, alpha

    def _render(
        self,
        head: RelightableHead,
        channels: list[Float[Tensor, "1 n 3"]],
        label: Float[Tensor, "1 25"],
        background: Float[Tensor, 3] | None = None,
    ) -> Pictures:
        config = self.generator.config
        return render_channels(
            head.activated,
            torch.cat(channels, dim=2),
            label_camera(label.to(self.device), self.size, config.parity),
            scenery=head.scenery,
            background=background,
            parity=config.parity,
            backend=config.backend,
        )

    def _backdrop(self) -> Float[Tensor, 3] | None:
        if not any(self.settings.backdrop):
            return None
        return torch.tensor(self.settings.backdrop, device=self.device)

    def _people_of_latents(self, z: Tensor, seeds: tuple[int, ...]) -> People:
        ws = self._styles(z)
        return People(ws, ws.new_zeros(len(z), 3), seeds, z)
