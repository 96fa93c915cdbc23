from __future__ import annotations

import pytest
import torch

from vultus.geometry.rotations import axis_angle_to_matrix, quaternion_to_matrix
from vultus.methods.surfhead.jacobian_blending import (
    blend_jacobians,
    blend_weights,
    initial_blend_logits,
)
from vultus.methods.surfhead.transport import BoundSurfels, RestMesh, pose_faces, transport


def octahedron():
    points = torch.tensor(
        [[1.0, 0, 0], [-1, 0, 0], [0, 1, 0], [0, -1, 0], [0, 0, 1], [0, 0, -1]],
        dtype=torch.float64,
    )
    faces = torch.tensor(
        [[4, 0, 2], [4, 2, 1], [4, 1, 3], [4, 3, 0], [5, 2, 0], [5, 1, 2], [5, 3, 1], [5, 0, 3]]
    )
    stretch = torch.tensor([1.0, 1.3, 0.8], dtype=torch.float64)
    return points * stretch, faces


def random_surfels(num_faces, generator, per_face=3):
    index = torch.arange(num_faces).repeat(per_face)
    count = index.shape[0]

    def normal(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    return BoundSurfels(
        index,
        0.3 * normal(count, 3),
        normal(count, 4),
        normal(count, 2).exp(),
        blend_weights(normal(count, 4)),
    )


@pytest.mark.parametrize("rig", ["similarity", "jacobian", "jbs"])
@pytest.mark.parametrize("third_edge", ["sqrt_area", "unit"])
def test_surfels_follow_a_rigid_motion_exactly(rig, third_edge):
    generator = torch.Generator().manual_seed(1)
    vertices, faces = octahedron()
    rest = RestMesh.build(vertices, faces, third_edge)
    surfels = random_surfels(len(faces), generator)
    rotation = axis_angle_to_matrix(torch.tensor([0.4, -1.1, 0.3], dtype=torch.float64))
    shift = torch.tensor([0.2, -0.1, 3.0], dtype=torch.float64)
    still = transport(surfels, rest, pose_faces(vertices[None], rest, rig))
    moved = transport(surfels, rest, pose_faces((vertices @ rotation.T + shift)[None], rest, rig))
    torch.testing.assert_close(moved.means, still.means @ rotation.T + shift)
    torch.testing.assert_close(moved.normals(), still.normals() @ rotation.T)


@pytest.mark.parametrize("rig", ["jacobian", "jbs"])
def test_the_jacobian_of_an_undeformed_mesh_is_the_identity(rig):
    vertices, faces = octahedron()
    rest = RestMesh.build(vertices, faces, "sqrt_area")
    surfels = random_surfels(len(faces), torch.Generator().manual_seed(2))
    placed = transport(surfels, rest, pose_faces(vertices[None], rest, rig))
    identity = torch.eye(3, dtype=torch.float64).expand_as(placed.jacobians)
    torch.testing.assert_close(placed.jacobians, identity, atol=1e-9, rtol=0)


def test_normals_stay_orthogonal_to_transported_tangents():
    generator = torch.Generator().manual_seed(3)
    vertices, faces = octahedron()
    rest = RestMesh.build(vertices, faces, "sqrt_area")
    surfels = random_surfels(len(faces), generator)
    bent = vertices + 0.2 * torch.randn(6, 3, generator=generator, dtype=torch.float64)
    placed = transport(surfels, rest, pose_faces(bent[None], rest, "jbs"))
    axes = quaternion_to_matrix(torch.nn.functional.normalize(placed.quats, dim=-1))
    tangents = placed.jacobians @ axes[..., :2]
    product = (placed.normals()[..., None] * tangents).sum(dim=-2)
    assert float(product.abs().max()) < 1e-9


def test_blending_equal_neighbours_changes_nothing():
    generator = torch.Generator().manual_seed(4)
    log = torch.randn(5, 1, 3, generator=generator, dtype=torch.float64).expand(5, 4, 3)
    stretch = torch.eye(3, dtype=torch.float64) + 0.1 * torch.ones(3, 3, dtype=torch.float64)
    weights = blend_weights(torch.randn(5, 4, generator=generator, dtype=torch.float64))
    blended = blend_jacobians(log, stretch.expand(5, 4, 3, 3), weights)
    torch.testing.assert_close(blended, axis_angle_to_matrix(log[:, 0]) @ stretch)


def test_initial_blending_gives_most_to_the_own_face():
    weights = blend_weights(initial_blend_logits(2))
    expected = torch.tensor([0.9, 0.05, 0.05, 0.05]) / 1.05
    torch.testing.assert_close(weights, expected.expand(2, 4))


def test_rigid_surfels_ignore_their_neighbours():
    generator = torch.Generator().manual_seed(5)
    vertices, faces = octahedron()
    rest = RestMesh.build(vertices, faces, "sqrt_area")
    surfels = random_surfels(len(faces), generator)
    bent = vertices + 0.2 * torch.randn(6, 3, generator=generator, dtype=torch.float64)
    posed = pose_faces(bent[None], rest, "jbs")
    everyone = torch.ones(len(surfels.face_index), dtype=torch.bool)
    placed = transport(surfels, rest, posed, everyone)
    torch.testing.assert_close(placed.jacobians, posed.jacobians[:, surfels.face_index])
