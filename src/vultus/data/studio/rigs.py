"""Camera rigs of the virtual studio."""

from __future__ import annotations

import math
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from vultus.geometry.cameras import Camera, fov_to_focal, look_at
from vultus.heads.base import HeadModel, HeadPose

__all__ = ["RigName", "build_rig", "dome", "head_center", "monocular", "turntable"]

RigName = Literal["dome", "turntable", "monocular"]

_DOME_ELEVATIONS = (0.0, 1.0, -0.6)
"""Rows of the dome in units of its elevation, visited in turn from camera to camera, so that
neighbours differ in both angles. Cameras look up less than down, as in light stages."""


_BELOW_THE_HEAD = ("neck", "boundary", "garment")


def head_center(head: HeadModel, identity: Float[Tensor, "1 s"] | None = None) -> Float[Tensor, 3]:
    """Middle of the box around the head at rest without neck and clothes: what cameras aim at."""
    regions = head.topology.regions
    with torch.no_grad():
        vertices = head.vertices(HeadPose(identity_coeffs=identity))[0]
    below = torch.stack([regions[name] for name in _BELOW_THE_HEAD if name in regions])
    kept = vertices[~below.any(dim=0)]
    if kept.shape[0] == 0:
        raise ValueError(f"head {head.name!r} consists of neck and boundary only")
    return 0.5 * (kept.amin(dim=0) + kept.amax(dim=0))


def dome(
    num_cameras: int,
    *,
    radius: float,
    fov: float,
    size: int,
    target: Float[Tensor, 3],
    arc: float = 1.7,
    elevation: float = 0.35,
) -> Camera:
    """Place cameras on an arc in front of the face, in three rows.

    Args:
        num_cameras: Equally spaced in azimuth, from the subject's right (-x) to the left.
        radius: Distance from the target in metres.
        fov: Field of view in radians over the image width.
        size: Width and height in pixels.
        target: What all cameras look at.
        arc: Azimuth between the outermost cameras in radians; 2 pi closes the circle.
        elevation: Height of the upper row in radians.
    """
    steps = num_cameras if arc >= 2 * math.pi else max(num_cameras - 1, 1)
    start = 0.0 if num_cameras == 1 else -0.5 * arc
    azimuths = [start + arc * i / steps for i in range(num_cameras)]
    heights = [elevation * _DOME_ELEVATIONS[i % 3] for i in range(num_cameras)]
    return _orbit(azimuths, heights, radius=radius, fov=fov, size=size, target=target)


def turntable(
    num_cameras: int,
    *,
    radius: float,
    fov: float,
    size: int,
    target: Float[Tensor, 3],
    elevation: float = 0.0,
) -> Camera:
    """Place cameras on a full circle around the head, the first one in front."""
    azimuths = [2 * math.pi * i / num_cameras for i in range(num_cameras)]
    heights = [elevation] * num_cameras
    return _orbit(azimuths, heights, radius=radius, fov=fov, size=size, target=target)


def monocular(*, radius: float, fov: float, size: int, target: Float[Tensor, 3]) -> Camera:
    """Place one camera in front of the face."""
    return _orbit([0.0], [0.0], radius=radius, fov=fov, size=size, target=target)


def build_rig(
    name: RigName,
    num_cameras: int,
    *,
    radius: float,
    fov: float,
    size: int,
    target: Float[Tensor, 3],
    arc: float,
    elevation: float,
) -> Camera:
    """Build a rig by name.

    Raises:
        ValueError: If the name is unknown or the rig cannot have that many cameras.
    """
    if num_cameras < 1:
        raise ValueError(f"cameras must be positive, got {num_cameras}")
    if name == "dome":
        return dome(
            num_cameras,
            radius=radius,
            fov=fov,
            size=size,
            target=target,
            arc=arc,
            elevation=elevation,
        )
    if name == "turntable":
        return turntable(
            num_cameras, radius=radius, fov=fov, size=size, target=target, elevation=elevation
        )
    if name == "monocular":
        if num_cameras != 1:
            raise ValueError(f"cameras must be 1 for the monocular rig, got {num_cameras}")
        return monocular(radius=radius, fov=fov, size=size, target=target)
    raise ValueError(f"rig must be dome, turntable or monocular, got {name!r}")


def _orbit(
    azimuths: list[float],
    elevations: list[float],
    *,
    radius: float,
    fov: float,
    size: int,
    target: Float[Tensor, 3],
) -> Camera:
    """Cameras on a sphere; azimuth 0 is +z (in front of the face), positive towards +x."""
    azimuth = torch.tensor(azimuths, dtype=torch.float64)
    elevation = torch.tensor(elevations, dtype=torch.float64)
    directions = torch.stack(
        [
            elevation.cos() * azimuth.sin(),
            elevation.sin(),
            elevation.cos() * azimuth.cos(),
        ],
        dim=1,
    )
    center = target.to(torch.float64)
    world_to_camera = look_at(center + radius * directions, center)
    focal = fov_to_focal(fov, size)
    intrinsics = torch.tensor([[focal, 0.0, 0.5 * size], [0.0, focal, 0.5 * size], [0.0, 0.0, 1.0]])
    return Camera(
        world_to_camera.float(), intrinsics.expand(len(azimuths), 3, 3).clone(), size, size
    )
