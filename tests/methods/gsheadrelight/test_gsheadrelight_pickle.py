"""Published checkpoints of GSHeadRelight become generators, and no code of theirs is run."""

from __future__ import annotations

import hashlib
import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from official_generators import write_official_pickle
from relight_heads import TINY
from vultus.methods.gsheadrelight.config import DiscriminatorConfig, GeneratorConfig
from vultus.methods.gsheadrelight.discriminator import Discriminator
from vultus.methods.gsheadrelight.generator import Generator
from vultus.methods.gsheadrelight.generator_file import OFFICIAL_RIG
from vultus.methods.gsheadrelight.official import to_official_discriminator, to_official_generator
from vultus.methods.gsheadrelight.official_pickle import (
    discriminator_from_official,
    generator_config,
    generator_from_official,
    read_official_generator,
)
from vultus.nets.stylegan2.official_pickle import OfficialNetwork, read_official_pickle

MONO = replace(
    TINY,
    mapping_layers=3,
    transformer_layers=2,
    attention_heads=8,
    detail=64,
    label_scale=0.5,
    parity="official",
)
COLORED = replace(MONO, light_channels=3, background_points=0, background_channels=128)


def as_published(generator: Generator) -> OfficialNetwork:
    """A generator as its pickle describes it."""
    config = generator.config
    rendering = {
        "c_scale": config.label_scale,
        "custom_options": {"scale_end": config.finest_log_scale},
    }
    return OfficialNetwork(
        "GSGenerator",
        to_official_generator(generator.state_dict(), config),
        {},
        {"img_resolution": config.image_size, "rendering_kwargs": rendering},
    )


@pytest.mark.parametrize("config", [MONO, COLORED], ids=["mono", "colored"])
def test_a_published_pickle_becomes_the_generator_that_it_holds(
    config: GeneratorConfig, tmp_path: Path
) -> None:
    generator = Generator(config, torch.Generator().manual_seed(0))
    path = write_official_pickle(tmp_path / "model.pkl", {"G_ema": as_published(generator)})
    read = read_official_generator(path).generator
    assert read.config == config
    expected, found = generator.state_dict(), read.state_dict()
    assert all(torch.equal(found[name], expected[name]) for name in expected)
    ws = torch.randn(1, config.num_ws, config.w_dim, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        assert torch.equal(read.gaussians(ws).means, generator.gaussians(ws).means)


def write_port(path: Path, network: OfficialNetwork, **changes: object) -> Path:
    """As Jittor saves: arrays in plain dictionaries, a digest of the pickle, and a mark."""
    names = {"_xyz": "jt_xyz", "_xyz_bg": "jt_xyz_bg"}
    arrays = {names.get(name, name): t.numpy() for name, t in network.weights.items()}
    content = {"init_kwargs": network.arguments, "state_dict": arrays, **changes}
    data = pickle.dumps(content, protocol=4)
    path.write_bytes(data + hashlib.sha1(data).digest() + b"HCAJSLHD")
    return path


def test_a_file_of_the_port_becomes_the_generator_that_it_holds(tmp_path: Path) -> None:
    generator = Generator(MONO, torch.Generator().manual_seed(0))
    network = as_published(generator)
    read = read_official_generator(write_port(tmp_path / "port.pkl", network))
    assert read.generator.config == MONO
    expected, found = generator.state_dict(), read.generator.state_dict()
    assert all(torch.equal(found[name], expected[name]) for name in expected)
    assert read.rig == OFFICIAL_RIG
    for changes, match in (
        ({"state_dict": [1]}, "must be dictionaries"),
        ({"state_dict": {"a": "b"}}, "a must be an array, got str"),
        ({"state_dict": {"a": np.array(["b"])}}, "a must be an array, got ndarray"),
        ({"state_dict": {"a": np.zeros(2)}}, "the network is no generator of heads"),
        ({"init_kwargs": None}, "must be dictionaries"),
    ):
        path = write_port(tmp_path / "bad.pkl", network, **changes)
        with pytest.raises(ValueError, match=rf"bad\.pkl: .*{match}"):
            read_official_generator(path)


def test_cameras_are_those_of_the_training(tmp_path: Path) -> None:
    network = as_published(Generator(MONO))
    path = tmp_path / "model.pkl"
    assert read_official_generator(write_official_pickle(path, {"G": network})).rig == OFFICIAL_RIG
    cats = {"avg_camera_radius": 1.7, "avg_camera_pivot": [0, 0, -0.06]}
    network.arguments["rendering_kwargs"] |= cats
    read = read_official_generator(write_official_pickle(path, {"G": network}))
    assert read.rig == replace(OFFICIAL_RIG, distance=1.7, target=(0.0, 0.0, -0.06))
    network.arguments["rendering_kwargs"]["avg_camera_pivot"] = [0, None, 0]
    write_official_pickle(path, {"G": network})
    with pytest.raises(ValueError, match=r"model\.pkl: avg_camera_pivot must be 3 numbers"):
        read_official_generator(path)


def test_other_networks_are_refused(tmp_path: Path) -> None:
    network = as_published(Generator(MONO))
    only_d = write_official_pickle(tmp_path / "d.pkl", {"D": network})
    with pytest.raises(ValueError, match=r"d\.pkl: must hold one of G_ema, G, got D"):
        read_official_generator(only_d)
    del network.weights["point_gen.dc_rt_init"]
    with pytest.raises(ValueError, match="is no generator of heads that can be lit"):
        generator_config(network)


def test_wrong_weights_are_refused() -> None:
    network = as_published(Generator(MONO))
    name = "point_gen.out_layers.albedo.block_8.1.bias"
    network.weights[name] = torch.zeros(5)
    with pytest.raises(ValueError, match=r"albedo\.block_8\.1\.bias must have the shape \(3,\)"):
        generator_from_official(network)
    network = as_published(Generator(MONO))
    network.weights["point_gen.scale_init"] = torch.zeros(3)
    with pytest.raises(ValueError, match=r"point_gen\.scale_init must be \[-1\.49"):
        generator_from_official(network)
    network = as_published(Generator(MONO))
    network.weights["point_gen.blocks.block_8.0.conv_x.0.resample_filter"] = torch.ones(4, 4)
    with pytest.raises(ValueError, match=r"must be the outer product of \(1, 3, 3, 1\)"):
        generator_from_official(network)


def test_a_published_discriminator_judges_as_before(tmp_path: Path) -> None:
    config = DiscriminatorConfig(
        image_size=32, light_dim=27, channel_base=256, channel_max=16, clamp=None, group_size=2
    )
    original = Discriminator(config, torch.Generator().manual_seed(0))
    arguments = {
        "channel_base": 256,
        "conv_clamp": None,
        "epilogue_kwargs": {"mbstd_group_size": 2},
    }
    weights = to_official_discriminator(original.state_dict())
    network = OfficialNetwork("SingleDiscriminator", weights, {}, arguments)
    path = write_official_pickle(tmp_path / "model.pkl", {"D": network})
    read = discriminator_from_official(read_official_pickle(path)["D"])
    assert read.config == config
    random = torch.Generator().manual_seed(1)
    inputs = [torch.randn(shape, generator=random) for shape in ((4, 3, 32, 32), (4, 25), (4, 27))]
    with torch.no_grad():
        pairs = zip(read(*inputs), original(*inputs), strict=True)
        assert all(torch.equal(found, expected) for found, expected in pairs)
    del network.weights["aux_branch_lit.0.weight"]
    with pytest.raises(ValueError, match="is no discriminator that sees light"):
        discriminator_from_official(network)
