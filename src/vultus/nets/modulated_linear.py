"""Linear layer whose inputs are scaled per image by a style."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn

from vultus.nets.stylegan2.layers import Activation, EqualizedLinear, activate

__all__ = ["ModulatedLinear"]

_EPSILON = 1e-8
_CLAMP = 256.0
_LAYER_SCALE = 1e-2


class ModulatedLinear(nn.Module):
    """Modulated layer for points, optionally beside an identity."""

    def __init__(
        self,
        in_features: int,
        out_features: int,
        w_dim: int,
        *,
        activation: Activation = "lrelu",
        is_demodulated: bool = True,
        is_residual: bool = False,
        weight_scale: float = 1.0,
    ) -> None:
        """Draw weights from PyTorch's global generator.

        Args:
            in_features: Width of the input.
            out_features: Width of the output; that of the input if the layer is residual.
            w_dim: Width of styles.
            activation: After the bias.
            is_demodulated: Divide by the norm of each scaled row.
            is_residual: Add the output, scaled down at first, to the input.
            weight_scale: Standard deviation of the drawn weights.
        """
        super().__init__()
        self.activation: Activation = activation
        self.is_demodulated = is_demodulated
        self.weight_scale = weight_scale
        self.affine = EqualizedLinear(w_dim, in_features, bias_init=1.0)
        self.weight = nn.Parameter(torch.empty(out_features, in_features))
        self.bias = nn.Parameter(torch.zeros(out_features))
        self.layer_scale = None
        if is_residual:
            self.layer_scale = nn.Parameter(torch.full((out_features,), _LAYER_SCALE))
        self.draw(None)

    @torch.no_grad()
    def draw(self, generator: torch.Generator | None) -> None:
        """Draw the weights anew."""
        self.weight.normal_(generator=generator).mul_(self.weight_scale)

    def forward(self, x: Float[Tensor, "b n i"], w: Float[Tensor, "b d"]) -> Float[Tensor, "b n o"]:
        """Apply the layer."""
        style = self.affine(w)
        if not self.is_demodulated:
            style = style / math.sqrt(self.weight.shape[1])
        y = (x * style[:, None]) @ self.weight.T
        if self.is_demodulated:
            energy = style.square() @ self.weight.square().T
            y = y * (energy + _EPSILON).rsqrt()[:, None]
        y = activate(y + self.bias, self.activation, clamp=_CLAMP)
        return y if self.layer_scale is None else y * self.layer_scale + x
