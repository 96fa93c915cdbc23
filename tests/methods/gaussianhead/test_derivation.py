"""Derivation: order, rotations, baking, and what each mode reads of the planes."""

from __future__ import annotations

import pytest
import torch
from torch.nn.functional import normalize

from vultus.geometry.rotations import quaternion_to_matrix
from vultus.methods.gaussianhead.appearance import AppearanceNetwork
from vultus.methods.gaussianhead.derivation import (
    derive_positions,
    initial_quaternions,
    official_initial_quaternions,
    official_matrices,
    official_stretches,
)

NUM, COPIES = 20, 4


@pytest.fixture
def values() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Means, quaternions of any norm, and another order."""
    generator = torch.Generator().manual_seed(5)
    means = torch.rand(2, NUM, 3, generator=generator) - 0.5
    tau = torch.randn(NUM, COPIES, 4, generator=generator)
    return means, tau, torch.randperm(NUM, generator=generator)


def test_order_means_nothing_in_the_paper_and_everything_as_published(values) -> None:
    means, tau, order = values
    for mode, is_equal in (("paper", True), ("official", False)):
        derived = derive_positions(means, mode, tau)[:, :, order]
        shuffled = derive_positions(means[:, order], mode, tau[order])
        assert torch.allclose(derived, shuffled, atol=1e-6) == is_equal, mode


def test_baked_factors_derive_what_the_published_code_does(values) -> None:
    means, tau, _ = values
    baked = derive_positions(means, "baked_scale", official_stretches(tau))
    torch.testing.assert_close(baked, derive_positions(means, "official", tau))


def test_a_single_gaussian_with_unit_quaternions_has_true_rotations_as_published(values) -> None:
    tau = normalize(values[1][:1], dim=-1)
    torch.testing.assert_close(official_matrices(tau), quaternion_to_matrix(tau))


def test_derived_copies_keep_their_distance_to_the_middle(values) -> None:
    means, tau, _ = values
    derived = derive_positions(means, "paper", tau)
    assert derived.shape == (COPIES, 2, NUM, 3)
    torch.testing.assert_close(derived.norm(dim=-1), means.norm(dim=-1).expand(COPIES, -1, -1))
    assert (derived - means).norm(dim=-1).min() > 1e-3


def test_without_derivation_the_position_itself_reads_all_channels(values) -> None:
    means = values[0]
    network = AppearanceNetwork(torch.Generator().manual_seed(1), resolutions=[(8, 8, 8)])
    features = network.features(means, "none", None)
    identity = torch.zeros(NUM, COPIES, 4)
    identity[..., 0] = 1
    torch.testing.assert_close(features, network.features(means, "paper", identity))


@pytest.mark.parametrize("mode", ["paper", "official"])
def test_published_sampling_leaves_three_quarters_of_the_planes_without_gradient(
    values, mode
) -> None:
    means, tau, _ = values
    network = AppearanceNetwork(torch.Generator().manual_seed(1), resolutions=[(8, 8, 8)])
    network.features(means, mode, tau).square().sum().backward()
    for plane in network.planes[0]:
        used = plane.grad.abs().amax(dim=(0, 2, 3)) > 0
        assert used[24:].all()
        assert bool(used[:24].any()) == (mode == "paper")


def test_first_rotations_are_shared_by_all_gaussians_and_of_unit_length() -> None:
    for draw in (initial_quaternions, official_initial_quaternions):
        drawn = draw(NUM, COPIES, torch.Generator().manual_seed(2))
        assert torch.equal(drawn, drawn[:1].expand(NUM, -1, -1))
        torch.testing.assert_close(drawn.norm(dim=-1), torch.ones(NUM, COPIES))
    assert (drawn >= 0).all(), "published quaternions have no negative component"


def test_values_that_do_not_fit_the_mode_are_refused(values) -> None:
    means, tau, _ = values
    with pytest.raises(ValueError, match=r"'baked_scale' needs values of shape \[n, k, 3\]"):
        derive_positions(means, "baked_scale", tau)
    with pytest.raises(ValueError, match="'paper' needs values"):
        derive_positions(means, "paper", None)
    with pytest.raises(ValueError, match="'none' takes no values"):
        derive_positions(means, "none", tau)
