"""Blur of images."""

from __future__ import annotations

import pytest
import torch

from vultus.nets.gaussian_blur import blur_images


def test_blur_keeps_the_sum_inside_and_fades_to_nothing() -> None:
    x = torch.zeros(1, 1, 41, 41)
    x[..., 20, 20] = 1.0
    blurred = blur_images(x, 3.0)
    assert float(blurred.sum()) == pytest.approx(1.0, abs=1e-5)
    assert float(blurred[0, 0, 20, 23] / blurred[0, 0, 20, 20]) == pytest.approx(0.5, abs=1e-5)
    assert torch.equal(blur_images(x, 0.3), x)
