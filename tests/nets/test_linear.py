"""Products whose factors a GPU rounds are linear layers like others, on both ways."""

from __future__ import annotations

import pytest
import torch
from torch.nn.functional import linear

from vultus.nets.linear import tf32_linear


def draw(*shape: int, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    generator = torch.Generator().manual_seed(sum(shape))
    return torch.randn(*shape, generator=generator, dtype=dtype)


@pytest.mark.parametrize("addend_shape", [(5,), (6, 5)])
@pytest.mark.parametrize("size", [4, 7])
def test_on_the_cpu_nothing_is_rounded(size: int, addend_shape: tuple[int, ...]) -> None:
    inputs, weight, addend = (
        x.requires_grad_() for x in (draw(6, size), draw(5, size + 2)[:, 1:-1], draw(*addend_shape))
    )
    torch.testing.assert_close(tf32_linear(inputs, weight, addend), linear(inputs, weight) + addend)
    assert torch.autograd.gradcheck(tf32_linear, (inputs, weight, addend))


def test_gradients_that_nobody_needs_are_left_out() -> None:
    weight = draw(5, 4).requires_grad_()
    tf32_linear(draw(6, 4), weight, draw(5)).sum().backward()
    assert weight.grad is not None


@pytest.mark.gpu
def test_a_gpu_rounds_these_products_and_no_others() -> None:
    arguments = [draw(*shape).cuda().float() for shape in ((512, 64), (32, 64), (32,))]
    leaves = [x.requires_grad_() for x in arguments]
    exact = [x.detach().double().requires_grad_() for x in leaves]
    value, expected = tf32_linear(*leaves), linear(*exact)
    value.square().sum().backward()
    expected.square().sum().backward()
    pairs = [(value, expected), *((x.grad, y.grad) for x, y in zip(leaves, exact, strict=True))]
    for k, (found, wanted) in enumerate(pairs):
        error = float((found.double() - wanted).abs().max() / wanted.abs().max())
        assert error < 2e-3, k
    rounding = float((value.double() - expected).abs().max() / expected.abs().max())
    plain = float((linear(*leaves).double() - expected).abs().max() / expected.abs().max())
    assert plain < 2e-6 < 2e-5 < rounding
