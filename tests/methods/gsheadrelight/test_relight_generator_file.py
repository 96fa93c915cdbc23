"""Generators of heads that can be lit come back from their files."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from relight_heads import TINY, built, visible
from vultus.core.bundles import load_bundle, save_bundle
from vultus.methods.gsheadrelight.generator_file import (
    OFFICIAL_RIG,
    SavedGenerator,
    load_generator,
    save_generator,
)
from vultus.methods.gsheadrelight.light_sources import named_light
from vultus.methods.gsheadrelight.sampling import RelightableSampler, SamplingSettings
from vultus.methods.head_views import ViewRig
from vultus.metrics.image import psnr

RIG = ViewRig(2.5, 3.0, (0.0, 0.1, 0.2))


def test_a_generator_comes_back_with_its_settings(tmp_path: Path) -> None:
    generator, path = built(), tmp_path / "heads.safetensors"
    save_generator(path, SavedGenerator(generator, RIG, {"pickle": "model.pkl"}))
    read = load_generator(path)
    assert read.generator.config == TINY
    assert read.rig == RIG
    assert read.origin == {"pickle": "model.pkl"}
    ws = torch.randn(1, TINY.num_ws, TINY.w_dim, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        found, expected = read.generator.gaussians(ws), generator.gaussians(ws)
    assert all(torch.equal(getattr(found, name), value) for name, value in vars(expected).items())
    assert not any(parameter.requires_grad for parameter in read.generator.parameters())


def test_half_the_size_shows_the_same_heads(tmp_path: Path) -> None:
    config = replace(TINY, w_dim=64, channels=(64, 64, 32, 16))
    saved = SavedGenerator(visible(config), RIG, {})
    paths = [tmp_path / name for name in ("whole.safetensors", "half.safetensors")]
    for path, is_half in zip(paths, (False, True), strict=True):
        save_generator(path, saved, is_half=is_half)
    whole, half = (path.stat().st_size for path in paths)
    assert 0.45 < half / whole < 0.55
    pictures = []
    for path in paths:
        loaded = load_generator(path)
        settings = SamplingSettings(light=named_light("left"))
        source = RelightableSampler(loaded.generator, loaded.rig, settings)
        heads = [source.head(source.people((seed,))) for seed in range(3)]
        labels = [loaded.rig.label(yaw) for yaw in (0.0, 0.5)]
        views = [source.look(head, label).rgb for head in heads for label in labels]
        pictures.append(torch.stack(views))
    assert float(pictures[0].std()) > 0.05
    assert float(psnr(*pictures).min()) >= 50.0


def test_files_of_other_methods_and_settings_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "heads.safetensors"
    save_generator(path, SavedGenerator(built(), RIG, {}))
    bundle = load_bundle(path)
    other = tmp_path / "other.safetensors"
    save_bundle(other, bundle.tensors, {**bundle.metadata, "method": "spherehead"})
    with pytest.raises(ValueError, match="must be a generator of gsheadrelight, got one of 'sph"):
        load_generator(other)
    config = {**bundle.metadata["config"], "table_size": 16}
    save_bundle(other, bundle.tensors, {**bundle.metadata, "config": config})
    with pytest.raises(ValueError, match=r"head\.tables\.tables must have the shape \(3, 8, 16\)"):
        load_generator(other)


def test_files_that_are_older_than_their_cameras_have_the_published_ones(tmp_path: Path) -> None:
    path = tmp_path / "heads.safetensors"
    save_generator(path, SavedGenerator(built(), RIG, {}))
    bundle = load_bundle(path)
    facts = {name: value for name, value in bundle.metadata.items() if name != "rig"}
    save_bundle(path, bundle.tensors, facts)
    assert load_generator(path).rig == OFFICIAL_RIG
