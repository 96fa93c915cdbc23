"""Camera arrangements around a head: orbits, swings, domes, grids, figures of eight, in-betweens.

World: +x the subject's left, +y up, +z out of the face. Yaw 0, pitch 0 looks at the face from the
front; positive yaw stands on the subject's left, positive pitch above. Angles are radians.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor

from vultus.geometry.cameras import Camera, camera_centers, look_at
from vultus.geometry.rotations import (
    matrix_to_quaternion,
    quaternion_slerp,
    quaternion_to_matrix,
)

__all__ = [
    "cameras_at_angles",
    "dome",
    "interpolate_cameras",
    "lemniscate",
    "orbit",
    "yaw_pitch_grid",
    "yaw_swing",
]


def cameras_at_angles(
    center: Float[Tensor, 3],
    radius: float,
    yaws: Float[Tensor, " b"],
    pitches: Float[Tensor, " b"],
    intrinsics: Float[Tensor, "3 3"],
    width: int,
    height: int,
) -> Camera:
    """Place cameras on a sphere, all looking at its center.

    Raises:
        ValueError: If the radius is not positive or a camera stands at a pole.
    """
    if not radius > 0:
        raise ValueError(f"radius must be positive, got {radius}")
    directions = torch.stack(
        [yaws.sin() * pitches.cos(), pitches.sin(), yaws.cos() * pitches.cos()], dim=-1
    ).to(center)
    world_to_camera = look_at(center + radius * directions, center)
    repeated = intrinsics.to(center).expand(len(yaws), 3, 3)
    return Camera(world_to_camera, repeated, width, height)


def orbit(
    center: Float[Tensor, 3],
    radius: float,
    num_cameras: int,
    sweep: float,
    intrinsics: Float[Tensor, "3 3"],
    width: int,
    height: int,
    *,
    pitch: float = 0.0,
) -> Camera:
    """Walk around the head at constant height.

    A sweep below a full turn is an arc centred on the front that includes both ends; a full turn (a
    turntable) starts at the front and stops one step before it, so that it loops.
    """
    if sweep >= 2 * math.pi - 1e-9:
        yaws = torch.arange(num_cameras, dtype=torch.float64) * (sweep / num_cameras)
    else:
        yaws = _spread(-0.5 * sweep, 0.5 * sweep, num_cameras)
    pitches = torch.full_like(yaws, pitch)
    return cameras_at_angles(center, radius, yaws, pitches, intrinsics, width, height)


def dome(
    center: Float[Tensor, 3],
    radius: float,
    num_rings: int,
    cameras_per_ring: int,
    intrinsics: Float[Tensor, "3 3"],
    width: int,
    height: int,
    *,
    sweep: float = math.pi,
    pitch_range: tuple[float, float] = (-math.pi / 12, math.pi / 4),
) -> Camera:
    """Place a capture rig: rings of cameras over the front, lowest ring first.

    Odd rings are shifted by half a step, so that cameras do not stand above each other.
    """
    step = sweep / cameras_per_ring
    yaws, pitches = [], []
    for ring, pitch in enumerate(_spread(*pitch_range, num_rings)):
        offset = 0.25 * step if ring % 2 else -0.25 * step
        places = (torch.arange(cameras_per_ring, dtype=torch.float64) + 0.5) * step
        yaws.append(places - 0.5 * sweep + offset)
        pitches.append(pitch.expand(cameras_per_ring))
    return cameras_at_angles(
        center, radius, torch.cat(yaws), torch.cat(pitches), intrinsics, width, height
    )


def yaw_pitch_grid(
    center: Float[Tensor, 3],
    radius: float,
    yaw_range: tuple[float, float],
    pitch_range: tuple[float, float],
    num_yaws: int,
    num_pitches: int,
    intrinsics: Float[Tensor, "3 3"],
    width: int,
    height: int,
) -> Camera:
    """Sweep yaw for every pitch, both ranges including their ends; yaw changes fastest."""
    pitches, yaws = torch.meshgrid(
        _spread(*pitch_range, num_pitches), _spread(*yaw_range, num_yaws), indexing="ij"
    )
    return cameras_at_angles(
        center, radius, yaws.flatten(), pitches.flatten(), intrinsics, width, height
    )


def yaw_swing(
    center: Float[Tensor, 3],
    radius: float,
    num_cameras: int,
    intrinsics: Float[Tensor, "3 3"],
    width: int,
    height: int,
    *,
    amplitude: float = math.radians(15),
    period: int = 100,
) -> Camera:
    """Sweep from the subject's left to its right at the height of the center, again and again.

    The yaw of camera i is amplitude (1 - 2 (i mod period) / period): a new sweep starts with a
    jump. These are the novel views of the published GaussianHead, whose centre is the origin.

    Raises:
        ValueError: If the period is not positive.
    """
    if period < 1:
        raise ValueError(f"period must be positive, got {period}")
    share = (torch.arange(num_cameras, dtype=torch.float64) % period) / period
    yaws = amplitude * (1 - 2 * share)
    pitches = torch.zeros_like(yaws)
    return cameras_at_angles(center, radius, yaws, pitches, intrinsics, width, height)


def lemniscate(
    center: Float[Tensor, 3],
    radius: float,
    num_cameras: int,
    intrinsics: Float[Tensor, "3 3"],
    width: int,
    height: int,
    *,
    yaw_amplitude: float = 0.5,
    pitch_amplitude: float = 0.25,
) -> Camera:
    """Walk a figure of eight in front of the face that loops."""
    time = torch.arange(num_cameras, dtype=torch.float64) * (2 * math.pi / num_cameras)
    yaws, pitches = yaw_amplitude * time.sin(), pitch_amplitude * (2 * time).sin()
    return cameras_at_angles(center, radius, yaws, pitches, intrinsics, width, height)


def interpolate_cameras(keys: Camera, num_cameras: int, *, is_loop: bool = False) -> Camera:
    """Move smoothly through key cameras, in equal time from key to key.

    Centers follow a Catmull-Rom spline, orientations the shorter great arc, intrinsics a line.

    Args:
        keys: Two or more cameras; the path starts at the first.
        num_cameras: Number of cameras made.
        is_loop: Return to the first key after the last, and stop one step before it. Otherwise the
            path ends on the last key.

    Raises:
        ValueError: If there are fewer than two keys.
    """
    count = len(keys)
    if count < 2:
        raise ValueError(f"keys must hold at least 2 cameras, got {count}")
    if is_loop:
        times = torch.arange(num_cameras, dtype=torch.float64) * (count / num_cameras)
    else:
        times = _spread(0.0, count - 1.0, num_cameras)
    last_start = count - 1 if is_loop else count - 2
    start = times.floor().long().clamp(max=last_start)
    fraction = (times - start).to(keys.world_to_camera)

    def at(offset: int) -> Tensor:
        index = start + offset
        return index % count if is_loop else index.clamp(0, count - 1)

    here, there = at(0), at(1)
    centers = camera_centers(keys)
    eyes = _catmull_rom(
        centers[at(-1)], centers[here], centers[there], centers[at(2)], fraction[:, None]
    )
    quats = matrix_to_quaternion(keys.world_to_camera[:, :3, :3])
    rotations = quaternion_to_matrix(quaternion_slerp(quats[here], quats[there], fraction))
    world_to_camera = torch.zeros_like(keys.world_to_camera[here])
    world_to_camera[:, :3, :3] = rotations
    world_to_camera[:, :3, 3] = -(rotations @ eyes[:, :, None])[..., 0]
    world_to_camera[:, 3, 3] = 1.0
    intrinsics = torch.lerp(keys.intrinsics[here], keys.intrinsics[there], fraction[:, None, None])
    return Camera(world_to_camera, intrinsics, keys.width, keys.height)


def _spread(start: float, stop: float, count: int) -> Tensor:
    """Equal steps including both ends; a single value lies in the middle."""
    if count == 1:
        return torch.tensor([0.5 * (start + stop)], dtype=torch.float64)
    return torch.linspace(start, stop, count, dtype=torch.float64)


def _catmull_rom(before: Tensor, start: Tensor, end: Tensor, after: Tensor, t: Tensor) -> Tensor:
    """Cubic through ``start`` and ``end`` with central differences as tangents."""
    linear, quadratic = end - before, 2 * before - 5 * start + 4 * end - after
    cubic = 3 * (start - end) + after - before
    return start + 0.5 * t * (linear + t * (quadratic + t * cubic))
