"""Discriminators of SphereHead and its ancestors."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from vultus.methods.spherehead.config import DiscriminatorConfig
from vultus.methods.spherehead.images import HeadImages
from vultus.nets.stylegan2.discriminator import ConditionalHead, ResidualPyramid
from vultus.nets.stylegan2.filters import resize_antialiased
from vultus.nets.stylegan2.layers import draw_weights
from vultus.nets.stylegan2.mapping import MappingNetwork

__all__ = ["Discriminator"]

_NUM_LABEL_LAYERS = 8


class Discriminator(nn.Module):
    """Judge whether images are real and show a head from where their labels say."""

    def __init__(
        self, config: DiscriminatorConfig, generator: torch.Generator | None = None
    ) -> None:
        """Build all blocks.

        Args:
            config: What to build.
            generator: Draws the weights; None leaves them to PyTorch's global generator.
        """
        super().__init__()
        self.config = config

        def pyramid(size: int, channels: int) -> ResidualPyramid:
            return ResidualPyramid(
                size,
                channels,
                channel_base=config.channel_base,
                channel_max=config.channel_max,
                clamp=config.clamp,
            )

        images = pyramid(config.image_size, config.input_channels)
        self.blocks = images.blocks
        self.mask_blocks = None
        if config.kind == "mask_branch":
            self.mask_blocks = pyramid(config.mask_size, config.mask_channels).blocks
        width = images.out_channels
        self.head = ConditionalHead(width, group_size=config.group_size, clamp=config.clamp)
        self.mapping = MappingNetwork(
            0, config.label_dim, width, num_layers=_NUM_LABEL_LAYERS, has_mean=False
        )
        if generator is not None:
            draw_weights(self, generator)

    def forward(
        self,
        images: HeadImages,
        labels: Float[Tensor, "b 25"],
        label_noise: Float[Tensor, "b 25"] | None = None,
    ) -> Float[Tensor, "b 1"]:
        """Judge images; positive means real.

        Args:
            images: All that the variant sees; other images are ignored.
            labels: Cameras.
            label_noise: Normal numbers; needed where the config has noise on labels.
        """
        return self.compare(self.features(images), labels, label_noise)

    def features(self, images: HeadImages) -> Float[Tensor, "b d 4 4"]:
        """Reduce images to features, which do not depend on labels."""
        x = self._stacked(images)
        for block in self.blocks.values():
            x = block(x)
        if self.mask_blocks is None:
            return x
        mask = self._resized(images.mask, "mask", self.config.mask_size)
        mask = 2.0 * mask - 1.0
        for block in self.mask_blocks.values():
            mask = block(mask)
        return x + mask

    def compare(
        self,
        features: Float[Tensor, "b d 4 4"],
        labels: Float[Tensor, "b 25"],
        label_noise: Float[Tensor, "b 25"] | None = None,
    ) -> Float[Tensor, "b 1"]:
        """Judge features with their labels; positive means real."""
        return self.head(features, self.mapping(None, self._noisy(labels, label_noise)))

    def _stacked(self, images: HeadImages) -> Float[Tensor, "b c h w"]:
        """Bring all images to one size and range, and join their channels."""
        kind, size = self.config.kind, self.config.image_size
        parts = [images.image]
        if kind != "single":
            parts.append(self._resized(images.raw_image, "raw_image", size))
        if kind in ("mask", "parsing"):
            parts.append(2.0 * self._resized(images.mask, "mask", size) - 1.0)
        if kind == "parsing":
            parts.append(2.0 * self._resized(images.parsing, "parsing", size) - 1.0)
        stacked = torch.cat(parts, dim=1)
        wanted = (self.config.input_channels, size, size)
        if stacked.shape[1:] != wanted:
            raise ValueError(f"images must have the shape {wanted}, got {tuple(stacked.shape[1:])}")
        return stacked

    def _resized(self, image: Tensor | None, name: str, size: int) -> Tensor:
        if image is None:
            raise ValueError(f"{name} is needed by a {self.config.kind!r} discriminator, got None")
        return resize_antialiased(image, size)

    def _noisy(self, labels: Tensor, noise: Tensor | None) -> Tensor:
        """Shake labels, in a copy: the release changes the caller's labels."""
        strength = self.config.label_noise
        if strength == 0.0:
            return labels
        if noise is None:
            raise ValueError("label_noise is needed where the config has noise on labels, got None")
        return labels + noise * labels.std(dim=0) * strength
