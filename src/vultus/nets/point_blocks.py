"""Networks over unordered points: residual branches, attention, edges and refinement.

Shapes: b heads, n points, c features, w a style.

Reference: Hyun and Heo, GSGAN: Adversarial Learning for Hierarchical Generation of 3D Gaussian
Splats, 2024; Wang et al., Dynamic Graph CNN for Learning on Point Clouds, 2019 (edges).
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.functional import gelu, linear, scaled_dot_product_attention

from vultus.nets.stylegan2.layers import EqualizedLinear, activate

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
        return x + self.branch(self.norm(x, w)) * self.scale(w)[:, None]


class ScaledResidual(nn.Module):
    """Add a branch, times learned factors that are zero at the start."""

    def __init__(self, width: int, branch: nn.Module) -> None:
        """Wrap a branch that keeps the width."""
        super().__init__()
        self.branch = branch
        self.scale = nn.Parameter(torch.zeros(width))

    def forward(self, x: Float[Tensor, "b n c"]) -> Float[Tensor, "b n c"]:
        """Apply the branch."""
        return x + self.branch(x) * self.scale


class PointMlp(nn.Module):
    """Two layers for each point on its own."""

    def __init__(self, width: int) -> None:
        """Build the layers."""
        super().__init__()
        self.widen = EqualizedLinear(width, _EXPANSION * width)
        self.narrow = EqualizedLinear(_EXPANSION * width, width)

    def forward(self, x: Float[Tensor, "b n c"]) -> Float[Tensor, "b n c"]:
        """Apply the layers; the factor keeps the variance through the GELU."""
        return self.narrow(gelu(self.widen(x)) * math.sqrt(2.0))


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
        own = torch.cat([of_self - of_difference, -weight])
        bias = torch.cat([message_bias, weight_bias])
        seen = torch.cat([of_difference, weight])
        return linear(x, own, bias), linear(x, seen)

    def mix(self, edges: Float[Tensor, "*b k e"]) -> Float[Tensor, "*b c"]:
        """Finish both networks and sum over the k edges of every point."""
        width = self.message_out.weight.shape[0]
        message, weight = activate(edges, "lrelu").tensor_split([width], dim=-1)
        shares = self.weight_out(weight).softmax(dim=-2)
        return (self.message_out(message) * shares).sum(dim=-2)


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

    def forward(self, x: Float[Tensor, "b n c"]) -> Float[Tensor, "b n c"]:
        """Mix; a point is its own sibling, too."""
        own, seen = self.layers.parts(x.unflatten(1, (-1, self.num_siblings)))
        return self.layers.mix(own[..., None, :] + seen[..., None, :, :]).flatten(1, 2)


class PointRefinement(nn.Module):
    """Give every point children, which follow each other."""

    def __init__(self, in_width: int, out_width: int, num_children: int) -> None:
        """Build the layers."""
        super().__init__()
        self.num_children = num_children
        self.own = EqualizedLinear(in_width, out_width * num_children, activation="lrelu")
        self.skip = None if in_width == out_width else EqualizedLinear(in_width, out_width)

    def forward(self, x: Float[Tensor, "b n c"]) -> Float[Tensor, "b m o"]:
        """Make the children's features."""
        own = self.own(x).unflatten(2, (self.num_children, -1))
        inherited = x if self.skip is None else self.skip(x)
        return ((own + inherited[:, :, None]) * math.sqrt(0.5)).flatten(1, 2)


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
