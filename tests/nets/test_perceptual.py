from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from tolerances import assert_close
from vultus.core.asset_registry import ASSETS
from vultus.nets.perceptual import (
    LpipsNetwork,
    LpipsVariant,
    imported_lpips,
    load_lpips,
    lpips_from_published,
)

# Layers of torchvision's ``features``, written down independently of the code under test.
ALEX = [
    nn.Conv2d(3, 64, 11, 4, 2), nn.ReLU(), nn.MaxPool2d(3, 2), nn.Conv2d(64, 192, 5, 1, 2),
    nn.ReLU(), nn.MaxPool2d(3, 2), nn.Conv2d(192, 384, 3, 1, 1), nn.ReLU(),
    nn.Conv2d(384, 256, 3, 1, 1), nn.ReLU(), nn.Conv2d(256, 256, 3, 1, 1), nn.ReLU(),
]  # fmt: skip
ALEX_TAPS = (1, 4, 7, 9, 11)
VGG_PLAN = [64, 64, "M", 128, 128, "M", 256, 256, 256, "M", 512, 512, 512, "M", 512, 512, 512]
VGG_TAPS = (3, 8, 15, 22, 29)


def vgg_layers() -> list[nn.Module]:
    layers, width = [], 3
    for entry in VGG_PLAN:
        if entry == "M":
            layers.append(nn.MaxPool2d(2, 2))
        else:
            layers += [nn.Conv2d(width, entry, 3, padding=1), nn.ReLU()]
            width = entry
    return layers


def published(variant: LpipsVariant) -> tuple[nn.Sequential, tuple[int, ...], dict[str, Tensor]]:
    torch.manual_seed(0)
    features = nn.Sequential(*(ALEX if variant == "alex" else vgg_layers()))
    taps = ALEX_TAPS if variant == "alex" else VGG_TAPS
    widths = [64, 192, 384, 256, 256] if variant == "alex" else [64, 128, 256, 512, 512]
    linear = {f"lin{i}.model.1.weight": torch.rand(1, w, 1, 1) for i, w in enumerate(widths)}
    return features, taps, linear


def backbone_state(features: nn.Sequential) -> dict[str, Tensor]:
    return {f"features.{name}": value for name, value in features.state_dict().items()}


def network(variant: LpipsVariant = "alex") -> LpipsNetwork:
    features, _, linear = published(variant)
    return lpips_from_published(variant, backbone_state(features), linear)


def images(size: int = 64) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(size)
    return torch.rand(2, 3, size, size, generator=generator), torch.rand(
        2, 3, size, size, generator=generator
    )


@pytest.mark.parametrize("variant", ["alex", "vgg"])
def test_distance_equals_the_published_formula_on_the_published_layers(
    variant: LpipsVariant,
) -> None:
    features, taps, linear = published(variant)
    a, b = images(32)
    shift, scale = torch.tensor([-0.030, -0.088, -0.188]), torch.tensor([0.458, 0.448, 0.450])
    x = torch.cat([a, b]) * 2 - 1
    x = (x - shift.view(3, 1, 1)) / scale.view(3, 1, 1)
    expected = torch.zeros(2)
    with torch.no_grad():
        for index, layer in enumerate(features):
            x = layer(x)
            if index in taps:
                unit = x / (x.square().sum(dim=1, keepdim=True).sqrt() + 1e-10)
                weight = linear[f"lin{taps.index(index)}.model.1.weight"]
                squared = (unit[:2] - unit[2:]).square()
                expected += nn.functional.conv2d(squared, weight).mean(dim=(1, 2, 3))
    assert_close(network(variant)(a, b), expected)


def test_distance_is_zero_for_equal_images_and_symmetric() -> None:
    net = network()
    a, b = images()
    assert torch.equal(net(a, a), torch.zeros(2))
    assert_close(net(a, b), net(b, a))
    assert (net(a, b) > 0.01).all()


def test_weights_are_frozen_but_images_get_gradients() -> None:
    net = network()
    a, b = images()
    a.requires_grad_()
    net(a, b).sum().backward()
    assert a.grad is not None
    assert (a.grad != 0).any()
    assert not any(parameter.requires_grad for parameter in net.parameters())


def test_missing_and_misshapen_weights_are_named() -> None:
    features, _, linear = published("alex")
    state = backbone_state(features)
    with pytest.raises(ValueError, match=r"lack 'lin4\.model\.1\.weight'"):
        lpips_from_published("alex", state, {k: v for k, v in linear.items() if "4" not in k})
    state["features.3.weight"] = torch.zeros(2, 2)
    with pytest.raises(ValueError, match=r"'features\.3\.weight' must have shape"):
        lpips_from_published("alex", state, linear)


def test_images_that_are_too_small_are_rejected() -> None:
    a, b = images(16)
    with pytest.raises(ValueError, match="at least 31 pixels, got 16 x 16"):
        network()(a, b)


def test_network_is_loaded_from_imported_assets(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VULTUS_ASSETS", str(tmp_path))
    features, _, linear = published("alex")
    for asset, tensors in (("alexnet", backbone_state(features)), ("lpips_alex", linear)):
        path = tmp_path / asset / ASSETS[asset].file_name
        path.parent.mkdir()
        torch.save(tensors, path)
    a, b = images(32)
    assert list(imported_lpips()) == ["alex"]
    assert torch.equal(load_lpips("alex")(a, b), network("alex")(a, b))


def test_missing_asset_is_an_error_that_says_what_to_import(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VULTUS_ASSETS", str(tmp_path))
    assert imported_lpips() == {}
    with pytest.raises(FileNotFoundError, match="vultus assets import vgg16 FILE"):
        load_lpips("vgg")
