"""Poses of heads in photographs, and the camera labels that they give.

A pose is a rotation from the head's axes (x to the subject's left, y up, z out of the face) to the
camera's in OpenGL's sense (x right, y up, z towards the viewer). Labels have one distance and one
focal length: crops are scaled to them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float
from scipy.optimize import least_squares
from scipy.spatial.transform import Rotation
from torch import Tensor

from vultus.data.cropping.quads import CropQuad
from vultus.geometry.rotations import axis_angle_to_matrix

__all__ = [
    "FOCAL",
    "RADIUS",
    "FacePose",
    "View",
    "angles_to_rotation",
    "camera_sphere",
    "check_face_pose",
    "face_pose",
    "flip_disagreement",
    "pose_label",
    "rotation_to_angles",
    "view_of",
]

RADIUS, FOCAL = 2.7, 4.2647
"""Of all labels: EG3D's."""

View = Literal["front", "right", "left", "back"]

# Points of a face (x, y and z in millimetres, the origin 7 mm below and 70 mm behind the middle of
# the eyes), by their index among 68 landmarks: means of the built-in head and of ICT-FaceKit's.
_FACE_POINTS = {
    8: (0.0, -99.5, 95.0),
    27: (0.0, 9.7, 93.0),
    30: (0.0, -26.5, 117.5),
    33: (0.0, -41.0, 102.4),
    36: (-45.8, 7.2, 75.6),
    39: (-16.6, 4.3, 80.9),
    42: (16.6, 4.3, 80.9),
    45: (45.8, 7.2, 75.6),
    48: (-25.4, -62.6, 89.6),
    51: (0.0, -54.4, 105.3),
    54: (25.4, -62.6, 89.6),
    57: (0.0, -71.9, 102.9),
}
_HALF_CROP = 126.0
"""Half the side of the crop of that face, millimetres."""
_DISTANCE = 2.2 * FOCAL
"""Of the camera in half sides of that crop; the expanded crop, 2.2 of them, fills the picture."""
_SCALE_RANGE, _MAX_SHIFT = (0.7, 1.3), 1.0
_MAX_YAW, _MAX_PITCH, _MAX_ROLL = (math.radians(angle) for angle in (90.0, 80.0, 50.0))


@dataclass(frozen=True)
class FacePose:
    """A face in a crop."""

    rotation: Float[Tensor, "3 3"]
    scale: float
    """By which the crop must grow so that an average face fills it."""
    shift: tuple[float, float]
    """Of the head's middle from the crop's, in half sides, to the right and up."""


def face_pose(landmarks: Float[Tensor, "68 2"], quad: CropQuad) -> FacePose:
    """Fit an average face to landmarks, as the labels' camera would see it.

    It stands in for the 3DDFA fit of the authors' tools, whose model is not free.
    """
    points = np.array(list(_FACE_POINTS.values())) / _HALF_CROP
    seen = quad.from_photograph(landmarks[list(_FACE_POINTS)]).double().numpy() * [1.0, -1.0]

    def error(parameters: np.ndarray) -> np.ndarray:
        turned = Rotation.from_rotvec(parameters[:3]).apply(points)
        projected = turned[:, :2] * (_DISTANCE / (_DISTANCE - turned[:, 2:]))
        return (parameters[3] * projected + parameters[4:] - seen).ravel()

    # Crops are upright with the eyes: from the front, the nearest minimum is the right one.
    start = np.array([0.0, 0.0, 0.0, 1.0, 0.0, 0.0])
    turn_x, turn_y, turn_z, scale, x, y = least_squares(error, start).x.tolist()
    turn = torch.tensor([turn_x, turn_y, turn_z], dtype=torch.float64)
    return FacePose(axis_angle_to_matrix(turn), scale, (x, y))


