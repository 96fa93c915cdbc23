from __future__ import annotations

import pytest
import torch

from vultus.heads.base import HeadModel, HeadPose
from vultus.heads.tracked import TrackedMesh

FACES = torch.tensor([[0, 1, 2], [0, 2, 3]])


@pytest.fixture
def track():
    return torch.randn(4, 5, 3, generator=torch.Generator().manual_seed(0))


def test_a_track_is_replayed_exactly(track):
    head, pose = TrackedMesh.from_track(track, FACES, neutral_frame=2)
    assert isinstance(head, HeadModel)
    assert torch.equal(head.neutral, track[2])
    torch.testing.assert_close(head.vertices(pose), track)


def test_the_rigid_motion_turns_before_it_shifts(track):
    head, pose = TrackedMesh.from_track(track, FACES)
    quarter = torch.tensor([[0.0, 0.0, torch.pi / 2]])
    moved = head.vertices(
        pose.replace(global_rotation=quarter, translation=torch.tensor([[1.0, 2.0, 3.0]]))
    )
    turned = torch.stack([-track[..., 1], track[..., 0], track[..., 2]], dim=-1)
    torch.testing.assert_close(moved, turned + torch.tensor([1.0, 2.0, 3.0]))


def test_saving_keeps_mesh_and_regions(tmp_path, track):
    regions = {"skin": torch.tensor([True, False, True, True, False])}
    head = TrackedMesh(track[0], FACES, torch.rand(3, 2), torch.zeros_like(FACES), regions)
    head.save(tmp_path / "mesh.safetensors")
    loaded = TrackedMesh.from_file(tmp_path / "mesh.safetensors")
    assert torch.equal(loaded.neutral, head.neutral)
    assert torch.equal(loaded.topology.uv, head.topology.uv)
    assert loaded.topology.regions.keys() == head.topology.regions.keys()
    for name, mask in head.topology.regions.items():
        assert torch.equal(loaded.topology.regions[name], mask)


def test_meshes_and_offsets_that_do_not_fit_are_refused(track):
    with pytest.raises(ValueError, match="faces must address 3 vertices, got 0 to 3"):
        TrackedMesh(track[0, :3], FACES)
    with pytest.raises(ValueError, match="uv and uv_faces must be given together"):
        TrackedMesh(track[0], FACES, uv=torch.zeros(1, 2))
    with pytest.raises(ValueError, match="vertex_offset must have size 15 per frame, got 12"):
        TrackedMesh(track[0], FACES).vertices(HeadPose(vertex_offset=torch.zeros(1, 4, 3)))
