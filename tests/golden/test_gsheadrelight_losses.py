"""Golden values and gradients of GSHeadRelight's losses."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from vultus.methods.gsheadrelight.config import ViewConfig
from vultus.methods.gsheadrelight.generation import random_cameras
from vultus.methods.gsheadrelight.generator_file import OFFICIAL_RIG
from vultus.methods.gsheadrelight.objectives import (
    center_loss,
    compactness_loss,
    contrastive_loss,
)
from vultus.methods.head_views import motion_labels
from vultus.nets.gaussian_blur import blur_images

NEIGHBORS, TEMPERATURE = 64, 0.1


@pytest.fixture(scope="module")
def golden(golden_dir: Path) -> dict[str, Tensor]:
    return load_file(golden_dir / "gsheadrelight" / "losses_cameras.safetensors")


def assert_near(actual: Tensor, expected: Tensor) -> None:
    assert actual.shape == expected.shape
    assert float((actual - expected).detach().abs().max()) <= 1e-5 * float(expected.abs().max())


def test_compactness_is_the_published_one(golden: dict[str, Tensor]) -> None:
    anchors = golden["knn/anchors"].clone().requires_grad_()
    loss = compactness_loss(anchors, NEIGHBORS)
    assert_near(loss, golden["knn/mean"])
    assert_near(torch.autograd.grad(loss, anchors)[0], golden["knn/grad"])


def test_centering_is_the_published_one(golden: dict[str, Tensor]) -> None:
    anchors = golden["knn/anchors"].clone().requires_grad_()
    loss = center_loss(anchors)
    assert_near(loss, golden["center/value"])
    assert_near(torch.autograd.grad(loss, anchors)[0], golden["center/grad"])


def test_comparisons_are_the_published_ones(golden: dict[str, Tensor]) -> None:
    images = golden["contrastive/x1"].clone().requires_grad_()
    labels = golden["contrastive/x2"].clone().requires_grad_()
    loss = contrastive_loss(images, labels, TEMPERATURE)
    assert_near(loss, golden["contrastive/loss"])
    gradients = torch.autograd.grad(loss, [images, labels])
    for number, gradient in enumerate(gradients, start=1):
        assert_near(gradient, golden[f"contrastive/grad_x{number}"])


@pytest.mark.parametrize("sigma", [0.4, 3.3, 10.0])
def test_blur_is_the_published_one(golden: dict[str, Tensor], sigma: float) -> None:
    assert_near(blur_images(golden["blur/in"], sigma), golden[f"blur/sigma{sigma}"])


def test_random_cameras_are_the_published_ones(golden: dict[str, Tensor]) -> None:
    normals, uniforms = golden["camsample/normal_h"][:, 0], golden["camsample/uniform_v"][:, 0]
    labels = random_cameras(torch.zeros(len(normals), 25), normals, uniforms, ViewConfig())
    expected = golden["camsample/cam2world"].flatten(1)
    # The release has 3.14 for pi.
    assert float((labels[:, :16] - expected).abs().max()) < 5e-3


def test_the_path_of_films_is_the_published_one(golden: dict[str, Tensor]) -> None:
    expected = golden["video/cam2world"].flatten(1)
    labels = motion_labels(OFFICIAL_RIG, "face", len(expected))
    # 3.14 for pi, again: 0.002 radians at a distance of 2.7.
    assert float((labels[:, :16] - expected).abs().max()) < 6e-3
