"""What the tri-plane's kernel reads is what PyTorch's sampler reads, in every mode and scale."""

from __future__ import annotations

import pytest
import torch

from tiny_gaussianhead import MODES
from triton_support import triton_device
from vultus.methods.gaussianhead.appearance import AppearanceNetwork
from vultus.methods.gaussianhead.derivation import DerivationMode, official_stretches

NUM, COPIES, CHANNELS = 20, 4, 8


def derivation_values(mode: DerivationMode, generator: torch.Generator) -> torch.Tensor | None:
    tau = torch.randn(NUM, COPIES, 4, generator=generator)
    if mode == "none":
        return None
    return official_stretches(tau) if mode == "baked_scale" else tau


@pytest.mark.triton
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("resolutions", [[(8, 8, 8)], [(8, 6, 7), (16, 16, 16)]])
def test_features_and_gradients_are_those_of_the_sampler(
    mode: DerivationMode, resolutions: list[tuple[int, int, int]]
) -> None:
    device = triton_device()
    generator = torch.Generator().manual_seed(2)
    network = AppearanceNetwork(
        generator, resolutions=resolutions, channels=CHANNELS, num_derivations=COPIES
    ).to(device)
    means = (2 * torch.rand(1, NUM, 3, generator=generator) - 1).to(device)
    values = derivation_values(mode, generator)
    values = None if values is None else values.to(device).requires_grad_()
    leaves = [means.requires_grad_(), *network.planes.parameters()]
    leaves += [] if values is None else [values]
    weights = torch.randn(1, NUM, CHANNELS, generator=generator).to(device)
    # Both, wherever the test runs: the network itself chooses by the device.
    read = [f(means, mode, values) for f in (network._by_kernel, network._by_sampler)]
    torch.testing.assert_close(*read, atol=1e-6, rtol=1e-5)
    mine, wanted = (torch.autograd.grad(features, leaves, weights) for features in read)
    for found, expected in zip(mine, wanted, strict=True):
        torch.testing.assert_close(found, expected, atol=1e-5 * float(expected.abs().max()), rtol=0)
