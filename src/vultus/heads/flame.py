"""The FLAME head model (Li et al. 2017, 2020 and 2023 releases), from the user's own copy of it.

The model itself is licensed and not part of this package: ``flame_convert`` turns the published
files into the one safetensors file that is read here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from vultus.core.asset_registry import import_command
from vultus.core.bundles import load_bundle
from vultus.heads.base import HeadPose, JointMotion, ParameterSpec, SubjectRest, Topology
from vultus.heads.blendshapes import add_shapes, check_pose
from vultus.heads.flame_teeth import NUM_TEETH_VERTICES, build_teeth
from vultus.heads.regions import flame_regions
from vultus.heads.skinning import (
    HEAD_JOINT_PARENTS,
    HEAD_JOINTS,
    head_joint_angles,
    linear_blend_skinning,
    pose_joints,
    translate_transforms,
)
from vultus.kernels.joint_skinning import PosedJoints

__all__ = [
    "FLAME_ARRAYS",
    "FLAME_FORMAT",
    "MASK_PREFIX",
    "FlameData",
    "FlameHead",
    "FlameVersion",
    "TeethOption",
    "pad_offsets",
    "read_flame",
]

FlameVersion = Literal["2020", "2023"]
TeethOption = Literal["none", "corrected", "published"]
"""``published`` keeps the one wrong face of SurFhead's meshes."""

FLAME_FORMAT = "vultus-flame-1"
MASK_PREFIX = "masks."
FLAME_ARRAYS = (
    "template",
    "identity_basis",
    "expression_basis",
    "pose_basis",
    "joint_regressor",
    "skinning_weights",
    "faces",
    "uv",
    "uv_faces",
)
"""Tensors of a converted file beside the masks; names are those of ``FlameData``."""
# What a head of the newer release is converted from.
_ASSETS = ("flame2023", "flame_masks", "flame_uv")
_NUM_COEFFS: dict[str, tuple[int, int]] = {"2020": (100, 50), "2023": (300, 100)}
"""Identity and expression coefficients that trackers use with each release."""


@dataclass(frozen=True)
class FlameData:
    """The arrays of one FLAME release, without teeth."""

    template: Float[Tensor, "v 3"]
    identity_basis: Float[Tensor, "s v 3"]
    expression_basis: Float[Tensor, "e v 3"]
    pose_basis: Float[Tensor, "p v 3"]
    """Correctives per entry of the four non-root rotation matrices minus identity (36)."""
    joint_regressor: Float[Tensor, "j v"]
    skinning_weights: Float[Tensor, "v j"]
    faces: Int[Tensor, "f 3"]
    uv: Float[Tensor, "t 2"]
    uv_faces: Int[Tensor, "f 3"]
    masks: Mapping[str, Int[Tensor, " n"]]
    """Vertex ids of FLAME's published regions."""
    version: str
    source: str = "FLAME"
    """File that the data came from, for messages."""


def read_flame(path: Path) -> FlameData:
    """Read a converted FLAME file.

    Raises:
        FileNotFoundError: If it does not exist; the message says how to make it.
        ValueError: If it is not a converted FLAME file.
    """
    if not path.is_file():
        commands = ", ".join(f"'{import_command(name)}'" for name in _ASSETS)
        raise FileNotFoundError(
            f"{path}: no converted FLAME model there; leave the path out and import the files of "
            f"https://flame.is.tue.mpg.de with {commands} (for the older release, flame2020)"
        )
    bundle = load_bundle(path)
    if bundle.metadata.get("format") != FLAME_FORMAT:
        raise ValueError(
            f"{path}: format must be {FLAME_FORMAT}, got {bundle.metadata.get('format')}"
        )
    masks = {
        name.removeprefix(MASK_PREFIX): ids
        for name, ids in bundle.tensors.items()
        if name.startswith(MASK_PREFIX)
    }
    arrays = {name: bundle.tensor(name) for name in FLAME_ARRAYS}
    version = str(bundle.metadata["version"])
    return FlameData(**arrays, masks=masks, version=version, source=str(path))


def pad_offsets(offset: Float[Tensor, "b n 3"], num_vertices: int) -> Float[Tensor, "b v 3"]:
    """Append zeros to offsets that were tracked without teeth (5023 of 5143 vertices).

    Raises:
        ValueError: If there are more offsets than vertices.
    """
    missing = num_vertices - offset.shape[1]
    if missing < 0:
        raise ValueError(
            f"static_offset must have at most {num_vertices} vertices, got {offset.shape[1]}"
        )
    return torch.cat([offset, offset.new_zeros(offset.shape[0], missing, 3)], dim=1)


