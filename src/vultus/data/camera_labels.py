"""Camera labels of generators: 16 numbers of camera_to_world by rows, 9 of normalised intrinsics.

Convention: OpenCV camera axes; the world has +y up, the face looks along +z, and the unit is the
side of the box that holds the head. Intrinsics are divided by the image's side, so the principal
point is (0.5, 0.5). This is the only place where such intrinsics exist.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor

from vultus.geometry.cameras import Camera, check_rigid, look_at

__all__ = [
    "LABEL_DIM",
    "check_label",
    "label_angles",
    "labels_around",
    "labels_to_camera",
    "look_at_labels",
    "mirror_labels",
    "pack_labels",
    "shift_labels",
]

LABEL_DIM = 25

_TRANSLATION = slice(3, 12, 4)
_MIRRORED = [1, 2, 3, 4, 8]


def check_label(label: Float[Tensor, " _"], name: str) -> None:
    """Raise unless a label from outside is one.

    Raises:
        ValueError: Naming ``name`` and the first rule that is broken.
    """
    if len(label) != LABEL_DIM:
        raise ValueError(f"{name} must have {LABEL_DIM} numbers, got {len(label)}")
    check_rigid(label[:16].unflatten(0, (4, 4)), f"{name}: camera_to_world")
    intrinsics = label[16:].unflatten(0, (3, 3))
    last = intrinsics.new_tensor([0.0, 0.0, 1.0])
    focal = intrinsics.diagonal()[:2]
    is_usable = bool(intrinsics.isfinite().all()) and bool((focal > 0.0).all())
    if not is_usable or not torch.equal(intrinsics[2], last):
        raise ValueError(
            f"{name} must have positive focal lengths and the last row (0, 0, 1) in its "
            f"intrinsics, got {intrinsics.tolist()}"
        )


def labels_to_camera(labels: Float[Tensor, "b 25"], size: int) -> Camera:
    """Unpack labels for square images of ``size`` pixels; differentiable."""
    to_world = labels[:, :16].unflatten(1, (4, 4))
    rotation = to_world[:, :3, :3].transpose(1, 2)
    translation = -rotation @ to_world[:, :3, 3:]
    top = torch.cat([rotation, translation], dim=2)
    intrinsics = labels[:, 16:].unflatten(1, (3, 3))
    # No tensor of a list: it would be copied from the host, which a CUDA graph cannot hold.
    intrinsics = torch.cat([size * intrinsics[:, :2], intrinsics[:, 2:]], dim=1)
    world_to_camera = torch.cat([top, to_world[:, 3:]], dim=1)
    return Camera(world_to_camera, intrinsics, width=size, height=size)


def pack_labels(camera: Camera) -> Float[Tensor, "b 25"]:
    """Undo ``labels_to_camera``.

    Raises:
        ValueError: If the images are not square.
    """
    if camera.width != camera.height:
        raise ValueError(f"images must be square, got {camera.width} x {camera.height}")
    scale = camera.intrinsics.new_tensor([camera.width, camera.width, 1.0])
    parts = camera.camera_to_world.flatten(1), (camera.intrinsics / scale[:, None]).flatten(1)
    return torch.cat(parts, dim=1)


def shift_labels(
    labels: Float[Tensor, "b 25"], offsets: Float[Tensor, "b 3"]
) -> Float[Tensor, "b 25"]:
    """Move cameras in the world."""
    # No index from a list: it would be copied from the host, which a CUDA graph cannot hold.
    shifts = torch.zeros_like(labels)
    shifts[:, _TRANSLATION] = offsets
    return labels + shifts


def mirror_labels(labels: Float[Tensor, "*b 25"]) -> Float[Tensor, "*b 25"]:
    """Labels of the images flipped left to right."""
    signs = torch.ones(LABEL_DIM, dtype=labels.dtype, device=labels.device)
    signs[_MIRRORED] = -1.0
    return labels * signs


def look_at_labels(
    yaw: Float[Tensor, " b"],
    height: Float[Tensor, " b"],
    *,
    target: Float[Tensor, 3],
    radius: float,
    focal: float,
) -> Float[Tensor, "b 25"]:
    """Cameras on a sphere around the origin.

    Args:
        yaw: Angle around the head; 0 is frontal, positive sees the subject's left side.
        height: Sine of the elevation; 1 is above.
        target: World position in the middle of the images.
        radius: Of the sphere.
        focal: Focal length in units of the image's side.
    """
    flat = (1.0 - height.square()).clamp(min=0.0).sqrt()
    centers = radius * torch.stack([flat * yaw.sin(), height, flat * yaw.cos()], dim=1)
    intrinsics = centers.new_tensor([[focal, 0.0, 0.5], [0.0, focal, 0.5], [0.0, 0.0, 1.0]])
    camera = Camera(look_at(centers, target), intrinsics.expand(len(centers), 3, 3), 1, 1)
    return pack_labels(camera)


def labels_around(
    labels: Float[Tensor, "n 25"], yaws: Float[Tensor, " v"]
) -> Float[Tensor, "v 25"]:
    """Cameras around the head at the mean distance and height, and with the mean focal, of others.

    Args:
        labels: Those others.
        yaws: Angles around the head in degrees, 0 is frontal.
    """
    centers = labels[:, [3, 7, 11]]
    radius = float(centers.norm(dim=1).mean())
    height = float((centers[:, 1] / centers.norm(dim=1)).mean())
    yaw = torch.deg2rad(yaws)
    return look_at_labels(
        yaw,
        torch.full_like(yaw, height),
        target=yaw.new_zeros(3),
        radius=radius,
        focal=float(labels[:, 16].mean()),
    )


def label_angles(labels: Float[Tensor, "b 25"]) -> Float[Tensor, "b 3"]:
    """Yaw, pitch and roll of the head as seen by the camera, in radians.

    The yaw of a head seen from behind lies beyond a quarter turn, and pitch and roll are given
    relative to it.
    """
    rotation = labels[:, :16].unflatten(1, (4, 4))[:, :3, :3]
    flipped = rotation * rotation.new_tensor([1.0, -1.0, -1.0])
    matrix = flipped.transpose(1, 2)
    sine = matrix[:, 2, 0].clamp(-1.0, 1.0)
    yaw = torch.asin(sine)
    pitch = _tilt(matrix[:, 2, 1], matrix[:, 2, 2], yaw)
    turned = torch.where(yaw > 0, math.pi - yaw, -math.pi - yaw)
    yaw = torch.where(pitch.abs() > math.pi / 2, turned, yaw)
    pitch = _tilt(matrix[:, 2, 1], matrix[:, 2, 2], yaw)
    roll = _tilt(matrix[:, 1, 0], matrix[:, 0, 0], yaw)
    return torch.stack([yaw, pitch, roll], dim=1)


def _tilt(numerator: Tensor, denominator: Tensor, yaw: Tensor) -> Tensor:
    cosine = yaw.cos()
    return torch.atan2(numerator / cosine, denominator / cosine)
