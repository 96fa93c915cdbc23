"""Blend weights that follow from distances."""

from __future__ import annotations

import math

import torch

from tolerances import assert_close
from vultus.methods.surfhead.jacobian_blending import distance_weights


def test_weights_fall_with_the_distance_and_sum_to_one() -> None:
    centers = torch.tensor([[[0.0, 0, 0], [0.5, 0, 0], [0, 0.5, 0], [0, 0, 1.0]]])
    weights = distance_weights(torch.zeros(1, 3), centers)
    raw = [1.0, math.exp(-2.0), math.exp(-2.0), math.exp(-4.0)]
    assert_close(weights, torch.tensor([[value / sum(raw) for value in raw]]))
    # The same seen from a surfel far away from everything: nothing underflows.
    far = distance_weights(torch.tensor([[1000.0, 0, 0]]), centers)
    assert_close(far.sum(), torch.tensor(1.0))
    assert int(far.argmax()) == 1


def test_faces_as_near_as_each_other_share_equally() -> None:
    centers = torch.tensor([[[1.0, 0, 0], [-1, 0, 0], [0, 1, 0], [0, -1, 0]]])
    assert_close(distance_weights(torch.zeros(1, 3), centers), torch.full((1, 4), 0.25))
