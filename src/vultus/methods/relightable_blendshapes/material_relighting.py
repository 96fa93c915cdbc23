"""Finished avatars under other lights, and maps of what they are made of.

Figures in brackets are sections of our specification.
"""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from vultus.core.srgb import linear_to_srgb
from vultus.data.relighting import light_to_world
from vultus.data.sequence import LightSpace
from vultus.geometry.cameras import Camera
from vultus.heads.base import HeadPose
from vultus.heads.face_motion import skull_to_world
from vultus.kernels.gaussian_raster import rasterize_gaussians
from vultus.methods.relightable_blendshapes.appearance import View
from vultus.methods.relightable_blendshapes.material_appearance import Light, MaterialAppearance
from vultus.methods.relightable_blendshapes.material_frames import PosedMesh
from vultus.methods.relightable_blendshapes.material_layers import LayerName
from vultus.methods.relightable_blendshapes.model import RelightableBlendshapes
from vultus.methods.relightable_blendshapes.shading import put_over_color, put_over_light
from vultus.render.lighting.environments import see_surroundings
from vultus.render.lighting.envmap import EnvironmentMap, rotate_envmap
from vultus.render.lighting.resampling import blur_envmap, resize_envmap

__all__ = ["RelightSpace", "Relighter", "RelitPicture", "Surroundings", "material_appearance"]

RelightSpace = LightSpace | Literal["head"]
"""What a light stands still in: as in captures, or in the skull, whatever the neck does."""

_RADIANCE: tuple[LayerName, ...] = ("diffuse", "highlights")


@dataclass(frozen=True)
class Surroundings:
    """A light of any size."""

    environment: EnvironmentMap
    space: RelightSpace = "world"
    lobe: float = 0.0
    """Blur by a lobe of this width before lighting [4.6]; 0 averages areas alone."""
    turn: float = 0.0
    """Right-handed turn of the map about +y, radians, as of ``render.lighting.rotate_envmap``."""

    def __post_init__(self) -> None:
        """Reject lobes that blur to nothing."""
        if not 0.0 <= self.lobe < math.inf:
            raise ValueError(f"lobe must be 0 or more and finite, got {self.lobe}")

    def radiance(self, rows: int) -> Float[Tensor, "3 rows columns"]:
        """The light in so many rows, and twice as many columns."""
        return self.turned(self.bands(rows))

    def bands(self, rows: int) -> Float[Tensor, "3 rows w"]:
        """The map in so many rows but finer columns, before its turn: all that takes time."""
        envmap = self.environment.radiance[None]
        if self.lobe > 0:
            height = min(envmap.shape[2], 4 * rows)
            envmap = blur_envmap(envmap, height, 2 * height, self.lobe)
        return resize_envmap(envmap, rows, max(envmap.shape[3], 2 * rows))[0]

    def turned(self, bands: Float[Tensor, "3 rows w"]) -> Float[Tensor, "3 rows columns"]:
        """Turn what ``bands`` made, and average its columns."""
        rows = bands.shape[1]
        return resize_envmap(rotate_envmap(bands[None], self.turn), rows, 2 * rows)[0]

    def to_world(self, light_to_world: Float[Tensor, "b 3 3"]) -> Float[Tensor, "b 3 3"]:
        """From the frame of the map before its turn, given the rotations after it."""
        sine, cosine = math.sin(self.turn), math.cos(self.turn)
        about_y = [[cosine, 0.0, sine], [0.0, 1.0, 0.0], [-sine, 0.0, cosine]]
        return light_to_world @ light_to_world.new_tensor(about_y)


@dataclass(frozen=True)
class RelitPicture:
    """One frame; everything on the CPU."""

    image: Float[Tensor, "3 h w"]
    """Display values."""
    radiance: Float[Tensor, "3 h w"]
    """Of the head over black; linear unless Gaussians are encoded one by one."""
    alpha: Float[Tensor, "1 h w"]
    layers: dict[LayerName, Float[Tensor, "c h w"]]
    """Blended over black; normals in the world, albedo and radiance linear."""

    def shown(self, name: LayerName) -> Float[Tensor, "3 h w"]:
        """A layer as a picture on black; normals from [-1, 1] to [0, 1] on grey."""
        values = self.layers[name]
        if name == "normals":
            return (0.5 * values + 0.5).clamp(0.0, 1.0)
        if name in (*_RADIANCE, "albedo"):
            values = linear_to_srgb(values)
        return values.clamp(0.0, 1.0).expand(3, -1, -1)


@dataclass(frozen=True)
class _ReducedMap:
    """What does not change while a map turns; tensors on the avatar's device."""

    environment: EnvironmentMap
    lobe: float
    radiance: Float[Tensor, "3 h w"]
    bands: Float[Tensor, "3 rows columns"]


