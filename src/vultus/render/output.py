"""What a renderer returns."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

__all__ = ["MapName", "RenderOutput"]

MapName = Literal["depth", "median_depth", "normals", "depth_normals", "distortion"]


@dataclass(frozen=True)
class RenderOutput:
    """Maps of b rendered frames; maps that were not asked for are ``None``."""

    image: Float[Tensor, "b c h w"]
    """Composited over the background."""
    alpha: Float[Tensor, "b 1 h w"]
    radii: Int[Tensor, "b n"]
    """Extent on the screen in pixels; 0 where a primitive was culled."""
    screen_gradient: Float[Tensor, "b n 2"]
    """After backward, its ``grad`` is the densification signal."""
    depth: Float[Tensor, "b 1 h w"] | None = None
    """Expected camera z, 0 where nothing is. What shines through a surface pulls it back."""
    median_depth: Float[Tensor, "b 1 h w"] | None = None
    """Camera z where half of the light is gone: the surface itself."""
    normals: Float[Tensor, "b 3 h w"] | None = None
    """World axes, blended (length about alpha), towards the camera."""
    depth_normals: Float[Tensor, "b 3 h w"] | None = None
    """World normals of the depth map, times alpha."""
    distortion: Float[Tensor, "b 1 h w"] | None = None

    def to(self, device: torch.device | str) -> RenderOutput:
        """The same maps on a device."""
        maps = {field.name: getattr(self, field.name) for field in fields(self)}
        return replace(self, **{n: m.to(device) for n, m in maps.items() if m is not None})

    @property
    def surface_depth(self) -> Float[Tensor, "b 1 h w"] | None:
        """The median depth where the renderer made one, else the expected depth."""
        return self.depth if self.median_depth is None else self.median_depth

    def require(self, name: MapName) -> Tensor:
        """Return a map that the caller asked the renderer for.

        Raises:
            ValueError: If it was not asked for.
        """
        value = getattr(self, name)
        if value is None:
            raise ValueError(f"the rendering holds no {name}: ask the renderer for it")
        return value
