"""How often images are transformed: as much as keeps the discriminator from remembering them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from vultus.nets.augmentation.draws import TransformConfig, draw_colors, draw_geometry
from vultus.nets.augmentation.warp import transform_colors, warp_images

__all__ = ["AugmentationConfig", "AugmentationControl", "DrawnTransforms"]


@dataclass(frozen=True)
class AugmentationConfig:
    """How often and how images are transformed before a discriminator sees them."""

    mode: Literal["none", "fixed", "adaptive"] = "none"
    """``adaptive`` raises the probability while the discriminator is too sure of real images."""
    probability: float = 0.2
    """The constant one of ``fixed``."""
    target: float = 0.6
    """Share of real images judged real minus share judged fake that ``adaptive`` keeps."""
    speed: int = 500_000
    """Images in which the probability can go from 0 to 1."""
    update_every: int = 4
    """Steps between changes of the probability."""
    transforms: TransformConfig = field(default_factory=TransformConfig)

    def __post_init__(self) -> None:
        """Reject what is no probability."""
        if not 0.0 <= self.probability <= 1.0:
            raise ValueError(f"probability must be in [0, 1], got {self.probability}")
        if self.speed < 1 or self.update_every < 1:
            raise ValueError(
                f"speed and update_every must be positive, got {self.speed} and {self.update_every}"
            )


class DrawnTransforms(NamedTuple):
    """What happens to the images of a batch, whatever their size."""

    inverse: Float[Tensor, "b 3 3"]
    """Where each position of a transformed image comes from."""
    colors: Float[Tensor, "b 4 4"]

    def pictures(self, x: Float[Tensor, "b c s s"]) -> Float[Tensor, "b c s s"]:
        """Transform places and colours; beyond the border pictures are reflected."""
        return transform_colors(warp_images(x, self.inverse), self.colors)

    def masks(self, x: Float[Tensor, "b c s s"]) -> Float[Tensor, "b c s s"]:
        """Transform places; beyond the border there is nothing."""
        return warp_images(x, self.inverse, "zero")


class AugmentationControl(nn.Module):
    """Holds the probability and changes it on its device, without waiting for it."""

    probability: Tensor
    total_sign: Tensor

    def __init__(self, config: AugmentationConfig) -> None:
        """Start at the constant probability, or at none if it adapts."""
        super().__init__()
        self.config = config
        start = config.probability if config.mode == "fixed" else 0.0
        self.register_buffer("probability", torch.tensor(start))
        self.register_buffer("total_sign", torch.zeros(()))

    def load(self, saved: Mapping[str, Tensor]) -> None:
        """Restore a ``state_dict()`` of the same names, shapes and types.

        Raises:
            ValueError: If its numbers cannot be; tells them.
        """
        probability, total = (float(saved[name]) for name in ("probability", "total_sign"))
        if not 0.0 <= probability <= 1.0:
            raise ValueError(f"probability of the augmentation must be in [0, 1]: {probability}")
        if not abs(total) <= self.config.update_every:
            raise ValueError(
                "total_sign of the augmentation must be at most its update_every, "
                f"{self.config.update_every}, either way, got {total}"
            )
        self.load_state_dict(dict(saved))

    def draw(self, batch: int, size: int, random: torch.Generator) -> DrawnTransforms | None:
        """Draw what happens to images; nothing without augmentation.

        Args:
            batch: Number of images.
            size: Side of the largest ones.
            random: On the device of the images.
        """
        if self.config.mode == "none":
            return None
        transforms = self.config.transforms
        return DrawnTransforms(
            draw_geometry(batch, size, self.probability, transforms, random),
            draw_colors(batch, self.probability, transforms, random),
        )

    @torch.no_grad()
    def update(self, sign: Float[Tensor, ""], step: int, batch: int) -> None:
        """Take in the mean sign of the judgements of a step's real images.

        Args:
            sign: Share judged real minus share judged fake.
            step: Counted from 1.
            batch: Images of a step.
        """
        if self.config.mode != "adaptive":
            return
        every = self.config.update_every
        self.total_sign += sign
        if step % every:
            return
        direction = (self.total_sign / every - self.config.target).sign()
        change = direction * (batch * every / self.config.speed)
        self.probability.copy_((self.probability + change).clamp(0.0, 1.0))
        self.total_sign.zero_()
