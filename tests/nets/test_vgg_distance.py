"""The VGG loss: layout of published weights, blocks, resizing, absence of the asset."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn.functional import conv2d, interpolate, max_pool2d

from vultus.nets.vgg_distance import imported_vgg_distance, vgg_distance_from_published

# Convolutions of torchvision's features up to relu4_3; a pooling comes before each new block.
CONVS = {0: 64, 2: 64, 5: 128, 7: 128, 10: 256, 12: 256, 14: 256, 17: 512, 19: 512, 21: 512}
BLOCK_ENDS = (2, 7, 14, 21)


@pytest.fixture(scope="module")
def published() -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    weights, inputs = {}, 3
    for index, outputs in CONVS.items():
        drawn = torch.randn(outputs, inputs, 3, 3, generator=generator)
        weights[f"features.{index}.weight"] = drawn * (2 / (9 * inputs)) ** 0.5
        weights[f"features.{index}.bias"] = 0.1 * torch.randn(outputs, generator=generator)
        inputs = outputs
    return weights


def features(weights: dict[str, Tensor], rgb: Tensor) -> list[Tensor]:
    """An independent walk through torchvision's layers."""
    mean = torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1)
    std = torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1)
    x = interpolate((rgb - mean) / std, (224, 224), mode="bilinear", align_corners=False)
    found = []
    for index in CONVS:
        if index in (5, 10, 17):
            x = max_pool2d(x, 2)
        weight, bias = (weights[f"features.{index}.{part}"] for part in ("weight", "bias"))
        x = conv2d(x, weight, bias, padding=1).relu()
        if index in BLOCK_ENDS:
            found.append(x)
    return found


def test_the_distance_sums_mean_differences_of_four_blocks(published: dict[str, Tensor]) -> None:
    a, b = torch.rand(2, 1, 3, 40, 48, generator=torch.Generator().manual_seed(1))
    network = vgg_distance_from_published(published)
    pairs = zip(features(published, a), features(published, b), strict=True)
    expected = sum(float((x - y).abs().mean()) for x, y in pairs)
    assert float(network(a, b)) == pytest.approx(expected, rel=1e-4)
    assert float(network(a, a)) == 0
    assert not any(parameter.requires_grad for parameter in network.parameters())


def test_weights_of_another_network_are_refused(published: dict[str, Tensor]) -> None:
    incomplete = {n: t for n, t in published.items() if n != "features.10.bias"}
    with pytest.raises(ValueError, match=r"'features\.10\.bias' of shape"):
        vgg_distance_from_published(incomplete)


def test_without_the_asset_there_is_no_loss_and_the_log_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("VULTUS_ASSETS", str(tmp_path))
    with caplog.at_level(logging.WARNING):
        assert imported_vgg_distance() is None
    assert "without the VGG loss" in caplog.text
    assert "vultus assets import vgg16" in caplog.text
