from __future__ import annotations

import math

import pytest
import torch

from vultus.metrics.image import (
    mean_absolute_error,
    psnr,
    psnr_foreground,
    psnr_per_channel,
    ssim,
)


def test_psnr_of_a_constant_error_is_its_closed_form() -> None:
    target = torch.rand(2, 3, 8, 9, generator=torch.Generator().manual_seed(0)) * 0.5
    errors = torch.tensor([0.1, 0.01]).view(2, 1, 1, 1)
    assert psnr(target + errors, target).tolist() == pytest.approx([20.0, 40.0], abs=1e-3)


def test_psnr_pools_channels_while_the_channel_variant_keeps_them_apart() -> None:
    target = torch.zeros(1, 3, 4, 4)
    rgb = target.clone()
    rgb[:, 0] = 0.1
    rgb[:, 1] = 0.01
    rgb[:, 2] = 0.001
    assert psnr_per_channel(rgb, target)[0].tolist() == pytest.approx([20, 40, 60], abs=1e-3)
    pooled = -10 * math.log10((1e-2 + 1e-4 + 1e-6) / 3)
    assert float(psnr(rgb, target)) == pytest.approx(pooled, abs=1e-4)


def test_equal_images_have_a_finite_psnr() -> None:
    assert float(psnr(torch.ones(1, 3, 4, 4), torch.ones(1, 3, 4, 4))) == pytest.approx(100.0)


def test_foreground_psnr_ignores_the_background() -> None:
    target = torch.zeros(1, 3, 6, 6)
    rgb = torch.full_like(target, 0.5)
    foreground = torch.zeros(1, 1, 6, 6, dtype=torch.bool)
    foreground[..., 2:4, 1:3] = True
    rgb = torch.where(foreground, 0.1, rgb)
    assert float(psnr_foreground(rgb, target, foreground)) == pytest.approx(20.0, abs=1e-4)


def test_foreground_psnr_without_foreground_is_nan() -> None:
    image = torch.zeros(1, 3, 4, 4)
    assert math.isnan(float(psnr_foreground(image, image, torch.zeros(1, 1, 4, 4).bool())))


def test_ssim_is_per_image() -> None:
    a = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    b = a.clone()
    b[1] = 0.5
    values = ssim(a, b)
    assert float(values[0]) == pytest.approx(1.0, abs=1e-5)
    assert float(values[1]) < 0.5


def test_absolute_error_is_per_image() -> None:
    a = torch.zeros(2, 3, 4, 4)
    b = torch.tensor([0.25, -0.5]).view(2, 1, 1, 1).expand(2, 3, 4, 4)
    assert mean_absolute_error(a, b).tolist() == [0.25, 0.5]
