"""SurfHead's image terms, on maps that are known."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from vultus.data.frame_store import Batch
from vultus.geometry.cameras import Camera
from vultus.methods.surfhead.config import LossWeights
from vultus.methods.surfhead.objectives import image_terms
from vultus.render.output import RenderOutput


@pytest.fixture
def output() -> RenderOutput:
    alpha = torch.full((1, 1, 2, 2), 0.25)
    none = torch.zeros(1, 0, dtype=torch.int64)
    return RenderOutput(torch.zeros(1, 3, 2, 2), alpha, none, torch.zeros(1, 0, 2))


@pytest.fixture
def batch() -> Batch:
    camera = Camera(torch.eye(4)[None], torch.eye(3)[None], 2, 2)
    mask = torch.tensor([[[[1.0, 0.0], [0.0, 0.0]]]])
    return Batch(torch.zeros(1, dtype=torch.int64), camera, torch.zeros(1, 3, 2, 2), mask)


def test_alpha_is_pulled_to_the_mask(output: RenderOutput, batch: Batch) -> None:
    terms = image_terms(output, batch, LossWeights(alpha_weight=0.5), False, False)
    assert float(terms["alpha"]) == pytest.approx(0.5 * (0.75 + 3 * 0.25) / 4)


def test_without_masks_or_weight_there_is_no_alpha_term(output: RenderOutput, batch: Batch) -> None:
    weights = LossWeights(alpha_weight=0.5)
    assert image_terms(output, replace(batch, mask=None), weights, False, False) == {}
    assert image_terms(output, batch, LossWeights(), False, False) == {}