class FlameHead(nn.Module):
    """FLAME with optional teeth.

    Reference: Li et al., Learning a model of facial shape and expression from 4D scans, 2017.
    """

    template: Tensor
    identity_basis: Tensor
    expression_basis: Tensor
    correctives: Tensor
    joint_regressor: Tensor
    joint_expression_basis: Tensor
    weights: Tensor

    def __init__(
        self,
        data: FlameData,
        num_identity: int | None = None,
        num_expression: int | None = None,
        teeth: TeethOption = "corrected",
    ) -> None:
        """Take the first coefficients of a release.

        Args:
            data: Arrays of one release.
            num_identity: Default: what trackers use with the release (2020: 100, 2023: 300).
            num_expression: Default likewise (2020: 50, 2023: 100).
            teeth: Whether to add the teeth of GaussianAvatars and SurFhead.

        Raises:
            ValueError: If more coefficients are asked for than the file has.
        """
        super().__init__()
        default_identity, default_expression = _NUM_COEFFS.get(
            data.version, (len(data.identity_basis), len(data.expression_basis))
        )
        self._release = data.version
        self._source = data.source
        data = _truncated(
            data, num_identity or default_identity, num_expression or default_expression
        )
        if teeth != "none":
            data = _with_teeth(data, keep_published_fault=teeth == "published")
        num_teeth = 0 if teeth == "none" else NUM_TEETH_VERTICES
        self.register_buffer("template", data.template)
        self.register_buffer("identity_basis", data.identity_basis)
        self.register_buffer("expression_basis", data.expression_basis)
        self.register_buffer("correctives", data.pose_basis)
        self.register_buffer("joint_regressor", data.joint_regressor)
        # Joints are linear in the vertices: this is what expressions do to them.
        self.register_buffer(
            "joint_expression_basis",
            data.joint_regressor @ data.expression_basis,
            persistent=False,
        )
        self.register_buffer("weights", data.skinning_weights)
        regions = flame_regions(data.masks, data.template.shape[0], num_teeth)
        self._topology = Topology(data.faces, data.uv, data.uv_faces, regions)
        self._teeth: TeethOption = teeth

    @classmethod
    def from_file(
        cls,
        path: Path,
        num_identity: int | None = None,
        num_expression: int | None = None,
        teeth: TeethOption = "corrected",
    ) -> FlameHead:
        """Load a file made by ``flame_convert``; see ``read_flame`` for errors."""
        return cls(read_flame(path), num_identity, num_expression, teeth)

    @property
    def name(self) -> str:
        """``"flame"``."""
        return "flame"

    @property
    def version(self) -> str:
        """Release of the model, ``"2020"`` or ``"2023"``."""
        return self._release

    @property
    def options(self) -> dict[str, int | str]:
        """Arguments of ``from_file`` that give this head again."""
        return {
            "num_identity": self.identity_basis.shape[0],
            "num_expression": self.expression_basis.shape[0],
            "teeth": self._teeth,
        }

    @property
    def parameters_spec(self) -> tuple[ParameterSpec, ...]:
        """The inputs by name and size."""
        return (
            ParameterSpec("identity_coeffs", self.identity_basis.shape[0], is_static=True),
            ParameterSpec("expression_coeffs", self.expression_basis.shape[0]),
            ParameterSpec("global_rotation", 3),
            ParameterSpec("neck_pose", 3),
            ParameterSpec("jaw_pose", 3),
            ParameterSpec("eye_pose", 6),
            ParameterSpec("translation", 3),
            ParameterSpec("static_offset", 3 * self.template.shape[0], is_static=True),
        )

    @property
    def expression_names(self) -> tuple[str, ...]:
        """``expression_0``, ...: principal components without a meaning of their own."""
        return tuple(f"expression_{i}" for i in range(self.expression_basis.shape[0]))

    @property
    def topology(self) -> Topology:
        """Faces, texture coordinates and regions."""
        return self._topology

    @property
    def neutral(self) -> Float[Tensor, "v 3"]:
        """The mean head at rest."""
        return self.template

    @property
    def joint_names(self) -> tuple[str, ...]:
        """Root, neck, jaw and the eyes."""
        return HEAD_JOINTS

    @property
    def joint_parents(self) -> tuple[int, ...]:
        """Index of each joint's parent."""
        return HEAD_JOINT_PARENTS

    @property
    def skinning_weights(self) -> Float[Tensor, "v j"]:
        """Rows sum to 1."""
        return self.weights

    @property
    def pose_basis(self) -> Float[Tensor, "p v 3"]:
        """Correctives per entry of the four non-root rotation matrices minus identity."""
        return self.correctives

    def vertices(self, pose: HeadPose) -> Float[Tensor, "b v 3"]:
        """Pose the mesh; ``static_offset`` is added before joints are found.

        Raises:
            ValueError: If a field has the wrong size for this release.
        """
        return self.pose_subject(self.subject_rest(pose), pose)

    def subject_rest(self, pose: HeadPose) -> SubjectRest:
        """Shape a subject; of the pose, only the static fields are read.

        Raises:
            ValueError: As ``vertices``.
        """
        check_pose(pose, self.parameters_spec, self._source)
        shaped = add_shapes(self.template, self.identity_basis, pose.identity_coeffs)
        if pose.static_offset is not None:
            shaped = shaped + pose.static_offset.to(shaped)
        return SubjectRest(shaped, self.joint_regressor @ shaped)

    def pose_subject(self, rest: SubjectRest, pose: HeadPose) -> Float[Tensor, "b v 3"]:
        """Pose a shaped subject; static fields of the pose are not read.

        Raises:
            ValueError: As ``vertices``.
        """
        check_pose(pose, self.parameters_spec, self._source)
        shaped = add_shapes(rest.vertices, self.expression_basis, pose.expression_coeffs)
        _, posed = self._posed_joints(rest, pose)
        corrected = add_shapes(shaped, self.pose_basis, posed.features)
        return linear_blend_skinning(corrected, posed.transforms, self.weights, pose.translation)

    def joint_motion(self, pose: HeadPose) -> JointMotion:
        """Motion of the joints; expressions move them at rest.

        Raises:
            ValueError: As ``vertices``.
        """
        joints, posed = self._posed_joints(self.subject_rest(pose), pose)
        transforms = translate_transforms(posed.transforms, pose.translation)
        return JointMotion(joints, transforms, posed.features)

    def _posed_joints(
        self, rest: SubjectRest, pose: HeadPose
    ) -> tuple[Float[Tensor, "#b j 3"], PosedJoints]:
        joints = add_shapes(rest.joints, self.joint_expression_basis, pose.expression_coeffs)
        angles = head_joint_angles(pose, like=joints)
        return joints, pose_joints(angles, joints.expand(len(angles), -1, -1), self.joint_parents)

    def canonical_vertices(self, pose: HeadPose) -> Float[Tensor, "b v 3"]:
        """The subject with zero pose and expression, ``translation`` and ``static_offset`` added.

        Reference: this is the rest mesh of SurFhead's deformation gradients.
        """
        check_pose(pose, self.parameters_spec, self._source)
        rest = add_shapes(self.template, self.identity_basis, pose.identity_coeffs)
        if pose.static_offset is not None:
            rest = rest + pose.static_offset.to(rest)
        if pose.translation is not None:
            rest = rest + pose.translation.to(rest)[:, None]
        return rest


