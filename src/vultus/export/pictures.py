"""Arrange renderings for people: normals as colours, errors as heat, contact sheets."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

__all__ = [
    "contact_sheet",
    "depth_picture",
    "depth_range",
    "error_picture",
    "heat",
    "normal_picture",
    "side_by_side",
    "turbo",
]

_GAP = 4
_PAPER = 0.93
# Black, purple, orange, yellow: perceptually rising, readable in grey.
_HEAT = ((0.0, 0.0, 0.02), (0.47, 0.11, 0.43), (0.93, 0.41, 0.15), (0.99, 0.99, 0.75))
# Rows are red, green and blue; columns the powers 0 to 5.
_TURBO = (
    (0.13572138, 4.61539260, -42.66032258, 132.13108234, -152.94239396, 59.28637943),
    (0.09140261, 2.19418839, 4.84296658, -14.18503333, 4.27729857, 2.82956604),
    (0.10667330, 12.64194608, -60.58204836, 110.36276771, -89.90310912, 27.34824973),
)
_MIN_DEPTH_RANGE = 1e-6


def side_by_side(pictures: Sequence[Float[Tensor, "3 h _"]]) -> Float[Tensor, "3 h w"]:
    """Put pictures of one height into a row."""
    gap = torch.full((3, pictures[0].shape[1], _GAP), _PAPER)
    row: list[Tensor] = []
    for picture in pictures:
        row += [picture, gap]
    return torch.cat(row[:-1], dim=2)


def contact_sheet(rows: Sequence[Sequence[Float[Tensor, "3 _ _"]]]) -> Float[Tensor, "3 h w"]:
    """Put rows of pictures under each other; rows must have one width.

    Raises:
        ValueError: If there is no row.
    """
    if not rows:
        raise ValueError("rows must hold at least one row of pictures")
    lines: list[Tensor] = []
    for row in rows:
        line = side_by_side(row)
        lines += [line, torch.full((3, _GAP, line.shape[2]), _PAPER)]
    return torch.cat(lines[:-1], dim=1)


def normal_picture(
    normals: Float[Tensor, "3 h w"], alpha: Float[Tensor, "1 h w"]
) -> Float[Tensor, "3 h w"]:
    """Show unit normals as 0.5 + 0.5 n on white."""
    unit = torch.nn.functional.normalize(normals, dim=0)
    return (0.5 + 0.5 * unit) * alpha + (1.0 - alpha)


def depth_picture(
    depth: Float[Tensor, "1 h w"],
    alpha: Float[Tensor, "1 h w"],
    bounds: tuple[float, float] | None = None,
) -> Float[Tensor, "3 h w"]:
    """Show depth in turbo colours on white, near is red.

    Args:
        depth: Camera z; what is seen of it has an alpha above a half.
        alpha: Coverage.
        bounds: Nearest and farthest depth of the colours; by default ``depth_range``.
    """
    bounds = depth_range(depth, alpha) if bounds is None else bounds
    if bounds is None:
        return torch.ones(3, *depth.shape[1:])
    low, high = bounds
    value = ((high - depth) / max(high - low, _MIN_DEPTH_RANGE)).clamp(0, 1)
    return turbo(value) * alpha + (1.0 - alpha)


def depth_range(
    depth: Float[Tensor, "1 h w"], alpha: Float[Tensor, "1 h w"]
) -> tuple[float, float] | None:
    """The 1st and 99th percentile of the depth of what is seen; ``None`` if nothing is."""
    inside = depth[(alpha > 0.5) & (depth > 0)]
    if inside.numel() == 0:
        return None
    low, high = torch.quantile(inside, inside.new_tensor([0.01, 0.99])).tolist()
    return low, high


def error_picture(
    image: Float[Tensor, "3 h w"], reference: Float[Tensor, "3 h w"], full_scale: float = 0.25
) -> Float[Tensor, "3 h w"]:
    """Show the mean absolute error as heat; ``full_scale`` is the brightest colour."""
    return heat(((image - reference).abs().mean(dim=0, keepdim=True) / full_scale).clamp(0, 1))


def heat(value: Float[Tensor, "1 h w"]) -> Float[Tensor, "3 h w"]:
    """Map [0, 1] to colours."""
    table = torch.tensor(_HEAT)
    position = value[0] * (len(_HEAT) - 1)
    low = position.floor().long().clamp(max=len(_HEAT) - 2)
    part = (position - low)[..., None]
    return (table[low] * (1 - part) + table[low + 1] * part).permute(2, 0, 1)


def turbo(value: Float[Tensor, "1 h w"]) -> Float[Tensor, "3 h w"]:
    """Map [0, 1] to the colours from dark blue over green to dark red.

    Reference: Mikhailov, Turbo, An Improved Rainbow Colormap for Visualization, 2019; the published
    polynomials of degree five.
    """
    powers = value ** torch.arange(6.0)[:, None, None]
    return torch.einsum("ck,khw->chw", torch.tensor(_TURBO), powers).clamp(0, 1)
