"""Golden values of style-based building blocks: resampling, layers, modulation, mapping."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import pytest
import torch
from torch import Tensor

from vultus.methods.spherehead.official import from_official_name
from vultus.nets.stylegan2.discriminator import append_minibatch_std
from vultus.nets.stylegan2.filters import (
    downsample2d,
    resize_antialiased,
    smooth2d,
    upsample2d,
)
from vultus.nets.stylegan2.layers import EqualizedConv2d, activate
from vultus.nets.stylegan2.mapping import MappingNetwork, truncate
from vultus.nets.stylegan2.modulation import modulated_conv2d

TOLERANCE = 1e-5

primitives = pytest.mark.golden("spherehead/g_ops_cameras_misc.safetensors")


def assert_near(actual: Tensor, expected: Tensor, tolerance: float = TOLERANCE) -> None:
    """Compare with the largest value as the scale."""
    assert actual.shape == expected.shape
    scale = max(float(expected.abs().max()), 1.0)
    assert float((actual - expected).detach().abs().max()) <= tolerance * scale


@primitives
def test_resampling_filters_as_published(golden: Mapping[str, Tensor]) -> None:
    x = golden["updn.x"]
    assert_near(upsample2d(x), golden["updn.upsample2d"])
    assert_near(downsample2d(x), golden["updn.downsample2d"])
    assert_near(smooth2d(x), golden["updn.filter2d"])


@primitives
def test_antialiased_resizing_is_the_published_one(golden: Mapping[str, Tensor]) -> None:
    for name in ("fr.down_antialias", "fr.up_antialias"):
        expected = golden[name]
        assert_near(resize_antialiased(golden["fr.x"], expected.shape[-1]), expected)


@primitives
def test_activations_have_the_published_gain_and_clamp(golden: Mapping[str, Tensor]) -> None:
    x = golden["ba.x"] + golden["ba.b"][:, None, None]
    expected = golden["ba.lrelu_clamp"]
    assert_near(activate(x, "linear"), golden["ba.linear"])
    gain, clamp = 0.7, 0.9  # The fixture's; its gain includes the sqrt(2), its clamp the gain.
    assert_near(activate(x, "lrelu", gain=gain, clamp=clamp / gain), expected)


@primitives
@pytest.mark.parametrize(
    ("name", "weight", "size"), [("cr.down2", "cr.w", 3), ("cr.down2_1x1", "cr.w1", 1)]
)
def test_halving_convolutions_are_the_published_ones(
    golden: Mapping[str, Tensor], name: str, weight: str, size: Literal[1, 3]
) -> None:
    kernel = golden[weight]
    layer = EqualizedConv2d(kernel.shape[1], kernel.shape[0], size, is_halving=True)
    with torch.no_grad():
        layer.weight.copy_(kernel * kernel[0].numel() ** 0.5)  # The layer divides by this.
    assert_near(layer(golden["cr.x"]), golden[name])


@primitives
@pytest.mark.parametrize(
    ("name", "is_demodulated", "is_doubling"),
    [("plain", True, False), ("up2", True, True), ("torgb", False, False)],
)
def test_modulated_convolution_equals_both_published_paths(
    golden: Mapping[str, Tensor], name: str, is_demodulated: bool, is_doubling: bool
) -> None:
    x, weight, styles = (golden[f"modconv.{name}.{part}"] for part in "xws")
    actual = modulated_conv2d(
        x, weight, styles, is_demodulated=is_demodulated, is_doubling=is_doubling
    )
    assert_near(actual, golden[f"modconv.{name}.out"])
    assert_near(actual, golden[f"modconv.{name}.out_unfused"])


@primitives
def test_doubling_convolution_is_the_published_one(golden: Mapping[str, Tensor]) -> None:
    x, weight = golden["cr.x"], golden["cr.w"]
    styles = torch.ones(x.shape[:2])
    actual = modulated_conv2d(x, weight, styles, is_demodulated=False, is_doubling=True)
    assert_near(actual, golden["cr.up2"])


@primitives
def test_mapping_truncation_and_running_mean_are_the_published_ones(
    golden: Mapping[str, Tensor],
) -> None:
    prefix = "map.param."
    weights = {
        from_official_name(name.removeprefix(prefix)): tensor.float()
        for name, tensor in golden.items()
        if name.startswith(prefix)
    }
    network = MappingNetwork(16, 25, 24, num_layers=2)
    network.load_state_dict(weights)
    w = network(golden["map.z"], golden["map.c"])
    ws = w[:, None].expand(-1, 5, -1)
    assert_near(ws, golden["map.psi1"])
    assert_near(truncate(ws, network.mean_w, 0.7, 2), golden["map.psi07_cut2"])
    network.track_mean(w)
    assert_near(network.mean_w, golden["map.w_avg_after_update"])


@primitives
@pytest.mark.parametrize("group_size", [2, 4])
def test_deviation_within_a_group_is_the_published_one(
    golden: Mapping[str, Tensor], group_size: int
) -> None:
    assert_near(append_minibatch_std(golden["mbstd.x"], group_size), golden[f"mbstd.g{group_size}"])
