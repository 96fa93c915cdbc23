"""Settings of published generators, found from their weights."""

from __future__ import annotations

import pickle
import sys
import types
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from vultus.kernels.triplane_volume import VolumeSettings
from vultus.methods.spherehead.config import GeneratorConfig, with_parity
from vultus.methods.spherehead.generator import Generator
from vultus.methods.spherehead.official import to_official_weights
from vultus.methods.spherehead.official_pickle import (
    OfficialNetwork,
    generator_config,
    generator_from_official,
    read_official_pickle,
)

SPHERES = GeneratorConfig(
    z_dim=16,
    w_dim=8,
    mapping_layers=3,
    channel_base=64,
    channel_max=8,
    plane_size=8,
    volume=VolumeSettings(limits="box", coarse_samples=12, fine_samples=6, box_size=2.0),
    sphere_channels=(512, 256),
    parsing_classes=5,
    super_resolution="4x",
    super_resolution_clamp=None,
    label_scale=0.5,
)
GRIDS = replace(
    SPHERES,
    volume=replace(SPHERES.volume, representation="tri_grid", grid_depth=3),
    parsing_classes=0,
)
PLANES = replace(
    SPHERES,
    volume=replace(SPHERES.volume, representation="tri_plane", crop_margin=None),
    parsing_classes=0,
    has_background=False,
    has_camera_offset=False,
    has_to_rgb=False,
    decoder_activation="sigmoid",
)


def as_published(config: GeneratorConfig) -> OfficialNetwork:
    rendering = {
        "ray_start": "auto",
        "ray_end": "auto",
        "box_warp": config.volume.box_size,
        "depth_resolution": config.volume.coarse_samples,
        "depth_resolution_importance": config.volume.fine_samples,
        "decoder_activation": config.decoder_activation,
        "c_scale": config.label_scale,
    }
    return OfficialNetwork(
        "TriPlaneGenerator",
        to_official_weights(Generator(config).state_dict()),
        {"rendering_kwargs": rendering, "neural_rendering_resolution": 64},
        {"channel_base": 64, "channel_max": 8},
    )


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


class _Persistent(dict[str, Any]):
    """Pickles as the release pickles its modules."""

    def __reduce__(self) -> tuple[object, ...]:
        rebuild = sys.modules["torch_utils.persistence"].__dict__["_reconstruct_persistent_obj"]
        return rebuild, (dict(self),)


def test_weights_inside_plain_containers_are_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def rebuild(meta: dict[str, Any]) -> None:
        raise AssertionError(f"was run for {meta}")

    rebuild.__module__, rebuild.__qualname__ = (
        "torch_utils.persistence",
        "_reconstruct_persistent_obj",
    )
    for name in ("torch_utils", "torch_utils.persistence"):
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    monkeypatch.setattr(
        sys.modules["torch_utils.persistence"], rebuild.__qualname__, rebuild, raising=False
    )
    container = nn.Sequential(nn.Softplus())
    layer = {"_parameters": {"weight": nn.Parameter(torch.ones(2))}, "_buffers": {}, "_modules": {}}
    container._modules["1"] = _Persistent(class_name="Layer", state=layer)  # pyright: ignore[reportArgumentType]
    decoder = {"_parameters": {}, "_buffers": {}, "_modules": {"net": container}}
    path = tmp_path / "model.pkl"
    path.write_bytes(pickle.dumps({"G": _Persistent(class_name="Net", state=decoder)}, protocol=4))
    network = read_official_pickle(path)["G"]
    assert list(network.weights) == ["net.1.weight"]
    assert torch.equal(network.weights["net.1.weight"], torch.ones(2))