def check_face_pose(pose: FacePose) -> str | None:
    """Say what is wrong with a fit, by the limits of the authors' tools; ``None`` if nothing."""
    roll, yaw, pitch = rotation_to_angles(pose.rotation)
    if not _SCALE_RANGE[0] <= pose.scale <= _SCALE_RANGE[1]:
        return f"the scale of the face is {pose.scale:.2f}, not {_SCALE_RANGE[0]} to 1.3"
    for name, angle, limit in (
        ("yaw", yaw, _MAX_YAW),
        ("pitch", pitch, _MAX_PITCH),
        ("roll", roll, _MAX_ROLL),
    ):
        if abs(angle) > limit:
            return f"the {name} of the face is {math.degrees(angle):.0f} degrees"
    if max(map(abs, pose.shift)) > _MAX_SHIFT:
        return f"the face lies beside its crop, at ({pose.shift[0]:.2f}, {pose.shift[1]:.2f})"
    return None


def pose_label(rotation: Float[Tensor, "3 3"]) -> Float[Tensor, " 25"]:
    """Camera label of a head in the middle of its crop."""
    flip = rotation.new_tensor([1.0, -1.0, -1.0])
    to_camera = torch.eye(4, dtype=torch.float64)
    to_camera[:3, :3] = (flip[:, None] * rotation).double()
    to_camera[2, 3] = RADIUS
    to_world = torch.linalg.inv(to_camera)
    intrinsics = torch.tensor([[FOCAL, 0.0, 0.5], [0.0, FOCAL, 0.5], [0.0, 0.0, 1.0]])
    return torch.cat([to_world.flatten().float(), intrinsics.flatten()])


def angles_to_rotation(roll: float, yaw: float, pitch: float) -> Float[Tensor, "3 3"]:
    """Pose of angles in radians, as pose networks (WHENet) give them; the yaw may be all round.

    The rotation is Rx(-pitch) Ry(-yaw) Rz(-roll).
    """
    turns = torch.diag(torch.tensor([-pitch, -yaw, -roll], dtype=torch.float64))
    about_x, about_y, about_z = axis_angle_to_matrix(turns)
    return about_x @ about_y @ about_z


def rotation_to_angles(rotation: Float[Tensor, "3 3"]) -> tuple[float, float, float]:
    """Roll, yaw and pitch in radians; the yaw within a quarter turn, as the toolbox stores it."""
    yaw = -math.asin(min(max(float(rotation[0, 2]), -1.0), 1.0))
    roll = math.atan2(float(rotation[0, 1]), float(rotation[0, 0]))
    pitch = math.atan2(float(rotation[1, 2]), float(rotation[2, 2]))
    return roll, yaw, pitch


def flip_disagreement(
    angles: tuple[float, float, float], flipped: tuple[float, float, float]
) -> float:
    """How far a pose network contradicts itself on the mirrored image, in radians.

    Args:
        angles: Roll, yaw and pitch of the image.
        flipped: Of the image flipped left to right.
    """
    roll, yaw, pitch = (
        a + sign * b for a, b, sign in zip(angles, flipped, (1, 1, -1), strict=True)
    )
    return math.sqrt(sum(math.remainder(x, 2 * math.pi) ** 2 for x in (roll, yaw, pitch)))


def camera_sphere(label: Float[Tensor, " 25"]) -> tuple[float, float, float]:
    """Theta, phi (degrees) and radius of a camera around the head.

    Theta is 90 in front, 0 and 180 at the sides and -90 behind; phi is 0 above.
    """
    x, y, z = label[:16].view(4, 4)[:3, 3].tolist()
    radius = math.sqrt(x * x + y * y + z * z)
    theta = math.degrees(math.atan2(x, z)) + 90.0
    return (theta - 360.0 if theta > 180.0 else theta), math.degrees(math.acos(y / radius)), radius


def view_of(label: Float[Tensor, " 25"]) -> View:
    """From which side a label looks, by quarters."""
    theta, _, _ = camera_sphere(label)
    if -45.0 <= theta <= 45.0:
        return "right"
    if 45.0 < theta <= 135.0:
        return "front"
    return "back" if -135.0 <= theta < -45.0 else "left"
