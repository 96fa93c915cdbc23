"""The Triton kernels against a matrix product in float64."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from triton_support import compile_launch, is_interpreting, triton_device
from vultus.kernels.linear_shapes import add_shapes

triton_test = pytest.mark.triton


@pytest.fixture
def device() -> torch.device:
    return triton_device()


def draw(*shape: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


@triton_test
@pytest.mark.parametrize(("batch", "num_bases"), [(1, 1), (3, 1), (3, 3)])
@pytest.mark.parametrize(("num_shapes", "num_vertices"), [(70, 50), (3, 1500), (1, 1)])
def test_combinations_and_gradients_are_those_of_the_definition(
    device, batch, num_bases, num_shapes, num_vertices
):
    base = draw(num_bases, num_vertices, 3, seed=1).requires_grad_()
    shapes = draw(num_shapes, num_vertices, 3, seed=2)
    coeffs = draw(batch, num_shapes, seed=3).requires_grad_()
    expected = base + torch.einsum("bk,kvc->bvc", coeffs, shapes)
    single = [t.detach().float().to(device) for t in (base, shapes, coeffs)]
    leaves = single[0].requires_grad_(), single[2].requires_grad_()
    found = add_shapes(leaves[0], single[1], leaves[1])
    torch.testing.assert_close(found.cpu().double(), expected, atol=1e-5, rtol=1e-5)
    weights = draw(*expected.shape, seed=4)
    (expected * weights).sum().backward()
    (found * weights.to(found)).sum().backward()
    for leaf, exact in zip(leaves, (base, coeffs), strict=True):
        assert leaf.grad is not None
        assert exact.grad is not None
        difference = (leaf.grad.cpu().double() - exact.grad).abs().max()
        assert difference < 1e-5 * exact.grad.abs().max().clamp(min=1)


@triton_test
def test_trained_shapes_are_refused(device):
    shapes = torch.zeros(2, 4, 3, device=device, requires_grad=True)
    with pytest.raises(ValueError, match="shapes must be constants"):
        add_shapes(torch.zeros(1, 4, 3, device=device), shapes, torch.zeros(1, 2, device=device))


@pytest.mark.parametrize("capability", [80, 90])
def test_kernels_compile_without_spilling(capability):
    pytest.importorskip("triton")
    if is_interpreting():
        pytest.skip("interpreted functions cannot be compiled")
    from vultus.kernels.triton_runtime import recorded_launches

    coeffs = torch.zeros(1, 100, requires_grad=True)
    with recorded_launches() as launches:
        add_shapes(torch.zeros(1, 5143, 3), torch.zeros(100, 5143, 3), coeffs).sum().backward()
    assert [launch.kernel.fn.__name__ for launch in launches] == ["combine", "combine_backward"]
    for launch in launches:
        assert compile_launch(launch, capability).stack == 0, launch.kernel.fn.__name__
