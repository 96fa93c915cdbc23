"""What linear shapes cannot do: lids that meet on every face, and a tongue that leaves the mouth.

All are clamps, so they are differentiable almost everywhere. Vertices are in metres, constants in
millimetres.
"""

from __future__ import annotations

from functools import lru_cache

import torch
from jaxtyping import Float, Int
from torch import Tensor

from vultus.heads.procedural.lids import BLINK_SHARES, UPPER_LID_FALLOFF
from vultus.heads.procedural.loops import LID_LOOPS, LID_POINTS, MOUTH_Y
from vultus.heads.procedural.parts import TONGUE_COLUMNS, TONGUE_ROWS
from vultus.heads.procedural.sculpt import EYE_RADIUS, LID_CLEARANCE

__all__ = ["MILLIMETRE", "close_lids", "lift_tongue"]

MILLIMETRE = 1e-3
"""In metres."""

_CLEAR_LOOPS = 5
"""Lid loops from the margin that are kept off the globe."""
_RIM_CLEARANCE = 0.1
_HALF = LID_POINTS // 2
# The tongue rides at the top of the lower lip from where the teeth end, and droops beyond the lip.
_NO_FLOOR, _LIP_TOP = -110.0, MOUTH_Y + 0.5
_TEETH_START, _TEETH_END = 71.0, 80.0
_DROOP_START, _DROOP = 99.0, 0.75


def close_lids(
    vertices: Float[Tensor, "b v 3"],
    rest: Float[Tensor, "b v 3"],
    eyes: Float[Tensor, "b 2 3"],
    blinks: Float[Tensor, "b 2"],
    rows: Int[Tensor, "2 9 40"],
    default_opening: Float[Tensor, "2 19 3"],
) -> Float[Tensor, "b v 3"]:
    """Close this face's openings in a blink; keep lids from crossing and out of the globes.

    Args:
        vertices: With expression shapes added.
        rest: Without them.
        eyes: Centres of the left and the right globe.
        blinks: Coefficients of the blink shapes.
        rows: Of each side the lid loops, then the wet rim. The last loop stays where it is.
        default_opening: Upper minus lower margin of the default face, for which the blink shapes
            were made: alone, they would leave wide-eyed faces up to 4.4 mm open.
    """
    moving = torch.cat([rows[:, : LID_LOOPS - 1], rows[:, LID_LOOPS:]], dim=1)
    falloff = _falloff(vertices.dtype, vertices.device)[:, None, None]
    lids = vertices[:, moving]
    upper, lower = lids[..., 1:_HALF, :], lids[..., _HALF + 1 :, :].flip(3)
    at_rest = rest[:, rows[:, 0]]
    opening = at_rest[:, :, 1:_HALF] - at_rest[:, :, _HALF + 1 :].flip(2)
    missing = blinks.clamp(0, 1)[..., None, None] * (opening - default_opening)
    missing = missing[:, :, None] * falloff
    upper, lower = upper - BLINK_SHARES[0] * missing, lower + BLINK_SHARES[1] * missing
    crossed = (upper[:, :, :1, :, 1] - lower[:, :, :1, :, 1]).clamp(max=0)
    lift = falloff[..., 0] * crossed
    upper = torch.stack([upper[..., 0], upper[..., 1] - lift, upper[..., 2]], dim=-1)
    corners = lids[..., :1, :], lids[..., _HALF : _HALF + 1, :]
    lids = torch.cat([corners[0], upper, corners[1], lower.flip(3)], dim=3)
    near, rest_of_lid, rim = lids[:, :, :_CLEAR_LOOPS], lids[:, :, _CLEAR_LOOPS:-1], lids[:, :, -1:]
    near = _push_out(near, eyes, (EYE_RADIUS + LID_CLEARANCE) * MILLIMETRE)
    rim = _push_out(rim, eyes, (EYE_RADIUS + _RIM_CLEARANCE) * MILLIMETRE)
    lids = torch.cat([near, rest_of_lid, rim], dim=2)
    return vertices.index_copy(1, moving.flatten(), lids.flatten(1, 3))


@lru_cache(maxsize=8)
def _falloff(dtype: torch.dtype, device: torch.device) -> Float[Tensor, " loops"]:
    """Share of the blink per loop; kept, because copies to a GPU cannot be captured in a graph."""
    return torch.tensor([*UPPER_LID_FALLOFF[:-1], 1.0], dtype=dtype, device=device)


def _push_out(points: Tensor, centers: Tensor, radius: float) -> Tensor:
    offset = points - centers[:, :, None, None]
    distance = offset.norm(dim=-1, keepdim=True)
    return centers[:, :, None, None] + offset * (radius / distance).clamp(min=1)


def lift_tongue(tongue: Float[Tensor, "b t 3"]) -> Float[Tensor, "b t 3"]:
    """Where the tongue has passed the lower teeth, let it ride over teeth and lip, then droop.

    Args:
        tongue: Grid rows from root to tip, then the root's and the tip's pole.
    """
    grid = tongue[:, : TONGUE_ROWS * TONGUE_COLUMNS].unflatten(1, (TONGUE_ROWS, TONGUE_COLUMNS))
    lowest = grid[..., 1].amin(dim=2) / MILLIMETRE
    depth = grid[..., 2].mean(dim=2) / MILLIMETRE
    t = ((depth - _TEETH_START) / (_TEETH_END - _TEETH_START)).clamp(0, 1)
    over_teeth = t * t * (3 - 2 * t)
    floor = _NO_FLOOR + (_LIP_TOP - _NO_FLOOR) * over_teeth
    floor = floor - _DROOP * (depth - _DROOP_START).clamp(min=0)
    lift = (floor - lowest).clamp(min=0) * MILLIMETRE
    per_vertex = lift.repeat_interleave(TONGUE_COLUMNS, dim=1)
    per_vertex = torch.cat([per_vertex, lift[:, :1], lift[:, -1:]], dim=1)
    x, y, z = tongue.unbind(-1)
    return torch.stack([x, y + per_vertex, z], dim=-1)
