"""Semantic maps of the studio's people in the classes of face parsers, by mesh faces.

Left and right are the subject's. Classes that a head's mesh does not tell apart are missing from
its maps: nobody wears glasses, earrings or hats.
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Bool
from torch import Tensor

from vultus.data.semantics import PARSING_CLASSES
from vultus.heads.appearance import HeadAppearance
from vultus.heads.base import HeadModel

__all__ = ["parsing_classes"]

_CLASS_OF_LABEL = {
    "scalp": "hair",
    "hair": "hair",
    "teeth": "mouth",
    "tongue": "mouth",
    "mouth": "mouth",
    "mouth_interior": "mouth",
    "gums_tongue": "mouth",
    "left_eyeball": "l_eye",
    "right_eyeball": "r_eye",
    "neck": "neck",
    "boundary": "neck",
    "garment": "cloth",
    "nose": "nose",
    "upper_lip": "u_lip",
    "lower_lip": "l_lip",
}
"""What a head calls its faces, where that alone decides; the rest is skin."""
_SIDED = {
    "eyeball": ("l_eye", "r_eye"),
    "ears": ("l_ear", "r_ear"),
    "brows": ("l_brow", "r_brow"),
    "lashes": ("l_eye", "r_eye"),
}
# The nose of the procedural head at rest, metres: half its width, from its root to below the tip,
# and the depth from which on it is not cheek.
_NOSE_WIDTH, _NOSE_HEIGHT, _NOSE_DEPTH = 0.019, (-0.051, -0.004), 0.083
_LIP_CONTACT = -0.068
"""Height where the lips of the procedural head meet, metres."""


def parsing_classes(head: HeadModel, appearance: HeadAppearance) -> dict[str, Any]:
    """Fields of an appearance that make its label maps semantic maps.

    Returns:
        ``face_labels``, one less than the class, as renderers add one, and ``label_names``.
    """
    centers = head.neutral.detach()[head.topology.faces].mean(dim=1).cpu()
    names = appearance.label_names
    given = appearance.face_labels.cpu()
    is_left = centers[:, 0] > 0
    classes = torch.full_like(given, PARSING_CLASSES.index("skin"))
    for index, name in enumerate(names):
        here = given == index
        if name in _SIDED:
            left, right = _SIDED[name]
            classes[here & is_left] = PARSING_CLASSES.index(left)
            classes[here & ~is_left] = PARSING_CLASSES.index(right)
        elif name in _CLASS_OF_LABEL:
            classes[here] = PARSING_CLASSES.index(_CLASS_OF_LABEL[name])
        elif name == "lips":
            height = centers[:, 1]
            contact = _LIP_CONTACT if head.name == "procedural" else float(height[here].mean())
            is_upper = height > contact
            classes[here & is_upper] = PARSING_CLASSES.index("u_lip")
            classes[here & ~is_upper] = PARSING_CLASSES.index("l_lip")
    if head.name == "procedural":
        is_skin = given == names.index("skin")
        classes[is_skin & _is_nose(centers)] = PARSING_CLASSES.index("nose")
    return {"face_labels": classes - 1, "label_names": PARSING_CLASSES[1:]}


def _is_nose(centers: Tensor) -> Bool[Tensor, " f"]:
    x, y, z = centers.unbind(dim=1)
    low, high = _NOSE_HEIGHT
    # The bridge is narrower than the wings.
    width = _NOSE_WIDTH * (0.55 + 0.45 * ((high - y) / (high - low)).clamp(0, 1))
    return (x.abs() < width) & (low < y) & (y < high) & (z > _NOSE_DEPTH)
