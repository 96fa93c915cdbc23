from __future__ import annotations

import pytest
import torch
from torch import Tensor

from tolerances import assert_close
from vultus.kernels.ssim import ssim_map
from vultus.losses.photometric import dssim, l1, masked_mean


def images() -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    a, b = torch.rand(2, 2, 3, 20, 32, generator=generator)
    return a, b, (torch.rand(2, 1, 20, 32, generator=generator) > 0.5).float()


def test_l1_is_the_average_absolute_difference() -> None:
    a, b, _ = images()
    assert float(l1(a, b)) == pytest.approx(float((a - b).abs().mean()))


def test_masked_l1_sees_only_the_mask() -> None:
    a, b, mask = images()
    inside = (mask > 0).expand_as(a)
    assert float(l1(a, b, mask)) == pytest.approx(float((a - b).abs()[inside].mean()))
    spoilt = torch.where(inside, a, a + 7.0)
    assert_close(l1(spoilt, b, mask), l1(a, b, mask))


def test_mask_of_ones_changes_nothing() -> None:
    a, b, mask = images()
    assert_close(l1(a, b, torch.ones_like(mask)), l1(a, b))
    assert_close(dssim(a, b, torch.ones_like(mask)), dssim(a, b))


def test_masked_dssim_averages_the_map_over_the_mask() -> None:
    a, b, mask = images()
    expected = 1.0 - ssim_map(a, b)[(mask > 0).expand_as(a)].mean()
    assert_close(dssim(a, b, mask), expected)


@pytest.mark.parametrize("backend", ["ref", "cpu"])
def test_equal_images_have_no_structural_difference(backend: str) -> None:
    a, _, _ = images()
    assert float(dssim(a, a, backend=backend)) == pytest.approx(0.0, abs=1e-5)


def test_empty_mask_gives_zero_with_finite_gradients() -> None:
    a, b, mask = images()
    a.requires_grad_()
    loss = l1(a, b, torch.zeros_like(mask))
    loss.backward()
    assert float(loss.detach()) == 0.0
    assert a.grad is not None
    assert (a.grad == 0).all()


def test_soft_masks_weight_pixels() -> None:
    values = torch.tensor([1.0, 3.0]).view(1, 1, 1, 2)
    mask = torch.tensor([0.5, 1.5]).view(1, 1, 1, 2)
    assert float(masked_mean(values, mask)) == pytest.approx(2.5)
