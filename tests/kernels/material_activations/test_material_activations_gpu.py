"""The Triton kernels against the PyTorch form that defines them, in float64."""

from __future__ import annotations

import pytest
import torch

from triton_support import compile_launch, is_interpreting, triton_device
from vultus.kernels.material_activations import activate_materials
from vultus.methods.relightable_blendshapes import materials

triton_test = pytest.mark.triton


@triton_test
@pytest.mark.parametrize("min_roughness", [0.0, 0.3])
def test_materials_and_their_gradients_are_those_of_the_definition(min_roughness):
    device = triton_device()
    generator = torch.Generator().manual_seed(1)
    exact = [
        (3 * torch.randn(2, 150, channels, generator=generator).double()).requires_grad_()
        for channels in (3, 1, 1)
    ]
    leaves = [each.detach().float().to(device).requires_grad_() for each in exact]
    defined = materials.activate_materials(*exact, min_roughness=min_roughness)
    actual = activate_materials(leaves[0], leaves[1], leaves[2], min_roughness)
    expected = (defined.albedo, defined.roughness, defined.specular)
    for found, value in zip(actual, expected, strict=True):
        torch.testing.assert_close(found.cpu().double(), value, atol=1e-6, rtol=0)
        cotangent = torch.randn(value.shape, generator=generator)
        (value * cotangent.double()).sum().backward()
        (found * cotangent.to(device)).sum().backward(retain_graph=True)
    for leaf, each in zip(leaves, exact, strict=True):
        assert leaf.grad is not None
        torch.testing.assert_close(leaf.grad.cpu().double(), each.grad, atol=2e-6, rtol=0)


@pytest.mark.parametrize("capability", [80, 90])
def test_kernels_compile_without_spilling(capability):
    pytest.importorskip("triton")
    if is_interpreting():
        pytest.skip("interpreted functions cannot be compiled")
    from vultus.kernels.triton_runtime import recorded_launches

    stored = [torch.zeros(1, 99, channels, requires_grad=True) for channels in (3, 1, 1)]
    with recorded_launches() as launches:
        activated = activate_materials(stored[0], stored[1], stored[2], 0.3)
        torch.autograd.backward(activated, [torch.ones_like(each) for each in activated])
    names = [launch.kernel.fn.__name__ for launch in launches]
    assert names == ["activate", "activate_backward"]
    for launch in launches:
        assert compile_launch(launch, capability).stack == 0, launch.kernel.fn.__name__
