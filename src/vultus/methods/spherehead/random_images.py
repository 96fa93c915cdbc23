"""Images of random people at given cameras, for measurements."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from vultus.methods.spherehead.generator import Generator

__all__ = ["RandomImages"]


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

    @torch.no_grad()
    def __call__(
        self,
        seen: Float[Tensor, "b 25"],
        condition: Float[Tensor, "b 25"],
        random: torch.Generator,
        *,
        has_offset: bool,
    ) -> Float[Tensor, "b 3 s s"]:
        """Images in [0, 1], unclamped.

        Args:
            seen: Cameras that are rendered.
            condition: Cameras that people are conditioned on.
            random: Draws people; on the weights' device.
            has_offset: Add the learned offset to the rendered cameras.
        """
        z_dim = self.generator.config.z_dim
        z = torch.randn(len(seen), z_dim, generator=random, device=seen.device)
        ws = self.generator.map(z, condition)
        if has_offset:
            seen, _ = self.generator.offset_labels(z, seen)
        draws = self.generator.draw(len(seen), random)
        rendered = self.generator.render(self.generator.planes(ws), ws, seen, draws)
        return 0.5 * rendered.image + 0.5
