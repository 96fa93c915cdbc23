"""Matching of expression names between sources that spell the ARKit shapes differently."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

__all__ = ["ARKIT_NAMES", "canonical_expression_name", "expression_name_map"]

_PAIRED = (
    "browDown browOuterUp cheekSquint eyeBlink eyeLookDown eyeLookIn eyeLookOut eyeLookUp "
    "eyeSquint eyeWide mouthDimple mouthFrown mouthLowerDown mouthPress mouthSmile mouthStretch "
    "mouthUpperUp noseSneer"
).split()
_SINGLE = (
    "browInnerUp cheekPuff jawForward jawLeft jawOpen jawRight mouthClose mouthFunnel mouthLeft "
    "mouthPucker mouthRight mouthRollLower mouthRollUpper mouthShrugLower mouthShrugUpper tongueOut"
).split()
ARKIT_NAMES = tuple(
    sorted([*_SINGLE, *(name + side for name in _PAIRED for side in ("Left", "Right"))])
)
"""The 52 blend shapes of Apple's ARKit face tracking, sorted."""

_SIDES = {"_L": "Left", "_R": "Right", "_l": "Left", "_r": "Right"}


def canonical_expression_name(name: str) -> str:
    """Spell a side suffix ``_L`` / ``_R`` (ICT-FaceKit) as ``Left`` / ``Right`` (ARKit)."""
    return name[:-2] + _SIDES[name[-2:]] if name[-2:] in _SIDES else name


def expression_name_map(
    source: Sequence[str], target: Sequence[str]
) -> tuple[Float[Tensor, "s t"], tuple[str, ...]]:
    """Build the matrix that turns source weights into target weights by name.

    A shape that one side has once and the other as a left and right pair (``browInnerUp``,
    ``cheekPuff`` in ARKit against ICT) is copied to both, or averaged over both.

    Returns:
        A matrix M with ``target_weights = source_weights @ M``, and the source names without any
        counterpart.
    """
    columns = {canonical_expression_name(name): i for i, name in enumerate(target)}
    matrix = torch.zeros(len(source), len(target))
    unmapped = []
    for row, name in enumerate(source):
        canonical = canonical_expression_name(name)
        merged = canonical.removesuffix("Left").removesuffix("Right")
        if canonical in columns:
            matrix[row, columns[canonical]] = 1.0
        elif f"{canonical}Left" in columns and f"{canonical}Right" in columns:
            matrix[row, columns[f"{canonical}Left"]] = 1.0
            matrix[row, columns[f"{canonical}Right"]] = 1.0
        elif merged in columns and merged != canonical:
            matrix[row, columns[merged]] = 0.5
        else:
            unmapped.append(name)
    return matrix, tuple(unmapped)
