"""What every head model offers: named parameters in, posed vertices out."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import Module

from vultus.kernels.dispatch import are_for_kernels
from vultus.kernels.row_selection import select_rows

__all__ = [
    "HeadModel",
    "HeadPose",
    "JointMotion",
    "JointedHead",
    "ParameterSpec",
    "RiggedHead",
    "SubjectRest",
    "Topology",
    "head_on_device",
]


@dataclass(frozen=True)
class ParameterSpec:
    """One named input of a head model."""

    name: str
    """A field of ``HeadPose``."""
    size: int
    """Length of a flattened row (``static_offset`` and ``vertex_offset``: 3 v)."""
    is_static: bool = False
    """True if the value belongs to the subject, not to the frame."""


@dataclass(frozen=True)
class HeadPose:
    """Parameters of a head for b frames. A model reads the fields that its specs name.

    Rotations are axis-angle in radians; translation and offsets in metres. ``None`` means zero; a
    field with one row is shared by all frames.
    """

    identity_coeffs: Float[Tensor, "#b s"] | None = None
    expression_coeffs: Float[Tensor, "#b e"] | None = None
    global_rotation: Float[Tensor, "#b 3"] | None = None
    neck_pose: Float[Tensor, "#b 3"] | None = None
    jaw_pose: Float[Tensor, "#b 3"] | None = None
    eye_pose: Float[Tensor, "#b 6"] | None = None
    """Left eye, then right eye."""
    translation: Float[Tensor, "#b 3"] | None = None
    static_offset: Float[Tensor, "#b v 3"] | None = None
    """Added to the shaped vertices before skinning."""
    vertex_offset: Float[Tensor, "#b v 3"] | None = None
    """Posed minus neutral vertices (``TrackedMesh``)."""

    def __post_init__(self) -> None:
        """Reject fields of different batch sizes; 1 counts as shared by all frames."""
        sizes = {tensor.shape[0] for tensor in self.tensors().values()} - {1}
        if len(sizes) > 1:
            shapes = {name: tuple(t.shape) for name, t in self.tensors().items()}
            raise ValueError(f"fields of a HeadPose must have one batch size, got {shapes}")

    def tensors(self) -> dict[str, Tensor]:
        """The fields that are set."""
        named = ((field.name, getattr(self, field.name)) for field in fields(self))
        return {name: tensor for name, tensor in named if tensor is not None}

    def __len__(self) -> int:
        """Number of frames."""
        return max((tensor.shape[0] for tensor in self.tensors().values()), default=1)

    def __getitem__(self, index: int | slice | Tensor) -> HeadPose:
        """Select frames; an integer keeps the batch dimension, shared fields stay shared.

        On a GPU, a row that does not exist becomes NaN where indexing would stop the process.
        """
        if isinstance(index, int):
            index = slice(index, index + 1 or None)
        total = len(self)
        given = self.tensors()
        shared = {n: tensor for n, tensor in given.items() if tensor.shape[0] == 1 < total}
        own = {n: tensor for n, tensor in given.items() if n not in shared}
        if isinstance(index, Tensor) and _is_fused(index, own):
            rows = select_rows(tuple(own.values()), index)
        else:
            rows = tuple(tensor[index] for tensor in own.values())
        return HeadPose(**shared, **dict(zip(own, rows, strict=True)))

    def replace(self, **values: Tensor | None) -> HeadPose:
        """A copy with some fields changed."""
        return replace(self, **values)

    def of_mean_person(self) -> HeadPose:
        """The same performance by the head model's mean shape."""
        coeffs = None if self.identity_coeffs is None else torch.zeros_like(self.identity_coeffs)
        return self.replace(identity_coeffs=coeffs, static_offset=None)

    def map(self, function) -> HeadPose:
        """Apply a function to every tensor."""
        return HeadPose(**{name: function(tensor) for name, tensor in self.tensors().items()})

    def to(self, device: torch.device | str) -> HeadPose:
        """Move all tensors."""
        return self.map(lambda tensor: tensor.to(device))

    @staticmethod
    def cat(poses: list[HeadPose]) -> HeadPose:
        """Concatenate along the batch; every pose must set the same fields."""
        names = list(poses[0].tensors())
        if any(list(pose.tensors()) != names for pose in poses):
            raise ValueError(
                f"poses must set the same fields, got {[*map(HeadPose.tensors, poses)]}"
            )

        def expanded(pose: HeadPose, name: str) -> Tensor:
            tensor = getattr(pose, name)
            return tensor.expand(len(pose), *tensor.shape[1:])

        return HeadPose(**{n: torch.cat([expanded(pose, n) for pose in poses]) for n in names})


def _is_fused(index: Tensor, fields: Mapping[str, Tensor]) -> bool:
    """Whether the kernel of ``kernels.row_selection`` selects the rows of all fields."""
    is_list = index.ndim == 1 and index.dtype == torch.int64
    is_here = all(field.device == index.device for field in fields.values())
    return is_list and is_here and are_for_kernels(*fields.values())


@dataclass(frozen=True)
class SubjectRest:
    """What of a posed subject stays the same from frame to frame."""

    vertices: Float[Tensor, "#b v 3"]
    """Identity and static offset applied, metres."""
    joints: Float[Tensor, "#b j 3"]
    """Without expression."""


