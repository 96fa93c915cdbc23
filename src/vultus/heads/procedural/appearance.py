"""From a look to the textures that renderers use."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import astuple

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from vultus.core.srgb import srgb_to_linear
from vultus.heads.appearance import HeadAppearance
from vultus.heads.procedural.basis import load_basis
from vultus.heads.procedural.cache import cached_arrays
from vultus.heads.procedural.look import Look
from vultus.heads.procedural.model import ProceduralHead
from vultus.heads.procedural.textures import position_map, synthesize_textures
from vultus.heads.procedural.weights import REGIONS

__all__ = ["build_appearance", "paint_appearance"]

_MIN_SIZE = 128


def build_appearance(head: ProceduralHead, look: Look, size: int = 512) -> HeadAppearance:
    """Paint a subject. The first time takes seconds, then it comes from the cache.

    Args:
        head: Its hair style must be the look's (``ProceduralHead(look.hair_style, look.seed)``).
        look: Colours and marks; they are painted at places of the default face and follow the
            identity with the vertices.
        size: Side of the square textures; 512 and 1024 are usual.

    Raises:
        ValueError: If the hair styles differ or the size is too small.
    """
    if head.hair_style != look.hair_style:
        raise ValueError(
            f"look.hair_style must be the head's {head.hair_style!r}, got {look.hair_style!r}"
        )

    def paint() -> dict:
        return synthesize_textures(_positions(size), look)

    _check_size(size)
    return _appearance(head, cached_arrays("textures", paint, size, astuple(look)))


def paint_appearance(head: ProceduralHead, look: Look, size: int = 512) -> HeadAppearance:
    """Paint one of many people: textures are not cached (0.2 s at 128 texels, 0.6 s at 512).

    Args:
        head: May wear any cut; its strands are those of the look's hair style.
        look: As in ``build_appearance``.
        size: Side of the square textures.

    Raises:
        ValueError: If the size is too small.
    """
    _check_size(size)
    return _appearance(head, synthesize_textures(_positions(size), look))


def _check_size(size: int) -> None:
    if size < _MIN_SIZE:
        raise ValueError(f"size must be at least {_MIN_SIZE} texels, got {size}")


def _positions(size: int) -> Float[np.ndarray, "h w 3"]:
    def bake() -> dict:
        return {"positions": position_map(load_basis(), size)}

    return cached_arrays("positions", bake, size)["positions"]


def _appearance(head: ProceduralHead, maps: Mapping[str, np.ndarray]) -> HeadAppearance:
    device = head.template.device
    textures = {name: torch.from_numpy(value).to(device) for name, value in maps.items()}
    is_eyeball = torch.zeros(len(head.faces), dtype=torch.bool, device=device)
    for side in ("left_eye", "right_eye"):
        is_eyeball[head.parts[side].faces] = True
    return HeadAppearance(
        uv=head.uv,
        uv_faces=head.uv_faces,
        albedo=srgb_to_linear(textures["albedo"]),
        roughness=textures["roughness"],
        specular=textures["specular"],
        scatter=textures["scatter"],
        normal_map=textures["normal"],
        eyeball_faces=is_eyeball,
        face_labels=_face_labels(head.labels[head.faces]),
        label_names=REGIONS,
    )


def _face_labels(corners: Int[Tensor, "f 3"]) -> Int[Tensor, " f"]:
    """The label of most corners."""
    return corners.mode(dim=1).values
