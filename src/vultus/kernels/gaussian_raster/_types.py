"""What goes into and comes out of the Gaussian rasterizer, whichever backend runs."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal

from jaxtyping import Float, Int
from torch import Tensor

from vultus.kernels.raster_calls import check_choices

__all__ = ["Cull", "GaussianImages", "Gaussians", "Gradients", "OutputName", "RasterSettings"]

Cull = Literal["exact", "3sigma"]
Gradients = Literal["exact", "published"]
OutputName = Literal["depth", "median_depth"]

MIN_ALPHA = 1.0 / 255.0
"""Fainter contributions are skipped, as in 3DGS."""
MIN_TRANSMITTANCE = 1e-4
"""A pixel stops before its transmittance falls below, as in 3DGS."""
FOV_CLAMP = 1.3
"""Rays are clamped to this multiple of the image's half width where the projection is linearised,
as in 3DGS: outside the image the linearisation grows without bound."""
MIN_RADIUS_SPREAD = 0.1
"""Smallest squared spread of the eigenvalues in the published radius (3DGS)."""
MIN_COMPENSATION = 2.5e-5
"""Smallest squared compensation of the opacity (anti-aliased 3DGS)."""


@dataclass(frozen=True)
class Gaussians:
    """A batch of Gaussian sets with activated parameters.

    Either ``quats`` and ``scales`` or ``covariances``; at least one kind of colour.
    """

    means: Float[Tensor, "b n 3"]
    quats: Float[Tensor, "b n 4"] | None
    scales: Float[Tensor, "b n 3"] | None
    opacities: Float[Tensor, "b n"]
    covariances: Float[Tensor, "b n 6"] | None
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
    dilation: float
    is_antialiased: bool
    max_alpha: float
    pixel_center: float
    cull: Cull
    gradients: Gradients
    normalizes_quats: bool
    outputs: Collection[OutputName]

    def __post_init__(self) -> None:
        """Reject what no backend knows."""
        check_choices(cull=(self.cull, Cull), gradients=(self.gradients, Gradients))
        check_choices(**{f"outputs[{i}]": (x, OutputName) for i, x in enumerate(self.outputs)})
        if not self.near > 0:
            raise ValueError(f"near must be positive, got {self.near}")
        if not self.dilation >= 0:
            raise ValueError(f"dilation must not be negative, got {self.dilation}")
        if not 0 < self.max_alpha < 1:
            raise ValueError(f"max_alpha must lie between 0 and 1, got {self.max_alpha}")


@dataclass(frozen=True)
class GaussianImages:
    """Blended images; what was not asked for is None."""

    image: Float[Tensor, "b c h w"]
    """SH colour first, then features; composited over the background."""
    alpha: Float[Tensor, "b 1 h w"]
    radii: Int[Tensor, "b n"]
    """Published screen radius in pixels; 0 behind the near plane or where its square misses the
    image. Does not depend on ``cull`` or on opacities."""
    screen_gradient: Float[Tensor, "b n 2"]
    """Zeros. After a backward pass, ``.grad`` is the signal for densification: the derivative with
    respect to the projected centre, in units of half the image."""
    depth_sum: Float[Tensor, "b 1 h w"] | None = None
    """Sum of weight times depth of the centre; not divided by alpha."""
    median_depth: Float[Tensor, "b 1 h w"] | None = None
    """Depth of the last Gaussian met while transmittance exceeds 1/2; 0 where there is none."""


Images = tuple[Tensor, Tensor, Tensor | None, Tensor | None, Tensor]
"""What backends return: image, alpha, depth, median depth, radii."""


def check_finite(gaussians: Gaussians) -> None:
    """Raise on the first input with a value that is not finite.

    Raises:
        ValueError: Naming the input.
    """
    for name in GEOMETRY_INPUTS + COLOR_INPUTS:
        tensor = getattr(gaussians, name)
        if tensor is not None and not bool(tensor.isfinite().all()):
            raise ValueError(f"{name} must be finite")


GEOMETRY_INPUTS = ("means", "quats", "scales", "opacities", "covariances", "jacobians")
COLOR_INPUTS = ("sh_coeffs", "features")
