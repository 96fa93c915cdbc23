"""Visibility of posed meshes: refitted tracing, the file of all frames, the ramp."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from vultus.geometry.meshes import vertex_normals
from vultus.kernels.ray_mesh import unpack_visibility
from vultus.methods.relightable_blendshapes.visibility import (
    CacheKey,
    OccluderMesh,
    VisibilityCache,
    visibility_ramp,
)

FLOOR = torch.tensor([[-1.0, 0, -1], [1, 0, -1], [1, 0, 1], [-1, 0, 1]])
ROOF = FLOOR * 0.8 + torch.tensor([0.0, 0.5, 0.0])
MESH = torch.cat([FLOOR, ROOF])
FACES = torch.tensor([[0, 2, 1], [0, 3, 2], [4, 6, 5], [4, 7, 6]])
UP_AND_OUT = torch.tensor([[0.0, 1.0, 0.0], [0.0, 0.2, 0.98]])


def traced(vertices: Tensor) -> Tensor:
    """Which of the two lights each vertex sees, for each frame."""
    frames = vertices.shape[0]
    occluder = OccluderMesh.build(MESH, FACES)
    normals = vertex_normals(vertices, FACES)
    words = occluder.trace(vertices, normals, UP_AND_OUT.expand(frames, 2, 3))
    return torch.stack([unpack_visibility(each, 2) for each in words])


def test_a_roof_that_moves_away_lets_light_in() -> None:
    away = MESH + torch.cat([torch.zeros(4, 3), torch.tensor([[5.0, 0, 0]]).expand(4, 3)])
    wide = MESH * torch.cat([torch.ones(4, 3), torch.tensor([[1.5, 1, 1.5]]).expand(4, 3)])
    open_floor, covered_floor = traced(torch.stack([away, wide]))[:, :4, 0]
    assert open_floor.tolist() == [1, 1, 1, 1]
    assert covered_floor.tolist() == [0, 0, 0, 0]


def test_probes_without_faces_see_light_and_hide_none() -> None:
    probe = torch.tensor([[0.0, 0.2, 0.0]])
    occluder = OccluderMesh.build(torch.cat([MESH, probe]), FACES)
    vertices = torch.cat([MESH, probe])[None]
    normals = torch.cat([vertex_normals(MESH, FACES), torch.tensor([[0.0, 0.0, 1.0]])])[None]
    words = occluder.trace(vertices, normals, UP_AND_OUT[None])
    assert unpack_visibility(words[0], 2)[-1].tolist() == [0, 1]


@pytest.fixture
def key() -> CacheKey:
    return CacheKey(3, 5, 36, CacheKey.hash_of(MESH, FACES))


def words_of(frame: int, key: CacheKey) -> Tensor:
    generator = torch.Generator().manual_seed(frame)
    shape = (key.num_probes, key.num_words)
    return torch.randint(-(2**31), 2**31, shape, generator=generator).to(torch.int32)


def test_words_come_back_from_the_file(tmp_path, key) -> None:
    path = tmp_path / "visibility.safetensors"
    assert key.num_words == 2
    VisibilityCache.build(path, key, lambda frame: words_of(frame, key))
    cache = VisibilityCache.open(path, key)
    expected = torch.stack([words_of(frame, key) for frame in range(3)])
    assert torch.equal(cache.load(), expected)
    assert torch.equal(torch.stack(list(cache.frames())), expected)
    assert torch.equal(cache.frame(1), expected[1])


def test_an_interrupted_build_leaves_no_file(tmp_path, key) -> None:
    path = tmp_path / "visibility.safetensors"

    def trace(frame: int) -> Tensor:
        if frame == 2:
            raise KeyboardInterrupt
        return words_of(frame, key)

    with pytest.raises(KeyboardInterrupt):
        VisibilityCache.build(path, key, trace)
    assert not list(tmp_path.iterdir())
    with pytest.raises(ValueError, match=r"words must have shape \(5, 2\), got \(5, 1\)"):
        VisibilityCache.build(path, key, lambda frame: words_of(frame, key)[:, :1])


def test_words_of_other_frames_are_refused(tmp_path, key) -> None:
    path = tmp_path / "visibility.safetensors"
    with pytest.raises(FileNotFoundError, match="does not exist"):
        VisibilityCache.open(path, key)
    VisibilityCache.build(path, key, lambda frame: words_of(frame, key))
    other = replace(key, digest=CacheKey.hash_of(MESH + 1, FACES))
    with pytest.raises(ValueError, match="must be of"):
        VisibilityCache.open(path, other)
    path.write_bytes(b"no header at all")
    with pytest.raises(ValueError, match="not a file of visibility"):
        VisibilityCache.open(path, key)


def test_shadows_grow_in_a_straight_line() -> None:
    assert [visibility_ramp(step, 200) for step in (-1, 0, 50, 200, 900)] == [0, 0, 0.25, 1, 1]
    assert visibility_ramp(0, 0) == 1.0
    with pytest.raises(ValueError, match="must not be negative"):
        visibility_ramp(0, -1)
