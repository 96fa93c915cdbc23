"""Fuse depth maps into a truncated signed distance field, and extract its surface.

Reference: Curless and Levoy, A Volumetric Method for Building Complex Models from Range Images,
1996.
"""

from __future__ import annotations

from typing import no_type_check

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Float
from numba import njit
from scipy.ndimage import map_coordinates
from skimage.measure import marching_cubes
from torch import Tensor

from vultus.core.simd import run_chunks
from vultus.core.threads import num_threads
from vultus.geometry.cameras import Camera
from vultus.geometry.meshes import TriangleMesh, largest_component, vertex_normals

__all__ = ["TsdfVolume"]

Array = npt.NDArray[np.float32]

_MAX_VOXELS = 1 << 30
# 2DGS and Open3D's examples: enough for the noise of rendered depth, thinner than a nose.
_TRUNCATION_IN_VOXELS = 5.0


class TsdfVolume:
    """A dense grid of signed distances (positive outside), weights and colors, in CPU memory.

    Takes 20 bytes per voxel.
    """

    def __init__(
        self,
        origin: Float[Tensor, 3],
        shape: tuple[int, int, int],
        voxel_size: float,
        truncation: float | None = None,
    ) -> None:
        """Make an empty grid.

        Args:
            origin: World position of voxel center (0, 0, 0).
            shape: Voxels along x, y and z.
            voxel_size: World units.
            truncation: Distance at which the field saturates, world units; five voxels by default.

        Raises:
            ValueError: If sizes are not positive or there are too many voxels.
        """
        self.truncation = _TRUNCATION_IN_VOXELS * voxel_size if truncation is None else truncation
        if min(shape) < 2 or not voxel_size > 0 or not self.truncation > 0:
            raise ValueError(
                "shape must be at least 2 in each axis, voxel_size and truncation positive, got "
                f"{shape}, {voxel_size} and {self.truncation}"
            )
        if np.prod(shape, dtype=np.int64) > _MAX_VOXELS:
            raise ValueError(f"shape must have at most {_MAX_VOXELS} voxels, got {shape}")
        self.voxel_size = voxel_size
        self.origin: Array = origin.detach().cpu().numpy().astype(np.float32)
        self.distances: Array = np.ones(shape, dtype=np.float32)
        """In units of the truncation."""
        self.weights: Array = np.zeros(shape, dtype=np.float32)
        self.colors: Array = np.zeros((*shape, 3), dtype=np.float32)

    @staticmethod
    def cover(
        low: Float[Tensor, 3],
        high: Float[Tensor, 3],
        resolution: int,
        truncation: float | None = None,
    ) -> TsdfVolume:
        """Cover a box with cubic voxels, ``resolution`` along its longest edge.

        Raises:
            ValueError: If the box is empty or the resolution below 2.
        """
        extent = (high - low).detach().cpu().double()
        if resolution < 2 or not bool((extent > 0).all()):
            raise ValueError(
                f"resolution must be at least 2 and high above low, got {resolution} and "
                f"a box of {extent.tolist()}"
            )
        voxel_size = float(extent.max()) / (resolution - 1)
        nx, ny, nz = ((extent / voxel_size).ceil().long() + 1).tolist()
        return TsdfVolume(low, (nx, ny, nz), voxel_size, truncation)

    def integrate(
        self,
        depth: Float[Tensor, "1 h w"],
        image: Float[Tensor, "3 h w"] | None,
        camera: Camera,
        *,
        weight: float = 1.0,
        depth_truncation: float = float("inf"),
    ) -> None:
        """Average one view into the field.

        Args:
            depth: Camera z; 0 where nothing was seen.
            image: Colors; without them the mesh has none from this view.
            camera: One camera.
            weight: Weight of this view.
            depth_truncation: Depth beyond this is ignored.

        Raises:
            ValueError: If there is not one camera or the sizes differ.
        """
        if len(camera) != 1:
            raise ValueError(f"camera must hold one camera, got {len(camera)}")
        size = (camera.height, camera.width)
        for name, tensor in (("depth", depth), ("image", image)):
            if tensor is not None and tuple(tensor.shape[1:]) != size:
                raise ValueError(
                    f"{name} must have the camera's size {size}, got {tuple(tensor.shape[1:])}"
                )
        seen = _as_array(torch.where(depth[0] <= depth_truncation, depth[0], 0.0))
        colors = _as_array(depth.new_zeros(0, 0, 3) if image is None else image.permute(1, 2, 0))
        run_chunks(
            min(num_threads(), self.distances.shape[0]),
            _integrate,
            self.distances.shape[0],
            (self.distances, self.weights, self.colors),
            (self.origin, np.float32(self.voxel_size), np.float32(self.truncation)),
            (seen, colors, np.float32(weight)),
            (_as_array(camera.world_to_camera[0]), _as_array(camera.intrinsics[0])),
        )

    def extract(self, *, only_largest: bool = True) -> TriangleMesh:
        """Extract the surface where it was seen, with normals and colors at its vertices.

        Args:
            only_largest: Drop everything but the connected part with most faces.

        Raises:
            ValueError: If no surface was seen.
        """
        seen = self.weights > 0
        cells = seen[:-1] & seen[1:]
        cells = cells[:, :-1] & cells[:, 1:]
        cells = cells[:, :, :-1] & cells[:, :, 1:]
        # The mask of marching cubes is read at the last corner of each cell.
        mask = np.pad(cells, ((1, 0), (1, 0), (1, 0)))
        inside = self.distances < 0
        if not (mask.any() and (inside & seen).any() and (~inside & seen).any()):
            raise ValueError("no surface was seen: check cameras, depth and the box of the volume")
        places, face_corners, _, _ = marching_cubes(
            self.distances, 0.0, mask=mask, gradient_direction="descent", allow_degenerate=False
        )
        vertices = places * self.voxel_size + self.origin
        colors = [
            map_coordinates(self.colors[..., channel], places.T, order=1) for channel in range(3)
        ]
        positions = torch.from_numpy(vertices.astype(np.float32))
        faces = torch.from_numpy(face_corners.astype(np.int64))
        mesh = TriangleMesh(
            positions,
            faces,
            torch.from_numpy(np.stack(colors, axis=-1)).clamp(0, 1),
            vertex_normals(positions, faces),
        )
        return largest_component(mesh) if only_largest else mesh