class Relighter:
    """Draws frames of one avatar.

    Visibility is traced again only when the head has moved, and maps are reduced again only when
    another ``EnvironmentMap`` is given.
    """

    def __init__(
        self,
        avatar: RelightableBlendshapes,
        map_rows: int | None = None,
        occluder_faces: int | None = None,
    ) -> None:
        """Take an avatar whose training is over.

        Args:
            avatar: With materials.
            map_rows: Rows of the light, which is twice as wide; ``None`` for those of the training.
            occluder_faces: Decimate the mesh that hides light to so many, or as few as borders and
                topology allow; ``None`` keeps all.

        Raises:
            ValueError: If the avatar has no materials, the light no rows, or the mesh no faces.
        """
        self._avatar = avatar
        appearance = material_appearance(avatar)
        if map_rows is not None:
            appearance = appearance.with_map_rows(map_rows)
        if occluder_faces is not None:
            appearance = appearance.with_occluder_faces(occluder_faces)
        self._appearance = appearance
        self._traced: tuple[HeadPose, Tensor, PosedMesh] | None = None
        self._reduced: _ReducedMap | None = None

    @property
    def num_occluder_faces(self) -> int:
        """Faces of the mesh that hides light; 0 where nothing does."""
        appearance = self._appearance
        is_lit_through = appearance.config.visibility == "none"
        return 0 if is_lit_through else appearance.frames.num_occluder_faces

    @torch.no_grad()
    def picture(
        self,
        pose: HeadPose,
        camera: Camera,
        surroundings: Surroundings | None = None,
        background: tuple[float, float, float] | None = None,
        layers: Collection[LayerName] = (),
    ) -> RelitPicture:
        """Draw one frame.

        Args:
            pose: Of one frame.
            camera: One.
            surroundings: The light; ``None`` for the one that was trained.
            background: Display values behind the head; ``None`` shows the surroundings.
            layers: What is drawn beside the image.

        Raises:
            ValueError: If there is not one pose and one camera, or the light stands still in the
                skull of a head that has none.
        """
        if len(pose) != 1 or len(camera) != 1:
            raise ValueError(f"pose and camera must be one each, got {len(pose)}, {len(camera)}")
        avatar, appearance, device = self._avatar, self._appearance, self._avatar.device
        view = View(pose.to(device), camera.to(device))
        space = appearance.light_space if surroundings is None else surroundings.space
        turns = self._light_to_world(view, space)
        if surroundings is None:
            radiance = seen = appearance.radiance
            seen_turns = turns
        else:
            reduced = self._reduce(surroundings)
            radiance, seen = surroundings.turned(reduced.bands), reduced.radiance
            seen_turns = surroundings.to_world(turns)
        blended, posed = avatar.posed_gaussians(pose)
        mesh = self._mesh(view, turns)
        shaded = appearance.relight(blended, posed, view, mesh, Light(radiance, turns), layers)
        parts = [shaded.colors, *(shaded.layers[name] for name in layers)]
        drawn = rasterize_gaussians(
            posed.means, posed.quats, posed.scales, posed.opacities, view.camera,
            features=torch.cat(parts, dim=2), near=avatar.config.model.near,
            backend=avatar.config.backend,
        )  # fmt: skip
        color, *maps = drawn.image.split([part.shape[2] for part in parts], dim=1)
        tonemap = appearance.config.tonemap
        if background is None:
            behind = see_surroundings(seen, view.camera, seen_turns)
            image = put_over_light(color, drawn.alpha, behind, tonemap)
        else:
            plain = color.new_tensor(background)[None, :, None, None]
            image = put_over_color(color, drawn.alpha, plain, tonemap)
        return RelitPicture(
            image[0].clamp(0.0, 1.0).cpu(),
            color[0].cpu(),
            drawn.alpha[0].cpu(),
            dict(zip(layers, (each[0].cpu() for each in maps), strict=True)),
        )

    def _light_to_world(self, view: View, space: RelightSpace) -> Float[Tensor, "b 3 3"]:
        if space != "head":
            return light_to_world(view.camera, space)
        skull = skull_to_world(self._avatar.head, view.pose.to("cpu"))
        return skull[:, :3, :3].to(view.camera.world_to_camera)

    def _reduce(self, surroundings: Surroundings) -> _ReducedMap:
        known, source = self._reduced, (surroundings.environment, surroundings.lobe)
        if known is None or known.environment is not source[0] or known.lobe != source[1]:
            device = self._avatar.device
            bands = surroundings.bands(self._appearance.config.map_rows)
            known = _ReducedMap(*source, source[0].radiance.to(device), bands.to(device))
            self._reduced = known
        return known

    def _mesh(self, view: View, turns: Float[Tensor, "b 3 3"]) -> PosedMesh:
        if self._traced is not None:
            pose, known, mesh = self._traced
            if torch.equal(turns, known) and _is_same(pose, view.pose):
                return mesh
        mesh = self._appearance.posed_mesh(view, turns)
        self._traced = view.pose, turns, mesh
        return mesh


def material_appearance(avatar: object) -> MaterialAppearance:
    """The materials of an avatar.

    Raises:
        ValueError: If it has none.
    """
    appearance = getattr(avatar, "appearance", None)
    if not isinstance(appearance, MaterialAppearance):
        raise ValueError(
            "an avatar must have materials for this: relightable_blendshapes trained with "
            "--model.appearance pbr"
        )
    return appearance


def _is_same(first: HeadPose, second: HeadPose) -> bool:
    given, other = first.tensors(), second.tensors()
    return given.keys() == other.keys() and all(torch.equal(given[n], other[n]) for n in given)
