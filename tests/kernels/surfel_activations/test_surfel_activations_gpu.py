"""The Triton kernels against the PyTorch forms that define them, in float64."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from triton_support import compile_launch, is_interpreting, triton_device
from vultus.kernels.surfel_activations import ActivatedSurfels, activate_surfels
from vultus.methods.surfhead.activation import activate

triton_test = pytest.mark.triton
OUTPUTS = ("scales", "opacities", "blend_weights")


@pytest.fixture
def device() -> torch.device:
    return triton_device()


def draw(*shape: int, seed: int) -> Tensor:
    """Numbers that float32 holds as well."""
    generator = torch.Generator().manual_seed(seed)
    return 2 * torch.randn(*shape, generator=generator).double()


def stored(num: int, has_blend: bool) -> dict[str, Tensor]:
    """Some rows of logits are so far out that their sigmoids are almost 0."""
    values = {"log_scales": draw(num, 2, seed=1), "opacity_logits": draw(num, seed=2)}
    if has_blend:
        logits = draw(num, 4, seed=3)
        logits[1::5] -= 20
        values["blend_weight_logits"] = logits
    return values


def on_gpu(leaves: dict[str, Tensor]) -> ActivatedSurfels:
    logits = leaves.get("blend_weight_logits")
    return activate_surfels(leaves["log_scales"], leaves["opacity_logits"], logits)


@triton_test
@pytest.mark.parametrize(("num", "has_blend"), [(1, True), (150, True), (150, False), (0, True)])
def test_activated_values_and_gradients_are_those_of_the_definition(num, has_blend, device):
    exact = {name: value.requires_grad_() for name, value in stored(num, has_blend).items()}
    leaves = {n: v.detach().float().to(device).requires_grad_() for n, v in exact.items()}
    actual, expected = on_gpu(leaves), activate(exact)
    assert (actual.blend_weights is None) == (not has_blend)
    losses = []
    for found in (actual, expected):
        products = []
        for k, name in enumerate(OUTPUTS):
            value = getattr(found, name)
            if value is not None:
                products.append((value * draw(*value.shape, seed=9 + k).to(value)).sum())
        losses.append(torch.stack(products).sum())
    for name in OUTPUTS:
        mine, theirs = getattr(actual, name), getattr(expected, name)
        if theirs is not None:
            torch.testing.assert_close(mine.cpu().double(), theirs, rtol=3e-6, atol=1e-12)
    for loss in losses:
        loss.backward()
    for name, value in exact.items():
        mine, theirs = leaves[name].grad, value.grad
        assert mine is not None
        assert theirs is not None
        # Gradients of blend weights are differences of numbers of order one.
        torch.testing.assert_close(mine.cpu().double(), theirs, rtol=1e-5, atol=3e-6)


@triton_test
def test_parts_that_are_not_used_get_no_gradient(device):
    leaves = {n: v.float().to(device).requires_grad_() for n, v in stored(7, True).items()}
    on_gpu(leaves).opacities.sum().backward()
    for name, leaf in leaves.items():
        assert leaf.grad is not None
        assert bool(leaf.grad.any()) == (name == "opacity_logits")


@triton_test
def test_parameters_of_other_dtypes_are_rejected(device):
    leaves = {name: value.float().to(device) for name, value in stored(7, True).items()}
    leaves["opacity_logits"] = leaves["opacity_logits"].double()
    with pytest.raises(TypeError, match="opacity_logits must be float32"):
        on_gpu(leaves)


@pytest.mark.parametrize("has_blend", [False, True])
def test_kernels_compile_without_spilling(has_blend):
    pytest.importorskip("triton")
    if is_interpreting():
        pytest.skip("interpreted functions cannot be compiled")
    from vultus.kernels.triton_runtime import recorded_launches

    leaves = {n: v.float().requires_grad_() for n, v in stored(37, has_blend).items()}
    with recorded_launches() as launches:
        found = on_gpu(leaves)
        (found.scales.sum() + found.opacities.sum()).backward()
    names = [launch.kernel.fn.__name__ for launch in launches]
    assert names == ["activate", "activate_backward"]
    for launch in launches:
        for capability in (80, 90):
            assert compile_launch(launch, capability).stack == 0, launch.kernel.fn.__name__
