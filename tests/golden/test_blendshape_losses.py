"""Loss terms of Gaussian Blendshapes against the published program."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from vultus.methods.relightable_blendshapes.config import LossWeights
from vultus.methods.relightable_blendshapes.mouth import (
    PUBLISHED_OFFSET,
    confine,
    cylinder_distance,
    mouth_cylinder,
)
from vultus.methods.relightable_blendshapes.objectives import (
    alpha_term,
    anisotropy,
    picture_terms,
    shape_terms,
)

pytestmark = pytest.mark.golden("relightable_blendshapes/losses.safetensors")


def assert_near(actual: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(actual, expected, atol=1e-9, rtol=1e-5)


def test_teeth_are_kept_in_the_published_room(golden: dict[str, Tensor]) -> None:
    cylinder = mouth_cylinder(PUBLISHED_OFFSET)
    assert_near(cylinder.center, golden["cyl.center"])
    for part in ("up", "down"):
        assert_near(cylinder_distance(golden[f"cyl.{part}"], cylinder), golden[f"cyl.loss_{part}"])
    torch.testing.assert_close(confine(golden["cyl.up"], cylinder), golden["cyl.hard_up"])


def test_anisotropy_is_the_published_one(golden: dict[str, Tensor]) -> None:
    assert_near(anisotropy(golden["iso.scaling"]), golden["iso.loss"])


def test_all_terms_and_their_gradients_are_the_published_ones(golden: dict[str, Tensor]) -> None:
    weights = LossWeights(isotropy_weight=0.1)
    mask = golden["img.mask"][None, None]
    image = golden["img.pred"][None].clone().requires_grad_()
    alpha = golden["img.alpha0"][None, None].clone().requires_grad_()
    upper = golden["cyl.up"].clone().requires_grad_()
    scales = golden["iso.scaling"].clone().requires_grad_()
    rows = torch.arange(len(upper) + len(golden["cyl.down"]))
    terms = picture_terms(image, golden["img.gt"][None] * mask, weights, None)
    terms["alpha"] = alpha_term(alpha, mask, weights)
    # The fixture's cases are of different Gaussians: positions in one, scales in the other.
    cylinder, strips = mouth_cylinder(PUBLISHED_OFFSET), [rows[: len(upper)], rows[len(upper) :]]
    means = torch.cat([upper, golden["cyl.down"]])
    no_isotropy = replace(weights, isotropy_weight=0.0)
    terms |= shape_terms(means, torch.ones_like(means), strips, cylinder, no_isotropy)
    terms |= shape_terms(torch.zeros_like(scales), scales, [], cylinder, weights)
    total = torch.stack(list(terms.values())).sum()
    torch.testing.assert_close(total, golden["total.loss"], atol=0, rtol=1e-5)
    total.backward()
    for tensor, name in ((image, "pred"), (alpha, "alpha0"), (upper, "up"), (scales, "scaling")):
        assert tensor.grad is not None
        expected = golden[f"total.grad_{name}"]
        actual = tensor.grad.reshape(expected.shape)
        torch.testing.assert_close(actual, expected, atol=1e-5, rtol=1e-5)
