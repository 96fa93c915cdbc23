"""Judge whether pictures are real, and from where and in which light they seem to be taken.

Camera and light are not given to the judgement. Branches describe picture, camera and light by
vectors instead, which objectives compare (``objectives.contrastive_loss``).
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from vultus.methods.gsheadrelight.config import DiscriminatorConfig
from vultus.nets.stylegan2.discriminator import (
    ResidualBlock,
    ResidualPyramid,
    append_minibatch_std,
)
from vultus.nets.stylegan2.layers import EqualizedConv2d, EqualizedLinear, draw_weights

__all__ = ["Discriminator", "Judgement"]

_LAST_SIZE = 8
"""Input of the blocks that camera and light have copies of."""
_FINAL_AREA = 16


class Judgement(NamedTuple):
    """What a discriminator says of b pictures, n cameras and n lights."""

    logits: Float[Tensor, "b 1"]
    """Positive means real."""
    image_camera: Float[Tensor, "b d"]
    """The camera as it seems from the picture."""
    camera: Float[Tensor, "n d"]
    """Cameras that are stated."""
    image_light: Float[Tensor, "b d"]
    """The light as it seems from the picture."""
    light: Float[Tensor, "n d"]
    """Lights that are stated."""


class _PlainHead(nn.Module):
    """Judge features of 4 x 4."""

    def __init__(self, channels: int, config: DiscriminatorConfig) -> None:
        super().__init__()
        self.group_size = config.group_size
        self.conv = EqualizedConv2d(
            channels + 1, channels, 3, activation="lrelu", clamp=config.clamp
        )
        self.fc = EqualizedLinear(_FINAL_AREA * channels, channels, activation="lrelu")
        self.out = EqualizedLinear(channels, 1)

    def forward(self, x: Float[Tensor, "b c 4 4"]) -> Float[Tensor, "b 1"]:
        x = append_minibatch_std(x, self.group_size)
        return self.out(self.fc(self.conv(x).flatten(1)))


class Discriminator(nn.Module):
    """Judge pictures."""

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
        pyramid = ResidualPyramid(
            config.image_size,
            3,
            channel_base=config.channel_base,
            channel_max=config.channel_max,
            clamp=config.clamp,
        )
        self.blocks = pyramid.blocks
        last = pyramid.blocks[str(_LAST_SIZE)]
        assert isinstance(last, ResidualBlock)
        before, width = last.conv1.weight.shape[1], pyramid.out_channels
        self.camera_block = ResidualBlock(before, width, clamp=config.clamp)
        self.light_block = ResidualBlock(before, width, clamp=config.clamp)
        self.judgement = _PlainHead(width, config)

        def embedding(inputs: int) -> nn.Sequential:
            return nn.Sequential(
                EqualizedLinear(inputs, width, activation="lrelu"),
                EqualizedLinear(width, config.compared_features),
            )

        self.camera_features = embedding(_FINAL_AREA * width)
        self.camera_embedding = embedding(config.label_dim)
        self.light_features = embedding(_FINAL_AREA * width)
        self.light_embedding = embedding(config.light_dim)
        if generator is not None:
            draw_weights(self, generator)

    def forward(
        self,
        images: Float[Tensor, "b 3 h h"],
        labels: Float[Tensor, "n 25"],
        lights: Float[Tensor, "n l"],
    ) -> Judgement:
        """Judge images in [-1, 1].

        Args:
            images: Pictures.
            labels: Cameras that they and others are said to have.
            lights: Labels of the lights that these are said to be in.

        Raises:
            ValueError: If images have another size.
        """
        size = self.config.image_size
        if images.shape[2] != size:
            raise ValueError(f"images must have {size} pixels a side, got {images.shape[2]}")
        *blocks, last = self.blocks.values()
        x = images
        for block in blocks:
            x = block(x)
        return Judgement(
            logits=self.judgement(last(x)),
            image_camera=self.camera_features(self.camera_block(x).flatten(1)),
            camera=self.camera_embedding(labels),
            image_light=self.light_features(self.light_block(x).flatten(1)),
            light=self.light_embedding(lights),
        )
