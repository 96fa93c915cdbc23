"""Pictures of triangle meshes, shaded by their angle to the camera."""

from __future__ import annotations

from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import normalize

from vultus.geometry.cameras import Camera, camera_centers, pixel_directions
from vultus.geometry.meshes import vertex_normals
from vultus.kernels.ray_mesh import Bvh, first_hit

__all__ = ["mesh_overlay", "mesh_picture"]

_AMBIENT = 0.25


def mesh_picture(
    vertices: Float[Tensor, "v 3"], faces: Int[Tensor, "f 3"], camera: Camera
) -> tuple[Float[Tensor, "1 h w"], Float[Tensor, "1 h w"]]:
    """Brightness of a mesh that is lit from the camera, and where it is seen (0 or 1).

    Raises:
        ValueError: If there is not one camera.
    """
    if len(camera) != 1:
        raise ValueError(f"camera must hold one camera, got {len(camera)}")
    rotation = camera.camera_to_world[0, :3, :3]
    directions = (pixel_directions(camera)[0] @ rotation.T).reshape(-1, 3)
    origins = camera_centers(camera).expand_as(directions)
    hits = first_hit(Bvh.build(vertices, faces), origins, directions)
    corners = faces[hits.face.clamp(min=0).long()]
    normals = (vertex_normals(vertices, faces)[corners] * hits.barycentrics[..., None]).sum(dim=1)
    cosine = (normalize(normals, dim=1) * normalize(directions, dim=1)).sum(dim=1).abs()
    is_seen = (hits.face >= 0).float()
    shade = (_AMBIENT + (1 - _AMBIENT) * cosine) * is_seen
    size = (1, camera.height, camera.width)
    return shade.reshape(size), is_seen.reshape(size)


def mesh_overlay(
    image: Float[Tensor, "3 h w"],
    vertices: Float[Tensor, "v 3"],
    faces: Int[Tensor, "f 3"],
    camera: Camera,
    opacity: float = 0.5,
) -> Float[Tensor, "3 h w"]:
    """Draw a mesh half transparent over an image."""
    shade, is_seen = mesh_picture(vertices, faces, camera)
    cover = opacity * is_seen
    return image * (1 - cover) + shade * cover
