"""What tests of both rasterizers share: cameras, losses, and the comparison with the oracle."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import replace
from typing import Any, ClassVar, Self

import pytest
import torch
from torch import Tensor

from vultus.geometry.cameras import Camera, look_at
from vultus.kernels.capacity import CapacityExceededError, check_captured
from vultus.kernels.gaussian_raster import GaussianImages
from vultus.kernels.raster_calls import Backend
from vultus.kernels.surfel_raster import SurfelImages

__all__ = [
    "RasterScene",
    "check_against_oracle",
    "check_captured_overflow",
    "check_captured_report",
    "check_gradients_of_nothing",
    "double",
    "gradients_of",
    "make_camera",
    "maps_of",
    "random_loss",
    "random_parameters",
]

Images = GaussianImages | SurfelImages
_MAPS = ("image", "alpha", "depth_sum", "normal_view_sum", "median_depth", "distortion")


class RasterScene(ABC):
    """A frozen dataclass of parameters; those that are not given are None."""

    outputs: ClassVar[tuple[Any, ...]]
    """All that the rasterizer can return."""
    map_tolerance: ClassVar[float]
    """Of images in single precision."""

    @abstractmethod
    def render(self, camera: Camera, **options: Any) -> Any:
        """Rasterize the scene; returns the rasterizer's images."""

    def map(self, change: Callable[[Tensor], Tensor]) -> Self:
        """Change every tensor."""
        changed = {n: None if value is None else change(value) for n, value in vars(self).items()}
        return type(self)(**changed)

    def to(self, dtype: torch.dtype, device: torch.device | str = "cpu") -> Self:
        """Leaves of another dtype that collect gradients."""
        return self.map(lambda value: value.detach().to(device, dtype).requires_grad_())


def random_parameters(
    num: int, batch: int, seed: int, *, log_scale: tuple[float, float], axes: int
) -> dict[str, Tensor]:
    """Primitives around the origin; the logarithm of their scales has this mean and deviation."""
    rng = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(batch, num, *shape, generator=rng)

    return {
        "means": 0.3 * normal(3),
        "quats": normal(4),
        "scales": torch.exp(log_scale[1] * normal(axes) + log_scale[0]),
        "opacities": torch.sigmoid(normal()),
        "features": normal(2),
        "sh_coeffs": 0.3 * normal(16, 3),
        "jacobians": torch.eye(3) + 0.2 * normal(3, 3),
    }


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


def maps_of(images: Images) -> dict[str, Tensor]:
    """Those that were asked for."""
    maps = {name: getattr(images, name, None) for name in _MAPS}
    return {name: value for name, value in maps.items() if value is not None}


def random_loss(images: Images) -> Tensor:
    """A fixed random combination of all maps."""
    rng = torch.Generator().manual_seed(7)
    total = images.image.new_zeros(())
    for value in maps_of(images).values():
        weights = torch.randn(value.shape, generator=rng, dtype=torch.float64)
        total = total + (value * weights.to(value)).sum()
    return total


def gradients_of(scene: RasterScene, images: Images) -> dict[str, Tensor]:
    leaves: dict[str, Any] = {**vars(scene), "screen_gradient": images.screen_gradient}
    return {name: value.grad for name, value in leaves.items() if value is not None}


def check_against_oracle(
    scene: RasterScene,
    camera: Camera,
    *,
    backend: Backend = "cpu",
    device: torch.device | str = "cpu",
    outlier_share: float = 0.005,
    gradient_tolerance: float = 2e-3,
    **options: Any,
) -> None:
    """Compare all images and gradients; rare pixels on a threshold may differ by one primitive."""
    options.setdefault("outputs", scene.outputs)
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
        assert float((error > scene.map_tolerance).double().mean()) <= outlier_share, name
    random_loss(actual).backward()
    random_loss(expected).backward()
    references = gradients_of(slow, expected)
    for name, gradient in gradients_of(fast, actual).items():
        reference = references[name]
        error = (gradient.cpu() - reference).norm() / (reference.norm() + 1e-4)
        assert torch.isfinite(gradient).all()
        assert float(error) < gradient_tolerance, name


def check_captured_report(
    monkeypatch: pytest.MonkeyPatch, scene: RasterScene, name: str, device: torch.device
) -> None:
    """Check that calls as they are captured into a graph report an input that is not finite."""
    from vultus.kernels import triton_calls

    camera, value = make_camera(11, 7).to(device), getattr(scene, name).clone()
    value.view(-1)[:: value.shape[2:].numel()] = torch.nan
    bad = replace(scene, **{name: value})
    with torch.no_grad():
        scene.to(torch.float32, device).render(camera, backend="gpu")
        check_captured()
        monkeypatch.setattr(triton_calls, "_is_capturing", lambda _: True)
        bad.to(torch.float32, device).render(camera, backend="gpu")
    with pytest.raises(ValueError, match=rf"{name}.* must be finite"):
        check_captured()


def check_captured_overflow(
    monkeypatch: pytest.MonkeyPatch, scene: RasterScene, device: torch.device
) -> None:
    """Check that calls as they are captured into a graph report lists that do not fit, once.

    ``scene``: more of it is on one pixel than there is room for at first.
    """
    from vultus.kernels import triton_calls

    camera = make_camera(11, 7).to(device)
    few = scene.map(lambda value: value[:, :1]).to(torch.float32, device)
    with torch.no_grad():
        few.render(camera, backend="gpu")
        monkeypatch.setattr(triton_calls, "_is_capturing", lambda _: True)
        few.render(camera, backend="gpu")
        check_captured()
        images = scene.to(torch.float32, device).render(camera, backend="gpu")
    assert images.alpha.isnan().any()
    with pytest.raises(CapacityExceededError, match="lists of a captured call did not fit"):
        check_captured()
    check_captured()


def check_gradients_of_nothing(scene: RasterScene, device: torch.device) -> None:
    """Check that a batch without frames has gradients, as empty."""
    leaves = scene.map(lambda value: value[:0]).to(torch.float32, device)
    images = leaves.render(make_camera(11, 7)[:0].to(device), backend="gpu")
    random_loss(images).backward()
    assert all(g.shape[0] == 0 for g in gradients_of(leaves, images).values())
