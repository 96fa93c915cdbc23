"""What Gaussians that are bound to faces of a mesh look up there, in a launch each.

Does what ``geometry.mesh_sampling.closest_barycentrics`` and, of the method that uses it,
``MeshBinding.normals`` and the directions to the camera do. They define it and serve every other
device; on a GPU they launch a hundred kernels, most of them on all corners of all Gaussians.
"""

from __future__ import annotations

from jaxtyping import Float, Int
from torch import Tensor

__all__ = ["bound_barycentrics", "find_facing"]


def bound_barycentrics(
    points: Float[Tensor, "n 3"], vertices: Float[Tensor, "v 3"], corners: Int[Tensor, "n 3"]
) -> Float[Tensor, "n 3"]:
    """Barycentrics of the point of each face that is closest to the point bound to it.

    Gradients reach the points.

    Args:
        points: Float32 on a GPU.
        vertices: Of the mesh; constants.
        corners: Of the face that each point is bound to; trusted.
    """
    # Triton must not be needed where there is no GPU.
    from vultus.kernels.surface_lookup import gpu

    return gpu.bound_barycentrics(points, vertices, corners)


def find_facing(
    barycentrics: Float[Tensor, "n 3"],
    corners: Int[Tensor, "n 3"],
    vertex_normals: Float[Tensor, "b v 3"],
    means: Float[Tensor, "b n 3"],
    camera_centers: Float[Tensor, "b 3"],
) -> tuple[Float[Tensor, "b n 3"], Float[Tensor, "b n 3"]]:
    """Unit normals of bound Gaussians, and unit directions from them to the camera.

    Gradients reach barycentrics and means, and are the same bits in every run.

    Args:
        barycentrics: Within the faces, float32 on a GPU.
        corners: Of the faces; trusted.
        vertex_normals: Of the posed mesh; constants.
        means: Posed.
        camera_centers: Constants.
    """
    from vultus.kernels.surface_lookup import gpu

    return gpu.find_facing(barycentrics, corners, vertex_normals, means, camera_centers)
