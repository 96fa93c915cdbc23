"""Linear shapes, and the translation of expression names between vocabularies."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from vultus.heads.base import HeadPose, ParameterSpec
from vultus.kernels import linear_shapes
from vultus.kernels.dispatch import are_for_kernels

__all__ = [
    "ARKIT_NAMES",
    "ExpressionMap",
    "add_shapes",
    "arkit_to_ict",
    "check_pose",
    "expression_map",
    "map_expressions",
]

ARKIT_NAMES = (
    "browDownLeft browDownRight browInnerUp browOuterUpLeft browOuterUpRight cheekPuff "
    "cheekSquintLeft cheekSquintRight eyeBlinkLeft eyeBlinkRight eyeLookDownLeft "
    "eyeLookDownRight eyeLookInLeft eyeLookInRight eyeLookOutLeft eyeLookOutRight eyeLookUpLeft "
    "eyeLookUpRight eyeSquintLeft eyeSquintRight eyeWideLeft eyeWideRight jawForward jawLeft "
    "jawOpen jawRight mouthClose mouthDimpleLeft mouthDimpleRight mouthFrownLeft mouthFrownRight "
    "mouthFunnel mouthLeft mouthLowerDownLeft mouthLowerDownRight mouthPressLeft mouthPressRight "
    "mouthPucker mouthRight mouthRollLower mouthRollUpper mouthShrugLower mouthShrugUpper "
    "mouthSmileLeft mouthSmileRight mouthStretchLeft mouthStretchRight mouthUpperUpLeft "
    "mouthUpperUpRight noseSneerLeft noseSneerRight tongueOut"
).split()
"""The 52 expression names of ARKit in alphabetical order."""

# The kernels read all shapes for each frame; a matrix product reads them once for many.
_MAX_FUSED_FRAMES = 4
_SIDES = {"Left": "_L", "Right": "_R"}
# Whole-face directions, not the left and right halves of one shape.
_UNSIDED = frozenset({"jawLeft", "jawRight", "mouthLeft", "mouthRight"})


def add_shapes(
    vertices: Float[Tensor, "v 3"] | Float[Tensor, "#b v 3"],
    shapes: Float[Tensor, "k v 3"],
    coeffs: Float[Tensor, "#b k"] | None,
) -> Float[Tensor, "#b v 3"]:
    """Add a linear combination of shapes; ``None`` adds nothing (and gives a batch of one)."""
    base = vertices if vertices.ndim == 3 else vertices[None]
    if coeffs is None:
        return base
    coeffs = coeffs.to(shapes)
    if _is_fused(base, shapes, coeffs):
        return linear_shapes.add_shapes(base, shapes, coeffs)
    offsets = coeffs @ shapes.reshape(shapes.shape[0], -1)
    return base + offsets.reshape(-1, *shapes.shape[1:])


def _is_fused(base: Tensor, shapes: Tensor, coeffs: Tensor) -> bool:
    """Whether the kernels of ``kernels.linear_shapes`` take over; shapes are constants there."""
    is_small = len(coeffs) <= _MAX_FUSED_FRAMES and len(base) in (1, len(coeffs))
    return are_for_kernels(base, shapes) and is_small and not shapes.requires_grad


def check_pose(pose: HeadPose, spec: Sequence[ParameterSpec], source: str = "pose") -> None:
    """Check the sizes of the fields that a head model reads.

    Args:
        pose: Fields that ``spec`` does not name are left alone.
        spec: ``HeadModel.parameters_spec``.
        source: Where the values come from (a file), for the message.

    Raises:
        ValueError: ``<source>: <field> must have size <expected>, got <size>``.
    """
    given = pose.tensors()
    for parameter in spec:
        tensor = given.get(parameter.name)
        if tensor is not None and tensor[0].numel() != parameter.size:
            raise ValueError(
                f"{source}: {parameter.name} must have size {parameter.size} per frame, "
                f"got {tensor[0].numel()}"
            )


@dataclass(frozen=True)
class ExpressionMap:
    """A linear translation of expression coefficients from one vocabulary to another."""

    matrix: Float[Tensor, "e t"]
    """``target = source @ matrix``."""
    unmapped: tuple[str, ...]
    """Source names without a counterpart: their weights are lost."""
    undriven: tuple[str, ...]
    """Target names that nothing drives: they stay zero."""


def expression_map(source_names: Sequence[str], target_names: Sequence[str]) -> ExpressionMap:
    """Match two vocabularies by name: equal, ``Left``/``_L``, or one side against both.

    A source without sides (``browInnerUp``) drives both sides of the target; the two sides of a
    source drive a target without sides by their mean.

    Raises:
        ValueError: If a list names an expression twice.
    """
    for names in (source_names, target_names):
        repeated = sorted({name for name in names if list(names).count(name) > 1})
        if repeated:
            raise ValueError(f"expression names must be unique, {repeated[0]!r} comes twice")
    matrix = torch.zeros(len(source_names), len(target_names))
    sources = [_parse_name(name) for name in source_names]
    targets = [_parse_name(name) for name in target_names]
    for row, (stem, side) in enumerate(sources):
        for column, (target_stem, target_side) in enumerate(targets):
            if stem != target_stem:
                continue
            if side == target_side or side == "":
                matrix[row, column] = 1.0
            elif target_side == "":
                matrix[row, column] = 0.5
    return ExpressionMap(
        matrix,
        unmapped=_names_of_empty(source_names, matrix.sum(dim=1)),
        undriven=_names_of_empty(target_names, matrix.sum(dim=0)),
    )


def map_expressions(
    source_names: Sequence[str],
    weights: Float[Tensor, "b e"],
    target_names: Sequence[str],
) -> tuple[Float[Tensor, "b t"], tuple[str, ...]]:
    """Translate expression coefficients and list the source names that found no counterpart.

    Raises:
        ValueError: If ``weights`` does not have one column per source name.
    """
    if weights.shape[-1] != len(source_names):
        raise ValueError(
            f"weights must have one column per source name ({len(source_names)}), "
            f"got {weights.shape[-1]}"
        )
    mapping = expression_map(source_names, target_names)
    return weights @ mapping.matrix.to(weights), mapping.unmapped


def arkit_to_ict(arkit_name: str) -> tuple[str, ...]:
    """Name the ICT-FaceKit shapes of one ARKit shape.

    ``eyeBlinkLeft`` is ``eyeBlink_L``; ``browInnerUp`` and ``cheekPuff`` are a left and a right
    shape; ``tongueOut`` has none.

    Raises:
        ValueError: If the name is not one of ``ARKIT_NAMES``.
    """
    if arkit_name not in ARKIT_NAMES:
        raise ValueError(f"arkit_name must be an ARKit expression, got {arkit_name!r}")
    if arkit_name == "tongueOut":
        return ()
    stem, side = _parse_name(arkit_name)
    if stem in ("browInnerUp", "cheekPuff"):
        return (f"{stem}_L", f"{stem}_R")
    return (stem + side,)


def _parse_name(name: str) -> tuple[str, str]:
    """Split a name into its stem and ``"_L"``, ``"_R"`` or ``""``."""
    if name.endswith(("_L", "_R")):
        return name[:-2], name[-2:]
    for word, side in _SIDES.items():
        if name.endswith(word) and name not in _UNSIDED:
            return name.removesuffix(word), side
    return name, ""


def _names_of_empty(names: Sequence[str], totals: Tensor) -> tuple[str, ...]:
    return tuple(n for n, total in zip(names, totals.tolist(), strict=True) if total == 0)
