from __future__ import annotations

import importlib
import json

import pytest
import torch

from synthetic_flame import synthetic_flame
from vultus.core.bundles import save_bundle
from vultus.heads.flame import FLAME_ARRAYS, FLAME_FORMAT, FlameHead
from vultus.heads.registry import HEADS, describe_head, head_from_description, load_head
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


def test_unknown_names_and_paths_in_vain_are_refused(tmp_path):
    with pytest.raises(ValueError, match="procedural, ict, flame, tracked, got 'x'"):
        load_head("x")
    with pytest.raises(ValueError, match="head 'ict' needs the path of its file"):
        load_head("ict")
    with pytest.raises(ValueError, match="takes no file"):
        load_head("procedural", tmp_path)
