"""Layers whose weights are drawn with unit variance and scaled when they are used.

Thereby one learning rate fits all layers (Karras et al., Progressive Growing of GANs, 2018).
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import conv2d, leaky_relu, linear

from vultus.nets.stylegan2.filters import downsample2d, smooth2d

__all__ = [
    "LEAKY_GAIN",
    "LEAKY_SLOPE",
    "Activation",
    "EqualizedConv2d",
    "EqualizedLinear",
    "activate",
    "draw_weights",
    "normalize_second_moment",
]

Activation = Literal["linear", "lrelu"]

LEAKY_SLOPE = 0.2
"""Of leaky ReLUs below zero."""
LEAKY_GAIN = math.sqrt(2.0)
"""Keeps the variance of normal input through them."""
_GAINS: dict[Activation, float] = {"linear": 1.0, "lrelu": LEAKY_GAIN}


def activate(
    x: Float[Tensor, ...],
    activation: Activation,
    *,
    gain: float = 1.0,
    clamp: float | None = None,
) -> Float[Tensor, ...]:
    """Apply an activation that keeps the variance of normal input.

    Args:
        x: Input, bias included.
        activation: ``"lrelu"`` has slope 0.2 and a gain of sqrt(2) of its own.
        gain: Further factor.
        clamp: Largest absolute value, before ``gain``.
    """
    if activation == "lrelu":
        x = leaky_relu(x, LEAKY_SLOPE)
    factor = _GAINS[activation] * gain
    if factor != 1.0:
        x = x * factor
    return x if clamp is None else x.clamp(-clamp * gain, clamp * gain)


def normalize_second_moment(x: Float[Tensor, "b d"]) -> Float[Tensor, "b d"]:
    """Scale rows to a mean square of one."""
    return x * (x.square().mean(dim=1, keepdim=True) + 1e-8).rsqrt()


class EqualizedLinear(nn.Module):
    """Fully connected layer; the learning-rate multiplier also applies to the bias."""

    def __init__(
        self,
        in_features: int,
        out_features: int,
        *,
        activation: Activation = "linear",
        bias_init: float = 0.0,
        lr_multiplier: float = 1.0,
        weight_scale: float = 1.0,
    ) -> None:
        """Draw weights from PyTorch's global generator, ``weight_scale`` times as large."""
        super().__init__()
        self.activation: Activation = activation
        self.lr_multiplier = lr_multiplier
        self.weight_scale = weight_scale
        drawn = torch.randn(out_features, in_features)
        self.weight = nn.Parameter(drawn * weight_scale / lr_multiplier)
        self.bias = nn.Parameter(torch.full([out_features], bias_init))

    def effective_weights(self) -> tuple[Float[Tensor, "o i"], Float[Tensor, " o"]]:
        """Matrix and bias as they are applied."""
        scale = self.lr_multiplier / math.sqrt(self.weight.shape[1])
        return self.weight * scale, self.bias * self.lr_multiplier

    def forward(self, x: Float[Tensor, "*b i"]) -> Float[Tensor, "*b o"]:
        """Apply the layer."""
        return activate(linear(x, *self.effective_weights()), self.activation)


class EqualizedConv2d(nn.Module):
    """Convolution that keeps the size, or halves it after smoothing."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Literal[1, 3],
        *,
        activation: Activation = "linear",
        has_bias: bool = True,
        is_halving: bool = False,
        clamp: float | None = None,
    ) -> None:
        """Draw weights from PyTorch's global generator; ``clamp`` as in ``activate``."""
        super().__init__()
        self.activation: Activation = activation
        self.is_halving = is_halving
        self.clamp = clamp
        self.weight = nn.Parameter(torch.randn(out_channels, in_channels, kernel_size, kernel_size))
        self.bias = nn.Parameter(torch.zeros(out_channels)) if has_bias else None

    def effective_weight(self) -> Float[Tensor, "o i k k"]:
        """Weights as they are applied."""
        return self.weight / math.sqrt(self.weight[0].numel())

    def forward(self, x: Float[Tensor, "b i h w"], gain: float = 1.0) -> Float[Tensor, "b o _ _"]:
        """Apply the layer; ``gain`` scales what comes out."""
        size, weight = self.weight.shape[-1], self.effective_weight()
        padding, stride = size // 2, 1
        if self.is_halving and size == 1:
            x = downsample2d(x)
        elif self.is_halving:
            x, padding, stride = smooth2d(x, padding=(2, 2)), 0, 2
        x = conv2d(x, weight, self.bias, padding=padding, stride=stride)
        return activate(x, self.activation, gain=gain, clamp=self.clamp)


@torch.no_grad()
def draw_weights(module: nn.Module, generator: torch.Generator) -> None:
    """Draw all weights and noise images of a network anew; biases keep their values.

    PyTorch's constructors draw from the global generator; this makes a network a function of a
    seed.
    """
    for layer in module.modules():
        is_scaled = isinstance(layer, EqualizedLinear)
        factor, divisor = (layer.weight_scale, layer.lr_multiplier) if is_scaled else (1.0, 1.0)
        drawn = [layer.get_parameter("weight")] if "weight" in layer._parameters else []
        drawn += [layer.get_buffer("noise")] if "noise" in layer._buffers else []
        drawn += [layer.get_parameter("const")] if "const" in layer._parameters else []
        for tensor in drawn:
            tensor.normal_(generator=generator).mul_(factor).div_(divisor)
