"""Generators in one file."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tiny_generators import TINY, tiny_generator, write_tiny_generator
from tolerances import assert_close
from vultus.core.bundles import load_bundle, save_bundle
from vultus.methods.head_views import ViewRig
from vultus.methods.spherehead.generator_file import SavedGenerator, load_generator, save_generator
from vultus.methods.spherehead.sampling import HeadSampler, SamplingSettings
from vultus.metrics.image import psnr

RIG = ViewRig(2.5, 3.0, (0.0, 0.1, 0.2))


def test_weights_settings_and_cameras_come_back(tmp_path: Path) -> None:
    path, generator = tmp_path / "g.safetensors", tiny_generator()
    save_generator(path, SavedGenerator(generator, RIG, {"step": 3}))
    loaded = load_generator(path)
    assert loaded.generator.config == generator.config
    assert loaded.rig == RIG
    assert loaded.origin == {"step": 3}
    wanted = generator.state_dict()
    assert all(torch.equal(t, wanted[n]) for n, t in loaded.generator.state_dict().items())
    assert not loaded.generator.training
    assert not any(parameter.requires_grad for parameter in loaded.generator.parameters())


def test_half_precision_halves_the_file(tmp_path: Path) -> None:
    whole, half = tmp_path / "whole.safetensors", tmp_path / "half.safetensors"
    saved = SavedGenerator(tiny_generator(), RIG, {})
    save_generator(whole, saved)
    save_generator(half, saved, is_half=True)
    weights = load_bundle(half).tensors
    assert all(tensor.dtype == torch.float16 for tensor in weights.values())
    loaded = load_generator(half).generator.state_dict()
    for name, tensor in saved.generator.state_dict().items():
        assert loaded[name].dtype == torch.float32
        assert_close(loaded[name], tensor, looser=100.0, reason="float16")
    saved.generator.decoder.out.bias.data[0] = 1e6
    with pytest.raises(ValueError, match=r"decoder\.out\.bias has values that are too large"):
        save_generator(half, saved, is_half=True)


def test_half_precision_halves_the_file_of_many_weights_and_keeps_its_pictures(
    tmp_path: Path,
) -> None:
    config = replace(TINY, channel_base=1024, channel_max=64, w_dim=64)
    saved = SavedGenerator(tiny_generator(config), ViewRig(), {})
    paths = [tmp_path / name for name in ("whole.safetensors", "half.safetensors")]
    for path, is_half in zip(paths, (False, True), strict=True):
        save_generator(path, saved, is_half=is_half)
    whole, half = (path.stat().st_size for path in paths)
    assert 0.45 < half / whole < 0.55
    pictures = []
    for path in paths:
        loaded = load_generator(path)
        source = HeadSampler(loaded.generator, loaded.rig, SamplingSettings())
        heads = [source.head(source.people((seed,))) for seed in range(3)]
        labels = [loaded.rig.label(yaw) for yaw in (0.0, 2.0)]
        views = [source.look(head, label).rgb for head in heads for label in labels]
        pictures.append(torch.stack(views))
    assert float(pictures[0].std()) > 0.05
    assert float(psnr(*pictures).min()) >= 50.0


def test_other_files_are_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "other.safetensors"
    save_bundle(path, {"x": torch.zeros(1)}, {})
    with pytest.raises(ValueError, match=r"other\.safetensors: must be a file of the format"):
        load_generator(path)
    bundle = load_bundle(write_tiny_generator(tmp_path / "g.safetensors"))
    save_bundle(path, bundle.tensors, {**bundle.metadata, "method": "gsheadrelight"})
    with pytest.raises(ValueError, match="must be a generator of spherehead, got one of 'gshead"):
        load_generator(path)
    other = {**bundle.metadata["config"], "w_dim": 16}
    save_bundle(path, bundle.tensors, {**bundle.metadata, "config": other})
    with pytest.raises(ValueError, match=r"does not fit the configuration: backbone\.mapping"):
        load_generator(path)
    broken = {**bundle.metadata["config"], "plane_size": 24}
    save_bundle(path, bundle.tensors, {**bundle.metadata, "config": broken})
    with pytest.raises(ValueError, match="resolution must be a power of two"):
        load_generator(path)
    with pytest.raises(FileNotFoundError, match=r"none\.safetensors does not exist"):
        load_generator(tmp_path / "none.safetensors")


def test_files_that_are_older_than_a_setting_have_its_default(tmp_path: Path) -> None:
    path = write_tiny_generator(tmp_path / "g.safetensors")
    bundle = load_bundle(path)
    config = {name: v for name, v in bundle.metadata["config"].items() if name != "parity"}
    config["volume"] = {name: v for name, v in config["volume"].items() if name != "crop_margin"}
    save_bundle(path, bundle.tensors, {**bundle.metadata, "config": config})
    assert load_generator(path).generator.config == TINY


def test_every_representation_can_be_saved(tmp_path: Path) -> None:
    config = replace(
        TINY,
        volume=replace(TINY.volume, representation="tri_plane", limits="box"),
        has_background=False,
        has_to_rgb=False,
    )
    loaded = load_generator(write_tiny_generator(tmp_path / "g.safetensors", config))
    assert loaded.generator.config == config
