"""Networks over unordered points: residual branches, attention, edges and refinement.

Shapes: b heads, n points, c features, w a style.

Reference: Hyun and Heo, GSGAN: Adversarial Learning for Hierarchical Generation of 3D Gaussian
Splats, 2024; Wang et al., Dynamic Graph CNN for Learning on Point Clouds, 2019 (edges).
"""

from __future__ import annotations

import math
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.functional import gelu, leaky_relu, linear, scaled_dot_product_attention

from vultus.nets.stylegan2.layers import LEAKY_GAIN, LEAKY_SLOPE, EqualizedLinear

__all__ = [
    "AdaptiveNorm",
    "NeighborEdges",
    "PointAttention",
    "PointMlp",
    "PointRefinement",
    "ScaledResidual",
    "SiblingEdges",
    "StyledResidual",
    "nearest_neighbors",
]

_EPSILON = 1e-8
_EXPANSION = 4
_GELU_GAIN = LEAKY_GAIN
"""As published: GELUs are scaled like leaky ReLUs."""


class AdaptiveNorm(nn.Module):
    """Normalise every feature over the points of a head; a style scales and shifts it."""

    def __init__(self, width: int, w_dim: int) -> None:
        """Build the layers that read the style."""
        super().__init__()
        self.gamma = EqualizedLinear(w_dim, width, bias_init=1.0)
        self.beta = EqualizedLinear(w_dim, width)

    def forward(self, x: Float[Tensor, "b n c"], w: Float[Tensor, "b d"]) -> Float[Tensor, "b n c"]:
        """Apply the layer."""
        deviation, mean = torch.std_mean(x, dim=1, correction=0, keepdim=True)
        normal = (x - mean) / (deviation + _EPSILON)
        return normal * self.gamma(w)[:, None] + self.beta(w)[:, None]


class StyledResidual(nn.Module):
    """Add a branch of normalised points; a style decides how much. Nothing at the start."""

    def __init__(self, width: int, w_dim: int, branch: nn.Module) -> None:
        """Wrap a branch that keeps the width."""
        super().__init__()
        self.norm = AdaptiveNorm(width, w_dim)
        self.branch = branch
        self.scale = EqualizedLinear(w_dim, width, weight_scale=0.0)

    def forward(self, x: Float[Tensor, "b n c"], w: Float[Tensor, "b d"]) -> Float[Tensor, "b n c"]:
        """Apply the branch."""
        return torch.addcmul(x, self.branch(self.norm(x, w)), self.scale(w)[:, None])


class ScaledResidual(nn.Module):
    """Add a branch, times learned factors that are zero at the start."""

    def __init__(self, width: int, branch: PointMlp | SiblingEdges) -> None:
        """Wrap a branch that keeps the width."""
        super().__init__()
        self.branch = branch
        self.scale = nn.Parameter(torch.zeros(width))

    def forward(
        self, x: Float[Tensor, "b n c"], dtype: torch.dtype | None = None
    ) -> Float[Tensor, "b n c"]:
        """Apply the branch, between whose layers features have the dtype, by default that of x."""
        return x + self.branch(x, dtype, self.scale)


def _apply(
    layer: EqualizedLinear,
    x: Float[Tensor, "*b i"],
    *,
    gain: float = 1.0,
    scale: Float[Tensor, " o"] | None = None,
) -> Float[Tensor, "*b o"]:
    """A linear layer of ``gain`` times the input, times ``scale``, in the dtype of the input.

    There are far more features than weights: factors are multiplied into those.
    """
    return linear(x, *_scaled_weights(layer, x.dtype, gain, scale))


def _scaled_weights(
    layer: EqualizedLinear, dtype: torch.dtype, gain: float, scale: Float[Tensor, " o"] | None
) -> tuple[Float[Tensor, "o i"], Float[Tensor, " o"]]:
    weight, bias = layer.effective_weights()
    weight = gain * weight
    if scale is not None:
        weight, bias = scale[:, None] * weight, scale * bias
    return weight.to(dtype), bias.to(dtype)


