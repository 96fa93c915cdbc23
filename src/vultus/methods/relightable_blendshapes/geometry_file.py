"""The personal mesh on disk, and as the mesh that lights and shades Gaussians.

Figures in brackets are sections of our specification.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import torch
from jaxtyping import Float, Int
from torch import Tensor

from vultus.core.bundles import load_bundle, save_bundle
from vultus.data.semantics import SEMANTIC_GROUPS
from vultus.data.sequence import LightSpace
from vultus.geometry.mesh_sampling import closest_points, interpolate_on_faces
from vultus.geometry.meshes import TriangleMesh, vertex_normals
from vultus.heads.base import HeadPose, JointedHead, head_on_device
from vultus.heads.registry import describe_head
from vultus.methods.relightable_blendshapes.mouth import Offset
from vultus.methods.relightable_blendshapes.personal_mesh import PersonalMesh, TeethProbes

if TYPE_CHECKING:
    from vultus.methods.relightable_blendshapes.geometry_trainer import GeometryTrainer

__all__ = ["GEOMETRY_FILE", "FittedMesh", "PersonalGeometry"]

GEOMETRY_FILE = "geometry.safetensors"
_FORMAT = "vultus-geometry-1"
_SUBJECT = "subject."
_MEDIUM_ALBEDO = 0.5


@dataclass(frozen=True)
class PersonalGeometry:
    """What the geometry stage has found about a subject [8.2]; on the CPU."""

    rest: Float[Tensor, "v 3"]
    """Without offsets, metres."""
    offsets: Float[Tensor, "v 3"]
    faces: Int[Tensor, "f 3"]
    skinning_weights: Float[Tensor, "v j"]
    labels: Int[Tensor, " v"]
    """``data.semantics.SEMANTIC_GROUPS``."""
    albedo: Float[Tensor, "v 3"]
    """Linear."""
    radiance: Float[Tensor, "3 h w"]
    """Of the light of the capture."""
    light_space: LightSpace
    levels: int
    """Of subdivision."""
    subject: HeadPose
    """Static fields of the track."""
    head: Mapping[str, Any]
    """``describe_head`` of the head model."""

    @staticmethod
    def of(trainer: GeometryTrainer) -> PersonalGeometry:
        """Take what has been fitted."""
        mesh, model = trainer.mesh, trainer.model
        with torch.no_grad():
            return PersonalGeometry(
                rest=mesh.rest.cpu(),
                offsets=model.offsets.detach().cpu(),
                faces=mesh.faces.cpu(),
                skinning_weights=mesh.skinning_weights.cpu(),
                labels=trainer.facts.labels.cpu(),
                albedo=model.albedo.cpu(),
                radiance=model.radiance.cpu(),
                light_space=trainer.sequence.light_space,
                levels=len(mesh.refinement.edges),
                subject=trainer.subject.to("cpu"),
                head=describe_head(trainer.sequence.head),
            )

    def save(self, path: Path) -> None:
        """Write one safetensors file."""
        tensors = {
            "rest": self.rest,
            "offsets": self.offsets,
            "faces": self.faces.int(),
            "skinning_weights": self.skinning_weights,
            "labels": self.labels.to(torch.uint8),
            "albedo": self.albedo,
            "radiance": self.radiance,
            **{f"{_SUBJECT}{name}": value for name, value in self.subject.tensors().items()},
        }
        metadata = {
            "format": _FORMAT,
            "unit": "metre",
            "levels": self.levels,
            "light_space": self.light_space,
            "head": dict(self.head),
        }
        save_bundle(path, {n: t.contiguous() for n, t in tensors.items()}, metadata)

    @staticmethod
    def load(path: Path) -> PersonalGeometry:
        """Read what ``save`` wrote.

        Raises:
            FileNotFoundError: If there is no such file.
            ValueError: If it is not of this format.
        """
        bundle = load_bundle(path)
        facts = bundle.metadata
        if facts.get("format") != _FORMAT or facts.get("light_space") not in get_args(LightSpace):
            raise ValueError(f"{path}: format must be {_FORMAT}, got {facts.get('format')}")
        subject = {
            name.removeprefix(_SUBJECT): value
            for name, value in bundle.tensors.items()
            if name.startswith(_SUBJECT)
        }
        return PersonalGeometry(
            rest=bundle.tensor("rest"),
            offsets=bundle.tensor("offsets"),
            faces=bundle.tensor("faces").long(),
            skinning_weights=bundle.tensor("skinning_weights"),
            labels=bundle.tensor("labels").long(),
            albedo=bundle.tensor("albedo"),
            radiance=bundle.tensor("radiance"),
            light_space=facts["light_space"],
            levels=int(facts["levels"]),
            subject=HeadPose(**subject),
            head=facts["head"],
        )

    @property
    def canonical(self) -> TriangleMesh:
        """The subject at rest, offsets added, with linear albedo for colours."""
        vertices = self.rest + self.offsets
        normals = vertex_normals(vertices, self.faces)
        return TriangleMesh(vertices, self.faces, colors=self.albedo, normals=normals)


class FittedMesh:
    """The personal mesh posed by its head model: a ``material_mesh.ShadingMesh``."""

    def __init__(
        self,
        geometry: PersonalGeometry,
        head: JointedHead,
        device: torch.device | str = "cpu",
        *,
        teeth_offset: Offset | None = None,
    ) -> None:
        """Put it on a device.

        Args:
            geometry: Of the subject.
            head: The head model that it was fitted with, on the CPU.
            device: Where the mesh is posed.
            teeth_offset: Where strips stand for the teeth, which become probes behind the
                vertices; ``None`` where no strips do.

        Raises:
            ValueError: If the head is another one.
        """
        if describe_head(head) != dict(geometry.head):
            raise ValueError(
                f"head must be the one of the geometry, {geometry.head}, got {describe_head(head)}"
            )
        moved = head_on_device(head, device)
        assert isinstance(moved, JointedHead)
        self._subject = geometry.subject.to(device)
        self._mesh = PersonalMesh.of(moved, self._subject, geometry.levels, device)
        self._offsets = geometry.offsets.to(device)
        self._probes = None
        if teeth_offset is not None:
            self._probes = TeethProbes.of(teeth_offset, len(head.joint_names), device)
        extra = 0 if self._probes is None else len(self._probes.rest)
        mouth = torch.full((extra,), SEMANTIC_GROUPS.index("mouth"))
        self._labels = torch.cat([geometry.labels, mouth]).to(device)
        grey = torch.full((extra, 3), _MEDIUM_ALBEDO)
        self._albedo = torch.cat([geometry.albedo, grey]).to(device)

    @property
    def rest_vertices(self) -> Float[Tensor, "v 3"]:
        """See ``ShadingMesh``; probes come last."""
        rest = self._mesh.rest + self._offsets
        return rest if self._probes is None else torch.cat([rest, self._probes.rest])

    @property
    def faces(self) -> Int[Tensor, "f 3"]:
        """See ``ShadingMesh``; the strips' faces come last."""
        faces = self._mesh.faces
        if self._probes is None:
            return faces
        return torch.cat([faces, self._probes.faces + self._mesh.num_vertices])

    @property
    def occluders(self) -> Int[Tensor, "g 3"]:
        """All faces but the strips'."""
        return self._mesh.faces

    @property
    def labels(self) -> Int[Tensor, " v"]:
        """As voted."""
        return self._labels

    @property
    def albedo(self) -> Float[Tensor, "v 3"]:
        """As fitted; linear. Probes are medium grey."""
        return self._albedo

    def carried(self, points: Float[Tensor, "n 3"]) -> Float[Tensor, "n 3"]:
        """Add the offsets of the nearest points without offsets."""
        rest, faces = self._mesh.rest, self._mesh.faces
        near = closest_points(points, rest, faces, num_neighbors=8)
        return points + interpolate_on_faces(
            self._offsets, faces, near.face_index, near.barycentrics
        )

    def vertices(self, pose: HeadPose) -> Float[Tensor, "b v 3"]:
        """Pose the subject; static fields of the pose are not read."""
        own = pose.replace(**self._subject.tensors())
        vertices = self._mesh.pose(self._offsets, own)
        if self._probes is None:
            return vertices
        transforms = self._mesh.head.joint_motion(own).transforms
        return torch.cat([vertices, self._probes.pose(transforms)], dim=1)
