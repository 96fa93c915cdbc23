"""Networks over points do not care about the order of points."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from vultus.nets.point_blocks import (
    AdaptiveNorm,
    NeighborEdges,
    PointAttention,
    PointMlp,
    PointRefinement,
    ScaledResidual,
    SiblingEdges,
    StyledResidual,
    nearest_neighbors,
)

WIDTH, W_DIM, POINTS = 16, 8, 24


def drawn(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(
    "block",
    [PointAttention(WIDTH, 4), NeighborEdges(WIDTH, 5), PointMlp(WIDTH)],
    ids=["attention", "neighbors", "mlp"],
)
def test_points_in_another_order_give_the_same_in_that_order(block: nn.Module) -> None:
    x = drawn(2, POINTS, WIDTH)
    order = torch.randperm(POINTS, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        assert torch.allclose(block(x[:, order]), block(x)[:, order], atol=1e-4)


def test_families_do_not_see_each_other() -> None:
    block, x = SiblingEdges(WIDTH, 4), drawn(1, POINTS, WIDTH)
    order = torch.tensor([2, 0, 3, 1])
    shuffled = x.unflatten(1, (-1, 4))[:, :, order].flatten(1, 2)
    with torch.no_grad():
        expected = block(x).unflatten(1, (-1, 4))[:, :, order].flatten(1, 2)
        assert torch.allclose(block(shuffled), expected, atol=1e-4)
        changed = x.clone()
        changed[:, :4] += 1.0
        assert torch.equal(block(changed)[:, 4:], block(x)[:, 4:])
        assert not torch.allclose(block(changed)[:, :4], block(x)[:, :4], atol=1e-2)


def test_messages_do_not_depend_on_where_the_neighborhood_lies() -> None:
    block, x = NeighborEdges(WIDTH, 5), drawn(1, POINTS, WIDTH)
    message = block.layers.message_in.weight
    with torch.no_grad():
        message[:, :WIDTH] = 0.0  # Only differences are left.
        assert torch.allclose(block(x + 3.0), block(x), atol=1e-4)


def test_norm_gives_every_feature_mean_and_deviation_of_the_style() -> None:
    norm, w = AdaptiveNorm(WIDTH, W_DIM), drawn(2, W_DIM)
    y = norm(3.0 * drawn(2, POINTS, WIDTH) + 5.0, w)
    assert torch.allclose(y.mean(dim=1), norm.beta(w), atol=1e-5)
    deviation = y.std(dim=1, correction=0)
    assert torch.allclose(deviation, norm.gamma(w).abs(), atol=1e-4)


def test_gradients_of_two_layers_are_those_of_differences() -> None:
    block, x = PointMlp(4).double(), drawn(2, 5, 4).double().requires_grad_()
    scale = drawn(4, seed=1).double().requires_grad_()

    def applied(x: torch.Tensor, scale: torch.Tensor, *_: torch.Tensor) -> torch.Tensor:
        return block(x, None, scale)

    assert torch.autograd.gradcheck(applied, (x, scale, *block.parameters()))
    plain = block.narrow(torch.nn.functional.gelu(block.widen(x)) * 2.0**0.5) * scale
    assert torch.allclose(applied(x, scale), plain)


def test_frozen_layers_cost_no_gradients_of_weights() -> None:
    block, x = PointMlp(WIDTH), drawn(2, POINTS, WIDTH).requires_grad_()
    cotangent = drawn(2, POINTS, WIDTH, seed=1)
    (expected,) = torch.autograd.grad(block(x), x, cotangent)
    block.requires_grad_(False)
    output = block(x)
    with FlopCounterMode(display=False) as counted:
        output.backward(cotangent)
    assert x.grad is not None
    assert torch.equal(x.grad, expected)
    # One product for each of the two layers, which are four times as wide inside.
    assert counted.get_total_flops() == 2 * 2 * (2 * POINTS) * WIDTH * 4 * WIDTH


def test_new_residuals_add_nothing() -> None:
    x, w = drawn(2, POINTS, WIDTH), drawn(2, W_DIM)
    assert torch.equal(StyledResidual(WIDTH, W_DIM, PointMlp(WIDTH))(x, w), x)
    assert torch.equal(ScaledResidual(WIDTH, PointMlp(WIDTH))(x), x)


def test_children_follow_their_parents() -> None:
    block, x = PointRefinement(WIDTH, 6, 4), drawn(1, POINTS, WIDTH)
    changed = x.clone()
    changed[:, 7] += 1.0
    with torch.no_grad():
        is_changed = (block(changed) != block(x)).any(dim=2)[0]
    assert is_changed.nonzero()[:, 0].tolist() == [28, 29, 30, 31]


def test_nearest_neighbors_are_found_in_their_order() -> None:
    x = torch.tensor([[[0.0], [1.0], [3.0], [3.5]]])
    assert nearest_neighbors(x, 2)[0].tolist() == [[1, 2], [0, 2], [3, 1], [2, 1]]
    with pytest.raises(ValueError, match="count must be below the number of points 4, got 4"):
        nearest_neighbors(x, 4)


def test_heads_must_divide_the_width() -> None:
    with pytest.raises(ValueError, match="width must be a multiple of 3 heads, got 16"):
        PointAttention(WIDTH, 3)
