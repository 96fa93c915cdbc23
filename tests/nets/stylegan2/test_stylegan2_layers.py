"""Resampling, modulation, mapping and synthesis: identities and slow references."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn.functional import conv2d, interpolate, pad

from vultus.nets.stylegan2.discriminator import ResidualPyramid, append_minibatch_std
from vultus.nets.stylegan2.filters import downsample2d, smooth2d, upsample2d
from vultus.nets.stylegan2.layers import EqualizedConv2d, EqualizedLinear, draw_weights
from vultus.nets.stylegan2.mapping import MappingNetwork, truncate
from vultus.nets.stylegan2.modulation import modulated_conv2d
from vultus.nets.stylegan2.synthesis import SynthesisNetwork, resolutions


def random(*shape: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, dtype=torch.float64, generator=generator)


def zero_inserted(x: Tensor) -> Tensor:
    b, c, h, w = x.shape
    spread = x.new_zeros(b, c, 2 * h, 2 * w)
    spread[:, :, ::2, ::2] = x
    return spread


def kernel() -> Tensor:
    taps = torch.tensor([1.0, 3.0, 3.0, 1.0], dtype=torch.float64) / 8
    return torch.outer(taps, taps)


def test_enlarging_is_bilinear_over_a_border_of_zeros() -> None:
    x = random(2, 3, 5, 4)
    enlarged = interpolate(pad(x, (1, 1, 1, 1)), scale_factor=2, mode="bilinear")
    assert torch.allclose(upsample2d(x), enlarged[:, :, 2:-2, 2:-2])


def test_reducing_is_the_transpose_of_enlarging() -> None:
    x, y = random(1, 2, 4, 5), random(1, 2, 8, 10, seed=1)
    assert torch.allclose((upsample2d(x) * y).sum(), 4.0 * (x * downsample2d(y)).sum())


def test_smoothing_keeps_constants_inside() -> None:
    smooth = smooth2d(torch.ones(1, 1, 6, 7))
    assert smooth.shape == (1, 1, 6, 7)
    assert torch.allclose(smooth[:, :, 2:-1, 2:-1], torch.ones(1, 1, 3, 4))


@pytest.mark.parametrize("is_doubling", [False, True])
@pytest.mark.parametrize("is_demodulated", [False, True])
def test_modulation_scales_the_kernel_of_every_image(
    is_doubling: bool, is_demodulated: bool
) -> None:
    x, weight, styles = random(2, 3, 4, 5), random(4, 3, 3, 3, seed=1), random(2, 3, seed=2)
    actual = modulated_conv2d(
        x, weight, styles, is_demodulated=is_demodulated, is_doubling=is_doubling
    )
    for index in range(len(x)):
        scaled = weight * styles[index, :, None, None]
        if is_demodulated:
            scaled = scaled / (scaled.square().sum(dim=(1, 2, 3), keepdim=True) + 1e-8).sqrt()
        image = x[index : index + 1]
        if is_doubling:  # True convolution after zero insertion, then the filter at gain 4.
            image = pad(zero_inserted(image), (2, 1, 2, 1))
            image = conv2d(pad(image, (0, 1, 0, 1)), scaled.flip(2, 3))
            depthwise = kernel().expand(image.shape[1], 1, 4, 4)
            expected = 4.0 * conv2d(pad(image, (1, 1, 1, 1)), depthwise, groups=image.shape[1])
            expected = expected[:, :, :8, :10]
        else:
            expected = conv2d(image, scaled, padding=1)
        assert torch.allclose(actual[index : index + 1], expected)


def test_demodulated_output_does_not_depend_on_the_scale_of_styles() -> None:
    x, weight, styles = random(2, 3, 4, 4), random(4, 3, 3, 3, seed=1), random(2, 3, seed=2)
    first, second = (modulated_conv2d(x, weight, factor * styles) for factor in (1.0, 50.0))
    assert torch.allclose(first, second, rtol=1e-6)


def test_modulation_has_exact_first_and_second_derivatives() -> None:
    inputs = [random(1, 2, 3, 3), random(2, 2, 3, 3, seed=1), random(1, 2, seed=2)]
    for tensor in inputs:
        tensor.requires_grad_()

    def doubled(x: Tensor, weight: Tensor, styles: Tensor) -> Tensor:
        return modulated_conv2d(x, weight, styles, is_doubling=True)

    assert torch.autograd.gradcheck(doubled, inputs)
    assert torch.autograd.gradgradcheck(doubled, inputs)


@torch.no_grad()
def test_a_layer_keeps_the_variance_of_its_input() -> None:
    generator = torch.Generator().manual_seed(0)
    layers = EqualizedLinear(256, 256, lr_multiplier=0.01), EqualizedConv2d(64, 64, 3)
    for layer in layers:
        draw_weights(layer, generator)
    inputs = (
        torch.randn(512, 256, generator=generator),
        torch.randn(4, 64, 16, 16, generator=generator),
    )
    # The learning-rate multiplier cancels: weights are drawn larger by it.
    assert float(layers[0](inputs[0]).var()) == pytest.approx(1.0, abs=0.05)
    assert float(layers[1](inputs[1])[:, :, 1:-1, 1:-1].var()) == pytest.approx(1.0, abs=0.1)


def test_mapping_does_not_depend_on_the_length_of_latents() -> None:
    network = MappingNetwork(8, 25, 16, num_layers=2)
    z, label = torch.randn(3, 8), torch.randn(3, 25)
    assert torch.allclose(network(z, label), network(5.0 * z, label), atol=1e-5)
    assert not torch.allclose(network(z, label), network(z, label.roll(1, 0)), atol=1e-3)


def test_truncation_goes_from_the_mean_to_the_styles() -> None:
    ws, mean = torch.randn(2, 4, 8), torch.randn(8)
    assert torch.equal(truncate(ws, mean, 1.0), ws)
    assert torch.allclose(truncate(ws, mean, 0.0), mean.expand_as(ws))
    partly = truncate(ws, mean, 0.0, cutoff=3)
    assert torch.equal(partly[:, 3:], ws[:, 3:])
    assert torch.allclose(partly[:, :3], mean.expand(2, 3, 8))


def test_the_running_mean_converges() -> None:
    network = MappingNetwork(8, 0, 4, num_layers=1)
    w = torch.randn(5, 4)
    for _ in range(50):
        network.track_mean(w, decay=0.5)
    assert torch.allclose(network.mean_w, w.mean(dim=0), atol=1e-6)


def test_mapping_refuses_what_it_was_not_built_for() -> None:
    with pytest.raises(ValueError, match="must not both be 0"):
        MappingNetwork(0, 0, 4, num_layers=1)
    network = MappingNetwork(8, 25, 4, num_layers=1)
    with pytest.raises(ValueError, match=r"z must have 8 columns, got \(2, 7\)"):
        network(torch.randn(2, 7), torch.randn(2, 25))
    with pytest.raises(ValueError, match="label is needed"):
        network(torch.randn(2, 8), None)


def small_synthesis() -> SynthesisNetwork:
    network = SynthesisNetwork(8, 16, 3, channel_base=64, channel_max=6)
    draw_weights(network, torch.Generator().manual_seed(0))
    for name, parameter in network.named_parameters():
        if name.endswith("noise_strength"):
            parameter.data.fill_(0.3)
    return network


def test_noise_is_stored_or_a_function_of_the_seed() -> None:
    network, ws = small_synthesis(), torch.randn(2, 6, 8)
    assert network.num_ws == 6
    const = network(ws, "const")
    assert torch.equal(const, network(ws, "const"))
    assert not torch.allclose(const, network(ws, "none"), atol=1e-2)
    drawn = [network(ws, "random", torch.Generator().manual_seed(seed)) for seed in (1, 1, 2)]
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.allclose(drawn[0], drawn[2], atol=1e-2)


def test_styles_of_a_layer_change_its_resolution_and_finer_ones_only() -> None:
    network, ws = small_synthesis(), torch.randn(1, 6, 8)
    changed = ws.clone()
    changed[:, -1] += 1.0  # The last one serves the last image layer alone.
    blocks = list(network.blocks.values())
    coarse = [blocks[0](None, None, each[:, :2], "const")[1] for each in (ws, changed)]
    assert torch.equal(coarse[0], coarse[1])
    assert not torch.allclose(network(ws, "const"), network(changed, "const"), atol=1e-3)


def test_synthesis_refuses_a_wrong_number_of_styles_and_odd_sizes() -> None:
    with pytest.raises(ValueError, match="must hold 6 styles per image, got 5"):
        small_synthesis()(torch.randn(1, 5, 8))
    with pytest.raises(ValueError, match="power of two of at least 4, got 24"):
        resolutions(24)


def test_deviation_is_zero_in_groups_of_equal_images() -> None:
    pair = torch.randn(2, 3, 4, 4)
    statistic = append_minibatch_std(pair.repeat(2, 1, 1, 1), group_size=2)[:, 3:]
    assert float(statistic.abs().max()) < 2e-4
    assert float(append_minibatch_std(pair, group_size=2)[:, 3:].min()) > 0.1
    with pytest.raises(ValueError, match="multiple of the group size 4, got 6"):
        append_minibatch_std(torch.randn(6, 3, 4, 4), group_size=4)


def test_a_pyramid_ends_at_four_pixels() -> None:
    pyramid = ResidualPyramid(32, 7, channel_base=128, channel_max=8)
    assert pyramid(torch.randn(2, 7, 32, 32)).shape == (2, pyramid.out_channels, 4, 4)
