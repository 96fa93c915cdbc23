"""What goes into and comes out of the surfel rasterizer, whichever backend runs."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal

from jaxtyping import Float, Int
from torch import Tensor

from vultus.kernels.raster_calls import check_choices

__all__ = ["Convention", "Cull", "OutputName", "RasterSettings", "SurfelImages", "Surfels"]

Convention = Literal["2dgs", "surfhead"]
Cull = Literal["exact", "3sigma"]
OutputName = Literal["depth", "normal", "median_depth", "distortion"]


@dataclass(frozen=True)
class Surfels:
    """A batch of surfel sets with activated parameters; at least one kind of colour is given."""

    means: Float[Tensor, "b n 3"]
    quats: Float[Tensor, "b n 4"]
    scales: Float[Tensor, "b n 2"]
    opacities: Float[Tensor, "b n"]
    features: Float[Tensor, "b n c"] | None
    sh_coeffs: Float[Tensor, "b n k 3"] | None
    jacobians: Float[Tensor, "b n 3 3"] | None
    screen_gradient: Float[Tensor, "b n 2"]


@dataclass(frozen=True)
class RasterSettings:
    """The rules of one call."""

    sh_degree: int
    """-1 where colours are features alone."""
    near: float
    convention: Convention
    cull: Cull
    outputs: Collection[OutputName]
    has_detached_weights: bool

    def __post_init__(self) -> None:
        """Reject what no backend knows."""
        check_choices(convention=(self.convention, Convention), cull=(self.cull, Cull))
        check_choices(**{f"outputs[{i}]": (x, OutputName) for i, x in enumerate(self.outputs)})
        if not self.near > 0:
            raise ValueError(f"near must be positive, got {self.near}")


@dataclass(frozen=True)
class SurfelImages:
    """Blended images; what was not asked for is None."""

    image: Float[Tensor, "b c h w"]
    """SH colour first, then features; composited over the background."""
    alpha: Float[Tensor, "b 1 h w"]
    radii: Int[Tensor, "b n"]
    """Published screen radius in pixels; 0 behind the near plane or where its square misses the
    image. Does not depend on ``cull``."""
    screen_gradient: Float[Tensor, "b n 2"]
    """Zeros. After a backward pass, ``.grad`` is the signal for densification: the derivative with
    respect to the projected centre through the ray/plane intersection alone, in units of half the
    image."""
    depth_sum: Float[Tensor, "b 1 h w"] | None = None
    """Sum of weight times depth; not divided by alpha."""
    normal_view_sum: Float[Tensor, "b 3 h w"] | None = None
    """Sum of weight times normal in camera axes, facing the camera."""
    median_depth: Float[Tensor, "b 1 h w"] | None = None
    """Depth of the last surfel met while transmittance exceeds 1/2; 0 where there is none."""
    distortion: Float[Tensor, "b 1 h w"] | None = None
    """Weighted squared differences of mapped depth (2DGS, eq. 13 with squares)."""


Images = tuple[Tensor, Tensor, Tensor | None, Tensor | None, Tensor | None, Tensor | None, Tensor]
"""What backends return: image, alpha, depth, normal, median depth, distortion, radii."""
