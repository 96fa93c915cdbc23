"""The Triton kernels against the PyTorch form that defines them, in float64."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from triton_support import compile_launch, is_interpreting, triton_device
from vultus.kernels.display_encoding import encode_over_color
from vultus.methods.relightable_blendshapes.shading import put_over_color

triton_test = pytest.mark.triton


def drawn() -> tuple[Tensor, Tensor, Tensor]:
    """Radiance on both pieces of the curve, burnt out, black, below zero and above one."""
    generator = torch.Generator().manual_seed(1)
    radiance = torch.rand(2, 3, 17, 19, generator=generator, dtype=torch.float64) ** 4 * 2
    radiance[:, :, 0] = torch.tensor([0.0, 1e-4, 0.0031, 0.0032]).double().repeat(5)[:19]
    radiance[:, :, 1, 0] = -0.5
    alpha = torch.rand(2, 1, 17, 19, generator=generator, dtype=torch.float64)
    color = torch.tensor([0.0, 0.5, 1.0], dtype=torch.float64)[None, :, None, None]
    return radiance.requires_grad_(), alpha.requires_grad_(), color


@triton_test
@pytest.mark.parametrize("keeps_gradients", [True, False])
def test_encoded_pictures_and_their_gradients_are_those_of_the_definition(keeps_gradients):
    device, exact = triton_device(), drawn()
    leaves = [each.detach().float().to(device).requires_grad_() for each in exact[:2]]
    expected = put_over_color(*exact, "srgb", keeps_gradients=keeps_gradients)
    slope = 0.01 if keeps_gradients else None
    actual = encode_over_color(leaves[0], leaves[1], exact[2].float().to(device), slope)
    torch.testing.assert_close(actual.cpu().double(), expected, atol=2e-6, rtol=0)
    cotangent = torch.randn(expected.shape, generator=torch.Generator().manual_seed(2))
    (expected * cotangent.double()).sum().backward()
    (actual * cotangent.to(device)).sum().backward()
    for leaf, each in zip(leaves, exact, strict=False):
        assert leaf.grad is not None
        torch.testing.assert_close(leaf.grad.cpu().double(), each.grad, atol=2e-5, rtol=2e-5)


@triton_test
@pytest.mark.parametrize("slope", [None, 0.01])
@pytest.mark.parametrize("broken", ["radiance", "alpha"])
def test_what_is_not_a_number_stays_so_in_pictures_and_gradients(slope, broken):
    device = triton_device()
    radiance, alpha, color = (each.detach().float() for each in drawn())
    {"radiance": radiance, "alpha": alpha}[broken][1, 0, 2, 3] = float("nan")
    expected = put_over_color(radiance, alpha, color, "srgb", keeps_gradients=slope is not None)
    assert int(expected.isnan().sum()) == (1 if broken == "radiance" else 3)
    leaves = [each.to(device).requires_grad_() for each in (radiance, alpha)]
    actual = encode_over_color(leaves[0], leaves[1], color.to(device), slope)
    torch.testing.assert_close(actual.cpu(), expected, atol=2e-6, rtol=0, equal_nan=True)
    actual.sum().backward()
    found = leaves[0].grad
    assert found is not None
    is_broken = radiance.isnan()
    assert torch.equal(found.isnan().cpu(), is_broken)
    assert bool(found[~is_broken.to(device)].isfinite().all())


@triton_test
def test_colors_that_require_a_gradient_are_refused():
    image = torch.zeros(1, 3, 2, 2, device=triton_device())
    color = image[:, :, :1, :1].clone().requires_grad_()
    with pytest.raises(ValueError, match="color must be constant"):
        encode_over_color(image, image[:, :1], color, None)


@pytest.mark.parametrize("capability", [80, 90])
@pytest.mark.parametrize("slope", [None, 0.01])
def test_kernels_compile_without_spilling(capability, slope):
    pytest.importorskip("triton")
    if is_interpreting():
        pytest.skip("interpreted functions cannot be compiled")
    from vultus.kernels.triton_runtime import recorded_launches

    radiance, alpha, color = (each.detach().float() for each in drawn())
    with recorded_launches() as launches:
        encode_over_color(radiance.requires_grad_(), alpha, color, slope).sum().backward()
    names = [launch.kernel.fn.__name__ for launch in launches]
    assert names == ["encode", "encode_backward"]
    for launch in launches:
        assert compile_launch(launch, capability).stack == 0, launch.kernel.fn.__name__
