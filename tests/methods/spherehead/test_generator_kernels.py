"""The generator with kernels, on a GPU or in Triton's interpreter, against the definitions."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from tiny_generators import TINY, tiny_generator
from tiny_image_sets import labels_at
from triton_support import serve_with_kernels
from vultus.kernels.triplane_volume import VolumeDraws
from vultus.methods.spherehead.generator import Generator
from vultus.methods.spherehead.images import HeadImages

pytestmark = [pytest.mark.triton, pytest.mark.usefixtures("exact_convolutions")]
SINGLE = replace(TINY, precision="single")
CLAMPED = replace(SINGLE, clamp=0.5, super_resolution_clamp=0.7)
TRI_PLANE = replace(SINGLE, volume=replace(TINY.volume, representation="tri_plane"))


def images(generator: Generator) -> HeadImages:
    """Of numbers that are drawn on the CPU, wherever the generator is."""
    random = torch.Generator().manual_seed(1)
    device = generator.backbone.mapping.mean_w.device
    z = torch.randn(1, TINY.z_dim, generator=random).to(device)
    draws = VolumeDraws.draw((1, TINY.neural_size**2), TINY.volume, random)
    draws = draws._replace(jitter=draws.jitter.to(device), uniforms=draws.uniforms.to(device))
    labels = labels_at([0.2]).to(device)
    ws = generator.map(z, labels)
    planes = generator.planes(ws, "const")
    return generator.render(planes, ws, labels, draws, noise_mode="const")


def gradients(generator: Generator) -> tuple[HeadImages, dict[str, Tensor]]:
    generator.requires_grad_(True)
    made = images(generator)
    weight = torch.randn(made.image.shape, generator=torch.Generator().manual_seed(2))
    (made.image * weight.to(made.image)).sum().backward()
    named = generator.named_parameters()
    return made, {name: p.grad.cpu() for name, p in named if p.grad is not None}


def assert_same_images(found: HeadImages, expected: HeadImages) -> None:
    for name in ("image", "raw_image", "mask", "depth"):
        one, other = getattr(found, name).detach().cpu(), getattr(expected, name).detach()
        torch.testing.assert_close(one, other, atol=2e-4, rtol=0)


def test_images_and_all_gradients_are_those_of_the_definitions(monkeypatch) -> None:
    made, expected = gradients(tiny_generator(SINGLE))
    device = serve_with_kernels(monkeypatch)
    made_here, found = gradients(tiny_generator(SINGLE).to(device))
    assert_same_images(made_here, made)
    assert found.keys() == expected.keys()
    for name, gradient in expected.items():
        error = (found[name] - gradient).abs().max()
        assert error <= 2e-3 * gradient.abs().max(), name


def test_gradients_of_short_features_point_where_the_definitions_do(monkeypatch) -> None:
    made, expected = gradients(tiny_generator(SINGLE))
    device = serve_with_kernels(monkeypatch)
    config = replace(SINGLE, gradient_precision="bfloat16")
    short, found = gradients(tiny_generator(config).to(device))
    assert 0 < (short.image.cpu() - made.image).abs().max() < 0.1
    for name in ("backbone.synthesis.blocks.4.conv1.weight", "sphere_a.1.weight"):
        one, other = found[name].flatten(), expected[name].flatten()
        assert torch.cosine_similarity(one, other, dim=0) > 0.99, name


def test_images_of_a_generator_that_clamps_are_those_of_the_definitions(monkeypatch) -> None:
    generator = tiny_generator(CLAMPED)
    expected = images(generator)
    device = serve_with_kernels(monkeypatch)
    assert_same_images(images(generator.to(device)), expected)


def test_single_planes_are_those_of_the_definitions(monkeypatch) -> None:
    generator = tiny_generator(TRI_PLANE)
    ws = torch.randn(1, generator.num_ws, TINY.w_dim)
    expected = generator.planes(ws, "const")
    device = serve_with_kernels(monkeypatch)
    found = generator.to(device).planes(ws.to(device), "const")
    torch.testing.assert_close(found.cpu(), expected, atol=1e-4, rtol=1e-4)


def test_planes_are_half_without_gradients_only(monkeypatch) -> None:
    generator = tiny_generator()
    ws = generator.map(torch.randn(1, TINY.z_dim), labels_at([0.0]))
    exact = generator.planes(ws, "const")
    device = serve_with_kernels(monkeypatch)
    generator, ws = generator.to(device), ws.to(device)
    with torch.enable_grad():
        assert generator.planes(ws, "const").dtype == torch.float32
    with torch.no_grad():
        planes = generator.planes(ws, "const")
    assert planes.dtype == torch.float16
    assert planes.stride(3) == 1  # channels lie side by side
    torch.testing.assert_close(planes.float().cpu(), exact, atol=2e-2, rtol=1e-2)
