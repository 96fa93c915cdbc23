"""The built-in head as a differentiable head model."""

from __future__ import annotations

import copy

import torch
from jaxtyping import Float
from torch import Tensor, nn

from vultus.heads.base import HeadPose, JointMotion, ParameterSpec, Topology
from vultus.heads.blendshapes import add_shapes, check_pose
from vultus.heads.procedural.atlas import PartRange
from vultus.heads.procedural.basis import EXPRESSION_NAMES, Hair, cut_hair, load_basis, load_hair
from vultus.heads.procedural.correctives import MILLIMETRE, close_lids, lift_tongue
from vultus.heads.procedural.hair import HairStyle
from vultus.heads.procedural.identity import IDENTITY_NAMES
from vultus.heads.procedural.loops import LID_POINTS
from vultus.heads.procedural.mouth_close import JAW_OPEN_ANGLE, JAW_SLIDE
from vultus.heads.procedural.weights import REGIONS
from vultus.heads.skinning import (
    HEAD_JOINT_PARENTS,
    HEAD_JOINTS,
    head_joint_angles,
    linear_blend_skinning,
    pose_joints,
    translate_transforms,
)

__all__ = ["ProceduralHead", "named_expressions"]

_NECK, _JAW, _LEFT_EYE = 1, 2, 3
# Radians of gaze per unit of a shape: rotation about +x looks down, about +y to the left.
_LOOK_DOWN, _LOOK_UP, _LOOK_ASIDE = 0.4712, 0.4189, 0.5236


