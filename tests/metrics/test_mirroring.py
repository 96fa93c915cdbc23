"""Correlation of the back of a head with its face."""

from __future__ import annotations

import pytest
import torch

from vultus.metrics.mirroring import mirroring_scores

FACES = torch.rand(4, 3, 16, 16, generator=torch.Generator().manual_seed(0))
WHOLE = torch.ones(4, 1, 16, 16)


def test_a_flipped_face_at_the_back_counts_fully_and_another_hardly() -> None:
    assert mirroring_scores(FACES, FACES.flip(3), WHOLE, WHOLE).tolist() == pytest.approx([1.0] * 4)
    others = mirroring_scores(FACES, FACES.roll(1, 0), WHOLE, WHOLE)
    assert float(others.abs().max()) < 0.2


def test_colours_and_contrast_do_not_count() -> None:
    tint = torch.tensor([0.3, 0.1, -0.2])[None, :, None, None]
    scores = mirroring_scores(FACES, 0.4 * FACES.flip(3) + tint, WHOLE, WHOLE)
    assert scores.tolist() == pytest.approx([1.0] * 4, abs=1e-5)


def test_only_pixels_of_both_heads_are_compared() -> None:
    left = torch.zeros_like(WHOLE)
    left[..., :8] = 1.0
    back = FACES.flip(3)
    back[..., 8:] = torch.rand(4, 3, 16, 8, generator=torch.Generator().manual_seed(1))
    scores = mirroring_scores(FACES, back, WHOLE, left)
    assert scores.tolist() == pytest.approx([1.0] * 4, abs=1e-5)
    # The frontal mask is flipped with its view.
    assert float(mirroring_scores(FACES, back, left, left).abs().max()) == 0.0


def test_even_views_score_nothing() -> None:
    even = torch.full_like(FACES, 0.3)
    assert mirroring_scores(even, FACES, WHOLE, WHOLE).tolist() == pytest.approx([0.0] * 4)
