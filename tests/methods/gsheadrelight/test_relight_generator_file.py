"""Generators of heads that can be lit come back from their files."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from relight_heads import TINY, built
from vultus.core.bundles import load_bundle, save_bundle
from vultus.methods.gsheadrelight.generator_file import (
    OFFICIAL_RIG,
    SavedGenerator,
    load_generator,
    save_generator,
)
from vultus.methods.head_views import ViewRig

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


def test_half_the_size_is_nearly_the_same(tmp_path: Path) -> None:
    generator, paths = built(), (tmp_path / "whole.safetensors", tmp_path / "half.safetensors")
    for path, is_half in zip(paths, (False, True), strict=True):
        save_generator(path, SavedGenerator(generator, RIG, {}), is_half=is_half)
    whole, half = (load_generator(path).generator.state_dict() for path in paths)
    assert paths[1].stat().st_size < 0.7 * paths[0].stat().st_size
    assert all(torch.allclose(half[n], whole[n], rtol=1e-3, atol=1e-6) for n in whole)


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