class ProceduralHead(nn.Module):
    """A head made of code alone: identity modes, ARKit shapes, correctives, then skinning.

    ``jawOpen`` turns the jaw joint and ``eyeLook...`` the eye joints; ``jaw_pose`` and
    ``eye_pose`` add to them. Hair is part of the subject's looks and fixed at construction.
    """

    template: Tensor
    identity_modes: Tensor
    joint_modes: Tensor
    expression_shapes: Tensor
    joints: Tensor
    weights: Tensor
    gaze_angles: Tensor
    faces: Tensor
    uv: Tensor
    uv_faces: Tensor
    labels: Tensor
    lid_rows: Tensor
    lid_opening: Tensor
    lash_starts: Tensor
    lash_ends: Tensor
    lash_fractions: Tensor

    def __init__(self, hair_style: str = "side", hair_seed: int = 3) -> None:
        """Load the head from the cache; the first time it is built (about two seconds).

        Args:
            hair_style: A name in ``HAIR_STYLES``.
            hair_seed: Places clumps and waves.

        Raises:
            ValueError: If the style is unknown.
        """
        super().__init__()
        basis, hair = load_basis(), load_hair(hair_style, hair_seed)
        self.hair_style = hair_style
        self.hair_seed = hair_seed
        self.parts: dict[str, PartRange] = basis.parts
        self._lashes = basis.lashes
        body, cap = torch.from_numpy(basis.vertices), torch.from_numpy(hair.vertices)
        modes = torch.from_numpy(basis.identity_modes), torch.from_numpy(hair.identity_modes)
        lid_rows = torch.stack(
            [
                torch.from_numpy(basis.left_lids),
                torch.from_numpy(basis.right_lids),
            ]
        )
        rims = torch.from_numpy(basis.left_rims), torch.from_numpy(basis.right_rims)
        lid_rows = torch.cat([lid_rows, torch.stack(rims)[:, :1]], dim=1)
        margin = body[lid_rows[:, 0]] * MILLIMETRE
        buffers = {
            "template": torch.cat([body, cap]) * MILLIMETRE,
            "identity_modes": torch.cat(modes, dim=1) * MILLIMETRE,
            "joint_modes": torch.from_numpy(basis.joint_modes) * MILLIMETRE,
            "expression_shapes": torch.from_numpy(basis.expression_shapes) * MILLIMETRE,
            "joints": torch.from_numpy(basis.joints) * MILLIMETRE,
            "weights": torch.from_numpy(basis.skinning_weights),
            "gaze_angles": _gaze_angles(),
            "faces": torch.from_numpy(basis.faces),
            "uv": torch.from_numpy(basis.uv),
            "uv_faces": torch.from_numpy(basis.uv_faces),
            "labels": torch.from_numpy(basis.labels),
            "lid_rows": lid_rows,
            "lid_opening": _opening(margin),
            "lash_starts": torch.from_numpy(basis.lash_starts),
            "lash_ends": torch.from_numpy(basis.lash_ends),
            "lash_fractions": torch.from_numpy(basis.lash_fractions)[:, None],
        }
        for name, tensor in buffers.items():
            self.register_buffer(name, tensor, persistent=False)

    def with_hair(self, style: HairStyle, seed: int) -> ProceduralHead:
        """Copy the head and give it any cut; its ``hair_style`` is then ``"custom"``.

        Args:
            style: Cut; built anew, in some 0.1 s.
            seed: Places clumps and waves.
        """
        head = copy.deepcopy(self)
        head.hair_style, head.hair_seed = "custom", seed
        head._wear(cut_hair(style, seed))
        return head

    def _wear(self, hair: Hair) -> None:
        """Hair is the last part of the mesh."""
        body = len(self.template) - len(hair.vertices)
        cap = torch.from_numpy(hair.vertices) * MILLIMETRE
        modes = torch.from_numpy(hair.identity_modes) * MILLIMETRE
        self.template[body:] = cap.to(self.template)
        self.identity_modes[:, body:] = modes.to(self.identity_modes)

    @property
    def name(self) -> str:
        """See ``HeadModel``."""
        return "procedural"

    @property
    def options(self) -> dict[str, str | int]:
        """The arguments of the constructor."""
        return {"hair_style": self.hair_style, "hair_seed": self.hair_seed}

    @property
    def version(self) -> str:
        """Changes when coefficients or the vertex order change their meaning."""
        return "1"

    @property
    def parameters_spec(self) -> tuple[ParameterSpec, ...]:
        """See ``HeadModel``; identity coefficients are standard deviations, sensible to ±2."""
        return (
            ParameterSpec("identity_coeffs", len(IDENTITY_NAMES), is_static=True),
            ParameterSpec("expression_coeffs", len(EXPRESSION_NAMES)),
            ParameterSpec("global_rotation", 3),
            ParameterSpec("neck_pose", 3),
            ParameterSpec("jaw_pose", 3),
            ParameterSpec("eye_pose", 6),
            ParameterSpec("translation", 3),
        )

    @property
    def expression_names(self) -> tuple[str, ...]:
        """The 52 ARKit names."""
        return EXPRESSION_NAMES

    @property
    def topology(self) -> Topology:
        """Every vertex lies in exactly one region."""
        regions = {name: self.labels == index for index, name in enumerate(REGIONS)}
        return Topology(self.faces, self.uv, self.uv_faces, regions)

    @property
    def neutral(self) -> Float[Tensor, "v 3"]:
        """The default person at rest."""
        return self.template

    @property
    def joint_names(self) -> tuple[str, ...]:
        """See ``HeadModel``."""
        return HEAD_JOINTS

    @property
    def joint_parents(self) -> tuple[int, ...]:
        """See ``HeadModel``."""
        return HEAD_JOINT_PARENTS

    @property
    def skinning_weights(self) -> Float[Tensor, "v j"]:
        """See ``HeadModel``."""
        return self.weights

    @property
    def pose_basis(self) -> Float[Tensor, "0 v 3"]:
        """There are no correctives of this kind."""
        return self.template.new_zeros(0, *self.template.shape)

    def vertices(self, pose: HeadPose) -> Float[Tensor, "b v 3"]:
        """Pose the head; the global rotation turns it about its root joint under the neck.

        Raises:
            ValueError: If a field of the pose has the wrong size.
        """
        check_pose(pose, self.parameters_spec)
        batch = len(pose)
        rest = add_shapes(self.template, self.identity_modes, pose.identity_coeffs)
        joints = add_shapes(self.joints, self.joint_modes, pose.identity_coeffs)
        coeffs = self._expression_coeffs(pose)
        rest, joints = rest.expand(batch, -1, -1), joints.expand(batch, -1, -1)
        expressive = self.expression_shapes.shape[1]
        body = self._express(rest[:, :expressive], joints, coeffs)
        shaped = torch.cat([body, rest[:, expressive:]], dim=1)
        transforms = self._joint_transforms(pose, coeffs, joints)
        return linear_blend_skinning(shaped, transforms, self.weights, pose.translation)

    def joint_motion(self, pose: HeadPose) -> JointMotion:
        """Motion of the joints; ``jawOpen`` and the ``eyeLook`` shapes turn theirs.

        Raises:
            ValueError: As ``vertices``.
        """
        check_pose(pose, self.parameters_spec)
        joints = add_shapes(self.joints, self.joint_modes, pose.identity_coeffs)
        joints = joints.expand(len(pose), -1, -1)
        transforms = self._joint_transforms(pose, self._expression_coeffs(pose), joints)
        none = transforms.new_zeros(len(pose), 0)
        return JointMotion(joints, translate_transforms(transforms, pose.translation), none)

    def _expression_coeffs(self, pose: HeadPose) -> Float[Tensor, "b e"]:
        if pose.expression_coeffs is None:
            return self.template.new_zeros(len(pose), len(EXPRESSION_NAMES))
        return pose.expression_coeffs.to(self.template).expand(len(pose), -1)

    def _express(
        self,
        rest: Float[Tensor, "b u 3"],
        joints: Float[Tensor, "b 5 3"],
        coeffs: Float[Tensor, "b e"],
    ) -> Float[Tensor, "b u 3"]:
        blinks = [
            coeffs[:, EXPRESSION_NAMES.index(f"eyeBlink{side}")] for side in ("Left", "Right")
        ]
        body = close_lids(
            add_shapes(rest, self.expression_shapes, coeffs),
            rest,
            joints[:, _LEFT_EYE : _LEFT_EYE + 2],
            torch.stack(blinks, dim=1),
            self.lid_rows,
            self.lid_opening,
        )
        # The lashes hang on the lid margins.
        start = body[:, self.lash_starts] - rest[:, self.lash_starts]
        end = body[:, self.lash_ends] - rest[:, self.lash_ends]
        lashes, tongue = self._lashes, self.parts["tongue"].vertices
        hung = rest[:, lashes] + start + (end - start) * self.lash_fractions
        lifted = lift_tongue(body[:, tongue])
        # Order of the parts: tongue, ears, lashes; see ``PART_NAMES``.
        between = body[:, tongue.stop : lashes.start]
        return torch.cat(
            [body[:, : tongue.start], lifted, between, hung, body[:, lashes.stop :]], dim=1
        )

    def _joint_transforms(
        self, pose: HeadPose, coeffs: Float[Tensor, "b e"], joints: Float[Tensor, "b 5 3"]
    ) -> Float[Tensor, "b 5 3 4"]:
        jaw_open = coeffs[:, EXPRESSION_NAMES.index("jawOpen"), None]
        jaw = nn.functional.pad(JAW_OPEN_ANGLE * jaw_open, (0, 2))
        eyes = coeffs @ self.gaze_angles
        turned = pose.replace(
            jaw_pose=jaw if pose.jaw_pose is None else pose.jaw_pose.to(jaw) + jaw,
            eye_pose=eyes if pose.eye_pose is None else pose.eye_pose.to(eyes) + eyes,
        )
        angles = head_joint_angles(turned, self.template)
        transforms = pose_joints(angles, joints, HEAD_JOINT_PARENTS).transforms
        # The condyle slides forward and down in the frame of the skull.
        slide = torch.cat([MILLIMETRE * way * jaw_open for way in JAW_SLIDE], dim=1)
        slide = transforms[:, _NECK, :, :3] @ slide[..., None]
        column = nn.functional.pad(slide, (3, 0))
        jaw_only = (0, 0, 0, 0, _JAW, len(HEAD_JOINTS) - 1 - _JAW)
        return transforms + nn.functional.pad(column[:, None], jaw_only)


