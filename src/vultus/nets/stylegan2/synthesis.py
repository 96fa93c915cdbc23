"""Synthesis networks: styles to images that grow from 4 x 4, with a path of skipped images."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from vultus.nets.stylegan2.filters import upsample2d
from vultus.nets.stylegan2.layers import EqualizedLinear, activate
from vultus.nets.stylegan2.modulation import modulated_conv2d

__all__ = [
    "NoiseMode",
    "SynthesisBlock",
    "SynthesisLayer",
    "SynthesisNetwork",
    "ToRgb",
    "channels_at",
    "resolutions",
]

NoiseMode = Literal["random", "const", "none"]
"""Noise of every layer: drawn anew, the one that is stored, or none."""

_SMALLEST = 4


def channels_at(resolution: int, channel_base: int, channel_max: int) -> int:
    """Number of channels at a resolution."""
    return min(channel_base // resolution, channel_max)


def resolutions(largest: int) -> list[int]:
    """4, 8, ..., largest.

    Raises:
        ValueError: If the largest is not a power of two of at least 4.
    """
    if largest < _SMALLEST or largest.bit_count() != 1:
        raise ValueError(f"resolution must be a power of two of at least 4, got {largest}")
    return [2**power for power in range(2, largest.bit_length())]


class SynthesisLayer(nn.Module):
    """Modulated 3 x 3 convolution, noise, bias and leaky ReLU."""

    noise: Tensor

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        w_dim: int,
        resolution: int,
        *,
        is_doubling: bool = False,
        clamp: float | None = None,
    ) -> None:
        """Build the layer for output of ``resolution`` pixels a side."""
        super().__init__()
        self.is_doubling = is_doubling
        self.clamp = clamp
        self.affine = EqualizedLinear(w_dim, in_channels, bias_init=1.0)
        self.weight = nn.Parameter(torch.randn(out_channels, in_channels, 3, 3))
        self.register_buffer("noise", torch.randn(resolution, resolution))
        self.noise_strength = nn.Parameter(torch.zeros(()))
        self.bias = nn.Parameter(torch.zeros(out_channels))

    def forward(
        self,
        x: Float[Tensor, "b i _ _"],
        w: Float[Tensor, "b d"],
        noise_mode: NoiseMode = "random",
        generator: torch.Generator | None = None,
    ) -> Float[Tensor, "b o h w"]:
        """Apply the layer; ``generator`` serves random noise only."""
        x = modulated_conv2d(x, self.weight, self.affine(w), is_doubling=self.is_doubling)
        if noise_mode == "random":
            shape = (x.shape[0], 1, *self.noise.shape)
            drawn = torch.randn(shape, device=x.device, generator=generator)
            x = x + drawn * self.noise_strength
        elif noise_mode == "const":
            x = x + self.noise * self.noise_strength
        return activate(x + self.bias[:, None, None], "lrelu", clamp=self.clamp)


class ToRgb(nn.Module):
    """Modulated 1 x 1 convolution to an image, without demodulation."""

    def __init__(
        self, in_channels: int, out_channels: int, w_dim: int, *, clamp: float | None = None
    ) -> None:
        """Build the layer; ``clamp`` bounds its output."""
        super().__init__()
        self.clamp = clamp
        self.affine = EqualizedLinear(w_dim, in_channels, bias_init=1.0)
        self.weight = nn.Parameter(torch.randn(out_channels, in_channels, 1, 1))
        self.bias = nn.Parameter(torch.zeros(out_channels))

    def forward(
        self, x: Float[Tensor, "b i h w"], w: Float[Tensor, "b d"]
    ) -> Float[Tensor, "b o h w"]:
        """Apply the layer."""
        styles = self.affine(w) / math.sqrt(self.weight.shape[1])
        x = modulated_conv2d(x, self.weight, styles, is_demodulated=False)
        return activate(x + self.bias[:, None, None], "linear", clamp=self.clamp)


class SynthesisBlock(nn.Module):
    """Layers of one resolution and their addition to the image.

    The first block of a network starts from a learned constant instead of an input. A block takes
    ``num_convs + 1`` styles; the last of them is the first of the next block.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        w_dim: int,
        resolution: int,
        image_channels: int,
        *,
        is_doubling: bool = True,
        clamp: float | None = None,
    ) -> None:
        """Build the block; without ``in_channels`` it starts from a constant."""
        super().__init__()
        self.is_doubling = is_doubling
        self.const = self.conv0 = None
        if in_channels == 0:
            self.const = nn.Parameter(torch.randn(out_channels, resolution, resolution))
        else:
            self.conv0 = SynthesisLayer(
                in_channels,
                out_channels,
                w_dim,
                resolution,
                is_doubling=is_doubling,
                clamp=clamp,
            )
        self.conv1 = SynthesisLayer(out_channels, out_channels, w_dim, resolution, clamp=clamp)
        self.to_rgb = ToRgb(out_channels, image_channels, w_dim, clamp=clamp)

    @property
    def num_convs(self) -> int:
        """Modulated convolutions, without the one to the image."""
        return 1 if self.conv0 is None else 2

    def forward(
        self,
        x: Float[Tensor, "b i _ _"] | None,
        image: Float[Tensor, "b c _ _"] | None,
        ws: Float[Tensor, "b n d"],
        noise_mode: NoiseMode = "random",
        generator: torch.Generator | None = None,
    ) -> tuple[Float[Tensor, "b o h w"], Float[Tensor, "b c h w"]]:
        """Compute features and the image so far; the first block takes None for both."""
        styles: Iterator[Tensor] = iter(ws.unbind(dim=1))
        if self.conv0 is None:
            assert self.const is not None
            x = self.const.expand(ws.shape[0], -1, -1, -1)
        else:
            assert x is not None
            x = self.conv0(x, next(styles), noise_mode, generator)
        assert x is not None
        features = self.conv1(x, next(styles), noise_mode, generator)
        added = self.to_rgb(features, next(styles))
        if image is None:
            return features, added
        return features, (upsample2d(image) if self.is_doubling else image) + added


