"""Inception v3 as the FID has it."""

from __future__ import annotations

import pytest
import torch

from vultus.nets.inception import Inception, inception_from_published


@pytest.fixture(scope="module")
def network() -> Inception:
    torch.manual_seed(0)
    return Inception()


def test_it_has_the_published_number_of_weights_and_their_names(network):
    # torchvision's classifier has 23 834 568 without its second head; eight more classes here.
    assert sum(p.numel() for p in network.parameters()) == 23_834_568 + 8 * 2049
    names = set(network.state_dict())
    assert {
        "Conv2d_1a_3x3.conv.weight", "Mixed_5b.branch3x3dbl_3.bn.running_var",
        "Mixed_6e.branch7x7dbl_5.conv.weight", "Mixed_7a.branch7x7x3_4.bn.bias",
        "Mixed_7c.branch3x3dbl_3b.conv.weight", "fc.bias",
    } <= names  # fmt: skip


def test_maps_shrink_as_published_and_outputs_have_their_sizes(network):
    sizes = {}
    hooks = [
        getattr(network, name).register_forward_hook(
            lambda _m, _i, out, name=name: sizes.update({name: tuple(out.shape[1:])})
        )
        for name in ("Conv2d_2b_3x3", "Mixed_5d", "Mixed_6a", "Mixed_6e", "Mixed_7a", "Mixed_7c")
    ]
    output = network(torch.rand(2, 3, 40, 50, generator=torch.Generator().manual_seed(0)))
    for hook in hooks:
        hook.remove()
    assert sizes == {
        "Conv2d_2b_3x3": (64, 147, 147), "Mixed_5d": (288, 35, 35), "Mixed_6a": (768, 17, 17),
        "Mixed_6e": (768, 17, 17), "Mixed_7a": (1280, 8, 8), "Mixed_7c": (2048, 8, 8),
    }  # fmt: skip
    assert output.features.shape == (2, 2048)
    torch.testing.assert_close(output.probabilities.sum(dim=1), torch.ones(2))


def test_training_mode_does_not_change_it(network):
    assert not network.train().training
    assert not any(module.training for module in network.modules())


def test_published_weights_are_taken_and_missing_ones_named(network):
    weights = {n: t + 1 for n, t in network.state_dict().items() if "num_batches" not in n}
    loaded = inception_from_published(weights | {"AuxLogits.fc.weight": torch.ones(1)})
    assert torch.equal(loaded.fc.weight, weights["fc.weight"])
    del weights["Mixed_7b.branch_pool.conv.weight"]
    with pytest.raises(ValueError, match=r"must have .Mixed_7b.branch_pool.conv.weight. of shape"):
        inception_from_published(weights)
