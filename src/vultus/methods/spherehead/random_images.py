"""Images of random people at given cameras, for measurements."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from vultus.data.image_feed import Conditions, RealBatch
from vultus.methods.spherehead.generator import Generator
from vultus.nets.ranges import from_signed

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

    Satisfies ``engine.generator_quality.ImageMaker``.
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
        z_dim = self.generator.config.z_dim
        z = torch.randn(len(condition), z_dim, generator=random, device=condition.device)
        return render_people(
            self.generator, z, seen.labels, condition, random, has_offset=has_offset
        )
