"""Posed meshes and their visibility, frame by frame and from a file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from torch import Tensor

from vultus.data.sequence import FrameRecord, HeadSequence
from vultus.geometry.cameras import Camera, look_at
from vultus.geometry.meshes import vertex_normals
from vultus.heads.base import HeadPose
from vultus.heads.registry import load_head
from vultus.kernels.env_shade import trace_words
from vultus.kernels.ray_mesh import Bvh
from vultus.methods.relightable_blendshapes.material_frames import (
    MeshFrames,
    TracedTrack,
    light_turns_by_timestep,
)
from vultus.render.lighting.texels import TexelGrid

FLOOR = torch.tensor([[-1.0, 0, -1], [1, 0, -1], [1, 0, 1], [-1, 0, 1]])
FACES = torch.tensor([[0, 2, 1], [0, 3, 2], [4, 6, 5], [4, 7, 6]])


@dataclass(frozen=True)
class Roof:
    """A floor, and a roof that translations move."""

    faces: Tensor = FACES
    occluders: Tensor = FACES

    @property
    def labels(self) -> Tensor:
        return torch.zeros(8, dtype=torch.int64)

    @property
    def albedo(self) -> Tensor:
        return torch.full((8, 3), 0.5)

    @property
    def rest_vertices(self) -> Tensor:
        return torch.cat([FLOOR, FLOOR * 0.8 + torch.tensor([0.0, 0.5, 0.0])])

    def carried(self, points: Tensor) -> Tensor:
        return points

    def vertices(self, pose: HeadPose) -> Tensor:
        assert pose.translation is not None
        moves = pose.translation[:, None] * torch.tensor([0.0] * 4 + [1.0] * 4)[:, None]
        return self.rest_vertices + moves


WAYS = torch.tensor([[0.0, 0, 0], [0.7, 0, 0], [3, 0, 0], [0, 2, 0]])
MOVES = HeadPose(translation=WAYS)
TURN = torch.tensor([[0.0, 0.0, 1.0], [0.0, 1.0, 0.0], [-1.0, 0.0, 0.0]])


@pytest.fixture
def frames() -> MeshFrames:
    return MeshFrames(Roof(), TexelGrid.build(4, 8))


def test_a_traced_frame_is_the_posed_mesh_in_the_turned_light(frames) -> None:
    traced = frames.traced(MOVES[1:3], torch.stack([torch.eye(3), TURN]))
    for index, turn in enumerate((torch.eye(3), TURN)):
        vertices = frames.mesh.vertices(MOVES[1 + index])[0]
        normals = vertex_normals(vertices, FACES)
        bvh = Bvh.build(vertices, FACES)
        expected = trace_words(bvh, vertices, normals, frames.grid.directions @ turn.T)
        assert traced.words is not None
        assert torch.equal(traced.words[index], expected)
        assert torch.equal(traced.normals[index], normals)


def test_probes_that_nothing_looks_up_are_not_traced(frames) -> None:
    turns = torch.stack([torch.eye(3), TURN])
    everything = frames.traced(MOVES[1:3], turns)
    probes = torch.tensor([6, 0, 3])
    some = frames.traced(MOVES[1:3], turns, probes)
    assert everything.words is not None
    assert some.words is not None
    assert torch.equal(some.normals, everything.normals)
    assert torch.equal(some.words[:, probes], everything.words[:, probes])
    is_other = torch.ones(8, dtype=torch.bool).index_fill(0, probes, False)
    assert bool((everything.words[:, is_other] != 0).any())
    assert bool((some.words[:, is_other] == 0).all())


@pytest.mark.parametrize("has_file", [False, True])
def test_a_track_keeps_the_words_of_its_timesteps(frames, has_file, tmp_path) -> None:
    turns = {3: torch.eye(3), 1: TURN}
    path = tmp_path / "words.safetensors" if has_file else None
    track = TracedTrack.trace(frames, MOVES, turns, path)
    words = track.at(torch.tensor([1, 3, 1]))
    for row, timestep in enumerate((1, 3, 1)):
        expected = frames.traced(MOVES[timestep], turns[timestep][None]).words
        assert expected is not None
        assert torch.equal(words[row], expected[0])
    assert not torch.equal(words[0], words[1])
    if path is not None:
        assert torch.equal(TracedTrack.trace(frames, MOVES, turns, path).words, track.words)
        moved = HeadPose(translation=1.1 * WAYS)
        with pytest.raises(ValueError, match="must be of"):
            TracedTrack.trace(frames, moved, turns, path)


def record(timestep: int, eye: tuple[float, float, float]) -> FrameRecord:
    camera = Camera(look_at(torch.tensor([eye]), torch.zeros(3)), torch.eye(3)[None], 4, 4)
    return FrameRecord(timestep, 0, camera, Path("image.png"))


def capture(records: list[FrameRecord]) -> HeadSequence:
    return HeadSequence(
        root=Path(),
        frames=tuple(records),
        splits={"train": torch.arange(len(records))},
        head=load_head("procedural"),
        pose=HeadPose(),
    )


def test_light_that_stands_with_the_camera_needs_one_camera_per_moment() -> None:
    records = [record(0, (0.0, 0.0, 1.0)), record(2, (0.5, 0.0, 1.0))]
    turns = light_turns_by_timestep(capture(records), "camera_opengl")
    assert sorted(turns) == [0, 2]
    assert not torch.equal(turns[0], turns[2])
    several = capture([*records, record(2, (0.0, 0.0, 1.0))])
    assert torch.equal(light_turns_by_timestep(several, "world")[2], torch.eye(3))
    with pytest.raises(ValueError, match="one camera per moment, timestep 2 has several"):
        light_turns_by_timestep(several, "camera_opengl")
