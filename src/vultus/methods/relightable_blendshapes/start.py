"""The first Gaussians: where they sit on the subject, and what holds them there (spec 3.2, 3.3)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from scipy.spatial import KDTree
from torch import Tensor

from vultus.core.threads import num_threads
from vultus.gaussians.surfels import logit
from vultus.geometry.even_sampling import sample_evenly
from vultus.geometry.mesh_sampling import SurfacePoints, interpolate_on_faces
from vultus.heads.base import JointedHead
from vultus.methods.relightable_blendshapes.blendshapes import (
    expression_motions,
    initial_mean_deltas,
    initial_quat_deltas,
)
from vultus.methods.relightable_blendshapes.config import ModelConfig
from vultus.methods.relightable_blendshapes.consistency import (
    expression_mask,
    neck_vertices,
    vertex_motion,
)
from vultus.methods.relightable_blendshapes.mouth import (
    LOWER_TEETH_WEIGHTS,
    PUBLISHED_OFFSET,
    Offset,
    teeth_strips,
)
from vultus.methods.relightable_blendshapes.posing import NUM_EYELIDS, Anchors
from vultus.methods.relightable_blendshapes.rig_motion import SubjectMeshes, back_of_head

__all__ = [
    "FACE",
    "LOWER_TEETH",
    "UPPER_TEETH",
    "StartPoints",
    "anchor_points",
    "find_teeth_offset",
    "has_strips",
    "initial_geometry",
    "place_points",
    "with_teeth",
]

FACE, UPPER_TEETH, LOWER_TEETH = range(3)
"""Parts that Gaussians belong to: the head's mesh, and the two strips of teeth."""

_NEIGHBORS = 3
_MIN_SQUARED_DISTANCE = 1e-7
"""Published floor of the mean squared distance to the neighbours, square metres."""
_NECK_JOINT = 1
"""Carries the skull."""


@dataclass(frozen=True)
class StartPoints:
    """Where Gaussians start, in the frame of the subject at rest."""

    points: Float[Tensor, "n 3"]
    part: Int[Tensor, " n"]
    """``FACE``, ``UPPER_TEETH`` or ``LOWER_TEETH``, in this order."""
    surface: SurfacePoints
    """Of the first ones, those of the head's mesh."""


def has_strips(head: JointedHead, model: ModelConfig) -> bool:
    """Whether strips stand for the teeth."""
    if model.teeth == "missing":
        return not bool(head.topology.regions["teeth"].any())
    return model.teeth == "always"


def find_teeth_offset(model: ModelConfig, facts: Mapping[str, object]) -> Offset:
    """Where the strips of teeth stand: by the settings, the capture, or as published.

    Args:
        model: Settings.
        facts: Of the capture; ``mouth_offset`` holds three numbers where it is known.
    """
    if model.teeth_offset is not None:
        return model.teeth_offset
    found = facts.get("mouth_offset")
    if isinstance(found, list) and len(found) == len(PUBLISHED_OFFSET):
        x, y, z = map(float, found)
        return x, y, z
    return PUBLISHED_OFFSET


def place_points(
    head: JointedHead,
    meshes: SubjectMeshes,
    model: ModelConfig,
    teeth_offset: Offset,
    generator: torch.Generator,
) -> StartPoints:
    """Spread points over the mesh, and over strips where the mesh has no teeth."""
    faces = head.topology.faces
    surface = sample_evenly(meshes.neutral, faces, model.num_points, generator)
    points, part = [surface.points], [torch.full((len(surface.points),), FACE)]
    if has_strips(head, model):
        upper, lower, strip_faces = teeth_strips(teeth_offset)
        for label, strip in ((UPPER_TEETH, upper), (LOWER_TEETH, lower)):
            teeth = sample_evenly(strip, strip_faces, model.num_teeth_points, generator)
            points.append(teeth.points)
            part.append(torch.full((len(teeth.points),), label))
    return StartPoints(torch.cat(points), torch.cat(part), surface)


