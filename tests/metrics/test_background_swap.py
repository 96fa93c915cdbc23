"""What becomes of heads before other backgrounds."""

from __future__ import annotations

import pytest
import torch

from vultus.metrics.background_swap import mask_difference, weighted_change


def test_a_change_counts_where_its_weight_is() -> None:
    one = torch.zeros(2, 3, 2, 4)
    other = one.clone()
    other[0, :, :, :2] = 0.6
    other[1, 0] = 0.3
    left = torch.zeros(2, 1, 2, 4)
    left[..., :2] = 1.0
    assert weighted_change(one, other, left).tolist() == pytest.approx([0.6, 0.3 / 3**0.5])
    assert weighted_change(one, other, 1.0 - left).tolist() == pytest.approx([0, 0.3 / 3**0.5])
    half = weighted_change(one, other, torch.full((2, 1, 2, 4), 0.1))
    assert half.tolist() == pytest.approx([0.6 / 2**0.5, 0.3 / 3**0.5])
    assert weighted_change(one, other, torch.zeros(2, 1, 2, 4)).tolist() == [0.0, 0.0]


def test_masks_differ_by_the_mean_square() -> None:
    one = torch.zeros(1, 1, 2, 2)
    other = torch.tensor([[[[1.0, 0.0], [0.5, 0.0]]]])
    assert float(mask_difference(one, other)) == pytest.approx(1.25 / 4)
    assert float(mask_difference(other, other)) == 0.0
