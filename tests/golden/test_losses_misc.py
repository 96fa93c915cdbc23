"""Losses, metrics, schedules and pruning against values recorded from the published code."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from vultus.gaussians.densify import protect_faces
from vultus.kernels.ssim import ssim
from vultus.losses import regularizers
from vultus.losses.photometric import dssim, l1
from vultus.metrics.image import psnr, psnr_per_channel
from vultus.optim.schedules import exponential_decay, linear_decay

pytestmark = pytest.mark.golden("surfhead/losses_misc.safetensors")

TOLERANCE = {"rtol": 1e-6, "atol": 1e-6}


def close(actual: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(actual.squeeze(), expected.squeeze(), check_dtype=False, **TOLERANCE)


def photos(golden: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
    return golden["in.img"][None], golden["in.gt"][None]


def visible(golden: dict[str, Tensor]) -> Tensor:
    return golden["in.visible"].bool()


def test_l1(golden: dict[str, Tensor]) -> None:
    close(l1(*photos(golden)), golden["out.l1"])


@pytest.mark.parametrize("backend", ["ref", "cpu"])
def test_ssim_and_its_gradient(golden: dict[str, Tensor], backend: str) -> None:
    rgb, target = photos(golden)
    rgb = rgb.clone().requires_grad_()
    value = ssim(rgb, target, backend=backend)
    close(value.detach(), golden["out.ssim"])
    (gradient,) = torch.autograd.grad(value, rgb)
    expected = golden["out.grad_ssim"]
    scale = expected.abs().max()
    torch.testing.assert_close(gradient[0] / scale, expected / scale, rtol=0.0, atol=1e-5)
    close(dssim(rgb.detach(), target, backend=backend), 1.0 - golden["out.ssim"])


def test_psnr_of_the_image_and_of_its_channels(golden: dict[str, Tensor]) -> None:
    close(psnr(*photos(golden)), golden["out.psnr_batched"])
    close(psnr_per_channel(*photos(golden)), golden["out.psnr_per_channel"])


def test_eye_alpha(golden: dict[str, Tensor]) -> None:
    opacities = golden["in.opacity_logit"][:20].sigmoid().squeeze(-1)
    close(0.1 * regularizers.eye_alpha(opacities), golden["out.loss_eye_alpha"])


def test_blend_weight(golden: dict[str, Tensor]) -> None:
    weights = torch.nn.functional.normalize(golden["in.blend_logit"].sigmoid(), p=1.0, dim=-1)
    close(regularizers.blend_weight(weights, visible(golden)), golden["out.loss_blend"])


def test_normal_norm(golden: dict[str, Tensor]) -> None:
    found = regularizers.normal_norm(golden["in.normal"], visible(golden))
    close(0.01 * found, golden["out.loss_normal_norm"])


def test_surfel_normal_with_and_without_mask(golden: dict[str, Tensor]) -> None:
    rendered, surface = golden["in.rend_normal"][None], golden["in.surf_normal"][None]
    found = regularizers.surfel_normal(rendered, surface)
    close(0.05 * found, golden["out.loss_normal_consistency_nomask"])
    found = regularizers.surfel_normal(rendered, surface, golden["in.fg_mask"][None])
    close(0.05 * found, golden["out.loss_normal_consistency_rm_bg"])


def test_xyz(golden: dict[str, Tensor]) -> None:
    found = regularizers.xyz(golden["in.xyz_local"], visible(golden), 1.0)
    close(1e-2 * found, golden["out.loss_xyz"])


def test_scale(golden: dict[str, Tensor]) -> None:
    found = regularizers.scale(golden["in.scaling_log"].exp(), visible(golden), 0.6)
    close(found, golden["out.loss_scale"])


def test_learning_rate_of_positions(golden: dict[str, Tensor]) -> None:
    extent = 1.3
    rates = [
        exponential_decay(step, 0.005 * extent, 5e-5 * extent, 300_000)
        for step in golden["in.iters"].tolist()
    ]
    expected = golden["out.lr_xyz_extent1.3"]
    torch.testing.assert_close(torch.tensor(rates, dtype=torch.float64), expected)


def test_learning_rate_of_the_specular_network(golden: dict[str, Tensor]) -> None:
    rates = [linear_decay(s, 0.0025, 0.000125, 300_000) for s in golden["in.iters"].tolist()]
    torch.testing.assert_close(torch.tensor(rates, dtype=torch.float64), golden["out.lr_specular"])


def test_pruning_spares_faces_that_would_lose_everything(golden: dict[str, Tensor]) -> None:
    face_index = golden["in.prune_binding"]
    prune = protect_faces(golden["in.prune_mask"].bool(), face_index)
    assert torch.equal(prune, golden["out.prune_mask_effective"].bool())
    assert torch.equal(face_index[~prune], golden["out.prune_binding"])
    counts = torch.bincount(face_index[~prune], minlength=golden["in.prune_counter"].shape[0])
    assert torch.equal(counts.int(), golden["out.prune_counter"])
    assert (counts > 0).sum() == (golden["in.prune_counter"] > 0).sum()
