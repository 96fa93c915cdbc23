"""Settings of published generators, found from their weights."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest
import torch
from torch import nn

from official_generators import GRIDS, PLANES, SPHERES, Persistent, as_published, release_modules
from vultus.methods.spherehead.config import GeneratorConfig, with_parity
from vultus.methods.spherehead.official_pickle import generator_config, generator_from_official
from vultus.nets.stylegan2.official_pickle import read_official_pickle


@pytest.mark.parametrize("config", [SPHERES, GRIDS, PLANES], ids=["spheres", "grids", "planes"])
def test_settings_are_found_from_published_weights(config: GeneratorConfig) -> None:
    assert generator_config(as_published(config)) == with_parity(config, "official")


def test_published_weights_become_a_generator() -> None:
    network = as_published(PLANES)
    network.weights["dataset_label_std"] = torch.ones(25)
    weights = generator_from_official(network).state_dict()
    assert torch.equal(
        weights["backbone.mapping.layers.0.weight"], network.weights["backbone.mapping.fc0.weight"]
    )
    del network.weights["backbone.mapping.w_avg"]
    with pytest.raises(ValueError, match=r"do not fit: .*backbone\.mapping\.mean_w"):
        generator_from_official(network)


def test_unknown_super_resolution_is_refused() -> None:
    network = as_published(PLANES)
    network.weights["superresolution.block0.conv1.weight"] = torch.zeros(7, 7, 3, 3)
    with pytest.raises(ValueError, match=r"super-resolution of \[7, 64\] channels to 256 pixels"):
        generator_config(network)


def test_weights_inside_plain_containers_are_found(tmp_path: Path) -> None:
    container = nn.Sequential(nn.Softplus())
    layer = {"_parameters": {"weight": nn.Parameter(torch.ones(2))}, "_buffers": {}, "_modules": {}}
    container._modules["1"] = Persistent(class_name="Layer", state=layer)  # pyright: ignore[reportArgumentType]
    decoder = {"_parameters": {}, "_buffers": {}, "_modules": {"net": container}}
    path = tmp_path / "model.pkl"
    with release_modules():
        data = pickle.dumps({"G": Persistent(class_name="Net", state=decoder)}, protocol=4)
    path.write_bytes(data)
    network = read_official_pickle(path)["G"]
    assert list(network.weights) == ["net.1.weight"]
    assert torch.equal(network.weights["net.1.weight"], torch.ones(2))
