"""Synthesis as a GPU likes it; ``synthesis`` defines the same, layer by layer.

- Features have their channels side by side, and may have half precision.
- Doubling layers convolve the small image (``doubling``).
- What follows a convolution is one launch, and it scales the features for the next one
  (``kernels.styled_layer``).
- Layers to the image are matrix products. What maps the final image linearly is multiplied into
  their weights, so that all images of the pyramid have the few channels that come out.

Reference: Karras et al., Analyzing and Improving the Image Quality of StyleGAN, 2020.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import conv2d, pad

from vultus.kernels.styled_layer import add_doubled, finish_layer
from vultus.nets.stylegan2.doubling import doubling_kernels
from vultus.nets.stylegan2.layers import EqualizedConv2d
from vultus.nets.stylegan2.modulation import EPSILON
from vultus.nets.stylegan2.synthesis import NoiseMode, SynthesisBlock, SynthesisLayer, ToRgb

__all__ = ["FastSynthesis"]

_MULTIPLE = 8
"""Matrix products want numbers of channels to be multiples of this."""


class FastSynthesis:
    """Some blocks of a network in their fast form.

    What is derived from their weights is derived for every call, unless ``keep_derived`` says that
    they will not change: optimisers change weights in ways that nobody else can see.
    """

    def __init__(
        self, blocks: Sequence[SynthesisBlock], branches: Sequence[nn.Sequential] = ()
    ) -> None:
        """Take the blocks in order; their weights stay where they are.

        Args:
            blocks: From small to large.
            branches: ``EqualizedConv2d`` of 1 x 1 without bias, applied to the final image one
                after the other; the results of all branches become the image's channels.
        """
        self._blocks, self._branches = list(blocks), list(branches)
        # A clamped image is no linear function of the layers that make it.
        self._is_linear = all(block.to_rgb.clamp is None for block in self._blocks)
        self._kept: dict[torch.dtype, _Derived] | None = None

    def keep_derived(self) -> None:
        """Derive once, for calls without gradients; the weights must not change from now on."""
        self._kept = {}

    def __call__(
        self,
        ws: Sequence[Float[Tensor, "b _ w"]],
        x: Float[Tensor, "b i _ _"] | None = None,
        image: Float[Tensor, "b c _ _"] | None = None,
        *,
        noise_mode: NoiseMode = "random",
        generator: torch.Generator | None = None,
        dtype: torch.dtype = torch.float32,
    ) -> Float[Tensor, "b p r r"]:
        """Synthesise images, with channels side by side in memory.

        Args:
            ws: Styles of each block.
            x: Features that enter the first block, unless it starts from a constant.
            image: Image that enters it.
            noise_mode: Of all layers.
            generator: For random noise.
            dtype: Of features and images.
        """
        blocks, projection = self._prepare(dtype)
        styles = [block.styles(w) for block, w in zip(blocks, ws, strict=True)]
        scaled = blocks[0].start(x, styles[0][0], dtype)
        if image is not None:
            image = _pad_channels(image.to(dtype), dim=1)
        for k, block in enumerate(blocks):
            following = styles[k + 1][0] if k + 1 < len(blocks) else None
            features, scaled = block.convolve(scaled, styles[k], following, noise_mode, generator)
            image = block.paint(features, ws[k][:, -1], image)
        assert image is not None
        image = image[:, : blocks[-1].painter.channels]
        return image if projection is None else conv2d(image, projection)

    def _prepare(self, dtype: torch.dtype) -> _Derived:
        if self._kept is None or torch.is_grad_enabled():
            return self._derive(dtype)
        if dtype not in self._kept:
            self._kept[dtype] = self._derive(dtype)
        return self._kept[dtype]

    def _derive(self, dtype: torch.dtype) -> _Derived:
        products = [reduce(_product, map(_matrix, branch)) for branch in self._branches]
        projection = torch.cat(products) if products else None
        folded, applied = (projection, None) if self._is_linear else (None, projection)
        if applied is not None:
            applied = applied[:, :, None, None].to(dtype)
        return [_Block.of(block, dtype, folded) for block in self._blocks], applied


@dataclass(frozen=True)
class _Layer:
    """A styled convolution with what is derived from its weights."""

    layer: SynthesisLayer
    kernel: Float[Tensor, "k i 3 3"]
    energy: Float[Tensor, "i o"]
    epsilon: float

    @classmethod
    def of(cls, layer: SynthesisLayer, dtype: torch.dtype) -> _Layer:
        """Divide weights by their fan-in, which keeps sums within half precision."""
        fan_in = layer.weight[0].numel()
        weight = layer.weight / math.sqrt(fan_in)
        kernel = doubling_kernels(weight) if layer.is_doubling else weight
        return cls(
            layer,
            kernel.to(dtype, memory_format=torch.channels_last),
            weight.square().sum(dim=(2, 3)).T,
            EPSILON / fan_in,
        )

    def __call__(
        self,
        scaled: Tensor,
        styles: Tensor,
        next_styles: Tensor | None,
        noise_mode: NoiseMode,
        generator: torch.Generator | None,
        *,
        keeps: bool,
    ) -> tuple[Tensor | None, Tensor | None]:
        """Output, and output scaled for the next layer, of features scaled for this one."""
        layer, noise = self.layer, None
        if noise_mode == "random":
            shape = (scaled.shape[0], 1, *layer.noise.shape)
            noise = torch.randn(shape, device=scaled.device, generator=generator)
        elif noise_mode == "const":
            noise = layer.noise
        return finish_layer(
            conv2d(scaled, self.kernel, padding=1),
            (styles.square() @ self.energy + self.epsilon).rsqrt(),
            layer.bias,
            noise,
            None if noise is None else layer.noise_strength,
            next_styles,
            is_doubling=layer.is_doubling,
            keeps=keeps,
            clamp=layer.clamp,
        )


@dataclass(frozen=True)
class _Painter:
    """A layer to the image with what is derived from its weights."""

    layer: ToRgb
    weight: Float[Tensor, "p c"]
    bias: Float[Tensor, " p"]
    channels: int
    """Those that are not there to fill up."""

    @classmethod
    def of(cls, layer: ToRgb, projection: Tensor | None) -> _Painter:
        """Project the weights; add channels of zeros."""
        weight, bias = layer.weight[:, :, 0, 0] / math.sqrt(layer.weight.shape[1]), layer.bias
        if projection is not None:
            weight, bias = projection @ weight, projection @ bias
        return cls(layer, _pad_channels(weight, dim=0), _pad_channels(bias, dim=0), len(bias))

    def __call__(self, features: Float[Tensor, "b c h w"], w: Tensor) -> Float[Tensor, "b p h w"]:
        """What a layer adds to the image."""
        matrices = self.weight * self.layer.affine(w)[:, None]
        pixels = features.permute(0, 2, 3, 1).flatten(1, 2)
        bias = self.bias.to(features.dtype)
        added = torch.baddbmm(bias, pixels, matrices.to(features.dtype).mT)
        if self.layer.clamp is not None:
            added = added.clamp(-self.layer.clamp, self.layer.clamp)
        return added.unflatten(1, features.shape[2:]).permute(0, 3, 1, 2)


@dataclass(frozen=True)
class _Block:
    """Layers of a resolution with what is derived from their weights."""

    block: SynthesisBlock
    convs: tuple[_Layer, ...]
    painter: _Painter

    @classmethod
    def of(cls, block: SynthesisBlock, dtype: torch.dtype, projection: Tensor | None) -> _Block:
        layers = [layer for layer in (block.conv0, block.conv1) if layer is not None]
        convs = tuple(_Layer.of(layer, dtype) for layer in layers)
        return cls(block, convs, _Painter.of(block.to_rgb, projection))

    def styles(self, ws: Float[Tensor, "b n w"]) -> list[Float[Tensor, "b _"]]:
        """Factors of the channels that enter each convolution."""
        return [conv.layer.affine(ws[:, k]) for k, conv in enumerate(self.convs)]

    def start(self, x: Tensor | None, styles: Tensor, dtype: torch.dtype) -> Tensor:
        """Features for the first block, scaled for its first convolution."""
        features = self.block.const if x is None else x
        assert features is not None
        scaled = features * styles[:, :, None, None]
        return scaled.to(dtype, memory_format=torch.channels_last)

    def convolve(
        self,
        scaled: Tensor | None,
        styles: list[Tensor],
        following: Tensor | None,
        noise_mode: NoiseMode,
        generator: torch.Generator | None,
    ) -> tuple[Tensor, Tensor | None]:
        """Features of the block, and the same scaled for the ``following`` one."""
        features = None
        for k, conv in enumerate(self.convs):
            assert scaled is not None
            is_last = k + 1 == len(self.convs)
            next_styles = following if is_last else styles[k + 1]
            features, scaled = conv(
                scaled, styles[k], next_styles, noise_mode, generator, keeps=is_last
            )
        assert features is not None
        return features, scaled

    def paint(self, features: Tensor, w: Tensor, image: Tensor | None) -> Tensor:
        """The image so far with what this block adds."""
        added = self.painter(features, w)
        if image is None:
            return added
        return add_doubled(image, added) if self.block.is_doubling else image + added


_Derived = tuple[list[_Block], Tensor | None]
"""Blocks, and what is applied to their image."""


def _matrix(layer: nn.Module) -> Float[Tensor, "o i"]:
    assert isinstance(layer, EqualizedConv2d)
    assert layer.bias is None
    return layer.effective_weight()[:, :, 0, 0]


def _product(first: Tensor, second: Tensor) -> Tensor:
    """What two matrices do one after the other."""
    return second @ first


def _pad_channels(x: Tensor, dim: int) -> Tensor:
    missing = -x.shape[dim] % _MULTIPLE
    return x if missing == 0 else pad(x, (0, 0) * (x.dim() - dim - 1) + (0, missing))
