"""Fuse an avatar's rendered depth into a triangle mesh."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from vultus.core.progress import track
from vultus.geometry.cameras import Camera
from vultus.geometry.meshes import TriangleMesh, largest_components
from vultus.geometry.tsdf import TsdfVolume
from vultus.heads.base import HeadPose
from vultus.heads.expression_track import check_has_mesh
from vultus.methods.base import ReconstructionMethod

__all__ = ["FusionSettings", "fuse_mesh"]

_MARGIN = 0.1
"""Of the head's longest edge, around its box."""
_OPAQUE = 0.5


@dataclass(frozen=True)
class FusionSettings:
    """How depth maps become a surface."""

    resolution: int = 256
    """Voxels along the longest edge of the head's box."""
    voxel_size: float | None = None
    """Metres; decides instead of the resolution."""
    truncation: float | None = None
    """Distance at which the field saturates, metres; default: five voxels, as published for 2DGS
    (official sdf_trunc)."""
    depth_limit: float | None = None
    """Ignore depth beyond this, metres (official depth_trunc)."""
    depth: Literal["median", "expected"] = "median"
    """Which depth: where half of the light is gone, or the mean (official --depth_ratio 1 or 0)."""
    parts: int = 1
    """Keep so many connected parts, the largest (official num_cluster); 0 keeps everything."""
    min_part_faces: int = 50
    """Drop parts with fewer triangles, unless everything is kept."""

    def __post_init__(self) -> None:
        """Reject sizes that make no surface."""
        for name in ("voxel_size", "truncation", "depth_limit"):
            value = getattr(self, name)
            if value is not None and not 0 < value < math.inf:
                raise ValueError(f"{name} must be positive, got {value}")
        if self.resolution < 2:
            raise ValueError(f"resolution must be at least 2, got {self.resolution}")
        if self.parts < 0 or self.min_part_faces < 0:
            raise ValueError(
                "parts and min_part_faces must not be negative, got "
                f"{self.parts} and {self.min_part_faces}"
            )


def fuse_mesh(
    avatar: ReconstructionMethod,
    pose: HeadPose,
    cameras: Camera | Sequence[Camera],
    settings: FusionSettings | None = None,
    masks: Sequence[Float[Tensor, "1 h w"] | None] | None = None,
) -> TriangleMesh:
    """Render depth and colour of one pose from all cameras and fuse them.

    The volume is the box of the posed head with a margin of a tenth.

    Args:
        avatar: What is rendered.
        pose: One frame.
        cameras: A batch, or cameras of different sizes one by one.
        settings: See there.
        masks: Of each camera; what lies outside of a mask is not fused from its view.

    Raises:
        ValueError: If no surface was seen, the head has no mesh, or there are neither no masks nor
            one per camera.
    """
    check_has_mesh(avatar.head, "fusing a mesh")
    settings = FusionSettings() if settings is None else settings
    masks = [None] * len(cameras) if masks is None else masks
    if len(masks) != len(cameras):
        raise ValueError(f"masks must be {len(cameras)}, one per camera, got {len(masks)}")
    volume = _volume(avatar, pose, settings)
    limit = math.inf if settings.depth_limit is None else settings.depth_limit
    for index in track(range(len(cameras)), label="fusing", unit="views"):
        with torch.no_grad():
            output = avatar.render(pose, cameras[index])
        name = "median_depth" if settings.depth == "median" else "depth"
        is_seen = output.alpha[0] > _OPAQUE
        mask = masks[index]
        if mask is not None:
            is_seen &= mask > _OPAQUE
        depth = torch.where(is_seen, output.require(name)[0], 0.0)
        image = output.image[0].clamp(0, 1)
        volume.integrate(depth, image, cameras[index], depth_truncation=limit)
    mesh = volume.extract(only_largest=False)
    if settings.parts == 0:
        return mesh
    return largest_components(mesh, settings.parts, settings.min_part_faces)


def _volume(avatar: ReconstructionMethod, pose: HeadPose, settings: FusionSettings) -> TsdfVolume:
    with torch.no_grad():
        vertices = avatar.head.vertices(pose)[0]
    low, high = vertices.min(dim=0).values, vertices.max(dim=0).values
    margin = _MARGIN * (high - low).max()
    low, high = low - margin, high + margin
    resolution = settings.resolution
    if settings.voxel_size is not None:
        resolution = math.ceil(float((high - low).max()) / settings.voxel_size) + 1
    return TsdfVolume.cover(low, high, resolution, settings.truncation)
