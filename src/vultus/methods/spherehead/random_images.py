"""Images of random people at given cameras, for measurements."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from vultus.core.seeding import torch_generator
from vultus.data.image_feed import Conditions, RealBatch
from vultus.methods.spherehead.generator import Generator
from vultus.nets.ranges import from_signed
from vultus.nets.stylegan2.filters import resize_antialiased

__all__ = ["RandomImages", "render_people"]


@torch.no_grad()
def render_people(
    generator: Generator,
    z: Float[Tensor, "b z"],
    seen: Float[Tensor, "b 25"],
    condition: Float[Tensor, "b 25"],
    random: torch.Generator,
    *,
    has_offset: bool = True,
    neural_size: int | None = None,
) -> Float[Tensor, "b 3 s s"]:
    """Images, in [0, 1], of people who are not truncated.

    Args:
        generator: Its stored noise is used.
        z: One per person.
        seen: Cameras that are rendered.
        condition: Cameras that people are conditioned on.
        random: Draws depths; on the weights' device.
        has_offset: Add the learned offset to the rendered cameras.
        neural_size: Side of the rendered feature image; None means the configured one.
    """
    ws = generator.map(z, condition)
    if has_offset:
        seen, _ = generator.offset_labels(z, seen)
    draws = generator.draw(len(z), random, neural_size=neural_size)
    rendered = generator.render(generator.planes(ws), ws, seen, draws, neural_size=neural_size)
    return from_signed(rendered.image)


@dataclass(frozen=True)
class RandomImages:
    """Makes people who are not truncated and have their stored noise.

    Satisfies ``engine.generator_quality.ImageMaker``, and ``background_quality.SceneryMaker`` where
    the generator paints backgrounds.
    """

    generator: Generator

    @property
    def image_size(self) -> int:
        """Side of the images."""
        return self.generator.config.image_size

    @property
    def ground(self) -> str:
        """What is behind people: what the images show."""
        return "shown"

    @property
    def z_dim(self) -> int:
        """Numbers of a latent."""
        return self.generator.config.z_dim

    def show_real(self, real: RealBatch) -> Float[Tensor, "b 3 s s"]:
        """Real images in [0, 1]."""
        return real.pixels[:, :3].float() / 255.0

    def __call__(
        self,
        seen: Conditions,
        condition: Float[Tensor, "b 25"],
        random: torch.Generator,
        *,
        has_offset: bool,
    ) -> Float[Tensor, "b 3 s s"]:
        """Draw people and render them, as ``render_people``."""
        shape = len(condition), self.z_dim
        z = torch.randn(shape, generator=random, device=condition.device)
        return render_people(
            self.generator, z, seen.labels, condition, random, has_offset=has_offset
        )

    @torch.no_grad()
    def before_backgrounds(
        self,
        z: Float[Tensor, "1 z"],
        others: Float[Tensor, "2 z"],
        label: Float[Tensor, "1 25"],
    ) -> tuple[Float[Tensor, "2 3 s s"], Float[Tensor, "1 1 s s"]]:
        """Show a person before the backgrounds of two others, and what of it is the head.

        Both pictures have the same planes, camera and rays.
        """
        generator = self.generator
        ws, scenery = generator.map(z, label), generator.map(others, label.expand(2, -1))
        seen, _ = generator.offset_labels(z, label)
        planes = generator.planes(ws)
        draws = generator.draw(1, torch_generator(0, "spherehead.rays", label.device))
        one, other = (
            generator.render(planes, ws, seen, draws, background_ws=behind)
            for behind in scenery.split(1)
        )
        assert one.mask is not None
        mask = resize_antialiased(one.mask, self.image_size).clamp(0.0, 1.0)
        return from_signed(torch.cat([one.image, other.image])), mask
