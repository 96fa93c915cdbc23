"""Which Gaussians of a head are shown, and how: to look into its hierarchy, or for smaller files.

Levels follow each other, coarse first, and the four children of a node follow each other: so row i
of level l descends from node i // 4**l of the first level.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Int
from torch import Tensor

from vultus.methods.gsheadrelight.config import SPLIT_COUNT, GeneratorConfig
from vultus.methods.gsheadrelight.gaussians import HeadGaussians

__all__ = ["ShownGaussians", "shown_gaussians"]

_OPAQUE_LOGIT = 16.0
"""Its opacity differs from 1 by 1e-7."""


@dataclass(frozen=True)
class ShownGaussians:
    """What is shown of heads; by default everything, as it is."""

    levels: tuple[int, ...] | None = None
    """Levels of the hierarchy to show; 0 is the coarsest. Default: all (official
    --res_visualize)."""
    nodes: bool = False
    """Show the nodes that place Gaussians instead; the last level has none (official
    --visualize_anchor)."""
    branch: int | None = None
    """Show only what descends from this node of the first level (official --point_index). Default:
    everything."""
    branch_near: int = 0
    """And from so many others, the nearest to it (official --num_init_near_point)."""
    cull_below: float = 0.0
    """Leave out what has a smaller opacity; below 1."""
    opaque: bool = False
    """Show what stays as opaque (official --opacity_ones, where opacity becomes 0.73)."""
    grow: float = 0.0
    """Logarithm of a factor of all sizes: below 0 Gaussians shrink to dots (official
    --rendering_scale)."""

    def __post_init__(self) -> None:
        """Reject what shows nothing."""
        if self.levels is not None and (
            not self.levels or len(set(self.levels)) < len(self.levels)
        ):
            raise ValueError(f"levels must be different, and at least one, got {self.levels}")
        if self.branch is None and self.branch_near:
            raise ValueError(f"branch_near needs branch, got {self.branch_near} without")
        if self.branch_near < 0:
            raise ValueError(f"branch_near must be at least 0, got {self.branch_near}")
        if not 0.0 <= self.cull_below < 1.0:
            raise ValueError(f"cull_below must be in [0, 1), got {self.cull_below}")
        if not math.isfinite(self.grow):
            raise ValueError(f"grow must be finite, got {self.grow}")

    def check(self, config: GeneratorConfig) -> None:
        """Reject levels and branches that a generator does not have.

        Raises:
            ValueError: Saying what it has.
        """
        last = config.num_levels - (2 if self.nodes else 1)
        if self.levels is not None and not all(0 <= level <= last for level in self.levels):
            what = "nodes" if self.nodes else "Gaussians"
            raise ValueError(
                f"levels must be 0 to {last}, as this generator has {what}, got {self.levels}"
            )
        points = config.num_points
        if self.branch is not None and not 0 <= self.branch < points:
            raise ValueError(f"branch must be 0 to {points - 1}, got {self.branch}")
        if self.branch_near >= points:
            raise ValueError(f"branch_near must be below {points}, got {self.branch_near}")


def shown_gaussians(
    gaussians: HeadGaussians,
    nodes: HeadGaussians,
    settings: ShownGaussians,
    config: GeneratorConfig,
) -> HeadGaussians:
    """Choose and change the Gaussians of one head.

    Args:
        gaussians: Of all levels.
        nodes: Of all levels but the last, as ``Generator.gaussians_and_anchors`` gives both.
        settings: What is shown.
        config: Of the generator that made them.

    Raises:
        ValueError: If the generator lacks what is asked for, or nothing is left to be shown.
    """
    settings.check(config)
    shown = nodes.bounded() if settings.nodes else gaussians
    rows = _rows(nodes, settings, config)
    if settings.cull_below > 0.0:
        opacities = shown.opacity_logits[0, :, 0].sigmoid()
        rows = rows[(opacities >= settings.cull_below)[rows]]
        if not len(rows):
            raise ValueError(
                f"cull_below {settings.cull_below:g} leaves nothing: the largest opacity is "
                f"{float(opacities.max()):.3g}"
            )
    if len(rows) < shown.means.shape[1]:
        shown = shown.take(rows)
    if settings.opaque:
        opaque = torch.full_like(shown.opacity_logits, _OPAQUE_LOGIT)
        shown = replace(shown, opacity_logits=opaque)
    if settings.grow:
        shown = replace(shown, log_scales=shown.log_scales + settings.grow)
    return shown


def _rows(
    nodes: HeadGaussians, settings: ShownGaussians, config: GeneratorConfig
) -> Int[Tensor, " k"]:
    """Places of what is shown among all that there is."""
    counts = [config.num_points * SPLIT_COUNT**level for level in range(config.num_levels)]
    known: Sequence[int] = range(config.num_levels - 1 if settings.nodes else config.num_levels)
    levels = known if settings.levels is None else sorted(settings.levels)
    device = nodes.means.device
    is_kept = torch.ones(config.num_points, dtype=torch.bool, device=device)
    if settings.branch is not None:
        first = nodes.means[0, : config.num_points]
        distances = (first - first[settings.branch]).norm(dim=1)
        distances[settings.branch] = -1.0
        nearest = distances.argsort(stable=True)[: settings.branch_near + 1]
        is_kept = torch.zeros_like(is_kept).index_fill(0, nearest, True)
    parts = [
        sum(counts[:level]) + is_kept.repeat_interleave(SPLIT_COUNT**level).nonzero()[:, 0]
        for level in levels
    ]
    return torch.cat(parts)
