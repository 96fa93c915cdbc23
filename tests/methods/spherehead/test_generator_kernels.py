"""The generator as a GPU runs it, in Triton's interpreter, against the definitions."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from tiny_generators import TINY, tiny_generator
from tiny_image_sets import labels_at
from vultus.kernels import dispatch
from vultus.methods.spherehead.generator import Generator
from vultus.methods.spherehead.images import HeadImages

pytestmark = pytest.mark.triton
SINGLE = replace(TINY, precision="single")
CLAMPED = replace(SINGLE, clamp=0.5, super_resolution_clamp=0.7)
TRI_PLANE = replace(SINGLE, volume=replace(TINY.volume, representation="tri_plane"))


def images(generator: Generator) -> HeadImages:
    random = torch.Generator().manual_seed(1)
    z, labels = torch.randn(1, TINY.z_dim, generator=random), labels_at([0.2])
    ws = generator.map(z, labels)
    planes = generator.planes(ws, "const")
    return generator.render(planes, ws, labels, generator.draw(1, random), noise_mode="const")


def gradients(generator: Generator) -> tuple[HeadImages, dict[str, Tensor]]:
    generator.requires_grad_(True)
    made = images(generator)
    weight = torch.randn(made.image.shape, generator=torch.Generator().manual_seed(2))
    (made.image * weight).sum().backward()
    return made, {n: p.grad for n, p in generator.named_parameters() if p.grad is not None}


def assert_same_images(found: HeadImages, expected: HeadImages) -> None:
    for name in ("image", "raw_image", "mask", "depth"):
        one, other = getattr(found, name).detach(), getattr(expected, name).detach()
        torch.testing.assert_close(one, other, atol=2e-4, rtol=0)


def test_images_and_all_gradients_are_those_of_the_definitions(monkeypatch) -> None:
    made, expected = gradients(tiny_generator(SINGLE))
    monkeypatch.setattr(dispatch, "_serves_cpu", True)
    made_here, found = gradients(tiny_generator(SINGLE))
    assert_same_images(made_here, made)
    assert found.keys() == expected.keys()
    for name, gradient in expected.items():
        error = (found[name] - gradient).abs().max()
        assert error <= 2e-3 * gradient.abs().max(), name


def test_gradients_of_short_features_point_where_the_definitions_do(monkeypatch) -> None:
    made, expected = gradients(tiny_generator(SINGLE))
    monkeypatch.setattr(dispatch, "_serves_cpu", True)
    short, found = gradients(tiny_generator(replace(SINGLE, gradient_precision="bfloat16")))
    assert 0 < (short.image - made.image).abs().max() < 0.1
    for name in ("backbone.synthesis.blocks.4.conv1.weight", "sphere_a.1.weight"):
        one, other = found[name].flatten(), expected[name].flatten()
        assert torch.cosine_similarity(one, other, dim=0) > 0.99, name


def test_images_of_a_generator_that_clamps_are_those_of_the_definitions(monkeypatch) -> None:
    generator = tiny_generator(CLAMPED)
    expected = images(generator)
    monkeypatch.setattr(dispatch, "_serves_cpu", True)
    assert_same_images(images(generator), expected)


def test_single_planes_are_those_of_the_definitions(monkeypatch) -> None:
    generator = tiny_generator(TRI_PLANE)
    ws = torch.randn(1, generator.num_ws, TINY.w_dim)
    expected = generator.planes(ws, "const")
    monkeypatch.setattr(dispatch, "_serves_cpu", True)
    torch.testing.assert_close(generator.planes(ws, "const"), expected, atol=1e-4, rtol=1e-4)


def test_planes_are_half_without_gradients_only(monkeypatch) -> None:
    generator = tiny_generator()
    ws = generator.map(torch.randn(1, TINY.z_dim), labels_at([0.0]))
    exact = generator.planes(ws, "const")
    monkeypatch.setattr(dispatch, "_serves_cpu", True)
    with torch.enable_grad():
        assert generator.planes(ws, "const").dtype == torch.float32
    with torch.no_grad():
        planes = generator.planes(ws, "const")
    assert planes.dtype == torch.float16
    assert planes.stride(3) == 1  # channels lie side by side
    torch.testing.assert_close(planes.float(), exact, atol=2e-2, rtol=1e-2)
