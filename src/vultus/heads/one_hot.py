"""Single expressions: one coefficient at a time, on a head that keeps its place."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from vultus.heads.base import HeadModel, HeadPose

__all__ = ["find_expressions", "one_hot_poses"]

_FACE_JOINTS = ("jaw_pose", "eye_pose")
"""What moves the face beside expressions."""


def find_expressions(
    head: HeadModel, names: Sequence[str], moving: Collection[int] | None = None
) -> list[int]:
    """Columns of ``expression_coeffs``, by name or number; ``all`` stands for all of them.

    Args:
        head: Whose expressions.
        names: Which ones.
        moving: Those that move what is shown, where the head's others do not; ``all`` are these.

    Raises:
        ValueError: If the head has no expressions, or not this one, or it moves nothing.
    """
    size = _num_expressions(head)
    known = tuple(head.expression_names)
    found: list[int] = []
    for name in names:
        if name == "all":
            found += range(size) if moving is None else sorted(moving)
        elif name in known:
            found.append(known.index(name))
        elif name.isdecimal() and int(name) < size:
            found.append(int(name))
        else:
            listed = f" or one of {', '.join(known)}" if known else ""
            raise ValueError(f"expression must be all, 0 to {size - 1}{listed}, got {name!r}")
    still = next((column for column in found if moving is not None and column not in moving), None)
    if still is not None:
        name = known[still] if known else str(still)
        raise ValueError(f"expression {name} ({still}) moves nothing of this avatar")
    return found


def one_hot_poses(
    head: HeadModel,
    place: HeadPose,
    columns: Int[Tensor, " b"],
    weights: Float[Tensor, " b"],
) -> HeadPose:
    """One expression per frame, nothing else in the face; jaw and eyes are at rest.

    Args:
        head: Whose expressions.
        place: One frame, which says where the head is and whose it is.
        columns: Of ``expression_coeffs``.
        weights: The coefficients.

    Raises:
        ValueError: If the head has no expressions, or ``place`` is not one frame.
    """
    if len(place) != 1:
        raise ValueError(f"place must be one frame, got {len(place)}")
    coeffs = weights.new_zeros(len(columns), _num_expressions(head))
    coeffs[torch.arange(len(columns)), columns] = weights
    return place.replace(expression_coeffs=coeffs, **dict.fromkeys(_FACE_JOINTS))


def _num_expressions(head: HeadModel) -> int:
    sizes = {spec.name: spec.size for spec in head.parameters_spec}
    if "expression_coeffs" not in sizes:
        raise ValueError(f"head {head.name!r} has no expressions")
    return sizes["expression_coeffs"]