def _truncated(data: FlameData, num_identity: int, num_expression: int) -> FlameData:
    """Keep the first shapes; they are sorted by how much they explain."""
    for field, count in (("identity_basis", num_identity), ("expression_basis", num_expression)):
        available = getattr(data, field).shape[0]
        if count > available:
            raise ValueError(
                f"{data.source}: {field} must have at least {count} shapes, got {available}"
            )
    return replace(
        data,
        identity_basis=data.identity_basis[:num_identity],
        expression_basis=data.expression_basis[:num_expression],
    )


def _with_teeth(data: FlameData, keep_published_fault: bool) -> FlameData:
    """Append the teeth to every array; they have no expression and do not move the joints."""
    mesh = build_teeth(data.template, data.identity_basis, keep_published_fault)

    def padded(array: Tensor, dim: int) -> Tensor:
        shape = list(array.shape)
        shape[dim] = NUM_TEETH_VERTICES
        return torch.cat([array, array.new_zeros(shape)], dim=dim)

    num_vertices, num_uv = data.template.shape[0], data.uv.shape[0]
    return replace(
        data,
        template=torch.cat([data.template, mesh.vertices]),
        identity_basis=torch.cat([data.identity_basis, mesh.identity_basis], dim=1),
        expression_basis=padded(data.expression_basis, 1),
        pose_basis=padded(data.pose_basis, 1),
        joint_regressor=padded(data.joint_regressor, 1),
        skinning_weights=torch.cat([data.skinning_weights, mesh.skinning_weights]),
        faces=torch.cat([data.faces, mesh.faces + num_vertices]),
        uv=torch.cat([data.uv, mesh.uv]),
        uv_faces=torch.cat([data.uv_faces, mesh.faces + num_uv]),
    )
