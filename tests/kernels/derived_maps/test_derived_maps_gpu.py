"""The Triton kernels against the PyTorch forms that define them, in float64."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from triton_support import compile_launch, is_interpreting, triton_device
from vultus.geometry.cameras import Camera, look_at
from vultus.geometry.depth import depth_to_normals, rotate_maps
from vultus.kernels.derived_maps import derive_normals

triton_test = pytest.mark.triton
SHAPES = [(1, 1, 1), (2, 2, 3), (1, 3, 3), (2, 7, 9), (1, 19, 17)]
"""Frames, height, width: without inner pixels, with one, and with several programs a frame."""


@pytest.fixture
def device() -> torch.device:
    return triton_device()


def cameras(batch: int, height: int, width: int) -> Camera:
    """Close ones, with skew, so that directions change a lot from pixel to pixel."""
    generator = torch.Generator().manual_seed(batch)
    eyes = torch.randn(batch, 3, generator=generator, dtype=torch.float64)
    matrix = torch.tensor([[20.0, 3.0, 0.4 * width], [0, 15.0, 0.6 * height], [0, 0, 1]])
    shared = matrix.double().expand(batch, 3, 3)
    return Camera(look_at(eyes + 2, torch.zeros(3).double()), shared, width, height)


def maps(batch: int, height: int, width: int, seed: int = 0) -> dict[str, Tensor]:
    """Some pixels have no depth; around one of them none of the neighbours has."""
    generator = torch.Generator().manual_seed(seed)

    def draw(channels: int) -> Tensor:
        shape = (batch, channels, height, width)
        return torch.rand(shape, generator=generator, dtype=torch.float64)

    depth, alpha, normals = 1 + draw(1), draw(1), draw(3) - 0.5
    depth[:, :, : height // 2, : width // 2] = 0
    return {"depth": depth, "alpha": alpha, "view_normals": normals}


def single(camera: Camera, device: torch.device) -> Camera:
    return replace(
        camera,
        world_to_camera=camera.world_to_camera.float().to(device),
        intrinsics=camera.intrinsics.float().to(device),
    )


def error(actual: Tensor, expected: Tensor) -> float:
    actual, expected = actual.detach().cpu().double(), expected.detach()
    assert actual.shape == expected.shape
    return float((actual - expected).abs().max() / expected.abs().max().clamp(min=1e-30))


@triton_test
@pytest.mark.parametrize(("batch", "height", "width"), SHAPES)
def test_normals_and_their_gradients_are_those_of_the_definition(batch, height, width, device):
    camera, exact = cameras(batch, height, width), maps(batch, height, width)
    # What float32 cannot hold must not count.
    exact = {name: value.float().double().requires_grad_() for name, value in exact.items()}
    leaves = {name: value.detach().float().to(device) for name, value in exact.items()}
    for leaf in leaves.values():
        leaf.requires_grad_()
    expected = (
        depth_to_normals(exact["depth"], camera) * exact["alpha"].detach(),
        rotate_maps(camera.world_to_camera[:, :3, :3], exact["view_normals"]),
    )
    actual = derive_normals(
        single(camera, device),
        depth=leaves["depth"],
        alpha=leaves["alpha"],
        view_normals=leaves["view_normals"],
    )
    loss, exact_loss = torch.zeros((), device=device), torch.zeros(()).double()
    for k, (mine, theirs) in enumerate(zip(actual, expected, strict=True)):
        assert mine is not None
        assert error(mine, theirs) < 2e-6
        weight = maps(batch, height, width, seed=k + 1)["view_normals"]
        # Parallel differences have no normal; theirs is an enormous gradient.
        weight = weight * (theirs.detach().abs().sum(dim=1, keepdim=True) > 0)
        loss = loss + (mine * weight.to(mine)).sum()
        exact_loss = exact_loss + (theirs * weight).sum()
    loss.backward()
    exact_loss.backward()
    assert leaves["alpha"].grad is None
    for name in ("depth", "view_normals"):
        mine, theirs = leaves[name].grad, exact[name].grad
        assert mine is not None
        assert theirs is not None
        assert error(mine, theirs) < 2e-5, name


@triton_test
def test_what_is_not_given_is_not_made_and_costs_no_gradient(device):
    camera, values = single(cameras(1, 3, 4), device), maps(1, 3, 4)
    depth, alpha, normals = (values[n].float().to(device).requires_grad_() for n in values)
    both = derive_normals(camera, depth=depth, alpha=alpha, view_normals=normals)
    of_depth, none = derive_normals(camera, depth=depth, alpha=alpha, view_normals=None)
    assert none is None
    assert torch.equal(_given(of_depth), _given(both[0]))
    none, turned = derive_normals(camera, depth=None, alpha=None, view_normals=normals)
    assert none is None
    assert torch.equal(_given(turned), _given(both[1]))
    assert derive_normals(camera, depth=None, alpha=None, view_normals=None) == (None, None)
    _given(both[1]).sum().backward()
    assert depth.grad is None
    assert normals.grad is not None


def _given(tensor: Tensor | None) -> Tensor:
    assert tensor is not None
    return tensor


@triton_test
def test_flat_depth_without_a_normal_has_finite_gradients(device):
    camera = single(cameras(1, 4, 5), device)
    depth = torch.zeros(1, 1, 4, 5, device=device, requires_grad=True)
    alpha = torch.ones(1, 1, 4, 5, device=device)
    normals, _ = derive_normals(camera, depth=depth, alpha=alpha, view_normals=None)
    _given(normals).sum().backward()
    assert _given(normals).abs().max() == 0
    assert _given(depth.grad).abs().max() == 0


@triton_test
def test_depth_without_alpha_and_cameras_that_are_trained_are_rejected(device):
    camera, values = single(cameras(1, 3, 4), device), maps(1, 3, 4)
    depth, alpha = (values[n].float().to(device) for n in ("depth", "alpha"))
    with pytest.raises(ValueError, match="depth and alpha must come together"):
        derive_normals(camera, depth=depth, alpha=None, view_normals=None)
    trained = replace(camera, world_to_camera=camera.world_to_camera.clone().requires_grad_())
    with pytest.raises(ValueError, match="camera must not require a gradient"):
        derive_normals(trained, depth=depth, alpha=alpha, view_normals=None)
    with pytest.raises(TypeError, match="depth must be float32"):
        derive_normals(camera, depth=depth.double(), alpha=alpha, view_normals=None)


@pytest.mark.parametrize("capability", [80, 90])
def test_kernels_compile_without_spilling(capability):
    pytest.importorskip("triton")
    if is_interpreting():
        pytest.skip("interpreted functions cannot be compiled")
    from vultus.kernels.triton_runtime import recorded_launches

    camera, values = single(cameras(2, 30, 50), torch.device("cpu")), maps(2, 30, 50)
    depth, alpha, normals = (values[n].float().requires_grad_() for n in values)
    with recorded_launches() as launches:
        both = derive_normals(camera, depth=depth, alpha=alpha, view_normals=normals)
        (_given(both[0]).sum() + _given(both[1]).sum()).backward()
    names = [launch.kernel.fn.__name__ for launch in launches]
    assert names == ["derive", "derive_backward"]
    for launch in launches:
        kernel = compile_launch(launch, capability)
        assert kernel.stack == 0, launch.kernel.fn.__name__
        assert kernel.registers <= 128, launch.kernel.fn.__name__
