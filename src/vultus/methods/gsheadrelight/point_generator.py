"""From styles to the Gaussians of a head, level by level."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import softplus

from vultus.kernels.dispatch import are_where_kernels_run
from vultus.methods.gsheadrelight.config import SPLIT_COUNT, STYLED_LEVELS, GeneratorConfig
from vultus.methods.gsheadrelight.gaussians import Nodes, ScaleRule, child_nodes, points_inside
from vultus.nets.point_blocks import (
    NeighborEdges,
    PointAttention,
    PointMlp,
    PointRefinement,
    ScaledResidual,
    SiblingEdges,
    StyledResidual,
)
from vultus.nets.point_encoding import LearnedWaves, PositionTables

__all__ = [
    "FIRST_OPACITY",
    "HEAD_SIZES",
    "PointGenerator",
    "PointHeads",
    "first_values",
    "head_scale_rule",
]

HEAD_SIZES = {"move": 3, "size": 3, "rotation": 4, "opacity": 1, "albedo": 3}
"""What heads say of a Gaussian before its transfer, in their order."""
_HEAD_SCALES = {"move": 1.0, "size": 0.1, "rotation": 0.1, "opacity": 1.0, "albedo": 1.0}
_TRANSFER_SCALE = 0.1
_ROOT_STEP = 0.1
"""Factor of the first level's positions before they are bounded."""
FIRST_OPACITY = 0.1
"""Of Gaussians of an untrained generator."""
_START_DISTANCE = 0.5
_LEAST_LOG_SCALE = -8.0


def head_scale_rule(config: GeneratorConfig) -> ScaleRule:
    """How much smaller children are than their parents."""
    return ScaleRule(config.log_shrinkage, config.finest_log_scale, _LEAST_LOG_SCALE)


def first_values(num_others: int) -> Float[Tensor, " v"]:
    """Values of an untrained generator's Gaussians: unturned, faint, and zeros."""
    opacity = math.log(FIRST_OPACITY / (1.0 - FIRST_OPACITY))
    return torch.tensor([1.0, 0.0, 0.0, 0.0, opacity, *[0.0] * num_others])


class PointHeads(nn.Module):
    """What features say of a point as a node, and as a Gaussian that is drawn.

    One product for all attributes; the first half of the rows is the node's.
    """

    def __init__(self, width: int, transfer_dim: int) -> None:
        """Draw weights from PyTorch's global generator."""
        super().__init__()
        sizes = [*HEAD_SIZES.values(), transfer_dim]
        scales = [*_HEAD_SCALES.values(), _TRANSFER_SCALE]
        self.row_scales = [s for size, s in zip(sizes, scales, strict=True) for _ in range(size)]
        self.weight = nn.Parameter(torch.empty(2 * len(self.row_scales), width))
        self.bias = nn.Parameter(torch.zeros(2 * len(self.row_scales)))
        self.draw(None)

    @torch.no_grad()
    def draw(self, generator: torch.Generator | None) -> None:
        """Draw the weights anew; attributes that must start small have small ones."""
        scales = self.weight.new_tensor(2 * self.row_scales)
        self.weight.normal_(generator=generator).mul_(scales[:, None])

    def forward(self, x: Float[Tensor, "b n c"]) -> tuple[Tensor, Tensor]:
        """For nodes and for Gaussians: moves, sizes, changes of values."""
        scaled = self.weight / math.sqrt(self.weight.shape[1])
        of_node, of_gaussian = nn.functional.linear(x, scaled, self.bias).chunk(2, dim=2)
        return of_node, of_gaussian


class _RootLevel(nn.Module):
    """Transformer over the first points."""

    def __init__(self, config: GeneratorConfig) -> None:
        super().__init__()
        width = config.channels[0]
        branches: list[nn.Module] = []
        for _ in range(config.transformer_layers):
            branches += [PointAttention(width, config.attention_heads), PointMlp(width)]
        self.residuals = nn.ModuleList(
            StyledResidual(width, config.w_dim, branch) for branch in branches
        )

    def forward(self, x: Tensor, ws: Float[Tensor, "b s w"]) -> Tensor:
        for residual, w in zip(self.residuals, ws.unbind(1), strict=True):
            x = residual(x, w)
        return x


class _StyledLevel(nn.Module):
    """Points see similar ones, split, and see their style again."""

    def __init__(self, before: int, after: int, config: GeneratorConfig) -> None:
        super().__init__()
        edges = NeighborEdges(before, config.num_neighbors)
        self.edge = StyledResidual(before, config.w_dim, edges)
        self.refinement = PointRefinement(before, after, SPLIT_COUNT)
        self.mlp = StyledResidual(after, config.w_dim, PointMlp(after))

    def forward(self, x: Tensor, ws: Float[Tensor, "b 2 w"]) -> Tensor:
        return self.mlp(self.refinement(self.edge(x, ws[:, 0])), ws[:, 1])


