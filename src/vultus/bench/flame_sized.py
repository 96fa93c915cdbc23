"""A head with FLAME's arithmetic and, nearly, its sizes: FLAME itself is licensed."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor

from vultus.heads.flame import FlameData, FlameHead
from vultus.heads.regions import FLAME_MASKS

__all__ = ["flame_sized_head"]

# Squares along an edge: 5048 vertices and 10 092 faces; FLAME with teeth has 5143 and 10 144.
_EDGE = 29
_RADII = 0.075, 0.11, 0.095
_NUM_IDENTITY, _NUM_EXPRESSION, _NUM_POSE = 300, 100, 36
_EYEBALL_VERTICES = 546


def flame_sized_head(seed: int = 0) -> FlameHead:
    """An ellipsoid of head size with random shapes, without teeth.

    Its front has as many eyeball vertices as FLAME, so that as many surfels shine.
    """
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int, scale: float) -> Tensor:
        return scale * torch.randn(*shape, generator=generator)

    template, faces = _ellipsoid()
    num = template.shape[0]
    weights = torch.rand(num, 5, generator=generator)
    regressor = torch.rand(5, num, generator=generator)
    front = template[:, 2].argsort(descending=True)
    eyes = front[: 2 * _EYEBALL_VERTICES]
    is_left = template[eyes, 0] > 0
    masks = {name: torch.arange(0) for name in FLAME_MASKS}
    masks |= {"left_eyeball": eyes[is_left], "right_eyeball": eyes[~is_left]}
    data = FlameData(
        template=template,
        identity_basis=normal(_NUM_IDENTITY, num, 3, scale=1e-4),
        expression_basis=normal(_NUM_EXPRESSION, num, 3, scale=1e-4),
        pose_basis=normal(_NUM_POSE, num, 3, scale=1e-4),
        joint_regressor=regressor / regressor.sum(dim=1, keepdim=True),
        skinning_weights=weights / weights.sum(dim=1, keepdim=True),
        faces=faces,
        uv=torch.rand(num, 2, generator=generator),
        uv_faces=faces,
        masks=masks,
        version="2023",
    )
    return FlameHead(data, teeth="none")


def _ellipsoid() -> tuple[Float[Tensor, "v 3"], Int[Tensor, "f 3"]]:
    """A cube of squares, blown up: no poles; faces counter-clockwise seen from outside."""
    steps = torch.arange(_EDGE + 1)
    u, v = (grid.flatten() for grid in torch.meshgrid(steps, steps, indexing="ij"))
    zero = torch.zeros_like(u)
    corners = []
    for axis in range(3):
        for side in (0, _EDGE):
            grid = [u, v] if side else [v, u]
            grid.insert(0, zero + side)
            corners.append(torch.stack(grid, dim=1).roll(axis, dims=1))
    points, number = torch.unique(torch.cat(corners), dim=0, return_inverse=True)
    number = number.view(6, _EDGE + 1, _EDGE + 1)
    a, b = number[:, :-1, :-1], number[:, 1:, :-1]
    c, d = number[:, :-1, 1:], number[:, 1:, 1:]
    faces = torch.stack([a, b, d, a, d, c], dim=-1).reshape(-1, 3)
    # Equal angles give squares of about equal size.
    cube = torch.tan((points / _EDGE - 0.5) * (0.5 * math.pi))
    sphere = torch.nn.functional.normalize(cube, dim=1)
    return sphere * torch.tensor(_RADII), faces
