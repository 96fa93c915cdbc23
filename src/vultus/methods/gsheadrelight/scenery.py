"""From a style to the Gaussians behind a head: two levels on a sphere."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import normalize, softplus

from vultus.methods.gsheadrelight.config import SPLIT_COUNT, GeneratorConfig
from vultus.methods.gsheadrelight.gaussians import (
    Nodes,
    ScaleRule,
    SceneryGaussians,
    child_nodes,
)
from vultus.methods.gsheadrelight.point_generator import first_values
from vultus.nets.modulated_linear import ModulatedLinear
from vultus.nets.point_encoding import LearnedWaves

__all__ = ["SCENERY_HEADS", "SCENERY_LOG_SCALE", "SceneryGenerator"]

SCENERY_HEADS = {"move": 3, "size": 3, "rotation": 4, "opacity": 1, "color": 3}
"""What is said of a Gaussian behind the head, in this order."""
_HEAD_SCALES = {"size": 1e-2, "rotation": 1e-2}
_RADIUS = 3.0
SCENERY_LOG_SCALE = -2.0
"""Largest log scale at the first level."""
# Published: the fraction of the scene below which Gaussians do not split, and two steps to the
# threefold halving of the size.
_RULE = ScaleRule(math.log(2.0) * 2.0 / 3.0, math.log(0.05), -10.0)


class _SceneryLevel(nn.Module):
    """Layers of a level, and what they say of its points."""

    def __init__(self, width: int, w_dim: int, *, splits: bool) -> None:
        super().__init__()
        self.own = None
        if splits:
            self.own = ModulatedLinear(width, SPLIT_COUNT * width, w_dim)
        self.layers = nn.ModuleList(
            ModulatedLinear(width, width, w_dim, is_residual=True) for _ in range(2)
        )
        self.heads = nn.ModuleDict(
            {
                name: ModulatedLinear(
                    width,
                    size,
                    w_dim,
                    activation="linear",
                    is_demodulated=False,
                    weight_scale=_HEAD_SCALES.get(name, 1.0),
                )
                for name, size in SCENERY_HEADS.items()
            }
        )

    def forward(self, x: Tensor, w: Tensor) -> tuple[Tensor, Tensor]:
        """Features of the points, and what they say."""
        if self.own is not None:
            own = self.own(x, w).unflatten(2, (SPLIT_COUNT, -1))
            x = ((own + x[:, :, None]) * math.sqrt(0.5)).flatten(1, 2)
        for layer in self.layers:
            x = layer(x, w)
        return x, torch.cat([head(x, w) for head in self.heads.values()], dim=2)


class SceneryGenerator(nn.Module):
    """Generate what is behind heads."""

    initial: Tensor

    def __init__(self, config: GeneratorConfig, generator: torch.Generator | None = None) -> None:
        """Build both levels; the generator draws starting points and their encoding."""
        super().__init__()
        width = config.background_channels
        self.start = nn.Parameter(torch.empty(config.background_points, 3))
        self.waves = LearnedWaves(width, generator)
        self.levels = nn.ModuleList(
            _SceneryLevel(width, config.w_dim, splits=splits) for splits in (False, True)
        )
        initial = first_values(SCENERY_HEADS["color"])
        self.register_buffer("initial", initial, persistent=False)
        self.draw_start(generator)

    @torch.no_grad()
    def draw_start(self, generator: torch.Generator | None) -> None:
        """Draw directions of the starting points, away from the camera."""
        self.start.normal_(generator=generator)
        self.start[:, 2].abs_().neg_()
        self.start.div_(self.start.square().mean(dim=1, keepdim=True).sqrt())

    def forward(self, w: Float[Tensor, "b w"]) -> SceneryGaussians:
        """Generate the Gaussians of both levels."""
        encoded = self.waves(self.start).expand(len(w), -1, -1)
        x, raw = self.levels[0](encoded, w)
        roots = self._roots(raw)
        _, raw = self.levels[1](x, w)
        children = child_nodes(roots, raw, _RULE)
        on_sphere = _RADIUS * normalize(children.means, dim=2)
        children = Nodes(on_sphere, children.log_scales, children.values)
        return Nodes.stack([roots, children]).as_scenery()

    def _roots(self, raw: Float[Tensor, "b n r"]) -> Nodes:
        """Starting points on the sphere; their moves are not used."""
        _, sizes, changes = raw.tensor_split([3, 6], dim=2)
        means = (_RADIUS * normalize(self.start, dim=1)).expand(len(raw), -1, -1)
        return Nodes(means, SCENERY_LOG_SCALE - softplus(-sizes), self.initial + changes)
