"""The ICT-FaceKit morphable head with joints for neck, jaw and eyes.

Reference: Li et al., Learning Formation of Physically-Based Face Attributes, CVPR 2020.
"""

from __future__ import annotations

from pathlib import Path

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from vultus.heads.base import HeadPose, JointMotion, ParameterSpec, SubjectRest, Topology
from vultus.heads.blendshapes import add_shapes, check_pose
from vultus.heads.ict_data import IctData, read_ict
from vultus.heads.ict_rig import build_ict_rig, visible_faces
from vultus.heads.ict_uv import atlas_uv
from vultus.heads.skinning import (
    HEAD_JOINT_PARENTS,
    HEAD_JOINTS,
    head_joint_angles,
    linear_blend_skinning,
    pose_joints,
    translate_transforms,
)
from vultus.kernels.joint_skinning import PosedJoints

__all__ = ["IctHead"]

# Radians of gaze per unit of a shape (24 degrees up, 30 otherwise). The shapes themselves move
# lids only. Rotation about +x looks down, about +y to the subject's left. Rows: left x, left y,
# right x, right y.
_GAZE_ANGLES: dict[str, tuple[int, float]] = {
    "eyeLookDown_L": (0, 0.5236),
    "eyeLookUp_L": (0, -0.4189),
    "eyeLookOut_L": (1, 0.5236),
    "eyeLookIn_L": (1, -0.5236),
    "eyeLookDown_R": (3, 0.5236),
    "eyeLookUp_R": (3, -0.4189),
    "eyeLookOut_R": (4, -0.5236),
    "eyeLookIn_R": (4, 0.5236),
}


class IctHead(nn.Module):
    """Mean head plus identity modes plus ARKit-like shapes, then linear blend skinning.

    ``jawOpen`` stays the sculpted shape; ``jaw_pose`` is a second, rigid way to open the mouth
    and zero unless given. Gaze is ``eye_pose`` plus what the ``eyeLook`` shapes ask for.
    """

    template: Tensor
    identity_basis: Tensor
    expression_basis: Tensor
    joints: Tensor
    joint_identity_basis: Tensor
    weights: Tensor
    gaze_angles: Tensor

    def __init__(self, data: IctData) -> None:
        """Build joints, weights and regions."""
        super().__init__()
        self._release, self._source = data.version, data.source
        self._expression_names = data.expression_names
        rig = build_ict_rig(data)
        visible = visible_faces(data)
        uv, uv_faces = atlas_uv(data)
        self._topology = Topology(data.faces[visible], uv, uv_faces[visible], rig.regions)
        self._face_material = data.face_material[visible]
        self._landmarks68 = data.landmarks68
        self._gaze_axes = rig.gaze_axes
        angles = torch.zeros(len(data.expression_names), 6)
        for name, (column, angle) in _GAZE_ANGLES.items():
            angles[data.expression_names.index(name), column] = angle
        self.register_buffer("template", data.neutral)
        self.register_buffer("identity_basis", data.identity_basis)
        self.register_buffer("expression_basis", data.expression_basis)
        self.register_buffer("joints", rig.joints)
        self.register_buffer("joint_identity_basis", rig.joint_identity_basis)
        self.register_buffer("weights", rig.skinning_weights)
        self.register_buffer("gaze_angles", angles)

    @classmethod
    def from_file(cls, path: Path) -> IctHead:
        """Load ``ict_face_light.npz`` or ``ict_face_model.npz``; see ``read_ict`` for errors."""
        return cls(read_ict(path))

    @property
    def name(self) -> str:
        """``"ict"``."""
        return "ict"

    @property
    def version(self) -> str:
        """``"light"`` (20 identity modes) or ``"full"`` (100)."""
        return self._release

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
        """ARKit-like names with ``_L`` and ``_R``."""
        return self._expression_names

    @property
    def topology(self) -> Topology:
        """Faces, texture coordinates in one atlas, and regions."""
        return self._topology

    @property
    def face_material(self) -> Int[Tensor, " f"]:
        """Index into ``ICT_MATERIALS`` of each face."""
        return self._face_material

    @property
    def landmarks68(self) -> Int[Tensor, 68]:
        """Vertex of each iBUG landmark (0 is the subject's right end of the jaw line)."""
        return self._landmarks68

    @property
    def gaze_axes(self) -> Float[Tensor, "2 3"]:
        """Unit axes through the left and right cornea at rest."""
        return self._gaze_axes

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
    def pose_basis(self) -> Float[Tensor, "0 v 3"]:
        """There are no correctives."""
        return self.template.new_zeros(0, *self.template.shape)

    def vertices(self, pose: HeadPose) -> Float[Tensor, "b v 3"]:
        """Pose the mesh; rotations turn about joints that follow the identity.

        Raises:
            ValueError: If a field has the wrong size.
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
        joints = add_shapes(self.joints, self.joint_identity_basis, pose.identity_coeffs)
        return SubjectRest(shaped, joints)

    def pose_subject(self, rest: SubjectRest, pose: HeadPose) -> Float[Tensor, "b v 3"]:
        """Pose a shaped subject; static fields of the pose are not read.

        Raises:
            ValueError: As ``vertices``.
        """
        check_pose(pose, self.parameters_spec, self._source)
        shaped = add_shapes(rest.vertices, self.expression_basis, pose.expression_coeffs)
        posed = self._posed_joints(rest, pose)
        return linear_blend_skinning(
            shaped.expand(len(posed.transforms), -1, -1),
            posed.transforms,
            self.weights,
            pose.translation,
        )

    def joint_motion(self, pose: HeadPose) -> JointMotion:
        """Motion of the joints; the ``eyeLook`` shapes turn the eyes.

        Raises:
            ValueError: As ``vertices``.
        """
        rest = self.subject_rest(pose)
        transforms = self._posed_joints(rest, pose).transforms
        none = transforms.new_zeros(len(transforms), 0)
        return JointMotion(rest.joints, translate_transforms(transforms, pose.translation), none)

    def _posed_joints(self, rest: SubjectRest, pose: HeadPose) -> PosedJoints:
        if pose.expression_coeffs is not None:
            gaze = pose.expression_coeffs.to(self.gaze_angles) @ self.gaze_angles
            pose = pose.replace(eye_pose=gaze if pose.eye_pose is None else pose.eye_pose + gaze)
        angles = head_joint_angles(pose, like=rest.joints)
        return pose_joints(angles, rest.joints.expand(len(angles), -1, -1), self.joint_parents)
