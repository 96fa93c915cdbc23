"""The fast form of synthesis networks against the one that defines them."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import conv2d

from triton_support import serve_with_kernels
from vultus.nets.stylegan2.doubling import doubling_kernels
from vultus.nets.stylegan2.fast_synthesis import FastSynthesis
from vultus.nets.stylegan2.layers import EqualizedConv2d, draw_weights
from vultus.nets.stylegan2.modulation import modulated_conv2d
from vultus.nets.stylegan2.synthesis import SynthesisBlock, SynthesisNetwork

W_DIM, SIZE, IMAGE_CHANNELS = 6, 16, 5


def draw(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).double()


def network(clamp: float | None = None) -> SynthesisNetwork:
    """Three resolutions; noise and biases that show."""
    built = SynthesisNetwork(
        W_DIM, SIZE, IMAGE_CHANNELS, channel_base=128, channel_max=12, clamp=clamp
    )
    draw_weights(built, torch.Generator().manual_seed(0))
    with torch.no_grad():
        for name, parameter in built.named_parameters():
            if name.endswith(("noise_strength", "bias")):
                parameter += 0.3 * torch.rand(parameter.shape, generator=seeded(1))
    return built.double()


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def fast(built: SynthesisNetwork, **options: Any) -> FastSynthesis:
    blocks = [block for block in built.blocks.values() if isinstance(block, SynthesisBlock)]
    return FastSynthesis(blocks, **options)


def assert_same(found: Tensor, expected: Tensor, error: float) -> None:
    assert found.shape == expected.shape
    assert (found.detach().cpu().double() - expected.detach()).abs().max() < error


def test_four_kernels_of_the_small_image_double_and_smooth():
    x, weight = draw(2, 3, 5, 4, seed=1), draw(4, 3, 3, 3, seed=2)
    expected = modulated_conv2d(
        x, weight, torch.ones(2, 3).double(), is_demodulated=False, is_doubling=True
    )
    groups = conv2d(x, doubling_kernels(weight), padding=1).unflatten(1, (2, 2, 4))
    assert_same(groups.permute(0, 3, 4, 1, 5, 2).reshape(2, 4, 10, 8), expected, 1e-12)


@pytest.mark.parametrize("clamp", [None, 1.0])
@pytest.mark.parametrize("noise_mode", ["const", "none", "random"])
def test_images_and_gradients_are_those_of_the_network(noise_mode, clamp):
    built = network(clamp)
    ws = draw(2, built.num_ws, W_DIM, seed=3).requires_grad_()
    options = {"noise_mode": noise_mode, "generator": seeded(5)}
    torch.set_default_dtype(torch.float64)  # of the random noise
    try:
        expected = built(ws, **options)
        options["generator"] = seeded(5)
        found = fast(built)(built.block_styles(ws), dtype=torch.float64, **options)
    finally:
        torch.set_default_dtype(torch.float32)
    assert_same(found, expected, 1e-10)
    weight, leaves = draw(*expected.shape, seed=4), [ws, *built.parameters()]
    gradients = [
        torch.autograd.grad((image * weight).sum(), leaves, allow_unused=True)
        for image in (found, expected)
    ]
    for one, other in zip(*gradients, strict=True):
        assert (one is None) == (other is None)
        if one is not None:
            assert_same(one, other, 1e-9 * float(other.abs().max()))


@pytest.mark.parametrize("clamp", [None, 1.0])
def test_branches_are_multiplied_into_the_layers(clamp):
    """Not into layers that clamp."""
    built = network(clamp)
    branches = []
    for width in (4, 3):
        layers = (
            EqualizedConv2d(IMAGE_CHANNELS, 7, 1, has_bias=False),
            EqualizedConv2d(7, width, 1, has_bias=False),
        )
        branches.append(torch.nn.Sequential(*layers).double())
    ws = draw(2, built.num_ws, W_DIM, seed=3)
    image = built(ws, "const")
    expected = torch.cat([branch(image) for branch in branches], dim=1)
    folded = fast(built, branches=branches)
    styles = built.block_styles(ws)
    assert_same(folded(styles, noise_mode="const", dtype=torch.float64), expected, 1e-10)
    with torch.no_grad():
        branches[0][0].weight *= 2.0
        found = folded(styles, noise_mode="const", dtype=torch.float64)
    assert_same(found[:, :4], 2.0 * expected[:, :4], 1e-10)
    assert_same(found[:, 4:], expected[:, 4:], 1e-10)


@pytest.mark.parametrize("is_doubling", [True, False])
def test_blocks_go_on_from_features_and_an_image(is_doubling):
    block = SynthesisBlock(4, 6, W_DIM, 16, 3, is_doubling=is_doubling, clamp=0.5).double()
    size = 8 if is_doubling else 16
    x, image = draw(2, 4, size, size, seed=1), draw(2, 3, size, size, seed=2)
    ws = draw(2, 3, W_DIM, seed=3)
    _, expected = block(x, image, ws, "const")
    found = FastSynthesis([block])([ws], x, image, noise_mode="const", dtype=torch.float64)
    assert_same(found, expected, 1e-10)


def test_optimisers_are_followed_unless_what_is_derived_is_to_be_kept():
    """PyTorch's fused optimisers do not tell that they have changed a tensor."""
    built = network()
    ws = draw(1, built.num_ws, W_DIM, seed=3)
    mine, kept = fast(built), fast(built)
    kept.keep_derived()
    optimizer = torch.optim.Adam(built.parameters(), lr=0.1, fused=True)
    options, styles = {"noise_mode": "const", "dtype": torch.float64}, built.block_styles(ws)
    images = []
    for _ in range(2):
        with torch.no_grad():
            assert_same(mine(styles, **options), built(ws, "const"), 1e-10)
            images.append(kept(styles, **options))
        built(ws, "const").square().sum().backward()
        optimizer.step()
    assert_same(images[0], network()(ws, "const"), 1e-10)
    with torch.no_grad():
        derived = kept._prepare(torch.float64)
        kept(styles, **options)
        assert kept._prepare(torch.float64) is derived
    # Where gradients are asked for, nothing is kept.
    assert_same(kept(styles, **options), built(ws, "const"), 1e-10)


@pytest.mark.triton
@pytest.mark.usefixtures("exact_convolutions")
def test_kernels_synthesize_what_the_network_does(monkeypatch):
    device = serve_with_kernels(monkeypatch)
    exact, built = network(), network().float().to(device)
    ws = draw(2, exact.num_ws, W_DIM, seed=3)
    mine = ws.float().to(device).requires_grad_()
    ws.requires_grad_()
    expected = exact(ws, "const")
    found = fast(built)(built.block_styles(mine), noise_mode="const")
    # Which algorithm convolves on a GPU, and so how it rounds, is up to cuDNN.
    assert_same(found, expected, 5e-5)
    weight = draw(*expected.shape, seed=4)
    (expected * weight).sum().backward()
    (found * weight.to(found)).sum().backward()
    for (name, one), other in zip(built.named_parameters(), exact.parameters(), strict=True):
        assert one.grad is not None, name
        assert other.grad is not None, name
        assert_same(one.grad, other.grad, 5e-5 * float(other.grad.abs().max()))
    with torch.no_grad():
        half = fast(built)(built.block_styles(mine), noise_mode="const", dtype=torch.float16)
    assert half.dtype == torch.float16
    assert_same(half, expected, 2e-2)
