"""Cutting frames off at the neck: captures show shoulders and clothes that rigs do not have.

Published captures are cut in the same way before training (``maskBelowLine`` in their names).
"""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Bool
from scipy import ndimage
from torch import Tensor

from vultus.geometry.cameras import Camera, camera_centers, pixel_directions
from vultus.geometry.meshes import face_normals
from vultus.heads.base import HeadModel, HeadPose
from vultus.kernels.ray_mesh import Bvh, first_hit

__all__ = ["is_above_cut"]

_FALL = 5.0
"""Metres of height per metre beside the silhouette. Ears of the capture may stand out by 3 cm and
hair on the crown by 5 cm; a shoulder beside the jaw goes."""


def is_above_cut(
    head: HeadModel, pose: HeadPose, camera: Camera, cut_height: float
) -> Bool[Tensor, "1 h w"]:
    """Tell which pixels show the rig above a cut, or what surrounds that part of it.

    The cut is made on the head at rest, so it turns with the head. A pixel outside the rig's
    silhouette (hair, a shoulder) has the height of the nearest pixel inside less a multiple of its
    distance from it, so that shoulders beside the neck go. So do pixels that look through the
    neck's open end at the rig's inside.

    Args:
        head: The rig.
        pose: One row.
        camera: One camera.
        cut_height: Height on the mean head at rest, metres.

    Raises:
        ValueError: If the camera does not see the rig.
    """
    faces = head.topology.faces
    with torch.no_grad():
        vertices = head.vertices(pose)[0]
    bvh = Bvh.build(vertices, faces)
    rays = pixel_directions(camera)[0].flatten(0, 1) @ camera.camera_to_world[0, :3, :3].T
    origins = camera_centers(camera).expand_as(rays)
    # Frames are decoded side by side already: one thread each.
    hits = first_hit(bvh, origins, rays, num_threads=1)
    size = (camera.height, camera.width)
    is_hit = (hits.face >= 0).reshape(size)
    if not bool(is_hit.any()):
        raise ValueError("the camera does not see the rig: pose or camera is wrong")
    height = (head.neutral[faces[hits.face]][..., 1] * hits.barycentrics).sum(dim=1)
    is_inside = (face_normals(vertices, faces)[hits.face] * rays).sum(dim=1) > 0
    height = torch.where(is_inside, -torch.inf, height).reshape(size)
    nearest = np.empty((2, *size), dtype=np.int32)
    pixels = ndimage.distance_transform_edt(~is_hit.numpy(), return_indices=True, indices=nearest)
    row, column = torch.from_numpy(nearest).long()
    # Rays have z = 1 in the camera, so that distances along them are depths.
    pixel_size = hits.distance.reshape(size)[row, column] / camera.intrinsics[0, 0, 0]
    outside = torch.from_numpy(np.asarray(pixels)).float() * pixel_size
    return (height[row, column] - _FALL * outside > cut_height)[None]
