"""The published checkpoint layout, read without its code."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from vultus.methods.spherehead.official import from_official_weights, to_official_weights
from vultus.methods.spherehead.official_pickle import generator_config
from vultus.nets.stylegan2.official_pickle import OfficialNetwork, read_official_pickle


@pytest.fixture(scope="module")
def networks(golden_dir: Path) -> dict[str, OfficialNetwork]:
    return read_official_pickle(golden_dir / "spherehead" / "h_checkpoint_layout.pkl")


def test_every_tensor_of_the_layout_is_read_exactly(
    networks: dict[str, OfficialNetwork], golden_dir: Path
) -> None:
    expected = load_file(golden_dir / "spherehead" / "h_checkpoint_layout.expected.safetensors")
    read = {
        f"{key}.{name}": tensor
        for key in ("G", "D")
        for name, tensor in networks[key].weights.items()
    }
    assert read.keys() == expected.keys()
    assert all(torch.equal(read[name], tensor) for name, tensor in expected.items())


def test_facts_of_the_constructor_are_read(networks: dict[str, OfficialNetwork]) -> None:
    network = networks["G_ema"]
    assert network.class_name == "Generator"
    assert network.attributes["rendering_kwargs"] == {"box_warp": 1, "depth_resolution": 48}
    assert network.attributes["neural_rendering_resolution"] == 64
    assert network.arguments["mapping_kwargs"] == {"num_layers": 2}


def test_filters_come_back_when_weights_are_named_as_published(
    networks: dict[str, OfficialNetwork],
) -> None:
    for key in ("G", "D"):
        published = networks[key].weights
        assert to_official_weights(from_official_weights(published)).keys() == published.keys()


def test_a_generator_without_planes_is_refused(networks: dict[str, OfficialNetwork]) -> None:
    with pytest.raises(ValueError, match="it has no planes"):
        generator_config(networks["G"])


class _Malicious:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (self.path,)


def test_a_pickle_that_calls_anything_is_refused_and_not_run(tmp_path: Path) -> None:
    trace, path = tmp_path / "trace", tmp_path / "model.pkl"
    path.write_bytes(pickle.dumps({"G_ema": _Malicious(trace)}, protocol=4))
    with pytest.raises(ValueError, match="not allowed"):
        read_official_pickle(path)
    assert not trace.exists()


def test_a_pickle_without_networks_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.pkl"
    path.write_bytes(pickle.dumps({"G_ema": None}, protocol=4))
    with pytest.raises(ValueError, match="must hold one of G, D, G_ema"):
        read_official_pickle(path)
