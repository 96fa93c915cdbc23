"""Small scenes of Gaussians, for tests of all backends."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from torch import Tensor

from raster_scenes import RasterScene, random_parameters
from vultus.geometry.cameras import Camera
from vultus.kernels.gaussian_raster import GaussianImages, rasterize_gaussians

__all__ = ["OUTPUTS", "Scene", "make_scene", "with_covariances"]

OUTPUTS = ("depth", "median_depth")


@dataclass(frozen=True)
class Scene(RasterScene):
    outputs: ClassVar = OUTPUTS
    map_tolerance: ClassVar = 1e-4

    means: Tensor
    quats: Tensor | None
    scales: Tensor | None
    opacities: Tensor
    covariances: Tensor | None = None
    features: Tensor | None = None
    sh_coeffs: Tensor | None = None
    jacobians: Tensor | None = None

    def render(self, camera: Camera, **options: Any) -> GaussianImages:
        return rasterize_gaussians(
            self.means,
            self.quats,
            self.scales,
            self.opacities,
            camera,
            covariances=self.covariances,
            features=self.features,
            sh_coeffs=self.sh_coeffs,
            jacobians=self.jacobians,
            **options,
        )


def make_scene(num: int = 60, batch: int = 1, seed: int = 0) -> Scene:
    """Gaussians of a few pixels around the origin, every input but covariances given."""
    return Scene(**random_parameters(num, batch, seed, log_scale=(-2.5, 0.5), axes=3))


def with_covariances(scene: Scene, seed: int = 0) -> Scene:
    """The same Gaussians with random covariances in place of quaternions and scales."""
    shape = scene.means.shape
    roots = 0.1 * torch.randn(*shape, 3, generator=torch.Generator().manual_seed(seed))
    full = roots @ roots.transpose(2, 3)
    rows, columns = torch.triu_indices(3, 3)
    return replace(scene, quats=None, scales=None, covariances=full[..., rows, columns])
