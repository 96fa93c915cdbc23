"""The scene's frame and the first Gaussians (spec sections 2.2 and 3.1)."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from vultus.data.sequence import HeadSequence
from vultus.geometry.cameras import Camera, camera_centers
from vultus.geometry.mesh_sampling import sample_surface
from vultus.heads.base import HeadPose
from vultus.heads.expression_track import check_has_mesh
from vultus.methods.gaussianhead.config import ModelConfig
from vultus.methods.gaussianhead.derivation import (
    initial_quaternions,
    official_initial_quaternions,
    official_stretches,
)

__all__ = ["Scene", "find_scene", "initial_gaussians", "neighbor_distances", "training_cameras"]

_NEIGHBORS = 3
_MIN_SQUARED_DISTANCE = 1e-7
"""Published floor of the mean squared distance to the neighbours."""
_EXTENT_FACTOR = 1.1
_CHUNK = 1024


@dataclass(frozen=True)
class Scene:
    """Frame in which Gaussians live: x = scale (p - center) for a point p of the head at rest."""

    center: Float[Tensor, " 3"]
    scale: float
    extent: float
    """Size for density control, scene units."""
    viewpoint: Camera
    """The first training camera, in the world."""


def find_scene(
    model: ModelConfig, sequence: HeadSequence, motions: Float[Tensor, "t 4 4"]
) -> Scene:
    """Place the scene as the settings say.

    Args:
        model: Settings.
        sequence: The capture.
        motions: Rigid motion of the head at every timestep.

    Raises:
        ValueError: If the extent is that of the cameras, and they stand still; or if the scene is
            that of the head, and it has no mesh.
    """
    cameras = training_cameras(sequence, motions)
    centers = camera_centers(cameras)
    center, scale = torch.tensor(model.scene_center), model.scene_scale
    if model.scene == "head":
        vertices = _rest_vertices(sequence)
        low, high = vertices.amin(dim=0), vertices.amax(dim=0)
        center, scale = 0.5 * (low + high), 2.0 / float((high - low).max())
    elif model.scene == "cameras":
        distances = (centers - center).norm(dim=1)
        focal = cameras.intrinsics[:, 0, 0]
        scale = 1.0 / float((distances * 0.5 * cameras.width / focal).mean())
    extent = model.extent
    if extent is None:
        spread = (centers - centers.mean(dim=0)).norm(dim=1).max()
        extent = _EXTENT_FACTOR * float(spread) * scale
        if not extent > 0:
            raise ValueError("model.extent must be given where neither head nor camera moves")
    return Scene(center, scale, extent, sequence.split("train")[0].camera)


def training_cameras(sequence: HeadSequence, motions: Float[Tensor, "t 4 4"]) -> Camera:
    """Cameras of the training images, as the head at rest sees them."""
    records = sequence.split("train")
    cameras = Camera.stack([record.camera for record in records])
    timesteps = torch.tensor([record.timestep for record in records])
    return replace(cameras, world_to_camera=cameras.world_to_camera @ motions[timesteps])


def initial_gaussians(
    model: ModelConfig, sequence: HeadSequence, scene: Scene, generator: torch.Generator
) -> dict[str, Tensor]:
    """Make the first Gaussians: round, as large as their distance to the nearest others.

    Raises:
        ValueError: If they are to lie on a mesh that the head does not have.
    """
    num = model.num_gaussians
    if model.initial_points == "mesh":
        faces = sequence.head.topology.faces
        on_faces = sample_surface(_rest_vertices(sequence), faces, num, generator)
        points = scene.scale * (on_faces.points - scene.center)
    else:
        points = model.cube_half_width * (2.0 * torch.rand(num, 3, generator=generator) - 1.0)
    squared = neighbor_distances(points).square().mean(dim=1)
    scales = squared.clamp(min=_MIN_SQUARED_DISTANCE).sqrt()
    values = {
        "means": points,
        "log_scales": scales.log()[:, None].repeat(1, 3),
        "quats": torch.tensor([1.0, 0.0, 0.0, 0.0]).repeat(num, 1),
    }
    if model.derivation == "paper":
        values["derivation"] = initial_quaternions(num, model.num_derivations, generator)
    elif model.derivation != "none":
        tau = official_initial_quaternions(num, model.num_derivations, generator)
        is_baked = model.derivation == "baked_scale"
        values["derivation"] = official_stretches(tau) if is_baked else tau
    if model.opacity_offsets:
        values["opacity_offsets"] = torch.full((num,), model.initial_opacity_offset)
    return values


def neighbor_distances(points: Float[Tensor, "n 3"]) -> Float[Tensor, "n k"]:
    """Distances to the three nearest other points, or to all where there are fewer."""
    count = min(_NEIGHBORS, points.shape[0] - 1)
    if count < 1:
        return torch.ones(points.shape[0], 1)
    found = []
    for start in range(0, points.shape[0], _CHUNK):
        part = points[start : start + _CHUNK]
        distances = torch.cdist(part, points, compute_mode="donot_use_mm_for_euclid_dist")
        own = torch.arange(start, start + part.shape[0])
        distances[torch.arange(part.shape[0]), own] = torch.inf
        found.append(distances.topk(count, dim=1, largest=False).values)
    return torch.cat(found)


def _rest_vertices(sequence: HeadSequence) -> Float[Tensor, "v 3"]:
    """The subject's mesh where ``head_to_world`` is the identity.

    Raises:
        ValueError: If the head has no mesh.
    """
    check_has_mesh(sequence.head, "model.initial_points 'mesh' and model.scene 'head'")
    given = sequence.pose.tensors()
    shape = {n: given[n][:1] for n in ("identity_coeffs", "static_offset") if n in given}
    with torch.no_grad():
        return sequence.head.vertices(HeadPose(**shape))[0]
