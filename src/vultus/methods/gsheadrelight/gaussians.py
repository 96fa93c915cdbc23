"""Generated Gaussians, their hierarchy, and light on them.

A node of the hierarchy places its children inside the image of the unit cube under its own
rotation and scales; rotation, opacity and material are passed on and changed by addition.

Reference: Hyun and Heo, GSGAN, 2024, sec. 3; GSHeadRelight, 2025.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import normalize, softplus

from vultus.geometry.rotations import quaternion_rotate
from vultus.kernels.transfer_shading import SH_C0

__all__ = [
    "ActivatedGaussians",
    "ActivatedHeads",
    "Gaussians",
    "HeadGaussians",
    "Nodes",
    "ScaleRule",
    "SceneryGaussians",
    "activate",
    "activate_heads",
    "child_nodes",
    "points_inside",
]

_QUAT_DIM = 4
_LEAST_SHRUNK = -100.0
"""Log scale that a parent's shrinkage is limited to before its child's own (spec 4.1)."""


@dataclass(frozen=True)
class Gaussians:
    """Stored geometry of n Gaussians of b heads."""

    means: Float[Tensor, "b n 3"]
    log_scales: Float[Tensor, "b n 3"]
    quats: Float[Tensor, "b n 4"]
    opacity_logits: Float[Tensor, "b n 1"]


@dataclass(frozen=True)
class HeadGaussians(Gaussians):
    """A head, before any light falls on it."""

    albedo_dc: Float[Tensor, "b n 3"]
    """Albedo as colour coefficient of degree 0."""
    transfer: Float[Tensor, "b n k"]
    """What light is multiplied with: 9 numbers, or 3 times 9, channel by channel."""

    @property
    def albedo(self) -> Float[Tensor, "b n 3"]:
        """Share of the light that is thrown back, in [0, 1]."""
        return (0.5 + SH_C0 * self.albedo_dc).clamp(0.0, 1.0)

    def bounded(self) -> HeadGaussians:
        """Centres moved into the box of side 2."""
        return replace(self, means=self.means.clamp(-1.0, 1.0))

    def select(self, index: int | slice) -> HeadGaussians:
        """Some of the heads; an integer keeps the batch dimension."""
        if isinstance(index, int):
            index = slice(index, index + 1 or None)
        return HeadGaussians(**{f.name: getattr(self, f.name)[index] for f in fields(self)})

    def take(self, rows: Int[Tensor, " k"]) -> HeadGaussians:
        """Some of the Gaussians of all heads."""
        return HeadGaussians(**{f.name: getattr(self, f.name)[:, rows] for f in fields(self)})


@dataclass(frozen=True)
class SceneryGaussians(Gaussians):
    """What is behind a head; it has its own colour in any light."""

    color_dc: Float[Tensor, "b n 3"]
    """Colour coefficient of degree 0."""


@dataclass(frozen=True)
class ActivatedGaussians:
    """Gaussians as the rasterizer takes them."""

    means: Float[Tensor, "b n 3"]
    unit_quats: Float[Tensor, "b n 4"]
    scales: Float[Tensor, "b n 3"]
    opacities: Float[Tensor, "b n"]


@dataclass(frozen=True)
class ActivatedHeads(ActivatedGaussians):
    """What is the same for every light and camera, computed once: the rest of relighting is short.

    All tensors are contiguous.
    """

    albedo: Float[Tensor, "b n 3"]
    """Share of the light that is thrown back, in [0, 1]."""
    transfer: Float[Tensor, "b n k"]

    def select(self, index: int | slice) -> ActivatedHeads:
        """Some of the heads; an integer keeps the batch dimension."""
        if isinstance(index, int):
            index = slice(index, index + 1 or None)
        return ActivatedHeads(**{f.name: getattr(self, f.name)[index] for f in fields(self)})


def activate(gaussians: Gaussians) -> ActivatedGaussians:
    """Turn stored geometry into that of the rasterizer."""
    return ActivatedGaussians(
        means=gaussians.means,
        unit_quats=normalize(gaussians.quats, dim=2),
        scales=gaussians.log_scales.exp(),
        opacities=gaussians.opacity_logits[..., 0].sigmoid(),
    )


def activate_heads(heads: HeadGaussians) -> ActivatedHeads:
    """Compute what relighting has in common: do it once for heads that are shown often."""
    geometry = activate(heads)
    parts = {f.name: getattr(geometry, f.name).contiguous() for f in fields(geometry)}
    return ActivatedHeads(
        **parts, albedo=heads.albedo.contiguous(), transfer=heads.transfer.contiguous()
    )


@dataclass(frozen=True)
class Nodes:
    """Nodes of a hierarchy."""

    means: Float[Tensor, "b n 3"]
    log_scales: Float[Tensor, "b n 3"]
    values: Float[Tensor, "b n v"]
    """Quaternions first, then whatever children inherit with changes."""

    @staticmethod
    def stack(levels: list[Nodes]) -> Nodes:
        """Join levels, in their order."""
        parts = {f.name: [getattr(level, f.name) for level in levels] for f in fields(Nodes)}
        return Nodes(**{name: torch.cat(tensors, dim=1) for name, tensors in parts.items()})

    def as_head(self) -> HeadGaussians:
        """Nodes whose values are rotation, opacity, albedo and transfer."""
        values = self.values.tensor_split([4, 5, 8], dim=2)
        return HeadGaussians(self.means, self.log_scales, *values)

    def as_scenery(self) -> SceneryGaussians:
        """Nodes whose values are rotation, opacity and colour."""
        values = self.values.tensor_split([4, 5], dim=2)
        return SceneryGaussians(self.means, self.log_scales, *values)


@dataclass(frozen=True)
class ScaleRule:
    """How much smaller children are."""

    log_shrinkage: float
    """Of parents that are large enough, before what the child itself wants."""
    finest_log_scale: float
    """Parents whose largest axis is not above keep their size."""
    least: float
    """Bound of log scales."""

    def child_scales(
        self, parents: Float[Tensor, "*#b 3"], offsets: Float[Tensor, "*#b 3"]
    ) -> Float[Tensor, "*#b 3"]:
        """Log scales of children: always below those of their parents."""
        is_large = parents.amax(dim=-1, keepdim=True) > self.finest_log_scale
        shrunk = (parents - self.log_shrinkage).clamp(_LEAST_SHRUNK, 0.0)
        start = torch.where(is_large, shrunk, parents)
        return (start - softplus(-offsets)).clamp(self.least, 0.0)


def child_nodes(parents: Nodes, raw: Float[Tensor, "b m r"], rule: ScaleRule) -> Nodes:
    """Make as many children of every node; those of a node follow each other.

    Args:
        parents: Nodes.
        raw: What a network says of the children: move, size, changes of the values.
        rule: Of the sizes.
    """
    families = raw.unflatten(1, (parents.means.shape[1], -1))
    moves, sizes, changes = families.tensor_split([3, 6], dim=3)
    children = (
        _points_inside(parents, moves),
        rule.child_scales(parents.log_scales[:, :, None], sizes),
        parents.values[:, :, None] + changes,
    )
    return Nodes(*(tensor.flatten(1, 2) for tensor in children))


def points_inside(parents: Nodes, moves: Float[Tensor, "b n 3"]) -> Float[Tensor, "b n 3"]:
    """Points in the parents' boxes, whose half sides are their scales."""
    return _points_inside(parents, moves[:, :, None])[:, :, 0]


def _points_inside(parents: Nodes, moves: Float[Tensor, "b n k 3"]) -> Float[Tensor, "b n k 3"]:
    unit_quats = normalize(parents.values[..., :_QUAT_DIM], dim=2)
    local = parents.log_scales.exp()[:, :, None] * moves.tanh()
    return parents.means[:, :, None] + quaternion_rotate(unit_quats[:, :, None], local)
