from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from tolerances import assert_close
from vultus.losses import regularizers

ALL = torch.tensor([True, True])


def test_eye_alpha_is_zero_for_opaque_eyes_and_grows_quadratically() -> None:
    assert float(regularizers.eye_alpha(torch.ones(5))) == 0.0
    assert float(regularizers.eye_alpha(torch.tensor([0.9, 0.5]))) == pytest.approx(0.13)


def test_blend_weights_are_free_up_to_a_tenth() -> None:
    weights = torch.tensor([[0.7, 0.1, 0.1, 0.1], [0.2, 0.4, 0.5, 0.0]])
    expected = math.hypot(0.3, 0.4) / 2
    assert float(regularizers.blend_weight(weights, ALL)) == pytest.approx(expected)


def test_normal_norm_counts_both_directions() -> None:
    normals = torch.tensor([[0.0, 0.0, 1.5], [0.0, 0.5, 0.0]])
    assert float(regularizers.normal_norm(normals, ALL)) == pytest.approx(0.5)


def test_inverse_depth_may_jump_at_edges_of_the_image() -> None:
    depth = torch.ones(1, 1, 4, 6, dtype=torch.float64)
    depth[..., 3:] = 2.0
    flat = torch.full((1, 3, 4, 6), 0.5, dtype=torch.float64)
    edge = flat.clone()
    edge[..., 3:] = 0.9
    # One of five differences along a row is 1/2; none along a column.
    loss = regularizers.inverse_depth_smoothness
    assert float(loss(depth, flat)) == pytest.approx(0.5 / 5)
    assert float(loss(depth, edge)) == pytest.approx(0.5 / 5 * math.exp(-0.4))
    turned = depth.transpose(2, 3), edge.transpose(2, 3)
    assert float(loss(*turned)) == pytest.approx(0.5 / 5 * math.exp(-0.4))


def test_pixels_without_depth_are_no_edges() -> None:
    generator = torch.Generator().manual_seed(0)
    depth = 1.0 + torch.rand(1, 1, 5, 6, generator=generator, dtype=torch.float64)
    rgb = torch.rand(1, 3, 5, 6, generator=generator, dtype=torch.float64)
    cut = torch.cat([depth, torch.zeros_like(depth)], dim=3).requires_grad_()
    loss = regularizers.inverse_depth_smoothness(cut, torch.cat([rgb, rgb], dim=3))
    assert_close(loss.detach(), regularizers.inverse_depth_smoothness(depth, rgb))
    loss.backward()
    assert cut.grad is not None
    assert cut.grad.isfinite().all()
    assert (cut.grad[..., 6:] == 0).all()
    leaf = depth.clone().requires_grad_()
    assert torch.autograd.gradcheck(
        lambda d: regularizers.inverse_depth_smoothness(d, rgb), (leaf,)
    )


def test_xyz_is_free_within_the_threshold() -> None:
    means = torch.tensor([[0.6, 0.0, 0.8], [3.0, 0.0, 4.0]])
    assert float(regularizers.xyz(means, ALL, 1.0)) == pytest.approx(2.0)


def test_metric_xyz_compares_axes_one_by_one() -> None:
    offsets = torch.tensor([[3.0, 4.0, -9.0], [0.0, 0.0, 0.0]])
    expected = math.hypot(2.0, 3.0) / 2
    assert float(regularizers.metric_xyz(offsets, ALL, 1.0)) == pytest.approx(expected)


@pytest.mark.parametrize("function", [regularizers.scale, regularizers.metric_scale])
def test_scale_is_free_within_the_threshold(function) -> None:
    scales = torch.tensor([[0.6, 0.1], [0.9, 1.0]])
    assert float(function(scales, ALL, 0.6)) == pytest.approx(math.hypot(0.3, 0.4) / 2)


def test_only_visible_rows_count() -> None:
    visible = torch.tensor([True, False])
    means = torch.tensor([[2.0, 0.0, 0.0], [50.0, 0.0, 0.0]])
    assert float(regularizers.xyz(means, visible, 1.0)) == pytest.approx(1.0)


def test_nothing_visible_is_zero_with_zero_gradients() -> None:
    none = torch.zeros(2, dtype=torch.bool)
    means = torch.ones(2, 3, requires_grad=True)
    loss = regularizers.xyz(means, none) + regularizers.scale(means, none)
    loss.backward()
    assert float(loss.detach()) == 0.0
    assert means.grad is not None
    assert_close(means.grad, torch.zeros(2, 3))


def test_distortion_is_the_mean_of_the_map() -> None:
    assert float(regularizers.distortion(torch.tensor([1.0, 3.0]).view(1, 1, 1, 2))) == 2.0


def unit_map(*vector: float) -> Tensor:
    return torch.tensor(vector).view(1, 3, 1, 1).expand(1, 3, 4, 4)


def test_normals_that_agree_cost_nothing_and_opposite_ones_two() -> None:
    up, down = unit_map(0.0, 1.0, 0.0), unit_map(0.0, -1.0, 0.0)
    assert float(regularizers.surfel_normal(up, up)) == 0.0
    assert float(regularizers.surfel_normal(up, down)) == 2.0


def test_mask_makes_rendered_normals_unit_and_background_a_constant() -> None:
    faint, up = unit_map(0.0, 0.25, 0.0), unit_map(0.0, 1.0, 0.0)
    assert float(regularizers.surfel_normal(faint, up)) == pytest.approx(0.75)
    mask = torch.zeros(1, 1, 4, 4)
    mask[..., :1] = 1.0
    assert float(regularizers.surfel_normal(faint, up, mask)) == pytest.approx(0.75)
    assert float(regularizers.surfel_normal(faint, up, torch.ones_like(mask))) == pytest.approx(0.0)


@pytest.mark.parametrize("is_sparse", [False, True])
def test_laplacian_ignores_translations_and_sees_a_single_vertex(is_sparse: bool) -> None:
    # A closed polygon of five vertices with uniform weights.
    ring = torch.eye(5)
    matrix = 0.5 * (ring.roll(1, 0) + ring.roll(-1, 0)) - ring
    matrix = matrix.to_sparse() if is_sparse else matrix
    reference = torch.rand(2, 5, 3, generator=torch.Generator().manual_seed(0))
    moved = reference + torch.tensor([1.0, -2.0, 0.5])
    assert float(regularizers.laplacian(moved, reference, matrix)) == pytest.approx(0.0, abs=1e-10)
    moved = reference.clone()
    moved[0, 2, 1] += 0.2
    # The vertex itself moves by 0.2 against its neighbours, each neighbour by 0.1.
    expected = (0.2**2 + 2 * 0.1**2) / 10
    found = regularizers.laplacian(moved, reference, matrix)
    assert float(found) == pytest.approx(expected, rel=1e-4)


def test_gradients_pass_gradcheck() -> None:
    generator = torch.Generator().manual_seed(1)
    rows = torch.rand(2, 3, dtype=torch.float64, generator=generator) + 1.2
    rows.requires_grad_()
    for function in (regularizers.xyz, regularizers.scale, regularizers.normal_norm):
        assert torch.autograd.gradcheck(lambda x, f=function: f(x, ALL), rows)
