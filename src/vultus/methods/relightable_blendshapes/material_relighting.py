"""Finished avatars under other lights, and maps of what they are made of.

Figures in brackets are sections of our specification.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from vultus.core.srgb import linear_to_srgb
from vultus.data.relighting import light_to_world
from vultus.data.sequence import LightSpace
from vultus.geometry.cameras import Camera
from vultus.heads.base import HeadPose
from vultus.kernels.gaussian_raster import rasterize_gaussians
from vultus.methods.relightable_blendshapes.appearance import View
from vultus.methods.relightable_blendshapes.material_appearance import Light, MaterialAppearance
from vultus.methods.relightable_blendshapes.material_frames import PosedMesh
from vultus.methods.relightable_blendshapes.material_layers import LayerName
from vultus.methods.relightable_blendshapes.model import RelightableBlendshapes
from vultus.methods.relightable_blendshapes.shading import put_over_color, put_over_light
from vultus.render.lighting.environments import see_surroundings
from vultus.render.lighting.envmap import EnvironmentMap
from vultus.render.lighting.resampling import blur_envmap, resize_envmap

__all__ = ["Relighter", "RelitPicture", "Surroundings", "material_appearance"]

_RADIANCE: tuple[LayerName, ...] = ("diffuse", "highlights")


@dataclass(frozen=True)
class Surroundings:
    """A light of any size."""

    environment: EnvironmentMap
    space: LightSpace = "world"
    """What it stands still in."""
    lobe: float = 0.0
    """Blur by a lobe of this width before lighting [4.6]; 0 averages areas alone."""

    def radiance(self, rows: int) -> Float[Tensor, "3 rows columns"]:
        """The light in so many rows, and twice as many columns."""
        envmap = self.environment.radiance[None]
        if self.lobe > 0:
            height = min(envmap.shape[2], 4 * rows)
            envmap = blur_envmap(envmap, height, 2 * height, self.lobe)
        return resize_envmap(envmap, rows, 2 * rows)[0]


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


class Relighter:
    """Draws frames of one avatar. Visibility is traced again only when the head has moved."""

    def __init__(self, avatar: RelightableBlendshapes) -> None:
        """Take an avatar whose training is over.

        Raises:
            ValueError: If it has no materials.
        """
        self._avatar = avatar
        self._appearance = material_appearance(avatar)
        self._traced: tuple[HeadPose, Tensor, PosedMesh] | None = None

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
            ValueError: If there is not one pose and one camera.
        """
        if len(pose) != 1 or len(camera) != 1:
            raise ValueError(f"pose and camera must be one each, got {len(pose)}, {len(camera)}")
        avatar, appearance, device = self._avatar, self._appearance, self._avatar.device
        view = View(pose.to(device), camera.to(device))
        if surroundings is None:
            seen, space = appearance.radiance, appearance.light_space
            radiance = seen
        else:
            seen, space = surroundings.environment.radiance.to(device), surroundings.space
            radiance = surroundings.radiance(appearance.config.map_rows).to(device)
        turns = light_to_world(view.camera, space)
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
            behind = see_surroundings(seen, view.camera, turns)
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
            "an avatar must have materials to be relit: relightable_blendshapes trained with "
            "--model.appearance pbr"
        )
    return appearance


def _is_same(first: HeadPose, second: HeadPose) -> bool:
    given, other = first.tensors(), second.tensors()
    return given.keys() == other.keys() and all(torch.equal(given[n], other[n]) for n in given)
