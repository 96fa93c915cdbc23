"""Residual discriminator blocks, and the comparison with a label at the end."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn

from vultus.nets.stylegan2.layers import EqualizedConv2d, EqualizedLinear
from vultus.nets.stylegan2.synthesis import channels_at, resolutions

__all__ = [
    "ConditionalHead",
    "ResidualBlock",
    "ResidualPyramid",
    "append_minibatch_std",
]

_HALF_POWER = math.sqrt(0.5)


def append_minibatch_std(
    x: Float[Tensor, "b c h w"], group_size: int, num_channels: int = 1
) -> Float[Tensor, "b c2 h w"]:
    """Append how much features differ within groups of images, as constant channels.

    Image i belongs to group i modulo (b / group size).

    Args:
        x: Features.
        group_size: Images per group; a smaller batch is one group.
        num_channels: Channels to append; each averages its share of the features.

    Raises:
        ValueError: If the groups do not divide the batch.
    """
    batch, channels, height, width = x.shape
    group = min(group_size, batch)
    if batch % group:
        raise ValueError(f"batch must be a multiple of the group size {group}, got {batch}")
    split = x.reshape(group, batch // group, num_channels, channels // num_channels, height, width)
    deviation = (split.var(dim=0, correction=0) + 1e-8).sqrt()
    statistic = deviation.mean(dim=(2, 3, 4))[:, :, None, None]
    return torch.cat([x, statistic.repeat(group, 1, height, width)], dim=1)


class ResidualBlock(nn.Module):
    """Halve the size by two convolutions beside a linear path.

    The first block of a discriminator reads images; later ones read features.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        image_channels: int = 0,
        clamp: float | None = None,
    ) -> None:
        """Build the block; without ``image_channels`` it reads features."""
        super().__init__()
        self.from_rgb = None
        if image_channels:
            self.from_rgb = EqualizedConv2d(
                image_channels, in_channels, 1, activation="lrelu", clamp=clamp
            )
        self.conv0 = EqualizedConv2d(in_channels, in_channels, 3, activation="lrelu", clamp=clamp)
        self.conv1 = EqualizedConv2d(
            in_channels, out_channels, 3, activation="lrelu", is_halving=True, clamp=clamp
        )
        self.skip = EqualizedConv2d(in_channels, out_channels, 1, has_bias=False, is_halving=True)

    def forward(self, x: Float[Tensor, "b i h w"]) -> Float[Tensor, "b o _ _"]:
        """Apply the block to images or features."""
        if self.from_rgb is not None:
            x = self.from_rgb(x)
        skipped = self.skip(x, gain=_HALF_POWER)
        return skipped + self.conv1(self.conv0(x), gain=_HALF_POWER)


class ResidualPyramid(nn.Module):
    """Blocks from images down to features of 4 x 4."""

    def __init__(
        self,
        resolution: int,
        image_channels: int,
        *,
        channel_base: int = 32768,
        channel_max: int = 512,
        clamp: float | None = None,
    ) -> None:
        """Build blocks for images of a resolution; ``clamp`` bounds activations."""
        super().__init__()
        sizes = resolutions(resolution)[::-1]
        widths = [channels_at(size, channel_base, channel_max) for size in sizes]
        self.blocks = nn.ModuleDict(
            {
                str(size): ResidualBlock(
                    width,
                    after,
                    image_channels=0 if index else image_channels,
                    clamp=clamp,
                )
                for index, (size, width, after) in enumerate(
                    zip(sizes[:-1], widths[:-1], widths[1:], strict=True)
                )
            }
        )
        self.out_channels = widths[-1]

    def forward(self, images: Float[Tensor, "b c r r"]) -> Float[Tensor, "b d 4 4"]:
        """Reduce images to features."""
        x = images
        for block in self.blocks.values():
            x = block(x)
        return x


class ConditionalHead(nn.Module):
    """Compare features of 4 x 4 with an embedding of the label.

    Reference: Miyato and Koyama, cGANs with Projection Discriminator, 2018.
    """

    def __init__(
        self,
        channels: int,
        *,
        group_size: int = 4,
        std_channels: int = 1,
        clamp: float | None = None,
    ) -> None:
        """Build the head; for the groups see ``append_minibatch_std``."""
        super().__init__()
        self.group_size = group_size
        self.std_channels = std_channels
        self.conv = EqualizedConv2d(
            channels + std_channels, channels, 3, activation="lrelu", clamp=clamp
        )
        self.fc = EqualizedLinear(channels * 16, channels, activation="lrelu")
        self.out = EqualizedLinear(channels, channels)

    def forward(
        self, x: Float[Tensor, "b d 4 4"], wanted: Float[Tensor, "b d"]
    ) -> Float[Tensor, "b 1"]:
        """Judge features by their likeness to a mapped label; positive means real."""
        x = append_minibatch_std(x, self.group_size, self.std_channels)
        x = self.out(self.fc(self.conv(x).flatten(1)))
        return (x * wanted).sum(dim=1, keepdim=True) / math.sqrt(wanted.shape[1])