class _LocalLevel(nn.Module):
    """Points see their siblings, and split."""

    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        self.edge = ScaledResidual(before, SiblingEdges(before, SPLIT_COUNT))
        self.refinement = PointRefinement(before, after, SPLIT_COUNT)
        self.mlp = ScaledResidual(after, PointMlp(after))

    def forward(self, x: Tensor, dtype: torch.dtype) -> Tensor:
        return self.mlp(self.refinement(self.edge(x, dtype), dtype), dtype)


class PointGenerator(nn.Module):
    """Generate heads from the styles of all levels but the background's."""

    initial: Tensor

    def __init__(self, config: GeneratorConfig, generator: torch.Generator | None = None) -> None:
        """Build all levels; the generator draws starting points and encodings."""
        super().__init__()
        self.config = config
        width = config.channels[0]
        self.start = nn.Parameter(torch.empty(config.num_points, 3))
        self.waves = LearnedWaves(width // 2, generator)
        self.tables = PositionTables(width // 2, config.table_size, config.parity, generator)
        widths = list(zip(config.channels[1:-1], config.channels[2:], strict=True))
        styled = [_StyledLevel(*pair, config) for pair in widths[:STYLED_LEVELS]]
        local = [_LocalLevel(*pair) for pair in widths[STYLED_LEVELS:]]
        self.levels = nn.ModuleList([_RootLevel(config), *styled, *local])
        self.heads = nn.ModuleList(
            PointHeads(width, config.transfer_dim) for width in config.channels[1:]
        )
        initial = first_values(HEAD_SIZES["albedo"] + config.transfer_dim)
        self.register_buffer("initial", initial, persistent=False)
        self.draw_start(generator)

    @torch.no_grad()
    def draw_start(self, generator: torch.Generator | None) -> None:
        """Draw directions of the starting points."""
        self.start.normal_(generator=generator)
        length = self.start.square().mean(dim=1, keepdim=True).sqrt()
        self.start.mul_(_START_DISTANCE / length)

    def forward(self, ws: Float[Tensor, "b s w"]) -> tuple[Nodes, Nodes]:
        """Generate the Gaussians of all levels, and the nodes of all but the last; coarse first."""
        config = self.config
        rule = head_scale_rule(config)
        points = self.start.tanh()
        encoded = torch.cat([self.waves(points), self.tables(points)], dim=1)
        styles = ws.split([2 * config.transformer_layers, *[2] * STYLED_LEVELS], dim=1)
        dtype = self._local_dtype(ws)
        x = self.levels[0](encoded.expand(len(ws), -1, -1), styles[0])
        nodes, gaussians = self._roots(*self.heads[0](x))
        all_nodes, drawn = [nodes], [gaussians]
        for index in range(1, config.num_levels):
            level = self.levels[index]
            x = level(x, styles[index] if index <= STYLED_LEVELS else dtype)
            of_nodes, of_gaussians = self.heads[index](x)
            parents = all_nodes[-1]
            drawn.append(child_nodes(parents, of_gaussians, rule))
            if index < config.num_levels - 1:
                all_nodes.append(child_nodes(parents, of_nodes, rule))
        return Nodes.stack(drawn), Nodes.stack(all_nodes)

    def _local_dtype(self, ws: Tensor) -> torch.dtype:
        """Of features between the layers of local levels, where almost all points are."""
        is_short = self.config.gradient_precision == "bfloat16" and torch.is_grad_enabled()
        return torch.bfloat16 if is_short and are_where_kernels_run(ws) else ws.dtype

    def _roots(
        self, of_nodes: Float[Tensor, "b n r"], of_gaussians: Float[Tensor, "b n r"]
    ) -> tuple[Nodes, Nodes]:
        """The first level: Gaussians are placed by nodes, but inherit nothing."""
        moves, sizes, changes = of_nodes.tensor_split([3, 6], dim=2)
        nodes = Nodes((_ROOT_STEP * moves).tanh(), self._root_scales(sizes), self.initial + changes)
        moves, sizes, changes = of_gaussians.tensor_split([3, 6], dim=2)
        means = points_inside(nodes, moves)
        return nodes, Nodes(means, self._root_scales(sizes), self.initial + changes)

    def _root_scales(self, sizes: Float[Tensor, "b n 3"]) -> Float[Tensor, "b n 3"]:
        return self.config.coarsest_log_scale - softplus(-sizes)
