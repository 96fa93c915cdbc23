from __future__ import annotations

import importlib
import json
import re

import pytest
import torch

from synthetic_flame import synthetic_flame, write_published_flame
from vultus.core.asset_registry import ASSETS, import_asset
from vultus.core.bundles import save_bundle
from vultus.heads.flame import FLAME_ARRAYS, FLAME_FORMAT, FlameHead
from vultus.heads.registry import (
    HEADS,
    describe_head,
    find_head_file,
    head_from_description,
    load_head,
)
from vultus.heads.tracked import TrackedMesh


@pytest.fixture(scope="module")
def flame_path(tmp_path_factory):
    data = synthetic_flame()
    tensors = {name: getattr(data, name) for name in FLAME_ARRAYS}
    tensors |= {f"masks.{name}": ids for name, ids in data.masks.items()}
    path = tmp_path_factory.mktemp("flame") / "flame.safetensors"
    save_bundle(path, tensors, {"format": FLAME_FORMAT, "version": "synthetic"})
    return path


@pytest.mark.parametrize("name", HEADS)
def test_every_entry_of_the_table_names_an_existing_class(name):
    entry = HEADS[name]
    head_class = getattr(importlib.import_module(entry.module), entry.class_name)
    assert hasattr(head_class, "from_file") == entry.needs_file


def test_a_description_rebuilds_the_same_flame(flame_path):
    head = FlameHead.from_file(flame_path, num_identity=3, teeth="published")
    description = json.loads(json.dumps(describe_head(head)))
    again = head_from_description(description, {"flame": flame_path})
    assert describe_head(again) == description
    assert torch.equal(again.topology.faces, head.topology.faces)


def test_a_description_of_another_mesh_is_refused(tmp_path):
    faces = torch.tensor([[0, 1, 2]])
    TrackedMesh(torch.rand(3, 3), faces).save(tmp_path / "three.safetensors")
    TrackedMesh(torch.rand(4, 3), faces).save(tmp_path / "four.safetensors")
    description = describe_head(load_head("tracked", tmp_path / "three.safetensors"))
    with pytest.raises(ValueError, match="head 'tracked': version must be 3, got 4"):
        head_from_description(description, {"tracked": tmp_path / "four.safetensors"})
    with pytest.raises(ValueError, match="must have 'num_faces'"):
        head_from_description({n: v for n, v in description.items() if n != "num_faces"})


@pytest.fixture
def store(tmp_path, monkeypatch):
    """An empty store of assets."""
    monkeypatch.setenv("VULTUS_ASSETS", str(tmp_path / "store"))
    return tmp_path / "store"


@pytest.fixture
def published_flame(tmp_path):
    """A made-up FLAME release, as its authors publish it: asset -> file."""
    names = {"flame2020": "m.pkl", "flame_masks": "masks.pkl", "flame_uv": "t.obj"}
    files = {asset: tmp_path / name for asset, name in names.items()}
    write_published_flame(*files.values())
    return files


def test_imported_flame_is_found_converted_once_and_again_after_an_import(store, published_flame):
    for asset, file in published_flame.items():
        import_asset(asset, file)
    head = load_head("flame", options={"teeth": "none"})
    assert (head.name, head.version) == ("flame", "2020")
    converted = find_head_file("flame", "2020")
    written = converted.stat().st_mtime_ns
    again = head_from_description(describe_head(head))
    assert torch.equal(again.neutral, head.neutral)
    assert find_head_file("flame").stat().st_mtime_ns == written
    import_asset("flame_uv", published_flame["flame_uv"])
    assert find_head_file("flame").stat().st_mtime_ns > written


def test_the_preferred_imported_version_is_taken_unless_one_is_named(store):
    for name in ("ict_light", "ict_full"):
        file = store / name / ASSETS[name].file_name
        file.parent.mkdir(parents=True)
        file.write_bytes(b"never opened")
        assert find_head_file("ict") == file
    assert find_head_file("ict", "light").parent.name == "ict_light"
    with pytest.raises(ValueError, match="version of head 'ict' must be one of full, light"):
        find_head_file("ict", "2023")


@pytest.mark.parametrize(
    ("name", "version", "asset"),
    [
        ("ict", None, "ict_full"),
        ("ict", "light", "ict_light"),
        ("flame", None, "flame2023"),
        ("flame", "2020", "flame2020"),
    ],
)
def test_a_missing_head_names_the_command_that_imports_it(store, name, version, asset):
    with pytest.raises(FileNotFoundError, match=f"then: vultus assets import {asset} FILE"):
        load_head(name, version=version)


@pytest.mark.parametrize("name", ["ict", "flame"])
def test_a_path_without_a_file_names_commands_that_exist(tmp_path, name):
    with pytest.raises(FileNotFoundError) as caught:
        load_head(name, tmp_path / "nowhere")
    named = re.findall(r"vultus assets import (\w+) FILE", str(caught.value))
    assert named
    assert set(named) <= set(ASSETS)


def test_every_asset_of_the_table_exists():
    for entry in HEADS.values():
        assert set(entry.assets.values()) <= set(ASSETS)


def test_unknown_names_and_paths_in_vain_are_refused(tmp_path):
    with pytest.raises(ValueError, match="procedural, ict, flame, tracked, got 'x'"):
        load_head("x")
    with pytest.raises(ValueError, match="head 'tracked' needs the path of its file"):
        load_head("tracked")
    with pytest.raises(ValueError, match="takes no file"):
        load_head("procedural", tmp_path)
    with pytest.raises(ValueError, match=r"head 'procedural' is built in, .* and has no file"):
        find_head_file("procedural")