@dataclass(frozen=True)
class JointMotion:
    """What joints do to points that follow them, in b frames."""

    joints: Float[Tensor, "#b j 3"]
    """Before they turn: identity applied, and expression where it moves joints; metres."""
    transforms: Float[Tensor, "b j 3 4"]
    """From rest to posed; the translation of the head is part of each."""
    features: Float[Tensor, "b p"]
    """Weights of ``JointedHead.pose_basis``."""


@dataclass(frozen=True)
class Topology:
    """What is constant about a head's mesh."""

    faces: Int[Tensor, "f 3"]
    """Counter-clockwise seen from outside."""
    uv: Float[Tensor, "t 2"]
    """Texture coordinates in [0, 1], v up."""
    uv_faces: Int[Tensor, "f 3"]
    regions: Mapping[str, Bool[Tensor, " v"]]
    """Vertex masks by name. Every model has ``skin``, ``left_eyeball``, ``right_eyeball``,
    ``teeth``, ``boundary`` and ``neck`` (all False where the model lacks the part)."""

    @property
    def num_vertices(self) -> int:
        """Number of vertices."""
        return next(iter(self.regions.values())).shape[0]

    def face_region(self, *names: str) -> Bool[Tensor, " f"]:
        """Faces whose three vertices all lie in the union of the named regions.

        Raises:
            KeyError: If a region is unknown; the message lists the known ones.
        """
        unknown = [name for name in names if name not in self.regions]
        if unknown:
            raise KeyError(f"unknown region {unknown[0]!r}; known: {', '.join(self.regions)}")
        mask = torch.stack([self.regions[name] for name in names]).any(dim=0)
        return mask[self.faces].all(dim=1)


@runtime_checkable
class HeadModel(Protocol):
    """A rigged head. Implementations are ``torch.nn.Module``s that hold only buffers.

    Members are attributes or properties, never buffers of that name: since Python 3.12
    ``isinstance`` looks past ``Module.__getattr__``, and would not see them.

    World: +x the subject's left, +y up, +z out of the face, metres.
    """

    @property
    def name(self) -> str:
        """``"procedural"``, ``"ict"``, ``"flame"``, ``"tracked"`` or ``"expression"``."""
        ...

    @property
    def version(self) -> str:
        """Distinguishes incompatible parameter spaces of one model (``"2023"``, ``"full"``)."""
        ...

    @property
    def parameters_spec(self) -> tuple[ParameterSpec, ...]:
        """The inputs by name and size."""
        ...

    @property
    def expression_names(self) -> tuple[str, ...]:
        """Names of the expression coefficients (ARKit names where they are semantic)."""
        ...

    @property
    def topology(self) -> Topology:
        """Faces, texture coordinates and regions."""
        ...

    @property
    def neutral(self) -> Float[Tensor, "v 3"]:
        """Vertices of the mean head at rest, metres."""
        ...

    @property
    def joint_names(self) -> tuple[str, ...]:
        """Joints; ``joint_parents[i] < i`` and the root's parent is -1."""
        ...

    @property
    def joint_parents(self) -> tuple[int, ...]:
        """Index of each joint's parent."""
        ...

    @property
    def skinning_weights(self) -> Float[Tensor, "v j"]:
        """Rows sum to 1."""
        ...

    def vertices(self, pose: HeadPose) -> Float[Tensor, "b v 3"]:
        """Pose the mesh; differentiable in every field that ``parameters_spec`` names."""
        ...


def head_on_device(head: HeadModel, device: torch.device | str) -> HeadModel:
    """The head itself on the CPU, elsewhere a copy: the caller's stays where it is.

    Raises:
        TypeError: If the head cannot be moved.
    """
    if torch.device(device).type == "cpu":
        return head
    if not isinstance(head, Module):
        raise TypeError(f"head {head.name!r} must be a torch.nn.Module to be posed on {device}")
    return copy.deepcopy(head).to(device)


@runtime_checkable
class RiggedHead(HeadModel, Protocol):
    """A head whose subject can be shaped once and posed often.

    ``vertices(pose)`` is ``pose_subject(subject_rest(pose), pose)``.
    """

    def subject_rest(self, pose: HeadPose) -> SubjectRest:
        """Shape a subject; of the pose, only the static fields are read."""
        ...

    def pose_subject(self, rest: SubjectRest, pose: HeadPose) -> Float[Tensor, "b v 3"]:
        """Pose a shaped subject; static fields of the pose are not read."""
        ...


@runtime_checkable
class JointedHead(HeadModel, Protocol):
    """A head whose joints can carry points that are not its vertices.

    ``vertices(pose)`` is ``linear_blend_skinning`` of the shaped vertices plus
    ``features @ pose_basis``, with the transforms of ``joint_motion(pose)`` and
    ``skinning_weights``.
    """

    @property
    def pose_basis(self) -> Float[Tensor, "p v 3"]:
        """Correctives by what joints do; none (p = 0) where a head has no such shapes."""
        ...

    def joint_motion(self, pose: HeadPose) -> JointMotion:
        """Motion of the joints, whatever fields of the pose they follow."""
        ...
