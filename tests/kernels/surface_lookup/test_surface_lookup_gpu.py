"""The Triton kernels against the PyTorch forms that define them, in float64."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn.functional import normalize

from triton_support import compile_launch, is_interpreting, triton_device
from vultus.geometry.mesh_sampling import closest_barycentrics
from vultus.kernels.surface_lookup import bound_barycentrics, find_facing
from vultus.methods.relightable_blendshapes.mesh_binding import MeshBinding

triton_test = pytest.mark.triton

NUM, NUM_VERTICES = 150, 40


@pytest.fixture
def device() -> torch.device:
    return triton_device()


def draw(*shape: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def drawn_corners() -> Tensor:
    """Three different vertices each; the last face is a point."""
    generator = torch.Generator().manual_seed(3)
    corners = torch.rand(NUM, NUM_VERTICES, generator=generator).argsort(dim=1)[:, :3]
    corners[-1] = corners[-1, 0]
    return corners.contiguous()


def binding_of(corners: Tensor, barycentrics: Tensor) -> MeshBinding:
    return MeshBinding(torch.zeros(NUM, dtype=torch.int64), corners, barycentrics)


def single(value: Tensor, device: torch.device) -> Tensor:
    return value.detach().float().to(device).requires_grad_(value.requires_grad)


def assert_near(actual: Tensor | None, expected: Tensor | None, tolerance: float = 1e-5) -> None:
    assert actual is not None
    assert expected is not None
    size = expected.abs().max().clamp(min=1)
    assert (actual.detach().cpu().double() - expected.detach()).abs().max() < tolerance * size


@triton_test
@pytest.mark.parametrize("distance", [0.2, 3.0])
def test_barycentrics_and_their_gradients_are_those_of_the_definition(device, distance):
    """Near faces most points project into them; from afar, edges and corners are nearest.

    Some faces are needles, whose numbers lose digits in float32.
    """
    vertices, corners = draw(NUM_VERTICES, 3, seed=1), drawn_corners()
    inside = draw(NUM, 3, seed=2).softmax(dim=1)
    points = (vertices[corners] * inside[..., None]).sum(dim=1) + distance * draw(NUM, 3, seed=4)
    points.requires_grad_()
    leaf = single(points, device)
    expected = closest_barycentrics(points, vertices[corners])
    actual = bound_barycentrics(leaf, single(vertices, device), corners.to(device))
    assert_near(actual, expected, 1e-4)
    zeros = int((expected == 0).any(dim=1).sum())
    assert 0 < zeros < NUM
    cotangent = draw(NUM, 3, seed=5)
    (expected * cotangent).sum().backward()
    (actual * cotangent.to(actual)).sum().backward()
    assert_near(leaf.grad, points.grad, 1e-4)


@triton_test
@pytest.mark.parametrize("batch", [1, 3])
def test_facing_and_its_gradients_are_those_of_the_definition(device, batch):
    shares = draw(NUM, 3, seed=1).softmax(dim=1).requires_grad_()
    corners = drawn_corners()
    around = normalize(draw(batch, NUM_VERTICES, 3, seed=2), dim=2)
    means, centers = draw(batch, NUM, 3, seed=3).requires_grad_(), 9 + draw(batch, 3, seed=4)
    normals = binding_of(corners, shares).normals(around)
    views = normalize(centers[:, None] - means, dim=-1)
    leaves = single(shares, device), single(means, device)
    actual = find_facing(
        leaves[0], corners.to(device), single(around, device), leaves[1], single(centers, device)
    )
    for i, (found, value) in enumerate(zip(actual, (normals, views), strict=True)):
        assert_near(found, value)
        cotangent = draw(*value.shape, seed=5 + i)
        (value * cotangent).sum().backward()
        (found * cotangent.to(found)).sum().backward(retain_graph=True)
    assert_near(leaves[0].grad, shares.grad)
    assert_near(leaves[1].grad, means.grad)


@triton_test
def test_constants_that_require_gradients_are_refused(device):
    corners = torch.zeros(1, 3, dtype=torch.int64, device=device)
    trained = torch.ones(1, 3, device=device, requires_grad=True)
    with pytest.raises(ValueError, match="vertices must be constant"):
        bound_barycentrics(trained, trained, corners)
    with pytest.raises(ValueError, match="camera_centers must be constant"):
        find_facing(trained, corners, trained.detach()[None], trained[None], trained)


@pytest.mark.parametrize("capability", [80, 90])
def test_kernels_compile_without_spilling(capability):
    pytest.importorskip("triton")
    if is_interpreting():
        pytest.skip("interpreted functions cannot be compiled")
    from vultus.kernels.triton_runtime import recorded_launches

    corners = torch.zeros(NUM, 3, dtype=torch.int64)
    points = torch.zeros(NUM, 3, requires_grad=True)
    with recorded_launches() as launches:
        shares = bound_barycentrics(points, torch.zeros(9, 3), corners)
        facing = find_facing(shares, corners, torch.zeros(1, 9, 3), points[None], torch.zeros(1, 3))
        torch.autograd.backward(facing, [torch.ones_like(each) for each in facing])
    names = [launch.kernel.fn.__name__ for launch in launches]
    assert names == ["closest", "face", "face_backward", "closest_backward"]
    for launch in launches:
        assert compile_launch(launch, capability).stack == 0, launch.kernel.fn.__name__
