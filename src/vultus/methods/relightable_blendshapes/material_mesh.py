"""The mesh that says where Gaussians face and what hides light from them."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from vultus.data.semantics import SEMANTIC_GROUPS, SemanticGroup
from vultus.geometry.meshes import vertex_normals
from vultus.heads.base import HeadModel, HeadPose, RiggedHead, Topology, head_on_device
from vultus.kernels.env_shade import PROBE_BIAS
from vultus.kernels.ray_mesh import Bvh, vertex_visibility
from vultus.render.lighting.envmap import envmap_directions

__all__ = [
    "HeadMesh",
    "ShadingMesh",
    "covered_vertices",
    "exposed_faces",
    "inside_faces",
    "posed_normals",
    "region_labels",
]

_REGIONS_OF_LABEL: dict[SemanticGroup, tuple[str, ...]] = {
    "skin": ("skin", "ears", "neck"),
    "cloth": ("garment",),
    "hair": ("hair", "scalp", "lashes"),
    "brows": ("brows",),
    "lips": ("lips",),
    "mouth": ("teeth", "tongue", "gums_tongue", "mouth_interior"),
    "eyes": ("left_eyeball", "right_eyeball"),
}
"""Regions of heads; later ones win where they overlap, and names that a head lacks do not count."""

_MEDIUM_ALBEDO = 0.5
_PROBE_ROWS = 8
_COVERED = 0.05
"""What sees less of the sphere at rest lies under something."""


@runtime_checkable
class ShadingMesh(Protocol):
    """A mesh that is posed as the head is; everything on one device."""

    @property
    def rest_vertices(self) -> Float[Tensor, "v 3"]:
        """Where neutral Gaussians are bound: the subject without expression or pose."""
        ...

    @property
    def faces(self) -> Int[Tensor, "f 3"]:
        """What normals are those of."""
        ...

    @property
    def occluders(self) -> Int[Tensor, "g 3"]:
        """Faces that hide light: the first ones of ``faces``."""
        ...

    @property
    def labels(self) -> Int[Tensor, " v"]:
        """What vertices are made of: places in ``SEMANTIC_GROUPS``."""
        ...

    @property
    def albedo(self) -> Float[Tensor, "v 3"]:
        """Linear, where materials start."""
        ...

    def carried(self, points: Float[Tensor, "n 3"]) -> Float[Tensor, "n 3"]:
        """Where points of the head model's mesh at rest lie on this one."""
        ...

    def vertices(self, pose: HeadPose) -> Float[Tensor, "b v 3"]:
        """Pose the mesh, whose poses are those of its head; nothing waits for a GPU."""
        ...


class HeadMesh:
    """The head model's own mesh, for captures without a geometry stage."""

    def __init__(self, head: HeadModel, pose: HeadPose, device: torch.device | str = "cpu") -> None:
        """Shape the subject of a track.

        Args:
            head: On the CPU; a copy is made for another device.
            pose: Of one subject; only its first row's static fields are read.
            device: Where the mesh is posed.
        """
        self._head = head_on_device(head, device)
        first = pose[0].to(device)
        self._static = {n: getattr(first, n) for n in ("identity_coeffs", "static_offset")}
        rest_pose = HeadPose(**self._static)
        with torch.no_grad():
            self._rest_vertices = self._head.vertices(rest_pose)[0]
            self._subject = None
            if isinstance(self._head, RiggedHead):
                self._subject = self._head.subject_rest(rest_pose)
        self._faces = head.topology.faces.to(device)
        self._labels = region_labels(head.topology).to(device)

    @property
    def rest_vertices(self) -> Float[Tensor, "v 3"]:
        """See ``ShadingMesh``."""
        return self._rest_vertices

    @property
    def faces(self) -> Int[Tensor, "f 3"]:
        """Those of the head model."""
        return self._faces

    @property
    def occluders(self) -> Int[Tensor, "f 3"]:
        """All faces."""
        return self._faces

    @property
    def labels(self) -> Int[Tensor, " v"]:
        """By the regions of the head model."""
        return self._labels

    @property
    def albedo(self) -> Float[Tensor, "v 3"]:
        """Medium grey: nothing is known."""
        return torch.full_like(self._rest_vertices, _MEDIUM_ALBEDO)

    def carried(self, points: Float[Tensor, "n 3"]) -> Float[Tensor, "n 3"]:
        """Where they are: it is the same mesh."""
        return points

    def vertices(self, pose: HeadPose) -> Float[Tensor, "b v 3"]:
        """Pose the subject; static fields of the pose are not read."""
        if self._subject is None or not isinstance(self._head, RiggedHead):
            return self._head.vertices(pose.replace(**self._static))
        return self._head.pose_subject(self._subject, pose)


def posed_normals(
    vertices: Float[Tensor, "b v 3"], faces: Int[Tensor, "f 3"]
) -> Float[Tensor, "b v 3"]:
    """Unit normals of posed vertices, constants: the mesh is frozen while materials are trained."""
    with torch.no_grad():
        return vertex_normals(vertices, faces)


def covered_vertices(
    vertices: Float[Tensor, "v 3"], faces: Int[Tensor, "f 3"], occluders: Int[Tensor, "o 3"]
) -> Bool[Tensor, " v"]:
    """Where a mesh at rest sees next to nothing of the sphere around; waits for a GPU."""
    normals = vertex_normals(vertices, faces)
    lights = envmap_directions(_PROBE_ROWS, 2 * _PROBE_ROWS).flatten(0, 1).to(vertices)
    seen = vertex_visibility(Bvh.build(vertices, occluders), vertices, normals, lights, PROBE_BIAS)
    return seen.float().mean(dim=1) < _COVERED


def exposed_faces(
    faces: Int[Tensor, "f 3"], is_covered: Bool[Tensor, " v"], labels: Int[Tensor, " v"]
) -> Int[Tensor, " g"]:
    """Rows of the faces that are not covered at rest as a scalp under hair is.

    Gaussians would otherwise look up where no light ever arrives and shine through what covers it.
    The inside of the mouth stays: it opens.
    """
    is_out = is_covered & (labels != SEMANTIC_GROUPS.index("mouth"))
    return (~is_out[faces].all(dim=1)).nonzero()[:, 0]


def inside_faces(faces: Int[Tensor, "f 3"], labels: Int[Tensor, " v"]) -> Bool[Tensor, " f"]:
    """Faces of the inside of the mouth, teeth and tongue among them."""
    return (labels == SEMANTIC_GROUPS.index("mouth"))[faces].any(dim=1)


def region_labels(topology: Topology) -> Int[Tensor, " v"]:
    """What vertices are made of, by the regions of a head; ``background`` for what is in none."""
    labels = torch.full((topology.num_vertices,), SEMANTIC_GROUPS.index("background"))
    for label, regions in _REGIONS_OF_LABEL.items():
        for region in regions:
            if region in topology.regions:
                labels[topology.regions[region].cpu()] = SEMANTIC_GROUPS.index(label)
    return labels
