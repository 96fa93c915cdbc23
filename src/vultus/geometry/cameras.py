"""Pinhole cameras in OpenCV axes (x right, y down, z forward); other axes only by name."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

__all__ = [
    "Camera",
    "camera_centers",
    "check_rigid",
    "fov_to_focal",
    "look_at",
    "opencv_to_opengl",
    "opengl_to_opencv",
    "pixel_directions",
    "project_points",
    "ray_distance_to_depth",
]

# OpenGL cameras look along -z with y up; OpenCV ones along +z with y down.
_FLIP_YZ = (1.0, -1.0, -1.0, 1.0)
_RIGID_TOLERANCE = 1e-3
_POLE_TOLERANCE = 1e-6


@dataclass(frozen=True)
class Camera:
    """A batch of pinhole cameras that share one image size.

    Convention: OpenCV axes; pixel centres at integer + 0.5; ``intrinsics`` in pixels.
    """

    world_to_camera: Float[Tensor, "b 4 4"]
    intrinsics: Float[Tensor, "b 3 3"]
    width: int
    height: int

    def __post_init__(self) -> None:
        """Reject image sizes and batch sizes that cannot be meant."""
        if self.width < 1 or self.height < 1:
            raise ValueError(f"width and height must be positive, got {self.width} x {self.height}")
        if self.world_to_camera.shape[0] != self.intrinsics.shape[0]:
            raise ValueError(
                "world_to_camera and intrinsics must have the same batch size, got "
                f"{self.world_to_camera.shape[0]} and {self.intrinsics.shape[0]}"
            )

    def __len__(self) -> int:
        """Number of cameras."""
        return self.world_to_camera.shape[0]

    def __getitem__(self, index: int | slice | Tensor) -> Camera:
        """Select cameras; an integer keeps the batch dimension."""
        if isinstance(index, int):
            index = slice(index, index + 1 or None)
        return replace(
            self, world_to_camera=self.world_to_camera[index], intrinsics=self.intrinsics[index]
        )

    @property
    def camera_to_world(self) -> Float[Tensor, "b 4 4"]:
        """The rigid inverse."""
        rotation = self.world_to_camera[:, :3, :3].transpose(1, 2)
        inverse = torch.zeros_like(self.world_to_camera)
        inverse[:, :3, :3] = rotation
        inverse[:, :3, 3] = -(rotation @ self.world_to_camera[:, :3, 3:])[..., 0]
        inverse[:, 3, 3] = 1.0
        return inverse

    def to(self, device: torch.device | str) -> Camera:
        """Move the tensors."""
        return replace(
            self,
            world_to_camera=self.world_to_camera.to(device),
            intrinsics=self.intrinsics.to(device),
        )

    def resized(self, width: int, height: int) -> Camera:
        """The same view at another image size: intrinsics scale with the pixels."""
        scale = self.intrinsics.new_tensor([width / self.width, height / self.height, 1.0])
        return Camera(self.world_to_camera, self.intrinsics * scale[:, None], width, height)

    @staticmethod
    def stack(cameras: list[Camera]) -> Camera:
        """Concatenate cameras of one image size.

        Raises:
            ValueError: If the list is empty or image sizes differ.
        """
        sizes = {(camera.width, camera.height) for camera in cameras}
        if len(sizes) != 1:
            raise ValueError(f"cameras must share one image size, got {sorted(sizes)}")
        width, height = sizes.pop()
        return Camera(
            torch.cat([camera.world_to_camera for camera in cameras]),
            torch.cat([camera.intrinsics for camera in cameras]),
            width,
            height,
        )


def opengl_to_opencv(camera_to_world: Float[Tensor, "*b 4 4"]) -> Float[Tensor, "*b 4 4"]:
    """Turn OpenGL (y up, z back) camera-to-world matrices into OpenCV ones, or back."""
    return camera_to_world * camera_to_world.new_tensor(_FLIP_YZ)


opencv_to_opengl = opengl_to_opencv


def check_rigid(matrix: Float[Tensor, "4 4"], name: str) -> None:
    """Raise unless the matrix is a rotation and a translation.

    Raises:
        ValueError: Naming ``name`` and the first rule that is broken.
    """
    if not bool(torch.isfinite(matrix).all()):
        raise ValueError(f"{name} must be finite")
    last = matrix.new_tensor([0.0, 0.0, 0.0, 1.0])
    if float((matrix[3] - last).abs().max()) > _RIGID_TOLERANCE:
        raise ValueError(f"{name} must have the last row (0, 0, 0, 1), got {matrix[3].tolist()}")
    rotation = matrix[:3, :3]
    gap = float((rotation @ rotation.T - torch.eye(3).to(matrix)).abs().max())
    if gap > _RIGID_TOLERANCE or float(torch.linalg.det(rotation)) < 0:
        raise ValueError(f"{name} must be rigid: its 3x3 part is not a rotation (off by {gap:.2g})")


def camera_centers(camera: Camera) -> Float[Tensor, "b 3"]:
    """Camera positions in the world."""
    # Not by ``camera_to_world``, which takes a GPU six launches.
    rotation = camera.world_to_camera[:, :3, :3].transpose(1, 2)
    return -(rotation @ camera.world_to_camera[:, :3, 3:])[..., 0]


def fov_to_focal(fov: float, size: int) -> float:
    """Focal length in pixels of a field of view in radians over ``size`` pixels."""
    return 0.5 * size / float(torch.tan(torch.tensor(0.5 * fov, dtype=torch.float64)))


def look_at(
    eyes: Float[Tensor, "b 3"],
    target: Float[Tensor, 3] | Float[Tensor, "b 3"],
    up: Float[Tensor, 3] | None = None,
) -> Float[Tensor, "b 4 4"]:
    """Build world-to-camera matrices of cameras that look at a point.

    Convention: OpenCV axes. ``up`` defaults to +y of the world.

    Raises:
        ValueError: If a camera stands on its target or looks along ``up``.
    """
    up_vector = eyes.new_tensor([0.0, 1.0, 0.0]) if up is None else up
    forward = target - eyes
    right = torch.linalg.cross(forward, up_vector.expand_as(forward))
    if bool((right.norm(dim=-1) <= _POLE_TOLERANCE * forward.norm(dim=-1)).any()):
        raise ValueError("eyes must differ from target and must not look along up")
    forward = torch.nn.functional.normalize(forward, dim=-1)
    right = torch.nn.functional.normalize(right, dim=-1)
    down = torch.linalg.cross(forward, right)
    rotation = torch.stack([right, down, forward], dim=1)
    matrix = eyes.new_zeros(eyes.shape[0], 4, 4)
    matrix[:, :3, :3] = rotation
    matrix[:, :3, 3] = -(rotation @ eyes[:, :, None])[..., 0]
    matrix[:, 3, 3] = 1.0
    return matrix


def project_points(
    points: Float[Tensor, "b n 3"], camera: Camera
) -> tuple[Float[Tensor, "b n 2"], Float[Tensor, "b n"]]:
    """Project world points to pixels.

    Convention: OpenCV axes; pixel centres at integer + 0.5; depth is camera z, not ray length.
    Points behind the camera are kept; their depth is negative.

    Reference: Hartley and Zisserman, Multiple View Geometry, ch. 6.
    """
    rotation, translation = camera.world_to_camera[:, :3, :3], camera.world_to_camera[:, :3, 3]
    local = points @ rotation.transpose(1, 2) + translation[:, None]
    homogeneous = local @ camera.intrinsics.transpose(1, 2)
    return homogeneous[..., :2] / homogeneous[..., 2:], local[..., 2]


def pixel_directions(camera: Camera) -> Float[Tensor, "b h w 3"]:
    """Camera-space directions through the pixel centres, scaled so that z = 1."""
    matrix = camera.intrinsics
    x = torch.arange(camera.width, device=matrix.device, dtype=matrix.dtype) + 0.5
    y = torch.arange(camera.height, device=matrix.device, dtype=matrix.dtype) + 0.5
    # Back substitution: a general inverse makes the host wait for the GPU.
    (fx, skew, cx), (fy, cy) = matrix[:, 0, :, None].unbind(1), matrix[:, 1, 1:, None].unbind(1)
    down = ((y - cy) / fy)[:, :, None].expand(-1, -1, camera.width)
    across = (x - cx)[:, None] - skew[..., None] * down
    across = across / fx[..., None]
    return torch.stack([across, down, torch.ones_like(down)], dim=-1)


def ray_distance_to_depth(
    distance: Float[Tensor, "b 1 h w"], camera: Camera
) -> Float[Tensor, "b 1 h w"]:
    """Turn distances along pixel rays into camera-z depth."""
    return distance / pixel_directions(camera).norm(dim=-1)[:, None]