class SynthesisNetwork(nn.Module):
    """Blocks from 4 x 4 to the final resolution."""

    def __init__(
        self,
        w_dim: int,
        resolution: int,
        image_channels: int,
        *,
        channel_base: int = 32768,
        channel_max: int = 512,
        clamp: float | None = None,
    ) -> None:
        """Build blocks up to a resolution; ``clamp`` bounds activations."""
        super().__init__()
        sizes = resolutions(resolution)
        widths = [channels_at(size, channel_base, channel_max) for size in sizes]
        self.resolution = resolution
        self.image_channels = image_channels
        self.blocks = nn.ModuleDict(
            {
                str(size): SynthesisBlock(before, width, w_dim, size, image_channels, clamp=clamp)
                for size, before, width in zip(sizes, [0, *widths], widths, strict=False)
            }
        )
        self.num_ws = 2 * len(sizes)

    def forward(
        self,
        ws: Float[Tensor, "b n d"],
        noise_mode: NoiseMode = "random",
        generator: torch.Generator | None = None,
    ) -> Float[Tensor, "b c r r"]:
        """Synthesise images.

        Raises:
            ValueError: If the number of styles is not ``num_ws``.
        """
        x = image = None
        for block, taken in zip(self.blocks.values(), self.block_styles(ws), strict=True):
            x, image = block(x, image, taken, noise_mode, generator)
        assert image is not None
        return image

    def block_list(self) -> list[SynthesisBlock]:
        """The blocks from small to large."""
        return [block for block in self.blocks.values() if isinstance(block, SynthesisBlock)]

    def block_styles(self, ws: Float[Tensor, "b n d"]) -> list[Float[Tensor, "b _ d"]]:
        """Styles of each block; the last of one is the first of the next.

        Raises:
            ValueError: If the number of styles is not ``num_ws``.
        """
        if ws.shape[1] != self.num_ws:
            raise ValueError(f"ws must hold {self.num_ws} styles per image, got {ws.shape[1]}")
        taken, start = [], 0
        for block in self.block_list():
            taken.append(ws[:, start : start + block.num_convs + 1])
            start += block.num_convs
        return taken
