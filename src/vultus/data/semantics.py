"""Semantic label maps: the classes of face parsers, and the groups that methods tell apart.

Files are one-channel PNGs whose bytes are ``PARSING_CLASSES`` (BiSeNet trained on CelebAMask-HQ).
Methods see ``SEMANTIC_GROUPS``: the six of FLARE, with the lips and the background on their own.
"""

from __future__ import annotations

from colorsys import hsv_to_rgb
from pathlib import Path
from typing import Literal, get_args

import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor
from torch.nn import functional as F

from vultus.core.image_io import decode_image

__all__ = [
    "PARSING_CLASSES",
    "SEMANTIC_GROUPS",
    "SemanticGroup",
    "class_shares",
    "decode_parsing",
    "is_group",
    "mirrored_classes",
    "parsing_colors",
    "read_parsing",
    "resize_label_map",
    "semantic_groups",
]

PARSING_CLASSES = (
    "background", "skin", "l_brow", "r_brow", "l_eye", "r_eye", "eye_g", "l_ear", "r_ear", "ear_r",
    "nose", "mouth", "u_lip", "l_lip", "neck", "neck_l", "cloth", "hair", "hat",
)  # fmt: skip
"""A byte of a label map is the index here. Left and right are the subject's; ``eye_g`` are glasses,
``ear_r`` earrings, ``neck_l`` a necklace, ``mouth`` is its inside."""

SemanticGroup = Literal[
    "skin", "eyes", "brows", "mouth", "cloth", "hair", "background", "lips"
]  # fmt: skip
SEMANTIC_GROUPS: tuple[SemanticGroup, ...] = get_args(SemanticGroup)
"""A value of ``Frame.semantics`` is the index here. Lips count as skin in FLARE."""

_CLASSES_OF_GROUP: dict[SemanticGroup, tuple[str, ...]] = {
    "skin": ("skin", "eye_g", "l_ear", "r_ear", "nose", "neck"),
    "eyes": ("l_eye", "r_eye"),
    "brows": ("l_brow", "r_brow"),
    "mouth": ("mouth",),
    "cloth": ("neck_l", "cloth"),
    "hair": ("ear_r", "hair", "hat"),
    "background": ("background",),
    "lips": ("u_lip", "l_lip"),
}


_SIDED = ("brow", "eye", "ear")
_MIRRORED = {f"{a}_{part}": f"{b}_{part}" for part in _SIDED for a, b in ("lr", "rl")}
_GOLDEN = 0.5 * (5.0**0.5 - 1.0)


def read_parsing(path: Path) -> UInt8[Tensor, "h w"]:
    """Read a label map in ``PARSING_CLASSES``.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: As ``decode_parsing``.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist")
    return decode_parsing(path.read_bytes(), str(path))


def decode_parsing(data: bytes, name: str) -> UInt8[Tensor, "h w"]:
    """Decode a label map that is in memory.

    Args:
        data: The whole file.
        name: How error messages call it.

    Raises:
        ValueError: If it is no grey image of 8 bits, or holds a label beyond the last class.
    """
    image = decode_image(data, name)
    if image.shape[0] >= 3 and bool((image[:3] == image[:1]).all()):
        image = image[:1]
    if image.shape[0] != 1:
        raise ValueError(f"{name}: a label map must be grey, got {image.shape[0]} channels")
    largest = int(image.max())
    if largest >= len(PARSING_CLASSES):
        raise ValueError(f"{name}: labels must be 0 to {len(PARSING_CLASSES) - 1}, got {largest}")
    return image[0]


def semantic_groups(parsing: UInt8[Tensor, "*dims"]) -> UInt8[Tensor, "*dims"]:
    """Turn classes of face parsers into groups.

    Reference: Bharadwaj et al., FLARE, 2023, for skin, eyes, brows, mouth, cloth and hair; there
    lips are skin. Hats, which FLARE leaves to the background, are hair here.
    """
    return _GROUP_OF_CLASS.to(parsing.device)[parsing.long()]


def is_group(semantics: UInt8[Tensor, "*dims"], *groups: SemanticGroup) -> Bool[Tensor, "*dims"]:
    """Where groups are."""
    wanted = torch.tensor([SEMANTIC_GROUPS.index(group) for group in groups], dtype=torch.uint8)
    return torch.isin(semantics, wanted.to(semantics.device))


def mirrored_classes() -> UInt8[Tensor, " c"]:
    """What each of ``PARSING_CLASSES`` is called in a picture that is flipped left to right."""
    names = [_MIRRORED.get(name, name) for name in PARSING_CLASSES]
    return torch.tensor([PARSING_CLASSES.index(name) for name in names], dtype=torch.uint8)


def class_shares(parsing: UInt8[Tensor, "b h w"], count: int) -> Float[Tensor, "b c h w"]:
    """Share of each class in the pixels of label maps: 1 for their own, 0 for the others.

    Args:
        parsing: Label maps.
        count: Number of classes, more than the largest label.
    """
    classes = torch.arange(count, dtype=torch.uint8, device=parsing.device)
    return (parsing[:, None] == classes[:, None, None]).float()


def parsing_colors(shares: Float[Tensor, "b c h w"]) -> Float[Tensor, "b 3 h w"]:
    """Mix a colour of each class by its share of a pixel; the background is black.

    Args:
        shares: In [0, 1], of as many classes as there are, at least the background.
    """
    # Hues a golden section of the circle apart: neighbours differ however many there are.
    hues = (_GOLDEN * index % 1.0 for index in range(shares.shape[1] - 1))
    colors = [(0.0, 0.0, 0.0), *(hsv_to_rgb(hue, 0.6, 1.0) for hue in hues)]
    return torch.einsum("bchw,cd->bdhw", shares, shares.new_tensor(colors)).clamp(0.0, 1.0)


def resize_label_map(
    labels: UInt8[Tensor, "h w"], height: int, width: int
) -> UInt8[Tensor, "h2 w2"]:
    """Resize without mixing labels: every pixel takes the nearest one."""
    if labels.shape == (height, width):
        return labels
    stacked: Float[Tensor, "1 1 h w"] = labels[None, None].float()
    return F.interpolate(stacked, (height, width), mode="nearest-exact")[0, 0].to(torch.uint8)


def _table() -> UInt8[Tensor, " c"]:
    groups = torch.empty(len(PARSING_CLASSES), dtype=torch.uint8)
    for group, classes in _CLASSES_OF_GROUP.items():
        for name in classes:
            groups[PARSING_CLASSES.index(name)] = SEMANTIC_GROUPS.index(group)
    return groups


_GROUP_OF_CLASS = _table()
