"""Images of random people in given lights, for measurements."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from vultus.data.image_feed import Conditions, RealBatch
from vultus.methods.gsheadrelight.generator import Generator
from vultus.methods.gsheadrelight.lights import labels_to_light
from vultus.methods.gsheadrelight.objectives import real_pictures
from vultus.nets.ranges import from_signed

__all__ = ["RandomImages", "SceneryImages"]


@dataclass(frozen=True)
class RandomImages:
    """Makes people who are not truncated; real and generated ones are seen over the same colour.

    Satisfies ``engine.generator_quality.ImageMaker`` and ``engine.light_quality.LitImageMaker``.
    """

    generator: Generator
    has_scenery: bool = False
    """Show real images as they are, and generated ones before generated scenery; else all over
    black."""

    @property
    def image_size(self) -> int:
        """Side of the images."""
        return self.generator.config.image_size

    @property
    def ground(self) -> str:
        """What is behind people."""
        return "shown" if self.has_scenery else "black"

    def show_real(self, real: RealBatch) -> Float[Tensor, "b 3 s s"]:
        """Real images in [0, 1]."""
        pixels = real.pixels.float() / 255.0
        if self.has_scenery:
            return pixels[:, :3]
        return from_signed(real_pictures(pixels[:, :3], pixels[:, 3:]))

    def draw_styles(
        self, condition: Float[Tensor, "b 25"], random: torch.Generator
    ) -> Float[Tensor, "b n w"]:
        """Styles of random people who are conditioned on cameras."""
        shape = len(condition), self.generator.config.z_dim
        z = torch.randn(shape, generator=random, device=condition.device)
        with torch.no_grad():
            return self.generator.map(z, condition)

    @torch.no_grad()
    def show(self, ws: Float[Tensor, "b n w"], conditions: Conditions) -> Float[Tensor, "b 3 s s"]:
        """Pictures of people in [0, 1].

        Raises:
            ValueError: If there are no lights.
        """
        if conditions.lights is None:
            raise ValueError("conditions must have lights")
        pictures = self.generator.render(
            self.generator.gaussians(ws),
            labels_to_light(conditions.lights),
            conditions.labels,
            scenery=self.generator.scenery(ws) if self.has_scenery else None,
        )
        return from_signed(pictures.image)

    def __call__(
        self,
        seen: Conditions,
        condition: Float[Tensor, "b 25"],
        random: torch.Generator,
        *,
        has_offset: bool,
    ) -> Float[Tensor, "b 3 s s"]:
        """Draw people, light and render them; cameras have no offset."""
        return self.show(self.draw_styles(condition, random), seen)


@dataclass(frozen=True)
class SceneryImages:
    """People before the scenery of others; satisfies ``engine.background_quality.SceneryMaker``."""

    generator: Generator
    """Has scenery."""
    light: Float[Tensor, " l"]
    """Label of the light of all pictures, which changes heads alone."""

    @property
    def z_dim(self) -> int:
        """Numbers of a latent."""
        return self.generator.config.z_dim

    @torch.no_grad()
    def before_backgrounds(
        self,
        z: Float[Tensor, "1 z"],
        others: Float[Tensor, "2 z"],
        label: Float[Tensor, "1 25"],
    ) -> tuple[Float[Tensor, "2 3 s s"], Float[Tensor, "1 1 s s"]]:
        """Show a person before the scenery of two others, and what covers the scenery."""
        generator, light = self.generator, labels_to_light(self.light[None])
        ws, behind = generator.map(z, label), generator.map(others, label.expand(2, -1))
        head = generator.gaussians(ws)
        pictures = [
            generator.render(head, light, label, scenery=generator.scenery(other)).image
            for other in behind.split(1)
        ]
        alone = generator.render(head, light, label).alpha.clamp(0.0, 1.0)
        return from_signed(torch.cat(pictures)), alone
