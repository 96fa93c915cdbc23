"""Known lights of a capture, and what its frames look like under lights that nobody trained on."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import normalize

from vultus.core.image_io import read_image, read_mask
from vultus.core.srgb import srgb_to_linear
from vultus.data.frames import check_size, resize_to_camera
from vultus.data.sequence import FrameRecord, LightSpace
from vultus.data.studio.tone_curve import Film, decode_film
from vultus.geometry.cameras import Camera
from vultus.render.lighting.envmap import (
    EnvironmentMap,
    envmap_directions,
    envmap_solid_angles,
)

__all__ = [
    "FrameMaterials",
    "KnownLight",
    "RelightTruth",
    "check_exposure",
    "distant_light",
    "light_to_world",
    "load_materials",
]


@dataclass(frozen=True)
class KnownLight:
    """Surroundings under which frames were taken."""

    name: str
    load: Callable[[], EnvironmentMap]
    """Read the map, exposure applied: radiance in it is that of the pictures, decoded."""


@dataclass(frozen=True)
class RelightTruth:
    """What evaluation of relighting compares with."""

    train_light: KnownLight | None
    """``None`` if nobody knows it."""
    test_lights: Mapping[str, KnownLight]
    light_space: LightSpace
    film: Film
    pictures: Mapping[str, Mapping[Path, Path]]
    """By test light: the picture under the training light, and the same picture under this one."""

    def relit(self, records: Sequence[FrameRecord], light: str) -> tuple[FrameRecord, ...]:
        """The frames that were also taken under a test light, as records of those pictures.

        Everything else about them (camera, mask, ground truth) stays.

        Raises:
            ValueError: If the light is unknown.
        """
        if light not in self.pictures:
            known = ", ".join(map(repr, self.pictures))
            raise ValueError(f"light must be one of {known}, got {light!r}")
        pictures = self.pictures[light]
        return tuple(
            replace(record, image_path=pictures[record.image_path])
            for record in records
            if record.image_path in pictures
        )

    def radiance(self, rgb: Float[Tensor, "*dims"]) -> Float[Tensor, "*dims"]:
        """Linear light that gave display-encoded values; see ``decode_film``."""
        return decode_film(rgb, self.film)


@dataclass(frozen=True)
class FrameMaterials:
    """Ground truth of a frame's surface. Tensors have a batch of one."""

    albedo: Float[Tensor, "1 3 h w"]
    """Linear; 0 outside."""
    roughness: Float[Tensor, "1 1 h w"] | None
    """Perceptual: GGX alpha is its square."""
    specular: Float[Tensor, "1 1 h w"] | None
    """Reflectance at normal incidence over 0.08."""


def check_exposure(where: str, value: object) -> float:
    """Check a factor on light that a file gives.

    Raises:
        ValueError: Naming ``where``, if it is no finite positive number.
    """
    if isinstance(value, int | float) and not isinstance(value, bool):
        number = float(value)
        if math.isfinite(number) and number > 0:
            return number
    raise ValueError(f"{where} must be a positive number, got {value!r}")


def distant_light(
    toward: Float[Tensor, 3], irradiance: Float[Tensor, 3], height: int = 64
) -> EnvironmentMap:
    """A light at infinity as a map: one texel, the nearest, with all of the light.

    Args:
        toward: Direction towards the light, any length.
        irradiance: What a surface that faces the light receives.
        height: Rows of the map; the direction is off by less than a texel's half diagonal.
    """
    directions = envmap_directions(height, 2 * height).double()
    texel = int((directions @ normalize(toward.double(), dim=0)).argmax())
    radiance = torch.zeros(3, 2 * height * height)
    radiance[:, texel] = irradiance / envmap_solid_angles(height, 2 * height).flatten()[texel]
    return EnvironmentMap(radiance.reshape(3, height, 2 * height))


def light_to_world(camera: Camera, space: LightSpace) -> Float[Tensor, "b 3 3"]:
    """Rotations that take directions towards the light from its own axes to the world's.

    In ``camera_opengl`` the map has x to the right of the picture, y up, and z towards whoever took
    it: light from behind the camera stands at a quarter of the map's width.
    """
    rotation = camera.world_to_camera[:, :3, :3].mT
    if space == "world":
        return torch.eye(3, dtype=rotation.dtype, device=rotation.device).expand_as(rotation)
    # Not by ``opencv_to_opengl``: training steps turn lights in CUDA graphs, which copy no numbers.
    right, down, forward = rotation.unbind(dim=2)
    return torch.stack([right, -down, -forward], dim=2)


def load_materials(record: FrameRecord) -> FrameMaterials | None:
    """Read the ground truth of a frame's surface at the camera's size; ``None`` without albedo.

    Raises:
        FileNotFoundError: If a file is missing.
        ValueError: If a file cannot be decoded or its size is not the camera's.
    """
    if record.albedo_path is None:
        return None
    albedo = read_image(record.albedo_path)
    check_size(record.albedo_path, albedo, record)
    linear = albedo if record.has_linear_albedo else srgb_to_linear(albedo)
    return FrameMaterials(
        resize_to_camera(linear, record)[None],
        _load_map(record.roughness_path, record),
        _load_map(record.specular_path, record),
    )


def _load_map(path: Path | None, record: FrameRecord) -> Float[Tensor, "1 1 h w"] | None:
    if path is None:
        return None
    values = read_mask(path)
    check_size(path, values, record)
    return resize_to_camera(values, record)[None]