class PointMlp(nn.Module):
    """Two layers for each point on its own."""

    def __init__(self, width: int) -> None:
        """Build the layers."""
        super().__init__()
        self.widen = EqualizedLinear(width, _EXPANSION * width)
        self.narrow = EqualizedLinear(_EXPANSION * width, width)

    def forward(
        self,
        x: Float[Tensor, "b n c"],
        dtype: torch.dtype | None = None,
        scale: Float[Tensor, " c"] | None = None,
    ) -> Float[Tensor, "b n c"]:
        """Apply the layers; a gain keeps the variance through the GELU.

        Args:
            x: Features.
            dtype: Between layers; default: that of x.
            scale: Factors of the result.
        """
        hidden = _apply(self.widen, x.to(dtype or x.dtype))
        weight, bias = _scaled_weights(self.narrow, hidden.dtype, _GELU_GAIN, scale)
        return _GeluLinear.apply(hidden, weight, bias)


class _GeluLinear(torch.autograd.Function):
    """A linear layer of a GELU, which is computed again for the backward pass instead of kept.

    It is four times as large as the features; keeping what goes into it is enough.
    """

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        ctx.save_for_backward(hidden, weight)
        return linear(gelu(hidden), weight, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        hidden, weight = ctx.saved_tensors
        needs_hidden, needs_weight, needs_bias = ctx.needs_input_grad
        grad = grads[0]
        rows = grad.flatten(0, -2)
        of_weight = rows.T @ gelu(hidden).flatten(0, -2) if needs_weight else None
        of_bias = rows.sum(dim=0) if needs_bias else None
        if not needs_hidden:
            return None, of_weight, of_bias
        return torch.ops.aten.gelu_backward(grad @ weight, hidden), of_weight, of_bias


class PointAttention(nn.Module):
    """Every point attends to all points of its head."""

    def __init__(self, width: int, num_heads: int) -> None:
        """Build the layers.

        Raises:
            ValueError: If the heads do not divide the width.
        """
        super().__init__()
        if width % num_heads:
            raise ValueError(f"width must be a multiple of {num_heads} heads, got {width}")
        self.num_heads = num_heads
        self.qkv = EqualizedLinear(width, 3 * width)
        self.out = EqualizedLinear(width, width)

    def forward(self, x: Float[Tensor, "b n c"]) -> Float[Tensor, "b n c"]:
        """Attend."""
        parts = self.qkv(x).unflatten(2, (self.num_heads, -1)).transpose(1, 2)
        queries, keys, values = parts.chunk(3, dim=3)
        mixed = scaled_dot_product_attention(queries, keys, values)
        return self.out(mixed.transpose(1, 2).flatten(2))


class _EdgeLayers(nn.Module):
    """Messages along edges j -> i and how much each of them counts, feature by feature.

    The first layer of the messages reads (x_i, x_j - x_i), that of the weights x_j - x_i. Being
    linear, both are applied to points instead of edges, of which there are many more.
    """

    def __init__(self, width: int) -> None:
        """Build the layers."""
        super().__init__()
        self.message_in = EqualizedLinear(2 * width, width)
        self.message_out = EqualizedLinear(width, width)
        self.weight_in = EqualizedLinear(width, width // 2)
        self.weight_out = EqualizedLinear(width // 2, width)

    def parts(
        self, x: Float[Tensor, "*b n c"]
    ) -> tuple[Float[Tensor, "*b n e"], Float[Tensor, "*b n e"]]:
        """What i and what j add to the first layers of an edge j -> i."""
        message, message_bias = self.message_in.effective_weights()
        weight, weight_bias = self.weight_in.effective_weights()
        of_self, of_difference = message.chunk(2, dim=1)
        own = torch.cat([of_self - of_difference, -weight]).to(x.dtype)
        bias = torch.cat([message_bias, weight_bias]).to(x.dtype)
        seen = torch.cat([of_difference, weight]).to(x.dtype)
        return linear(x, own, bias), linear(x, seen)

    def mix(
        self, edges: Float[Tensor, "*b k e"], scale: Float[Tensor, " c"] | None = None
    ) -> Float[Tensor, "*b c"]:
        """Finish both networks and sum over the k edges of every point, times factors."""
        width = self.message_out.weight.shape[0]
        message, weight = leaky_relu(edges, LEAKY_SLOPE).tensor_split([width], dim=-1)
        shares = _apply(self.weight_out, weight, gain=LEAKY_GAIN).softmax(dim=-2)
        return (_apply(self.message_out, message, gain=LEAKY_GAIN, scale=scale) * shares).sum(
            dim=-2
        )


class NeighborEdges(nn.Module):
    """Edges from the points with the most similar features."""

    def __init__(self, width: int, num_neighbors: int) -> None:
        """Build the layers."""
        super().__init__()
        self.num_neighbors = num_neighbors
        self.layers = _EdgeLayers(width)

    def forward(self, x: Float[Tensor, "b n c"]) -> Float[Tensor, "b n c"]:
        """Find neighbours and mix."""
        own, seen = self.layers.parts(x)
        neighbors = nearest_neighbors(x, self.num_neighbors)
        index = neighbors.flatten(1)[..., None].expand(-1, -1, seen.shape[2])
        picked = seen.gather(1, index).unflatten(1, neighbors.shape[1:])
        return self.layers.mix(own[:, :, None] + picked)


class SiblingEdges(nn.Module):
    """Edges between the children of a point, which follow each other."""

    def __init__(self, width: int, num_siblings: int) -> None:
        """Build the layers."""
        super().__init__()
        self.num_siblings = num_siblings
        self.layers = _EdgeLayers(width)

    def forward(
        self,
        x: Float[Tensor, "b n c"],
        dtype: torch.dtype | None = None,
        scale: Float[Tensor, " c"] | None = None,
    ) -> Float[Tensor, "b n c"]:
        """Mix; a point is its own sibling, too. Arguments as in ``PointMlp``."""
        x = x.to(dtype or x.dtype)
        own, seen = self.layers.parts(x.unflatten(1, (-1, self.num_siblings)))
        edges = own[..., None, :] + seen[..., None, :, :]
        return self.layers.mix(edges, scale).flatten(1, 2)


class PointRefinement(nn.Module):
    """Give every point children, which follow each other."""

    def __init__(self, in_width: int, out_width: int, num_children: int) -> None:
        """Build the layers."""
        super().__init__()
        self.num_children = num_children
        self.own = EqualizedLinear(in_width, out_width * num_children)
        self.skip = None if in_width == out_width else EqualizedLinear(in_width, out_width)

    def forward(
        self, x: Float[Tensor, "b n c"], dtype: torch.dtype | None = None
    ) -> Float[Tensor, "b m o"]:
        """Make the children's features; their own part in the dtype, by default that of x.

        The gain of the leaky ReLU and the factor sqrt(1/2) of both parts cancel.
        """
        own = leaky_relu(_apply(self.own, x.to(dtype or x.dtype)), LEAKY_SLOPE)
        inherited = (x if self.skip is None else self.skip(x)) / LEAKY_GAIN
        return (own.unflatten(2, (self.num_children, -1)) + inherited[:, :, None]).flatten(1, 2)


@torch.no_grad()
def nearest_neighbors(x: Float[Tensor, "b n c"], count: int) -> Int[Tensor, "b n k"]:
    """Find the other points of a set with the smallest Euclidean distance, nearest first.

    Raises:
        ValueError: If there are not as many other points.
    """
    if count >= x.shape[1]:
        raise ValueError(f"count must be below the number of points {x.shape[1]}, got {count}")
    squares = x.square().sum(dim=2)
    distances = squares[:, :, None] + squares[:, None] - 2.0 * (x @ x.transpose(1, 2))
    itself = torch.eye(x.shape[1], dtype=torch.bool, device=x.device)
    distances = distances.masked_fill(itself, math.inf)
    return distances.topk(count, dim=2, largest=False).indices
