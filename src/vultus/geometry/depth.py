"""Depth maps as points and as normals."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import normalize, pad

from vultus.geometry.cameras import Camera, pixel_directions

__all__ = ["depth_to_normals", "depth_to_points", "rotate_maps"]


def depth_to_points(depth: Float[Tensor, "b 1 h w"], camera: Camera) -> Float[Tensor, "b h w 3"]:
    """Back-project depth (camera z) to world points."""
    camera_to_world = camera.camera_to_world
    directions = pixel_directions(camera) @ camera_to_world[:, None, :3, :3].transpose(-1, -2)
    return directions * depth[:, 0, :, :, None] + camera_to_world[:, None, None, :3, 3]


def depth_to_normals(depth: Float[Tensor, "b 1 h w"], camera: Camera) -> Float[Tensor, "b 3 h w"]:
    """Estimate world normals from central differences of the back-projected depth.

    Normals face the camera. The border of one pixel, and pixels whose differences are parallel, are
    zero. Differences run across depth edges: mask the result there. (The published code of 2DGS
    back-projects through pixel corners instead of centres: normals turn by some milliradians.)

    Reference: Huang et al., 2D Gaussian Splatting, 2024, eq. 15.
    """
    # In camera axes, where points cost one product each; normals turn into the world at the end.
    points = pixel_directions(camera) * depth[:, 0, :, :, None]
    along_rows = points[:, 2:, 1:-1] - points[:, :-2, 1:-1]
    along_columns = points[:, 1:-1, 2:] - points[:, 1:-1, :-2]
    normals = normalize(torch.linalg.cross(along_rows, along_columns), dim=-1)
    turned = rotate_maps(camera.world_to_camera[:, :3, :3], normals.permute(0, 3, 1, 2))
    # A single row or column is all border, and would get a second one.
    return pad(turned, (1, 1, 1, 1))[..., : camera.height, : camera.width]


def rotate_maps(
    rotations: Float[Tensor, "b 3 3"], maps: Float[Tensor, "b 3 h w"]
) -> Float[Tensor, "b 3 h w"]:
    """Turn vectors back: multiply them with the transposed rotations."""
    if not maps.is_cuda:
        return torch.einsum("bji,bjhw->bihw", rotations, maps)
    # A matrix product with so few rows takes a GPU ten times as long as this.
    first, second, third = rotations[..., None, None].unbind(1)
    x, y, z = maps[:, :, None].unbind(1)
    return first * x + second * y + third * z