def initial_geometry(start: StartPoints, model: ModelConfig) -> dict[str, Tensor]:
    """Round Gaussians, as large as their distance to the nearest others.

    Distances are taken within each part, as published.
    """
    num = start.points.shape[0]
    squared = torch.empty(num)
    for label in start.part.unique():
        rows = start.part == label
        squared[rows] = _squared_spacing(start.points[rows])
    scales = squared.clamp(min=_MIN_SQUARED_DISTANCE).sqrt()
    return {
        "means": start.points,
        "log_scales": scales.log()[:, None].repeat(1, 3),
        "quats": torch.tensor([1.0, 0.0, 0.0, 0.0]).repeat(num, 1),
        "opacity_logits": torch.full((num,), logit(model.initial_opacity)),
    }


def anchor_points(
    head: JointedHead, meshes: SubjectMeshes, start: StartPoints, model: ModelConfig
) -> Anchors:
    """Hang points on the mesh and strips on their joints.

    Weights, correctives and masks are those of the mesh at the points, where the published program
    takes those of whole faces.
    """
    surface, faces = start.surface, head.topology.faces
    index = surface.face_index

    def at_points(values: Tensor) -> Tensor:
        return interpolate_on_faces(values, faces, index, surface.barycentrics)

    rule = "three_steps" if model.official_quirks else "polar"
    used, of_used = index.unique(return_inverse=True)
    motions = expression_motions(meshes.neutral, meshes.expressed, faces[used], rule)
    offsets = vertex_motion(
        meshes.neutral,
        meshes.expressed,
        neck_vertices(meshes.neutral, head.topology.regions),
        # Of other heads than FLAME, expressions leave the back of the head where it is.
        back_of_head(head).unique() if head.name == "flame" else None,
    )
    correctives = at_points(head.pose_basis)
    if model.official_quirks:
        correctives = head.pose_basis[:, faces[index]].sum(dim=2)
    unit_quats = torch.tensor([1.0, 0.0, 0.0, 0.0]).expand(len(index), -1)
    on_face = Anchors(
        skinning_weights=at_points(head.skinning_weights),
        expression_mask=expression_mask(at_points(offsets)),
        mean_deltas=initial_mean_deltas(motions, of_used, surface.points),
        quat_deltas=initial_quat_deltas(motions, of_used, unit_quats),
        pose_shapes=correctives.permute(1, 2, 0).contiguous(),
        eyelid_shapes=surface.points.new_zeros(len(index), 3, NUM_EYELIDS),
    )
    return with_teeth(on_face, start.part, is_skull_fitted=model.official_quirks)


def with_teeth(face: Anchors, part: Int[Tensor, " n"], *, is_skull_fitted: bool) -> Anchors:
    """Append the rows of strips, which follow joints alone.

    Args:
        face: Anchors of the mesh's Gaussians.
        part: Of all Gaussians, those of the mesh first.
        is_skull_fitted: Whether one more transform, behind those of the joints, carries the upper
            teeth; otherwise the skull's joint does.
    """
    num_joints = face.skinning_weights.shape[1]
    num_teeth = part.shape[0] - face.skinning_weights.shape[0]
    rows = {
        name: torch.cat([value, value.new_zeros(num_teeth, *value.shape[1:])])
        for name, value in face.tensors().items()
    }
    weights = rows["skinning_weights"]
    if is_skull_fitted:
        weights = torch.nn.functional.pad(weights, (0, 1))
    skull, jaw = torch.zeros(2, weights.shape[1])
    skull[num_joints if is_skull_fitted else _NECK_JOINT] = 1.0
    shares = torch.tensor(LOWER_TEETH_WEIGHTS)
    jaw[: len(shares)] = shares / shares.sum()
    weights[part == UPPER_TEETH] = skull
    weights[part == LOWER_TEETH] = jaw
    return Anchors(**{**rows, "skinning_weights": weights})


def _squared_spacing(points: Float[Tensor, "n 3"]) -> Float[Tensor, " n"]:
    """Mean squared distance to the nearest others; 0 for a point that is alone."""
    count = min(_NEIGHBORS, points.shape[0] - 1)
    if count < 1:
        return torch.zeros(points.shape[0])
    places = points.double().numpy()
    distances, _ = KDTree(places).query(places, count + 1, workers=num_threads())
    nearest = torch.from_numpy(np.asarray(distances)[:, 1:])
    return nearest.square().mean(dim=1).to(points)
