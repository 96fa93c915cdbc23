"""Light on generated Gaussians, and pictures of them.

A Gaussian's colour is albedo times the product of its transfer with the light: linear in the light
until it is cut off at black. Colours are display-encoded; lights are those of ``lights``.

Reference: GSHeadRelight, 2025.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from vultus.data.camera_labels import labels_to_camera
from vultus.geometry.cameras import Camera
from vultus.kernels.gaussian_raster import Backend, rasterize_gaussians
from vultus.kernels.transfer_shading import SH_C0, multiply_transfers, shade_transfers
from vultus.methods.gsheadrelight.config import LIGHT_TERMS, Parity
from vultus.methods.gsheadrelight.gaussians import (
    ActivatedGaussians,
    ActivatedHeads,
    Gaussians,
    HeadGaussians,
    SceneryGaussians,
    activate,
)

__all__ = [
    "HEAD_REACH",
    "SH_C0",
    "Pictures",
    "ShadeMode",
    "label_camera",
    "lit_channels",
    "nearness",
    "render_channels",
    "shade",
    "shading",
]

ShadeMode = Literal["lit", "albedo", "shading"]
"""Albedo times light, or one of the two."""

HEAD_REACH = 0.7
"""Of heads from the origin's depth, either way, in pictures of depth."""
_LEAST_ALPHA = 1e-6
_OFFICIAL_TAN_HALF_FOV = 0.1993959684
"""The release takes degrees for radians: tan(12.96 / 2)."""


@dataclass(frozen=True)
class Pictures:
    """Pictures of heads, each under m lights."""

    image: Float[Tensor, "b c h w"]
    """In [-1, 1] or brighter; with m lights, 3 m channels, light by light."""
    alpha: Float[Tensor, "b 1 h w"]
    depth_sum: Float[Tensor, "b 1 h w"]
    """Camera z of Gaussians, times their shares of the pixel."""
    parity: Parity = "fixed"
    """Decides what ``depth`` is."""

    @property
    def depth(self) -> Float[Tensor, "b 1 h w"]:
        """Mean camera z of what is seen, 0 where nothing is.

        With official parity: summed, not averaged, and the largest value of the picture where
        nothing is.
        """
        summed, alpha = self.depth_sum, self.alpha
        if self.parity == "official":
            return torch.where(summed == 0.0, summed.amax(dim=(1, 2, 3), keepdim=True), summed)
        is_seen = alpha > 0.0
        return torch.where(is_seen, summed / torch.where(is_seen, alpha, 1.0), 0.0)


def shading(
    gaussians: HeadGaussians | ActivatedHeads, light: Float[Tensor, "#b *m k c"]
) -> Float[Tensor, "b *m n 3"]:
    """Multiply transfers with lights of 9 terms.

    Args:
        gaussians: With one transfer vector, or one for each colour.
        light: In the axes of the head, one set for all heads or one for each; c is 1 for the same
            light in all colours, or 3.
    """
    summed = multiply_transfers(gaussians.transfer, _listed(light))
    return summed.unflatten(1, light.shape[1:-2]) if light.ndim > 3 else summed[:, 0]


def shade(
    gaussians: HeadGaussians | ActivatedHeads,
    light: Float[Tensor, "#b *m k c"],
    mode: ShadeMode = "lit",
    *,
    is_clamped: bool = True,
) -> Float[Tensor, "b *m n 3"]:
    """Colours of Gaussians under light, one set for each light.

    Args:
        gaussians: A head.
        light: See ``shading``.
        mode: What the colours show.
        is_clamped: Cut negative colours off, as pictures do; without, colours are linear in the
            light.
    """
    albedo = gaussians.albedo
    if light.ndim > 3:
        albedo = albedo.unflatten(0, (-1, *[1] * (light.ndim - 3)))
    if mode == "albedo":
        return albedo.expand(*torch.broadcast_shapes(albedo.shape[:-2], light.shape[:-2]), -1, -1)
    color = shading(gaussians, light)
    if mode == "lit":
        color = albedo * color
    return color.clamp(min=0.0) if is_clamped else color


def lit_channels(
    gaussians: HeadGaussians | ActivatedHeads,
    light: Float[Tensor, "#b *m k c"],
    mode: ShadeMode = "lit",
) -> Float[Tensor, "b n d"]:
    """Colours of ``shade`` as channels, light by light; on a GPU without gradients one launch."""
    if mode == "lit":
        return shade_transfers(gaussians.albedo, gaussians.transfer, _listed(light))
    return _as_channels(shade(gaussians, light, mode))


