"""A head's mesh with the subject's own detail: midpoints, and offsets that move with the joints.

The posed mesh is the head model's, subdivided, plus each offset turned by the joints that its
vertex follows. Without offsets it lies exactly on the faces of the head model, so that it stays in
register with all that hangs on those; at vertices of the head model itself, an offset acts as if
it had been added before skinning. Figures in brackets are sections of our specification.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Float, Int, Int32
from torch import Tensor

from vultus.geometry.meshes import subdivide, unique_edges
from vultus.heads.base import HeadPose, JointedHead
from vultus.heads.skinning import HEAD_JOINTS, linear_blend_skinning
from vultus.kernels.mesh_raster import adjacent_pairs, face_neighbors
from vultus.methods.relightable_blendshapes.mouth import (
    LOWER_TEETH_WEIGHTS,
    Offset,
    teeth_strips,
)

__all__ = ["OffsetFrames", "PersonalMesh", "Refinement", "TeethProbes", "static_pose"]


@dataclass(frozen=True)
class Refinement:
    """Midpoint subdivision of one topology, prepared once for any attribute [3.5]."""

    faces: Int[Tensor, "f 3"]
    """Of the finest level."""
    edges: tuple[Int[Tensor, "_ 2"], ...]
    """Whose midpoints each level appends."""

    @staticmethod
    def of(faces: Int[Tensor, "f 3"], num_vertices: int, levels: int) -> Refinement:
        """Subdivide a number of times; 0 leaves the mesh as it is."""
        edges = []
        for _ in range(levels):
            edges.append(unique_edges(faces))
            _, faces = subdivide(torch.zeros(num_vertices, 1, device=faces.device), faces)
            num_vertices += len(edges[-1])
        return Refinement(faces, tuple(edges))

    def apply(
        self, attributes: Float[Tensor, "*b v d"], first_level: int = 0
    ) -> Float[Tensor, "*b u d"]:
        """Append the means of edges.

        Args:
            attributes: Of the vertices of a level.
            first_level: That level; 0 is the head model's own.
        """
        for edges in self.edges[first_level:]:
            middles = 0.5 * (attributes[..., edges[:, 0], :] + attributes[..., edges[:, 1], :])
            attributes = torch.cat([attributes, middles], dim=-2)
        return attributes

    @cached_property
    def neighbors(self) -> Int32[Tensor, "f 3"]:
        """The face across every edge; see ``kernels.mesh_raster``."""
        return face_neighbors(self.faces)

    @cached_property
    def adjacent_faces(self) -> Int[Tensor, "n 2"]:
        """Pairs of faces that share an edge."""
        return adjacent_pairs(self.neighbors)


@dataclass(frozen=True)
class OffsetFrames:
    """Where the vertices of b posed heads are, and how the joints turn offsets there."""

    vertices: Float[Tensor, "b v 3"]
    """Posed, without offsets."""
    rotations: Float[Tensor, "b v 3 3"]
    """Means of the joints' rotations; offsets are columns."""

    def carry(self, offsets: Float[Tensor, "v 3"]) -> Float[Tensor, "b v 3"]:
        """Add offsets that are given at rest."""
        return self.vertices + (self.rotations @ offsets[:, :, None])[..., 0]


@dataclass(frozen=True)
class PersonalMesh:
    """A head model's mesh at one level of detail, for one subject."""

    head: JointedHead
    refinement: Refinement
    rest: Float[Tensor, "v 3"]
    """The subject at rest, without offsets."""
    skinning_weights: Float[Tensor, "v j"]

    @staticmethod
    def of(
        head: JointedHead,
        subject: HeadPose,
        levels: int,
        device: torch.device | str = "cpu",
    ) -> PersonalMesh:
        """Shape a subject.

        Args:
            head: Any head model with joints, on the device.
            subject: Its static fields say who it is; see ``static_pose``.
            levels: Of subdivision.
            device: Of the head and the subject.
        """
        topology = head.topology
        faces = topology.faces.to(device)
        refinement = Refinement.of(faces, topology.num_vertices, levels)
        with torch.no_grad():
            rest = refinement.apply(head.vertices(subject)[0])
        return PersonalMesh(head, refinement, rest, refinement.apply(head.skinning_weights))

    @property
    def faces(self) -> Int[Tensor, "f 3"]:
        """Counter-clockwise seen from outside."""
        return self.refinement.faces

    @property
    def num_vertices(self) -> int:
        """Of the level."""
        return self.rest.shape[0]

    def frames(self, pose: HeadPose) -> OffsetFrames:
        """Pose the head model; differentiable in the pose."""
        rotations = self.head.joint_motion(pose).transforms[..., :3]
        mixed = self.skinning_weights @ rotations.flatten(start_dim=2)
        vertices = self.refinement.apply(self.head.vertices(pose))
        return OffsetFrames(vertices, mixed.unflatten(-1, (3, 3)))

    def pose(self, offsets: Float[Tensor, "v 3"], pose: HeadPose) -> Float[Tensor, "b v 3"]:
        """Posed vertices with offsets; differentiable in both."""
        return self.frames(pose).carry(offsets)


@dataclass(frozen=True)
class TeethProbes:
    """Vertices of the strips that stand for teeth: lit where they are, though they hide nothing.

    Without them Gaussians on the strips would look light and normals up on the lips [3.5].
    """

    rest: Float[Tensor, "p 3"]
    """Upper strip, then lower strip."""
    skinning_weights: Float[Tensor, "p j"]
    faces: Int[Tensor, "q 3"]
    """Rows of ``rest``."""

    @staticmethod
    def of(offset: Offset, num_joints: int, device: torch.device | str = "cpu") -> TeethProbes:
        """Hang the strips on skull and jaw.

        Args:
            offset: Of the strips, metres; see ``mouth``.
            num_joints: Of the head, the first three being root, neck and jaw.
            device: Where the mesh is posed.
        """
        upper, lower, faces = teeth_strips(offset)
        weights = torch.zeros(len(upper) + len(lower), num_joints)
        weights[: len(upper), HEAD_JOINTS.index("neck")] = 1.0
        shares = torch.tensor(LOWER_TEETH_WEIGHTS)
        weights[len(upper) :, : len(shares)] = shares / shares.sum()
        both = torch.cat([faces, faces + len(upper)])
        return TeethProbes(
            torch.cat([upper, lower]).to(device), weights.to(device), both.to(device)
        )

    def pose(self, transforms: Float[Tensor, "b j 3 4"]) -> Float[Tensor, "b p 3"]:
        """Carry the strips with the joints."""
        rest = self.rest.expand(len(transforms), -1, -1)
        return linear_blend_skinning(rest, transforms, self.skinning_weights)


def static_pose(head: JointedHead, pose: HeadPose) -> HeadPose:
    """The fields of a track that say who the subject is, of its first frame."""
    static = {spec.name for spec in head.parameters_spec if spec.is_static}
    return HeadPose(**{name: value[:1] for name, value in pose.tensors().items() if name in static})
