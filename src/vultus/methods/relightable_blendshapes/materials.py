"""What Gaussians are made of: stored numbers, activated materials, and where they start.

Stored are unbounded numbers, blended like all attributes of a Gaussian; sigmoids follow afterwards.
Figures in brackets are sections of our specification.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

import torch
from jaxtyping import Float, Int
from torch import Tensor

from vultus.data.semantics import SEMANTIC_GROUPS, SemanticGroup
from vultus.geometry.mesh_sampling import SurfacePoints, interpolate_on_faces
from vultus.kernels import material_activations
from vultus.kernels.dispatch import are_for_kernels
from vultus.kernels.env_shade import Materials

__all__ = [
    "INITIAL_ROUGHNESS",
    "INITIAL_SPECULAR",
    "MATERIAL_CHANNELS",
    "activate_materials",
    "face_labels",
    "initial_materials",
]

MATERIAL_CHANNELS: Mapping[str, int] = MappingProxyType(
    {"albedo": 3, "roughness": 1, "specular": 1}
)
"""Stored attributes and their numbers per Gaussian."""

INITIAL_SPECULAR: Mapping[SemanticGroup, float] = MappingProxyType(
    {
        "skin": 0.5,
        "eyes": 0.6,
        "brows": 0.1,
        "mouth": 0.3,
        "cloth": 0.1,
        "hair": 0.03,
        "background": 0.1,
        "lips": 0.6,
    }
)
"""Strength of the lobe before training [3.4]; what is of no group starts as cloth does."""
INITIAL_ROUGHNESS = 0.65
"""Of all surfaces before training [3.4]."""
_ALBEDO_RANGE = (0.02, 0.98)


def activate_materials(
    albedo: Float[Tensor, "b n 3"],
    roughness: Float[Tensor, "b n 1"],
    specular: Float[Tensor, "b n 1"],
    min_roughness: float,
) -> Materials:
    """Turn stored, blended numbers into materials.

    Args:
        albedo: Stored.
        roughness: Stored.
        specular: Stored; one number for all colours.
        min_roughness: Lobes narrower than a texel flicker: 0.3 is safe for 16 x 32 texels [3.4].
    """
    if are_for_kernels(albedo, roughness, specular):
        activated = material_activations.activate_materials(
            albedo, roughness, specular, min_roughness
        )
        return Materials(*activated)
    return Materials(
        albedo.sigmoid(),
        (min_roughness + (1.0 - min_roughness) * roughness.sigmoid())[..., 0],
        specular.sigmoid().expand(-1, -1, 3).contiguous(),
    )


def face_labels(labels: Int[Tensor, " v"], faces: Int[Tensor, "f 3"]) -> Int[Tensor, " f"]:
    """Label of most corners of each face; of three different ones the lowest."""
    return labels[faces].mode(dim=1).values


def initial_materials(
    surface: SurfacePoints,
    faces: Int[Tensor, "f 3"],
    vertex_albedo: Float[Tensor, "v 3"],
    labels: Int[Tensor, " v"],
    min_roughness: float,
) -> dict[str, Float[Tensor, "n c"]]:
    """Stored materials of Gaussians that sit on a mesh.

    Args:
        surface: Where they sit.
        faces: Of the mesh.
        vertex_albedo: Linear, in [0, 1]; clamped to [0.02, 0.98].
        labels: Of vertices, places in ``SEMANTIC_GROUPS``.
        min_roughness: See ``activate_materials``; less than 0.65.

    Raises:
        ValueError: If a label has no name, or the initial roughness is not above the least.
    """
    if labels.numel() and not 0 <= int(labels.min()) <= int(labels.max()) < len(SEMANTIC_GROUPS):
        found = f"{int(labels.min())} to {int(labels.max())}"
        raise ValueError(f"labels must lie in [0, {len(SEMANTIC_GROUPS)}), got {found}")
    if not 0.0 <= min_roughness < INITIAL_ROUGHNESS:
        raise ValueError(f"min_roughness must lie in [0, {INITIAL_ROUGHNESS}), got {min_roughness}")
    albedo = interpolate_on_faces(vertex_albedo, faces, surface.face_index, surface.barycentrics)
    share = (INITIAL_ROUGHNESS - min_roughness) / (1.0 - min_roughness)
    by_label = vertex_albedo.new_tensor([INITIAL_SPECULAR[name] for name in SEMANTIC_GROUPS])
    specular = by_label[face_labels(labels, faces)[surface.face_index]]
    return {
        "albedo": albedo.clamp(*_ALBEDO_RANGE).logit(),
        "roughness": torch.full_like(albedo[:, :1], share).logit(),
        "specular": specular.logit()[:, None],
    }