def _listed(light: Float[Tensor, "b *m k c"]) -> Float[Tensor, "b l k c"]:
    """Lights of every head as one list.

    Raises:
        ValueError: If they are no lights.
    """
    if light.shape[-2] != LIGHT_TERMS or light.shape[-1] not in (1, 3):
        raise ValueError(
            f"light must end in the shape ({LIGHT_TERMS}, 1 or 3), got {tuple(light.shape)}"
        )
    return light.flatten(1, -3) if light.ndim > 3 else light[:, None]


def _as_channels(colors: Float[Tensor, "b *m n 3"]) -> Float[Tensor, "b n d"]:
    return colors.movedim(-2, 1).flatten(2)


def label_camera(labels: Float[Tensor, "b 25"], size: int, parity: Parity = "fixed") -> Camera:
    """Cameras of labels; with official parity those that published checkpoints were trained with.

    These shift sideways the wrong way unless they look at the origin, and have one field of view
    whatever the label says.
    """
    camera = labels_to_camera(labels, size)
    if parity == "fixed":
        return camera
    # Numbers reach a GPU as arguments of kernels here: lists would be copied from the host, which a
    # CUDA graph cannot hold.
    world_to_camera = camera.world_to_camera.clone()
    world_to_camera[:, 0, 3] *= -1.0
    intrinsics = torch.zeros_like(camera.intrinsics)
    focal = 0.5 * size / _OFFICIAL_TAN_HALF_FOV
    intrinsics[:, 0, 0] = focal
    intrinsics[:, 1, 1] = focal
    intrinsics[:, :2, 2] = 0.5 * size
    intrinsics[:, 2, 2] = 1.0
    return Camera(world_to_camera, intrinsics, size, size)


def render_channels(
    gaussians: Gaussians | ActivatedGaussians,
    channels: Float[Tensor, "b n d"],
    camera: Camera,
    *,
    scenery: SceneryGaussians | None = None,
    background: Float[Tensor, 3] | None = None,
    parity: Parity = "fixed",
    backend: Backend = "auto",
) -> Pictures:
    """Render heads under all their lights in one pass of the rasterizer.

    Args:
        gaussians: Geometry.
        channels: Of ``lit_channels``, three for each light; at most 64.
        camera: One for each head.
        scenery: What is behind.
        background: Colour in [0, 1] behind everything, black if None.
        parity: See ``GeneratorConfig``.
        backend: Of the rasterizer.
    """
    shown = gaussians if isinstance(gaussians, ActivatedGaussians) else activate(gaussians)
    num_lights = channels.shape[2] // 3
    if scenery is not None:
        behind = (0.5 + SH_C0 * scenery.color_dc).clamp(min=0.0)
        channels = torch.cat([channels, behind.repeat(1, 1, num_lights)], dim=1)
        shown = _joined(shown, activate(scenery))
    raw = rasterize_gaussians(
        shown.means,
        shown.unit_quats,
        shown.scales,
        shown.opacities,
        camera,
        features=channels,
        background=None if background is None else background.repeat(num_lights),
        cull="3sigma" if parity == "official" else "exact",
        gradients="published" if parity == "official" else "exact",
        outputs=("depth",),
        backend=backend,
    )
    assert raw.depth_sum is not None
    return Pictures(2.0 * raw.image - 1.0, raw.alpha, raw.depth_sum, parity)


def nearness(pictures: Pictures, labels: Float[Tensor, "b 25"]) -> Float[Tensor, "b 1 h w"]:
    """Mean depth of heads as grey, whatever the parity; black where nothing is.

    Args:
        pictures: Seen from ``labels``.
        labels: Cameras that look at about the origin. What is nearer to one by ``HEAD_REACH`` is
            white, and black what is as much farther.
    """
    mean_depth = pictures.depth_sum / pictures.alpha.clamp(min=_LEAST_ALPHA)
    distance = labels[:, [3, 7, 11]].norm(dim=1)[:, None, None, None]
    near = (0.5 + 0.5 * (distance - mean_depth) / HEAD_REACH).clamp(0.0, 1.0)
    return near * pictures.alpha.clamp(0.0, 1.0)


def _joined(first: ActivatedGaussians, second: ActivatedGaussians) -> ActivatedGaussians:
    names = [f.name for f in fields(ActivatedGaussians)]
    pairs = {name: [getattr(part, name) for part in (first, second)] for name in names}
    return ActivatedGaussians(**{name: torch.cat(pair, dim=1) for name, pair in pairs.items()})
