"""Fuse an avatar's rendered depth into a triangle mesh."""

from __future__ import annotations

import torch

from vultus.core.progress import track
from vultus.geometry.cameras import Camera
from vultus.geometry.tsdf import TriangleMesh, TsdfVolume
from vultus.heads.base import HeadPose
from vultus.methods.base import ReconstructionMethod

__all__ = ["fuse_mesh"]


def fuse_mesh(
    avatar: ReconstructionMethod,
    pose: HeadPose,
    cameras: Camera,
    resolution: int = 256,
    alpha_threshold: float = 0.5,
) -> TriangleMesh:
    """Render depth of one pose from all cameras and fuse it.

    The volume is the box of the posed head with a margin of a tenth, ``resolution`` voxels along
    its longest edge; truncation is five voxels, as published for 2DGS.

    Raises:
        ValueError: If no surface was seen.
    """
    with torch.no_grad():
        vertices = avatar.head.vertices(pose)[0]
    low, high = vertices.min(dim=0).values, vertices.max(dim=0).values
    margin = 0.1 * (high - low).max()
    volume = TsdfVolume.cover(low - margin, high + margin, resolution)
    for index in track(range(len(cameras)), label="fusing", unit="views"):
        with torch.no_grad():
            output = avatar.render(pose, cameras[index])
        depth = torch.where(output.alpha > alpha_threshold, output.require("median_depth"), 0.0)
        volume.integrate(depth[0], output.image[0].clamp(0, 1), cameras[index])
    return volume.extract()
