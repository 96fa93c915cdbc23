"""Names, shapes and numbers of parameters of the full networks, as published."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import cache

import pytest
import torch
from torch import nn

from vultus.kernels.triplane_volume import VolumeSettings
from vultus.methods.spherehead.config import (
    DiscriminatorConfig,
    DiscriminatorKind,
    GeneratorConfig,
)
from vultus.methods.spherehead.discriminator import Discriminator
from vultus.methods.spherehead.generator import Generator
from vultus.methods.spherehead.official import (
    from_official_name,
    from_official_weights,
    to_official_name,
    to_official_weights,
)

Shape = tuple[int, ...]
FILTER = (4, 4)

NUM_PARAMETERS = {
    "backbone": 30_240_000,
    "background": 22_490_000,
    "super_resolution": 1_650_000,
    "sphere_a": 156_000,
    "to_rgb": 16_500,
}
"""Rounded in the source."""


@cache
def full_generator(parsing_classes: int = 0) -> Generator:
    with torch.device("meta"):
        return Generator(GeneratorConfig(parsing_classes=parsing_classes))


def full_discriminator(kind: DiscriminatorKind) -> Discriminator:
    with torch.device("meta"):
        return Discriminator(DiscriminatorConfig(kind=kind))


def count(module: nn.Module | None) -> int:
    assert module is not None
    return sum(parameter.numel() for parameter in module.parameters())


def shapes(module: nn.Module) -> dict[str, Shape]:
    weights = to_official_weights(module.state_dict())
    return {name: tuple(tensor.shape) for name, tensor in weights.items()}


def width(size: int, base: int = 32768) -> int:
    return min(base // size, 512)


def linear(name: str, inputs: int, outputs: int) -> Iterator[tuple[str, Shape]]:
    yield f"{name}.weight", (outputs, inputs)
    yield f"{name}.bias", (outputs,)


def modulated(name: str, inputs: int, outputs: int, size: int) -> Iterator[tuple[str, Shape]]:
    yield f"{name}.weight", (outputs, inputs, 3, 3)
    yield f"{name}.bias", (outputs,)
    yield f"{name}.noise_strength", ()
    yield f"{name}.noise_const", (size, size)
    yield f"{name}.resample_filter", FILTER
    yield from linear(f"{name}.affine", 512, inputs)


def to_image(name: str, inputs: int, outputs: int) -> Iterator[tuple[str, Shape]]:
    yield f"{name}.weight", (outputs, inputs, 1, 1)
    yield f"{name}.bias", (outputs,)
    yield from linear(f"{name}.affine", 512, inputs)


def synthesis(name: str, largest: int, base: int, channels: int) -> Iterator[tuple[str, Shape]]:
    for size in [2**power for power in range(2, largest.bit_length())]:
        block, now = f"{name}.b{size}", width(size, base)
        yield f"{block}.resample_filter", FILTER
        if size == 4:
            yield f"{block}.const", (now, 4, 4)
        else:
            yield from modulated(f"{block}.conv0", width(size // 2, base), now, size)
        yield from modulated(f"{block}.conv1", now, now, size)
        yield from to_image(f"{block}.torgb", now, channels)


def mapping(name: str, z: int, w: int, layers: int) -> Iterator[tuple[str, Shape]]:
    yield from linear(f"{name}.embed", 25, w)
    for layer in range(layers):
        yield from linear(f"{name}.fc{layer}", w if layer else z + w, w)


def published_generator() -> Iterator[tuple[str, Shape]]:
    yield from mapping("backbone.mapping", 512, 512, 2)
    yield "backbone.mapping.w_avg", (512,)
    yield from synthesis("backbone.synthesis", 256, 32768, 512)
    for sphere in ("ConvA", "ConvB"):
        yield f"{sphere}.0.weight", (256, 512, 1, 1)
        yield f"{sphere}.1.weight", (96, 256, 1, 1)
        yield f"{sphere}.0.resample_filter", FILTER
        yield f"{sphere}.1.resample_filter", FILTER
    yield from synthesis("bcg_synthesis", 128, 16384, 32)
    yield from linear("decoder.net.0", 32, 64)
    yield from linear("decoder.net.2", 64, 33)
    yield from to_image("torgb", 32, 3)
    yield from mapping("t_mapping", 512, 3, 2)
    yield "t_mapping.w_avg", (3,)
    for block, before, now, size in (("block0", 32, 256, 256), ("block1", 256, 128, 512)):
        name = f"superresolution.{block}"
        yield f"{name}.resample_filter", FILTER
        yield from modulated(f"{name}.conv0", before, now, size)
        yield from modulated(f"{name}.conv1", now, now, size)
        yield from to_image(f"{name}.torgb", now, 3)


def published_discriminator(channels: int) -> Iterator[tuple[str, Shape]]:
    yield "resample_filter", FILTER
    yield from mapping("mapping", 0, 512, 8)
    for size in [2**power for power in range(9, 2, -1)]:
        block, now, after = f"b{size}", width(size), width(size // 2)
        layers = {"conv0": (now, now, 3, 3), "conv1": (after, now, 3, 3)}
        if size == 512:
            layers["fromrgb"] = (now, channels, 1, 1)
        for layer, shape in layers.items():
            yield f"{block}.{layer}.weight", shape
            yield f"{block}.{layer}.bias", shape[:1]
            yield f"{block}.{layer}.resample_filter", FILTER
        yield f"{block}.skip.weight", (after, now, 1, 1)
        yield f"{block}.skip.resample_filter", FILTER
        yield f"{block}.resample_filter", FILTER
    yield "b4.conv.weight", (512, 513, 3, 3)
    yield "b4.conv.bias", (512,)
    yield "b4.conv.resample_filter", FILTER
    yield from linear("b4.fc", 8192, 512)
    yield from linear("b4.out", 512, 512)


def test_the_full_generator_has_every_published_name_and_shape() -> None:
    assert shapes(full_generator()) == dict(published_generator())


def test_the_parsing_branch_has_the_published_names_and_shapes() -> None:
    expected = dict(published_generator()) | dict(to_image("toparsing", 32, 20))
    assert shapes(full_generator(parsing_classes=20)) == expected


@pytest.mark.parametrize(("kind", "channels"), [("mask", 7), ("parsing", 27), ("dual", 6)])
def test_full_discriminators_have_every_published_name_and_shape(
    kind: DiscriminatorKind, channels: int
) -> None:
    assert shapes(full_discriminator(kind)) == dict(published_discriminator(channels))


def test_the_full_networks_have_the_published_number_of_parameters() -> None:
    generator = full_generator()
    assert count(generator) == 54_713_868
    assert count(generator.decoder) == 4_257
    assert count(generator.camera_offset) == 1_638
    for name, rounded in NUM_PARAMETERS.items():
        assert count(generator.get_submodule(name)) == pytest.approx(rounded, rel=0.01)
    assert count(full_discriminator("mask")) == 31_359_808


@pytest.mark.parametrize("kind", ["mask", "mask_branch"])
def test_names_survive_a_round_trip(kind: DiscriminatorKind) -> None:
    for network in (full_generator(20), full_discriminator(kind)):
        for name in network.state_dict():
            assert from_official_name(to_official_name(name)) == name


def test_weights_survive_a_round_trip() -> None:
    config = GeneratorConfig(
        z_dim=8, w_dim=8, channel_base=64, channel_max=8, plane_size=8, super_resolution="2x"
    )
    weights = Generator(config, torch.Generator().manual_seed(0)).state_dict()
    again = from_official_weights(to_official_weights(weights))
    assert again.keys() == weights.keys()
    assert all(torch.equal(again[name], tensor) for name, tensor in weights.items())


def test_foreign_filters_are_refused() -> None:
    with pytest.raises(ValueError, match=r"b8\.resample_filter must be"):
        from_official_weights({"b8.resample_filter": torch.ones(4, 4)})


@pytest.mark.parametrize(
    ("volume", "channels"),
    [
        (VolumeSettings(representation="tri_plane"), 96),
        (VolumeSettings(representation="tri_grid", grid_depth=3), 288),
    ],
)
def test_ancestors_have_the_published_backbone(volume: VolumeSettings, channels: int) -> None:
    with torch.device("meta"):
        generator = Generator(replace(GeneratorConfig(), volume=volume))
    names: Mapping[str, Shape] = shapes(generator)
    assert names["backbone.synthesis.b256.torgb.weight"] == (channels, 128, 1, 1)
    assert not any(name.startswith("Conv") for name in names)