def _as_array(tensor: Tensor) -> Array:
    return np.ascontiguousarray(tensor.detach().cpu().float().numpy())


@no_type_check
@njit(nogil=True, cache=True, fastmath={"contract", "nsz"})
def _integrate(start, stop, field, grid, view, lens):
    """Update the slabs start <= x < stop of the grid."""
    distances, weights, colors = field
    origin, voxel_size, truncation = grid
    depth, image, weight = view
    pose, k = lens
    has_colors = image.shape[0] > 0
    for x in range(start, stop):
        px = origin[0] + x * voxel_size
        for y in range(distances.shape[1]):
            py = origin[1] + y * voxel_size
            for z in range(distances.shape[2]):
                pz = origin[2] + z * voxel_size
                cz = pose[2, 0] * px + pose[2, 1] * py + pose[2, 2] * pz + pose[2, 3]
                if cz <= 0:
                    continue
                cx = (pose[0, 0] * px + pose[0, 1] * py + pose[0, 2] * pz + pose[0, 3]) / cz
                cy = (pose[1, 0] * px + pose[1, 1] * py + pose[1, 2] * pz + pose[1, 3]) / cz
                column = k[0, 0] * cx + k[0, 1] * cy + k[0, 2] - np.float32(0.5)
                row = k[1, 1] * cy + k[1, 2] - np.float32(0.5)
                seen = _sample_depth(depth, row, column, truncation)
                # Depth differences become distances along the ray.
                distance = (seen - cz) * np.sqrt(cx * cx + cy * cy + np.float32(1))
                if seen <= 0 or distance < -truncation:
                    continue
                total = weights[x, y, z] + weight
                mix = weight / total
                clipped = min(np.float32(1), distance / truncation)
                distances[x, y, z] += mix * (clipped - distances[x, y, z])
                weights[x, y, z] = total
                if has_colors:
                    i, j = int(np.rint(row)), int(np.rint(column))
                    for channel in range(3):
                        old = colors[x, y, z, channel]
                        colors[x, y, z, channel] = old + mix * (image[i, j, channel] - old)


@no_type_check
@njit(nogil=True, cache=True)
def _sample_depth(depth, row, column, truncation):
    """Bilinear depth; the nearest pixel's at edges of objects; 0 outside of the image."""
    i, j = int(np.rint(row)), int(np.rint(column))
    if not (0 <= i < depth.shape[0] and 0 <= j < depth.shape[1]):
        return np.float32(0)
    nearest = depth[i, j]
    top, left = int(np.floor(row)), int(np.floor(column))
    if top < 0 or left < 0 or top + 1 >= depth.shape[0] or left + 1 >= depth.shape[1]:
        return nearest
    a, b = depth[top, left], depth[top, left + 1]
    c, d = depth[top + 1, left], depth[top + 1, left + 1]
    if min(a, b, c, d) <= 0 or max(a, b, c, d) - min(a, b, c, d) > truncation:
        return nearest
    v, u = row - np.float32(top), column - np.float32(left)
    return (a * (1 - u) + b * u) * (1 - v) + (c * (1 - u) + d * u) * v
