"""Heads with fewer faces move as the fine ones do."""

from __future__ import annotations

import pytest
import torch

from vultus.geometry.decimation import Decimation
from vultus.heads import coarse as module
from vultus.heads.base import HeadModel, HeadPose, JointedHead
from vultus.heads.coarse import CoarseHead
from vultus.heads.procedural.model import ProceduralHead
from vultus.heads.tracked import TrackedMesh

FACES = 12_000


@pytest.fixture(scope="module")
def fine() -> ProceduralHead:
    return ProceduralHead()


@pytest.fixture(scope="module")
def coarse(fine: ProceduralHead) -> CoarseHead:
    return CoarseHead(fine, FACES)


def test_faces_are_fewer_and_lie_on_the_same_vertices(
    fine: ProceduralHead, coarse: CoarseHead
) -> None:
    topology = coarse.topology
    assert len(topology.faces) <= FACES < len(fine.topology.faces)
    assert topology.uv_faces.shape == topology.faces.shape
    assert topology.num_vertices == fine.topology.num_vertices
    assert topology.face_region("left_eyeball").any()
    assert topology.face_region("teeth").any()


def test_a_mesh_is_decimated_once_and_heads_share_no_memory(
    fine: ProceduralHead, coarse: CoarseHead, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []

    def note(vertices: torch.Tensor, faces: torch.Tensor, max_faces: int) -> Decimation:
        asked.append(max_faces)
        return Decimation(faces[:max_faces], torch.arange(len(vertices)))

    monkeypatch.setattr(module, "decimate", note)
    again = CoarseHead(fine, FACES).topology.faces
    assert not asked
    assert torch.equal(again, coarse.topology.faces)
    again += 1
    assert not torch.equal(again, coarse.topology.faces)
    for count in (50, *range(1, 10), 50):
        assert len(CoarseHead(fine, count).topology.faces) == count
    assert asked == [50, *range(1, 10), 50]


def test_it_is_posed_as_the_fine_head_is(fine: ProceduralHead, coarse: CoarseHead) -> None:
    assert isinstance(coarse, HeadModel)
    assert isinstance(coarse, JointedHead)
    assert coarse.parameters_spec == fine.parameters_spec
    coeffs = torch.linspace(0, 1, len(fine.expression_names))[None]
    pose = HeadPose(expression_coeffs=coeffs, global_rotation=torch.tensor([[0.1, 0.2, 0.3]]))
    assert torch.equal(coarse.vertices(pose), fine.vertices(pose))
    assert torch.equal(coarse.joint_motion(pose).transforms, fine.joint_motion(pose).transforms)


def test_every_corner_has_a_texture_coordinate_of_its_vertex(
    fine: ProceduralHead, coarse: CoarseHead
) -> None:
    own = set(zip(*(t.flatten().tolist() for t in _corners(fine)), strict=True))
    assert set(zip(*(t.flatten().tolist() for t in _corners(coarse)), strict=True)) <= own


def _corners(head: HeadModel) -> tuple[torch.Tensor, torch.Tensor]:
    return head.topology.faces, head.topology.uv_faces


def test_heads_without_joints_and_meshes_without_faces_are_refused(fine: ProceduralHead) -> None:
    tracked = TrackedMesh(torch.rand(3, 3), torch.tensor([[0, 1, 2]]))
    with pytest.raises(TypeError, match="head 'tracked' has no joints"):
        CoarseHead(tracked, 10)
    with pytest.raises(ValueError, match="max_faces must be positive"):
        CoarseHead(fine, 0)
