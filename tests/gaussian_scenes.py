"""Small scenes of Gaussians, and their comparison with the oracle, for tests of all backends."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from vultus.geometry.cameras import Camera, look_at
from vultus.kernels.gaussian_raster import Backend, GaussianImages, rasterize_gaussians

__all__ = [
    "OUTPUTS",
    "Scene",
    "check_against_oracle",
    "double",
    "gradients_of",
    "make_camera",
    "make_scene",
    "maps_of",
    "random_loss",
    "with_covariances",
]

OUTPUTS = ("depth", "median_depth")


@dataclass(frozen=True)
class Scene:
    means: Tensor
    quats: Tensor | None
    scales: Tensor | None
    opacities: Tensor
    covariances: Tensor | None = None
    features: Tensor | None = None
    sh_coeffs: Tensor | None = None
    jacobians: Tensor | None = None

    def map(self, change: Callable[[Tensor], Tensor]) -> Scene:
        """Change every tensor."""
        changed: dict[str, Any] = {
            name: None if value is None else change(value) for name, value in vars(self).items()
        }
        return Scene(**changed)

    def to(self, dtype: torch.dtype, device: torch.device | str = "cpu") -> Scene:
        """Leaves of another dtype that collect gradients."""
        return self.map(lambda value: value.detach().to(device, dtype).requires_grad_())

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
    rng = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(batch, num, *shape, generator=rng)

    return Scene(
        means=0.3 * normal(3),
        quats=normal(4),
        scales=torch.exp(0.5 * normal(3) - 2.5),
        opacities=torch.sigmoid(normal()),
        features=normal(2),
        sh_coeffs=0.3 * normal(16, 3),
        jacobians=torch.eye(3) + 0.2 * normal(3, 3),
    )


def with_covariances(scene: Scene, seed: int = 0) -> Scene:
    """The same Gaussians with random covariances in place of quaternions and scales."""
    shape = scene.means.shape
    roots = 0.1 * torch.randn(*shape, 3, generator=torch.Generator().manual_seed(seed))
    full = roots @ roots.transpose(2, 3)
    rows, columns = torch.triu_indices(3, 3)
    return replace(scene, quats=None, scales=None, covariances=full[..., rows, columns])


def make_camera(width: int = 37, height: int = 21, batch: int = 1) -> Camera:
    """Off-centre, with different focal lengths; every frame from elsewhere."""
    eyes = torch.tensor([[0.4, 0.3, 2.0], [-0.7, 0.1, 1.8], [0.1, -0.5, 2.2]])[:batch]
    intrinsics = torch.tensor([[40.0, 0, 20.3], [0, 36.0, 9.1], [0, 0, 1]])
    scale = torch.tensor([width / 37, height / 21, 1.0])
    return Camera(
        look_at(eyes, torch.zeros(3)),
        (intrinsics * scale[:, None]).expand(len(eyes), 3, 3),
        width,
        height,
    )


def double(camera: Camera) -> Camera:
    return replace(
        camera,
        world_to_camera=camera.world_to_camera.double(),
        intrinsics=camera.intrinsics.double(),
    )


def maps_of(images: GaussianImages) -> dict[str, Tensor]:
    maps = {
        "image": images.image,
        "alpha": images.alpha,
        "depth_sum": images.depth_sum,
        "median_depth": images.median_depth,
    }
    return {name: value for name, value in maps.items() if value is not None}


def random_loss(images: GaussianImages) -> Tensor:
    """A fixed random combination of all maps."""
    rng = torch.Generator().manual_seed(7)
    total = images.image.new_zeros(())
    for value in maps_of(images).values():
        weights = torch.randn(value.shape, generator=rng, dtype=torch.float64)
        total = total + (value * weights.to(value)).sum()
    return total


def gradients_of(scene: Scene, images: GaussianImages) -> dict[str, Tensor]:
    leaves: dict[str, Any] = {**vars(scene), "screen_gradient": images.screen_gradient}
    return {name: value.grad for name, value in leaves.items() if value is not None}


def check_against_oracle(
    scene: Scene,
    camera: Camera,
    *,
    backend: Backend = "cpu",
    device: torch.device | str = "cpu",
    outlier_share: float = 0.005,
    gradient_tolerance: float = 2e-3,
    **options: Any,
) -> None:
    """Compare all images and gradients; rare pixels on a threshold may differ by one Gaussian."""
    options.setdefault("outputs", OUTPUTS)
    fast, slow = scene.to(torch.float32, device), scene.to(torch.float64)
    background = options.pop("background", None)
    if background is not None:
        options["background"] = background.to(device)
    actual = fast.render(camera.to(device), backend=backend, **options)
    if background is not None:
        options["background"] = background.double()
    expected = slow.render(double(camera), backend="ref", **options)
    assert torch.equal(actual.radii.cpu(), expected.radii)
    for (name, a), e in zip(maps_of(actual).items(), maps_of(expected).values(), strict=True):
        error = (a.cpu() - e).abs() / (1 + e.abs())
        assert float((error > 1e-4).double().mean()) <= outlier_share, name
    random_loss(actual).backward()
    random_loss(expected).backward()
    references = gradients_of(slow, expected)
    for name, gradient in gradients_of(fast, actual).items():
        reference = references[name]
        error = (gradient.cpu() - reference).norm() / (reference.norm() + 1e-4)
        assert torch.isfinite(gradient).all()
        assert float(error) < gradient_tolerance, name
