"""What the rasterizers are timed on: a head-like cloud of primitives, and cameras that see it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from vultus.geometry.cameras import Camera, look_at

__all__ = [
    "PARAMETERS",
    "SH_DEGREE",
    "Primitive",
    "RasterInputs",
    "RasterScene",
    "head_like_camera",
    "head_like_gaussians",
    "head_like_surfels",
]

Primitive = Literal["gaussians", "surfels"]

PARAMETERS = ("means", "quats", "scales", "opacities", "sh_coeffs")
"""What the scenes consist of, in this order."""
SH_DEGREE = 3
_TITLES: dict[Primitive, str] = {"gaussians": "Gaussians", "surfels": "surfels"}
_COLOR_CHANNELS = 3
_THICKNESS = 0.3
"""Extent of Gaussians across the surface, as a share of that along it."""
_DISTANCE = 1.0
_VIEW_WIDTH = 0.27
"""Width of what the camera sees at the centre, in metres: a head fills it."""


@dataclass(frozen=True)
class RasterScene:
    """One scene of the table."""

    primitive: Primitive
    num: int
    """Primitives per frame."""
    size: int
    """Width and height of the image in pixels."""
    channels: int = 3
    """RGB of degree-3 SH first, then features."""
    batch: int = 1
    """Frames, each with its own primitives."""

    def __post_init__(self) -> None:
        """Reject scenes without a colour."""
        if self.channels < _COLOR_CHANNELS:
            raise ValueError(f"channels must be at least {_COLOR_CHANNELS}, got {self.channels}")

    def __str__(self) -> str:
        """Title of the table."""
        frames = f"{self.batch} x " if self.batch > 1 else ""
        size = f"{self.size} x {self.size}"
        return f"{frames}{self.num} {_TITLES[self.primitive]}, {size}, {self.channels} channels"

    def build(self, device: torch.device | str = "cpu") -> RasterInputs:
        """Make the primitives and cameras; the same ones every time."""
        make = head_like_gaussians if self.primitive == "gaussians" else head_like_surfels
        frames = [make(self.num, seed) for seed in range(self.batch)]
        parameters = [torch.cat(parts).to(device) for parts in zip(*frames, strict=True)]
        features, extra = None, self.channels - _COLOR_CHANNELS
        if extra:
            generator = torch.Generator().manual_seed(0)
            features = torch.rand(self.batch, self.num, extra, generator=generator).to(device)
        return RasterInputs(parameters, features, head_like_camera(self.size, self.batch, device))


@dataclass(frozen=True)
class RasterInputs:
    """Tensors of a scene; all have a batch dimension."""

    parameters: list[Tensor]
    """As named in ``PARAMETERS``."""
    features: Tensor | None
    camera: Camera

    def trainable(self) -> RasterInputs:
        """Copy, with tensors that ask for gradients."""
        features = self.features
        if features is not None:
            features = features.clone().requires_grad_()
        parameters = [value.clone().requires_grad_() for value in self.parameters]
        return RasterInputs(parameters, features, self.camera)

    def leaves(self) -> list[Tensor]:
        """Everything that gradients are asked for."""
        return [*self.parameters, *([] if self.features is None else [self.features])]


def head_like_surfels(num: int, seed: int = 0) -> list[Tensor]:
    """Layered ellipsoid of surfels, about two pixels each when the head fills 256 pixels.

    Returns:
        Means, quats, scales, opacities and degree-3 SH, each with a batch dimension of 1.
    """
    rng = np.random.default_rng(seed)
    direction = rng.standard_normal((num, 3))
    direction /= np.linalg.norm(direction, axis=1, keepdims=True)
    wrinkles = 1 + 0.03 * np.sin(9 * direction[:, :1]) * np.cos(7 * direction[:, 1:2])
    depth = 1 + 0.06 * rng.random((num, 1)) ** 2
    means = direction * np.array([0.080, 0.115, 0.095]) * depth * wrinkles
    spacing = math.sqrt(4 * math.pi * 0.097**2 / num)
    scales = spacing * np.exp(0.5 * rng.standard_normal((num, 2)))
    sh_coeffs = 0.05 * rng.standard_normal((num, (SH_DEGREE + 1) ** 2, 3))
    sh_coeffs[:, 0] = (rng.random((num, 3)) - 0.5) / 0.2821
    opacities = 1 / (1 + np.exp(-1 - 1.5 * rng.standard_normal(num)))
    values = [means, rng.standard_normal((num, 4)), scales, opacities, sh_coeffs]
    return [torch.from_numpy(value.astype(np.float32))[None] for value in values]


def head_like_gaussians(num: int, seed: int = 0) -> list[Tensor]:
    """The same ellipsoid of flat Gaussians.

    Returns:
        Means, quats, scales, opacities and degree-3 SH, each with a batch dimension of 1.
    """
    means, quats, scales, opacities, sh_coeffs = head_like_surfels(num, seed)
    thickness = _THICKNESS * scales.prod(dim=-1, keepdim=True).sqrt()
    return [means, quats, torch.cat([scales, thickness], dim=-1), opacities, sh_coeffs]


def head_like_camera(size: int, batch: int = 1, device: torch.device | str = "cpu") -> Camera:
    """Cameras that see the whole head, all from the same place."""
    eye = torch.tensor([[0.3, 0.0, _DISTANCE]])
    focal = size / _VIEW_WIDTH
    center = size / 2
    intrinsics = torch.tensor([[[focal, 0, center], [0, focal, center], [0, 0, 1]]])
    matrix = look_at(eye, torch.zeros(3))
    camera = Camera(matrix.expand(batch, 4, 4), intrinsics.expand(batch, 3, 3), size, size)
    return camera.to(device)
