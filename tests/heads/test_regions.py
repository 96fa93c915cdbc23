from __future__ import annotations

import pytest
import torch

from synthetic_flame import MASK_NAMES
from vultus.heads.base import Topology
from vultus.heads.regions import (
    REQUIRED_REGIONS,
    complete_regions,
    flame_regions,
    open_boundary,
    region_mask,
)


def test_the_rim_of_an_open_grid_is_its_boundary():
    grid = torch.arange(16).reshape(4, 4)
    corners = grid[:-1, :-1].flatten(), grid[:-1, 1:].flatten(), grid[1:, :-1].flatten()
    last = grid[1:, 1:].flatten()
    faces = torch.cat([torch.stack(corners, 1), torch.stack([corners[1], last, corners[2]], 1)])
    inner = {int(i) for i in grid[1:-1, 1:-1].flatten()}
    mask = open_boundary(faces, 17)
    assert {i for i in range(17) if mask[i]} == set(range(16)) - inner


def test_a_closed_mesh_has_no_boundary():
    tetrahedron = torch.tensor([[0, 1, 2], [0, 3, 1], [0, 2, 3], [1, 3, 2]])
    assert not open_boundary(tetrahedron, 4).any()


def test_derived_flame_regions_follow_their_definitions():
    masks = {name: torch.arange(2 * i, 2 * i + 3) for i, name in enumerate(MASK_NAMES)}
    regions = flame_regions(masks, 40, num_teeth=5)
    sets = {name: set(mask.nonzero().flatten().tolist()) for name, mask in regions.items()}
    published = {name: set(ids.tolist()) for name, ids in masks.items()}
    eyeballs = published["left_eyeball"] | published["right_eyeball"]
    assert sets["eyeballs"] == eyeballs
    assert sets["hair"] == published["scalp"] - published["face"] - published["neck"]
    assert sets["teeth"] == set(range(35, 40))
    assert sets["skin"] == set(range(35)) - eyeballs
    assert set(REQUIRED_REGIONS) <= sets.keys()


def test_a_face_belongs_to_a_region_with_all_three_vertices():
    regions = complete_regions({"skin": torch.tensor([True, True, True, False])}, 4)
    faces = torch.tensor([[0, 1, 2], [1, 2, 3]])
    topology = Topology(faces, torch.zeros(1, 2), torch.zeros_like(faces), regions)
    assert topology.face_region("skin").tolist() == [True, False]
    assert topology.face_region("teeth").tolist() == [False, False]


def test_missing_masks_and_foreign_ids_are_refused():
    with pytest.raises(ValueError, match="must contain 'face'"):
        flame_regions({}, 10)
    with pytest.raises(ValueError, match=r"ear: vertex ids must lie in \[0, 3\), got 1 to 3"):
        region_mask([1, 3], 3, "ear")
