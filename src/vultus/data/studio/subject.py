"""Who is filmed: a head model, an identity and what its surface looks like."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, cast

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from vultus.core.srgb import srgb_to_linear
from vultus.data.head_files import open_head
from vultus.heads.appearance import HeadAppearance
from vultus.heads.base import HeadModel
from vultus.heads.ict import IctHead
from vultus.heads.ict_appearance import IctLook, ict_appearance
from vultus.heads.procedural import (
    DEFAULT_LOOK,
    ProceduralHead,
    build_appearance,
    default_identity,
    random_appearance,
    random_identity,
)
from vultus.heads.texture_baking import bake_corners, fill_outwards

__all__ = ["HeadName", "Subject", "build_subject", "plain_appearance"]

HeadName = Literal["procedural", "ict", "flame"]

_IDENTITY_SPREAD = 0.6
"""Standard deviations of identity coefficients; full ones give faces that stand out."""
_NUM_IDENTITY = 40
"""Leading modes that are drawn for models with principal components."""
_SKIN_TONES = ((0.90, 0.73, 0.65), (0.83, 0.64, 0.545), (0.66, 0.47, 0.37), (0.42, 0.28, 0.21))
_HAIR = ((0.16, 0.11, 0.085), (0.07, 0.06, 0.055), (0.45, 0.33, 0.20), (0.36, 0.17, 0.09))
_IRISES = ((0.31, 0.22, 0.13), (0.17, 0.10, 0.05), (0.29, 0.45, 0.60), (0.33, 0.43, 0.24))
_SEAM_TEXELS = 4
# sRGB by region, for rigs that come without a texture; what no region names is skin.
_REGION_COLORS = {
    "skin": (0.80, 0.62, 0.53),
    "left_eyeball": (0.90, 0.89, 0.87),
    "right_eyeball": (0.90, 0.89, 0.87),
    "teeth": (0.86, 0.83, 0.76),
}
_PARTS = (
    "ears", "nose", "lips", "neck", "boundary", "mouth_interior", "gums_tongue", "left_eyeball",
    "right_eyeball", "teeth",
)  # fmt: skip
"""Regions that are told apart, later ones over earlier ones. What else a head names (its forehead,
the surroundings of an eye with the eye in them) is no part of its own, and nobody painted hair."""
_IRIS_COLOR, _IRIS_COSINE = (0.20, 0.14, 0.09), 0.86
_MOTTLE = 0.22
"""Relative strength of the brightness pattern on skin: enough to track the surface by eye."""


@dataclass(frozen=True)
class Subject:
    """A head with a face of its own."""

    head: HeadModel
    identity: Float[Tensor, "1 s"] | None
    appearance: HeadAppearance


def build_subject(model: HeadName, head_file: Path | None, seed: int, texture_size: int) -> Subject:
    """Make a person.

    Args:
        model: Head model.
        head_file: The model's file, for ``ict`` and ``flame``.
        seed: Decides shape and colours. 0 is the default person of the procedural head.
        texture_size: Side of the textures.

    Raises:
        ValueError: If the model needs a file or takes none.
        FileNotFoundError: If the file does not exist.
    """
    if model == "procedural":
        if head_file is not None:
            raise ValueError(f"head_file must be left out for the procedural head, got {head_file}")
        look = DEFAULT_LOOK if seed == 0 else random_appearance(seed)
        identity = default_identity() if seed == 0 else random_identity(seed, look)
        head = ProceduralHead(look.hair_style, look.seed)
        return Subject(head, identity, build_appearance(head, look, texture_size))
    head = open_head(model, head_file)
    identity = _random_identity(head, seed)
    if model == "ict":
        ict = cast(IctHead, head)
        return Subject(ict, identity, ict_appearance(ict, _random_ict_look(seed), texture_size))
    return Subject(head, identity, plain_appearance(head, seed, texture_size))


def plain_appearance(head: HeadModel, seed: int, size: int) -> HeadAppearance:
    """Paint any head by its regions: mottled skin, irises, teeth.

    Args:
        head: Its topology's texture coordinates are used; they must lie in [0, 1].
        seed: Of the mottling.
        size: Side of the square textures.
    """
    topology = head.topology
    rest = head.neutral.detach()
    labels, names = _face_labels(head)
    uv, uv_faces = topology.uv.double().numpy(), topology.uv_faces.numpy()
    corners = rest[topology.faces].double().numpy()
    positions, texel_face = bake_corners(corners, uv, uv_faces, size)
    known = texel_face >= 0
    texel_label = np.where(known, labels.numpy()[texel_face], 0)
    points = np.where(known[..., None], positions, 0.0)
    albedo = np.array([_REGION_COLORS.get(name, _REGION_COLORS["skin"]) for name in names])
    texture = albedo[texel_label]
    is_skin = ~np.isin([names[i] for i in range(len(names))], ["left_eyeball", "right_eyeball"])
    texture = texture * np.where(is_skin[texel_label], _mottling(points, seed), 1.0)[..., None]
    for region in ("left_eyeball", "right_eyeball"):
        if region in names and bool(topology.regions[region].any()):
            globe = rest[topology.regions[region]].numpy()
            offset = points - 0.5 * (globe.min(axis=0) + globe.max(axis=0))
            length = np.linalg.norm(offset, axis=-1).clip(1e-9)
            is_iris = (offset[..., 2] / length > _IRIS_COSINE) & (
                texel_label == names.index(region)
            )
            texture[is_iris] = _IRIS_COLOR
    texture = fill_outwards(texture, known, _SEAM_TEXELS).clip(0, 1)
    is_eyeball = topology.face_region("left_eyeball", "right_eyeball")

    def constant(value: float) -> Float[Tensor, "h w"]:
        return torch.full((size, size), value)

    return HeadAppearance(
        uv=topology.uv.float(),
        uv_faces=topology.uv_faces,
        albedo=srgb_to_linear(torch.from_numpy(texture).float()),
        roughness=constant(0.45),
        specular=constant(0.5),
        scatter=constant(0.4),
        normal_map=torch.tensor([0.5, 0.5, 1.0]).repeat(size, size, 1),
        eyeball_faces=is_eyeball,
        face_labels=labels,
        label_names=names,
    )


def _face_labels(head: HeadModel) -> tuple[Int[Tensor, " f"], tuple[str, ...]]:
    """The part of each face; skin where none holds the whole face."""
    topology = head.topology
    names = ("skin", *(name for name in _PARTS if name in topology.regions))
    labels = torch.zeros(topology.faces.shape[0], dtype=torch.int64)
    for index, name in enumerate(names[1:], start=1):
        labels[topology.face_region(name)] = index
    return labels, names


def _mottling(points: np.ndarray, seed: int) -> np.ndarray:
    """Brightness factor from a sum of plane waves with wavelengths of 1 to 6 cm."""
    generator = np.random.default_rng(seed)
    directions = generator.normal(size=(3, 24))
    directions /= np.linalg.norm(directions, axis=0)
    wavelengths = generator.uniform(0.01, 0.06, 24)
    phases = generator.uniform(0, 2 * np.pi, 24)
    waves = np.sin(2 * np.pi * points @ (directions / wavelengths) + phases)
    return 1 + _MOTTLE * waves.mean(axis=-1) * np.sqrt(24 / 2)


def _random_identity(head: HeadModel, seed: int) -> Float[Tensor, "1 s"]:
    size = next(s.size for s in head.parameters_spec if s.name == "identity_coeffs")
    generator = torch.Generator().manual_seed(seed)
    coeffs = torch.zeros(1, size)
    drawn = min(size, _NUM_IDENTITY)
    coeffs[:, :drawn] = _IDENTITY_SPREAD * torch.randn(1, drawn, generator=generator)
    return coeffs


def _random_ict_look(seed: int) -> IctLook:
    generator = np.random.default_rng(seed)
    skin = np.array(_SKIN_TONES[generator.integers(len(_SKIN_TONES))])
    red, green, blue = (skin * (0.86, 0.66, 0.70)).tolist()
    return IctLook(
        skin=(float(skin[0]), float(skin[1]), float(skin[2])),
        lips=(red, green, blue),
        hair=_HAIR[generator.integers(len(_HAIR))],
        iris=_IRISES[generator.integers(len(_IRISES))],
        beard=float(generator.uniform(0, 0.35)),
        seed=seed,
    )
