"""A head with fewer faces, for methods that should meet a rig as coarse as a tracker's."""

from __future__ import annotations

from hashlib import sha256

from jaxtyping import Float, Int
from torch import Tensor, nn

from vultus.geometry.decimation import decimate
from vultus.heads.base import (
    HeadModel,
    HeadPose,
    JointedHead,
    JointMotion,
    ParameterSpec,
    Topology,
)

__all__ = ["CoarseHead"]

_fewer: dict[tuple[bytes, int], Tensor] = {}
"""Faces of decimated heads: a capture is opened several times in a training."""
_MOST_FEWER = 8


class CoarseHead(nn.Module):
    """The same head with fewer faces on some of its vertices, so that it moves as the fine one.

    Vertices and parameters stay; only the topology differs. Borders of the mesh stay as they are,
    so that there may be more faces than asked for.
    """

    def __init__(self, head: HeadModel, max_faces: int) -> None:
        """Decimate the mean head at rest; takes the CPU some seconds, once.

        Args:
            head: Any with joints.
            max_faces: At most so many are left, if borders and topology allow it.

        Raises:
            TypeError: If the head has no joints.
            ValueError: If ``max_faces`` is not positive.
        """
        super().__init__()
        if not isinstance(head, JointedHead):
            raise TypeError(f"head {head.name!r} has no joints: its mesh cannot be made coarser")
        self._fine: JointedHead = head
        fine = head.topology
        faces = _fewer_faces(head.neutral, fine.faces, max_faces)
        self._topology = Topology(faces, fine.uv, _corners(fine)[faces], fine.regions)

    @property
    def name(self) -> str:
        """That of the fine head, whose parameters these are."""
        return self._fine.name

    @property
    def version(self) -> str:
        """That of the fine head."""
        return self._fine.version

    @property
    def parameters_spec(self) -> tuple[ParameterSpec, ...]:
        """Those of the fine head."""
        return self._fine.parameters_spec

    @property
    def expression_names(self) -> tuple[str, ...]:
        """Those of the fine head."""
        return self._fine.expression_names

    @property
    def topology(self) -> Topology:
        """Fewer faces; vertices that none of them has are still counted."""
        return self._topology

    @property
    def neutral(self) -> Float[Tensor, "v 3"]:
        """All vertices of the mean head at rest."""
        return self._fine.neutral

    @property
    def joint_names(self) -> tuple[str, ...]:
        """Those of the fine head."""
        return self._fine.joint_names

    @property
    def joint_parents(self) -> tuple[int, ...]:
        """Those of the fine head."""
        return self._fine.joint_parents

    @property
    def skinning_weights(self) -> Float[Tensor, "v j"]:
        """Of all vertices."""
        return self._fine.skinning_weights

    @property
    def pose_basis(self) -> Float[Tensor, "p v 3"]:
        """See ``JointedHead``."""
        return self._fine.pose_basis

    def vertices(self, pose: HeadPose) -> Float[Tensor, "b v 3"]:
        """See ``HeadModel``."""
        return self._fine.vertices(pose)

    def joint_motion(self, pose: HeadPose) -> JointMotion:
        """See ``JointedHead``."""
        return self._fine.joint_motion(pose)


def _fewer_faces(
    vertices: Float[Tensor, "v 3"], faces: Int[Tensor, "f 3"], max_faces: int
) -> Int[Tensor, "g 3"]:
    """Decimate a mesh, or find what it was decimated to before."""
    digest = sha256(vertices.detach().cpu().numpy().tobytes())
    digest.update(faces.cpu().numpy().tobytes())
    key = digest.digest(), max_faces
    if key not in _fewer:
        while len(_fewer) >= _MOST_FEWER:
            _fewer.pop(next(iter(_fewer)))
        _fewer[key] = decimate(vertices, faces, max_faces).faces
    return _fewer[key].clone()


def _corners(topology: Topology) -> Int[Tensor, " v"]:
    """For each vertex one of its texture coordinates; seams have several, and lose some."""
    corners = topology.faces.new_zeros(topology.num_vertices)
    return corners.scatter_reduce(
        0, topology.faces.flatten(), topology.uv_faces.flatten(), "amax", include_self=False
    )
