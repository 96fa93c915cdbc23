from __future__ import annotations

import torch

from vultus.heads.binding import (
    bind_one_per_face,
    binding_counts,
    local_to_world,
    triangle_frames,
    world_to_local,
)

FACES = torch.tensor([[0, 1, 2], [1, 3, 2], [2, 3, 4]])


def vertices(batch=2):
    return torch.randn(batch, 5, 3, generator=torch.Generator().manual_seed(1)).double()


def test_going_to_the_world_and_back_is_the_identity():
    frames = triangle_frames(vertices(), FACES)
    face_index = torch.tensor([2, 0, 0, 1])
    local = torch.randn(4, 3, generator=torch.Generator().manual_seed(2)).double()
    world = local_to_world(local, face_index, frames)
    assert world.shape == (2, 4, 3)
    back = world_to_local(world, face_index, frames)
    torch.testing.assert_close(back, local.expand(2, 4, 3))


def test_the_origin_of_a_face_is_its_centroid():
    posed = vertices()
    world = local_to_world(
        torch.zeros(3, 3).double(), bind_one_per_face(FACES), triangle_frames(posed, FACES)
    )
    torch.testing.assert_close(world, posed[:, FACES].mean(dim=2))


def test_points_follow_similarity_motions_of_the_mesh():
    posed = vertices()
    random = torch.randn(3, 3, generator=torch.Generator().manual_seed(4)).double()
    rotation, _ = torch.linalg.qr(random)
    rotation = rotation * torch.linalg.det(rotation)
    local = torch.randn(3, 3, generator=torch.Generator().manual_seed(5)).double()
    face_index = bind_one_per_face(FACES)

    def move(points):
        return 1.7 * points @ rotation.T + 0.3

    before = local_to_world(local, face_index, triangle_frames(posed, FACES))
    after = local_to_world(local, face_index, triangle_frames(move(posed), FACES))
    torch.testing.assert_close(after, move(before))


def test_counts_include_empty_faces():
    assert binding_counts(torch.tensor([0, 2, 2]), 4).tolist() == [1, 0, 2, 0]
    assert binding_counts(bind_one_per_face(FACES), 3).tolist() == [1, 1, 1]
