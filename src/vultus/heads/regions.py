"""Named vertex sets of a head mesh."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Bool, Int
from torch import Tensor

__all__ = [
    "FLAME_MASKS",
    "REQUIRED_REGIONS",
    "complete_regions",
    "flame_regions",
    "open_boundary",
    "region_mask",
]

REQUIRED_REGIONS = ("skin", "left_eyeball", "right_eyeball", "teeth", "boundary", "neck")
"""Regions that every head model has, if only as an empty set."""

FLAME_MASKS = (
    "face neck scalp boundary right_eyeball left_eyeball right_ear left_ear forehead eye_region "
    "nose lips right_eye_region left_eye_region"
).split()
"""Names of the published regions."""


def region_mask(
    indices: Int[Tensor, " n"] | Sequence[int], num_vertices: int, name: str = "region"
) -> Bool[Tensor, " v"]:
    """Turn vertex ids into a mask.

    Raises:
        ValueError: If an id lies outside the mesh.
    """
    ids = torch.as_tensor(indices, dtype=torch.int64)
    if ids.numel() and (int(ids.min()) < 0 or int(ids.max()) >= num_vertices):
        raise ValueError(
            f"{name}: vertex ids must lie in [0, {num_vertices}), "
            f"got {int(ids.min())} to {int(ids.max())}"
        )
    mask = torch.zeros(num_vertices, dtype=torch.bool)
    mask[ids] = True
    return mask


def complete_regions(
    regions: Mapping[str, Bool[Tensor, " v"]], num_vertices: int
) -> dict[str, Bool[Tensor, " v"]]:
    """Add the required regions that a model lacks as empty sets."""
    empty = torch.zeros(num_vertices, dtype=torch.bool)
    return {name: regions.get(name, empty) for name in (*REQUIRED_REGIONS, *regions)}


def open_boundary(faces: Int[Tensor, "f 3"], num_vertices: int) -> Bool[Tensor, " v"]:
    """Mark the vertices of edges that belong to one face only."""
    edges = torch.cat([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]]).sort(dim=1).values
    # One number per edge: sorting numbers is much faster than sorting rows.
    unique, counts = torch.unique(edges[:, 0] * num_vertices + edges[:, 1], return_counts=True)
    rim = unique[counts == 1]
    ends = torch.cat([torch.div(rim, num_vertices, rounding_mode="floor"), rim % num_vertices])
    return region_mask(ends, num_vertices)


def flame_regions(
    masks: Mapping[str, Int[Tensor, " n"]], num_vertices: int, num_teeth: int = 0
) -> dict[str, Bool[Tensor, " v"]]:
    """Build FLAME's regions from its published vertex masks.

    Beside the published ones: ``eyeballs``, ``ears``, ``hair`` (scalp without face and neck),
    ``left_eye`` and ``right_eye`` (region around the eye and eyeball) and ``skin`` (all but
    eyeballs and teeth).

    Args:
        masks: Vertex ids by name; all of FLAME's names are needed.
        num_vertices: Vertices in all; the last ``num_teeth`` are the teeth.
        num_teeth: 0 or the size of the added teeth.

    Raises:
        ValueError: If a mask is missing.
    """
    missing = [name for name in FLAME_MASKS if name not in masks]
    if missing:
        raise ValueError(f"FLAME masks must contain {missing[0]!r}, got {', '.join(masks)}")
    regions = {name: region_mask(ids, num_vertices, name) for name, ids in masks.items()}
    teeth = torch.arange(num_vertices) >= num_vertices - num_teeth
    eyeballs = regions["left_eyeball"] | regions["right_eyeball"]
    regions |= {
        "eyeballs": eyeballs,
        "ears": regions["left_ear"] | regions["right_ear"],
        "hair": regions["scalp"] & ~(regions["face"] | regions["neck"]),
        "left_eye": regions["left_eye_region"] | regions["left_eyeball"],
        "right_eye": regions["right_eye_region"] | regions["right_eyeball"],
        "teeth": teeth,
        "skin": ~(eyeballs | teeth),
    }
    return complete_regions(regions, num_vertices)
