"""Small scenes of surfels, for tests of all backends."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor

from raster_scenes import RasterScene, random_parameters
from vultus.geometry.cameras import Camera
from vultus.kernels.surfel_raster import SurfelImages, rasterize_surfels

__all__ = ["CONVENTIONS", "OUTPUTS", "Scene", "make_scene"]

OUTPUTS = ("depth", "normal", "median_depth", "distortion")
CONVENTIONS = ("2dgs", "surfhead")


@dataclass(frozen=True)
class Scene(RasterScene):
    outputs: ClassVar = OUTPUTS
    map_tolerance: ClassVar = 2e-4

    means: Tensor
    quats: Tensor
    scales: Tensor
    opacities: Tensor
    features: Tensor | None = None
    sh_coeffs: Tensor | None = None
    jacobians: Tensor | None = None

    def render(self, camera: Camera, **options: Any) -> SurfelImages:
        return rasterize_surfels(
            self.means,
            self.quats,
            self.scales,
            self.opacities,
            camera,
            features=self.features,
            sh_coeffs=self.sh_coeffs,
            jacobians=self.jacobians,
            **options,
        )


def make_scene(num: int = 60, batch: int = 1, seed: int = 0) -> Scene:
    """Surfels of a few pixels around the origin, every input given."""
    return Scene(**random_parameters(num, batch, seed, log_scale=(-2.2, 0.4), axes=2))