def named_expressions(**weights: float | int) -> Float[Tensor, "1 52"]:
    """Expression coefficients from ARKit names; a name without its side sets both sides.

    Raises:
        ValueError: If a name is unknown.
    """
    coeffs = torch.zeros(1, len(EXPRESSION_NAMES))
    for name, weight in weights.items():
        for full in (name,) if name in EXPRESSION_NAMES else (name + "Left", name + "Right"):
            if full not in EXPRESSION_NAMES:
                raise ValueError(f"expression names must be ARKit names, got {name!r}")
            coeffs[0, EXPRESSION_NAMES.index(full)] = weight
    return coeffs


def _gaze_angles() -> Float[Tensor, "52 6"]:
    angles = torch.zeros(len(EXPRESSION_NAMES), 6)
    for side, first, outward in (("Left", 0, 1.0), ("Right", 3, -1.0)):
        for stem, axis, angle in (
            ("eyeLookDown", 0, _LOOK_DOWN),
            ("eyeLookUp", 0, -_LOOK_UP),
            ("eyeLookOut", 1, outward * _LOOK_ASIDE),
            ("eyeLookIn", 1, -outward * _LOOK_ASIDE),
        ):
            angles[EXPRESSION_NAMES.index(stem + side), first + axis] = angle
    return angles


def _opening(margin: Float[Tensor, "2 40 3"]) -> Float[Tensor, "2 19 3"]:
    """Upper minus lower lid margin between the corners."""
    half = LID_POINTS // 2
    return margin[:, 1:half] - margin[:, half + 1 :].flip(1)
