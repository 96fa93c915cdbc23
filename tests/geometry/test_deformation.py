from __future__ import annotations

import pytest
import torch

from tolerances import assert_close
from vultus.geometry.deformation import (
    deformation_gradients,
    edge_matrices,
    face_adjacency,
    inverse_edge_matrices,
    triangle_frames,
)
from vultus.geometry.rotations import axis_angle_to_matrix

FACES = torch.tensor([[0, 1, 2], [2, 1, 3], [3, 1, 4], [4, 1, 0], [5, 6, 7]])


def random_vertices(seed: int = 0, count: int = 8) -> torch.Tensor:
    return torch.randn(count, 3, generator=torch.Generator().manual_seed(seed)).double()


def random_rotation() -> torch.Tensor:
    return axis_angle_to_matrix(torch.tensor([0.3, -1.2, 0.7], dtype=torch.float64))


@pytest.mark.parametrize("third_edge", ["sqrt_area", "unit"])
def test_inverse_edges_times_edges_is_the_identity(third_edge) -> None:
    vertices = random_vertices()
    product = inverse_edge_matrices(vertices, FACES, third_edge) @ edge_matrices(
        vertices, FACES, third_edge
    )
    assert_close(product, torch.eye(3).double().expand(5, 3, 3))


@pytest.mark.parametrize("third_edge", ["sqrt_area", "unit"])
def test_gradient_of_a_rigid_motion_is_its_rotation(third_edge) -> None:
    vertices, rotation = random_vertices(), random_rotation()
    inverse = inverse_edge_matrices(vertices, FACES, third_edge)
    moved = vertices @ rotation.T + 5.0
    jacobians = deformation_gradients(moved[None], FACES, inverse, third_edge)
    assert_close(jacobians, rotation.expand(1, 5, 3, 3))


@pytest.mark.parametrize(("third_edge", "normal_stretch"), [("sqrt_area", 3.0), ("unit", 1.0)])
def test_gradient_of_a_scaling_stretches_the_normal_by_the_rule(third_edge, normal_stretch) -> None:
    vertices = random_vertices()
    inverse = inverse_edge_matrices(vertices, FACES, third_edge)
    jacobians = deformation_gradients(3.0 * vertices, FACES, inverse, third_edge)
    normals = triangle_frames(vertices, FACES).rotations[..., 2]
    in_plane = triangle_frames(vertices, FACES).rotations[..., 0]
    assert_close((jacobians @ normals[..., None])[..., 0], normal_stretch * normals)
    assert_close((jacobians @ in_plane[..., None])[..., 0], 3.0 * in_plane)


@pytest.mark.parametrize("third_edge", ["sqrt_area", "unit"])
def test_gradients_map_edges_to_posed_edges_and_keep_orientation(third_edge) -> None:
    rest, posed = random_vertices(1), random_vertices(2)
    inverse = inverse_edge_matrices(rest, FACES, third_edge)
    jacobians = deformation_gradients(posed, FACES, inverse, third_edge)
    for corner in (1, 2):
        edges = [mesh[FACES[:, corner]] - mesh[FACES[:, 0]] for mesh in (rest, posed)]
        assert_close((jacobians @ edges[0][..., None])[..., 0], edges[1])
    assert bool((torch.linalg.det(jacobians) > 0).all())


@pytest.mark.parametrize("third_edge", ["sqrt_area", "unit"])
def test_derivatives_agree_with_finite_differences(third_edge) -> None:
    inverse = inverse_edge_matrices(random_vertices(1), FACES, third_edge)
    posed = random_vertices(2).requires_grad_()
    assert torch.autograd.gradcheck(
        lambda v: deformation_gradients(v, FACES, inverse, third_edge), posed
    )

    def frames(vertices):
        found = triangle_frames(vertices, FACES)
        return found.rotations, found.scales, found.centers

    assert torch.autograd.gradcheck(frames, posed)


def test_a_face_without_area_at_rest_is_named() -> None:
    vertices = random_vertices()
    vertices[3] = vertices[2]
    with pytest.raises(ValueError, match="face 1 has none"):
        inverse_edge_matrices(vertices, FACES, "unit")


def test_a_posed_face_without_area_has_finite_gradients() -> None:
    rest = random_vertices()
    posed = torch.zeros_like(rest).requires_grad_()
    inverse = inverse_edge_matrices(rest, FACES, "sqrt_area")
    jacobians = deformation_gradients(posed, FACES, inverse, "sqrt_area")
    frames = triangle_frames(posed, FACES)
    (jacobians.sum() + frames.rotations.sum() + frames.scales.sum()).backward()
    assert posed.grad is not None
    assert posed.grad.isfinite().all()


def test_frames_are_rotations_with_the_normal_last() -> None:
    vertices = torch.tensor([[1.0, 0, 0], [3, 0, 0], [1, 4, 0]])
    frames = triangle_frames(vertices, torch.tensor([[0, 1, 2]]))
    assert_close(frames.rotations[0], torch.eye(3))
    assert float(frames.scales) == pytest.approx(3.0)
    assert_close(frames.centers[0], torch.tensor([5 / 3, 4 / 3, 0.0]))
    rotations = triangle_frames(random_vertices(), FACES).rotations
    assert_close(rotations.mT @ rotations, torch.eye(3).double().expand(5, 3, 3))
    assert_close(torch.linalg.det(rotations), torch.ones(5).double())


def test_frames_of_a_batch_are_those_of_its_members() -> None:
    batch = torch.stack([random_vertices(seed) for seed in range(3)])
    together = triangle_frames(batch, FACES)
    for i in range(3):
        assert torch.equal(together.rotations[i], triangle_frames(batch[i], FACES).rotations)


def slow_adjacency(faces: list[list[int]]) -> list[list[int]]:
    """The rule as it is written: walk faces and edges with a dictionary."""
    shared: dict[frozenset[int], list[int]] = {}
    for face, corners in enumerate(faces):
        for i in range(3):
            shared.setdefault(frozenset((corners[i], corners[(i + 1) % 3])), []).append(face)
    table: list[list[int]] = [[face] for face in range(len(faces))]
    for owners in shared.values():
        for face in owners:
            table[face] += [other for other in owners if other != face]
    return [(row + [row[0]] * 3)[:4] for row in table]


@pytest.mark.parametrize("seed", range(5))
def test_adjacency_equals_the_walk_over_all_faces_also_at_shared_edges(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    # Few vertices and many faces: edges of one to many faces.
    faces = torch.rand(60, 9, generator=generator).argsort(dim=1)[:, :3]
    assert face_adjacency(faces).tolist() == slow_adjacency(faces.tolist())


def test_adjacency_of_a_fan() -> None:
    expected = [[0, 3, 1, 0], [1, 0, 2, 1], [2, 1, 3, 2], [3, 0, 2, 3], [4, 4, 4, 4]]
    assert face_adjacency(FACES).tolist() == expected
