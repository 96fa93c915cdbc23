"""The Triton kernels against the PyTorch forms that define them, in float64."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import pytest
import torch
from torch import Tensor

from triton_support import compile_launch, is_interpreting, triton_device
from vultus.geometry.rotations import axis_angle_to_matrix
from vultus.kernels.jacobian_skinning import DeformedFaces, deform_faces, skin_surfels
from vultus.methods.surfhead.jacobian_blending import blend_weights
from vultus.methods.surfhead.transport import (
    BoundSurfels,
    RestMesh,
    pose_faces,
    transport,
)

triton_test = pytest.mark.triton
EDGES: tuple[Literal["sqrt_area", "unit"], ...] = ("sqrt_area", "unit")
NUM_FRAMES = 2


@pytest.fixture
def device() -> torch.device:
    return triton_device()


def draw(*shape: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def icosahedron() -> tuple[Tensor, Tensor]:
    g = 0.5 * (1 + 5**0.5)
    points = torch.tensor(
        [[-1, g, 0], [1, g, 0], [-1, -g, 0], [1, -g, 0], [0, -1, g], [0, 1, g],
         [0, -1, -g], [0, 1, -g], [g, 0, -1], [g, 0, 1], [-g, 0, -1], [-g, 0, 1]],
        dtype=torch.float64,
    )  # fmt: skip
    faces = torch.tensor(
        [[0, 11, 5], [0, 5, 1], [0, 1, 7], [0, 7, 10], [0, 10, 11], [1, 5, 9], [5, 11, 4],
         [11, 10, 2], [10, 7, 6], [7, 1, 8], [3, 9, 4], [3, 4, 2], [3, 2, 6], [3, 6, 8],
         [3, 8, 9], [4, 9, 5], [2, 4, 11], [6, 2, 10], [8, 6, 7], [9, 8, 1]]
    )  # fmt: skip
    return points, faces


def posed_vertices(points: Tensor) -> Tensor:
    """Turned far, and bent: a half turn, and a small one."""
    turns = axis_angle_to_matrix(torch.tensor([[2.9, 0.6, -0.4], [1e-3, 2e-3, 0]]).double())
    bent = points + 0.2 * draw(NUM_FRAMES, *points.shape, seed=1)
    return bent @ turns.transpose(1, 2) + torch.tensor([0.3, -0.2, 4.0])


def mesh(third_edge: Literal["sqrt_area", "unit"]) -> tuple[RestMesh, Tensor]:
    points, faces = icosahedron()
    return RestMesh.build(points, faces, third_edge), posed_vertices(points)


def error(actual: Tensor, expected: Tensor) -> float:
    return float((actual.cpu().double() - expected).abs().max() / expected.abs().max())


@triton_test
@pytest.mark.parametrize("third_edge", EDGES)
def test_posed_triangles_and_their_gradients_are_those_of_the_definition(device, third_edge):
    rest, vertices = mesh(third_edge)
    exact = vertices.requires_grad_()
    expected = pose_faces(exact, rest, "jbs")
    leaf = vertices.detach().float().to(device).requires_grad_()
    actual = deform_faces(
        leaf, rest.faces.to(device), rest.inverse_edges.float().to(device),
        is_unit=third_edge == "unit", has_polar=True,
    )  # fmt: skip
    for name, value in expected.tensors().items():
        found = getattr(actual, name)
        assert found.requires_grad == value.requires_grad
        assert error(found.detach(), value.detach()) < 2e-6, name
    assert expected.jacobians is not None
    weights = draw(*expected.centers.shape, seed=2), draw(*expected.jacobians.shape, seed=3)
    for centers, jacobians in ((1, 0), (0, 1), (1, 1)):
        for faces, start in ((actual, leaf), (expected, exact)):
            start.grad = None
            parts = [
                (value * w.to(value)).sum()
                for value, w, used in zip(
                    (faces.centers, faces.jacobians), weights, (centers, jacobians), strict=True
                )
                if used
            ]
            torch.stack(parts).sum().backward(retain_graph=True)
        assert leaf.grad is not None
        assert exact.grad is not None
        assert error(leaf.grad, exact.grad) < 2e-5


@triton_test
def test_triangles_without_area_stay_finite(device):
    points, faces = icosahedron()
    rest = RestMesh.build(points, faces, "sqrt_area")
    flat = torch.zeros(1, *points.shape, device=device)
    posed = deform_faces(
        flat, faces.to(device), rest.inverse_edges.float().to(device), is_unit=False, has_polar=True
    )
    expected = pose_faces(flat.cpu().double(), rest, "jbs")
    assert posed.rotation_logs is not None
    assert expected.rotation_logs is not None
    assert error(posed.rotation_logs + 1, expected.rotation_logs + 1) < 1e-6


def bound_surfels(num_faces: int, rig: str) -> BoundSurfels:
    index = torch.arange(num_faces).repeat(2)
    num = len(index)
    return BoundSurfels(
        index,
        0.3 * draw(num, 3, seed=4),
        draw(num, 4, seed=5),
        draw(num, 2, seed=6).exp(),
        blend_weights(draw(num, 4, seed=7)) if rig == "jbs" else None,
    )


@triton_test
@pytest.mark.parametrize(("rig", "has_rigid"), [("jacobian", False), ("jbs", False), ("jbs", True)])
def test_surfels_and_their_gradients_are_those_of_the_definition(device, rig, has_rigid):
    rest, vertices = mesh("sqrt_area")
    exact_posed = pose_faces(vertices, rest, rig)
    surfels = bound_surfels(len(rest.faces), rig)
    rigid = torch.arange(len(surfels.face_index)) % 3 == 0 if has_rigid else None
    names = ["local_means", "quats", "scales"] + (["blend_weights"] if rig == "jbs" else [])
    leaves = {n: getattr(surfels, n).requires_grad_() for n in names}
    faces = {n: getattr(exact_posed, n).requires_grad_() for n in ("centers", "jacobians")}
    exact_posed = replace(exact_posed, **faces)
    expected = transport(replace(surfels, **leaves), rest, exact_posed, rigid)
    wanted = {
        "means": expected.means, "quats": expected.quats[0], "scales": expected.scales[0],
        "jacobians": expected.jacobians, "normals": expected.normals(),
    }  # fmt: skip

    def single(value: Tensor) -> Tensor:
        return value.detach().float().to(device).requires_grad_(value.requires_grad)

    mine = {name: single(value) for name, value in leaves.items()}
    posed = DeformedFaces(
        *(None if (t := getattr(exact_posed, n)) is None else single(t)
          for n in ("centers", "jacobians", "rotation_logs", "stretches"))
    )  # fmt: skip
    placed = skin_surfels(
        mine["local_means"], mine["quats"], mine["scales"], mine.get("blend_weights"),
        surfels.face_index.to(device), None if rigid is None else rigid.to(device),
        (single(rest.rotations), single(rest.quats), single(rest.scales)),
        rest.adjacency.to(device), posed,
    )  # fmt: skip
    loss, exact_loss = 0.0, 0.0
    for k, (name, value) in enumerate(wanted.items()):
        assert value is not None
        found = getattr(placed, name)
        assert error(found.detach(), value.detach()) < 3e-6, name
        weight = draw(*value.shape, seed=10 + k)
        loss, exact_loss = (
            loss + (found * weight.to(found)).sum(),
            exact_loss + (value * weight).sum(),
        )
    torch.as_tensor(loss).backward()
    torch.as_tensor(exact_loss).backward()
    pairs = {n: (mine[n], leaves[n]) for n in names}
    pairs |= {n: (getattr(posed, n), faces[n]) for n in faces}
    for name, (found, value) in pairs.items():
        if value.grad is None:  # blended surfels do not see their own face's Jacobian
            assert rig == "jbs"
            assert not has_rigid
            assert float(found.grad.abs().max()) == 0
            continue
        assert error(found.grad, value.grad) < 2e-5, name


@triton_test
def test_surfels_on_flat_triangles_have_no_normal_and_finite_gradients(device):
    points, faces = icosahedron()
    rest = RestMesh.build(points, faces, "unit")
    flat = torch.zeros(1, *points.shape, device=device)
    surfels = bound_surfels(len(faces), "jacobian")
    exact_jacobians = torch.zeros(1, len(faces), 3, 3, dtype=torch.float64).requires_grad_()
    exact = replace(pose_faces(flat.cpu().double(), rest, "jacobian"), jacobians=exact_jacobians)

    def single(value: Tensor) -> Tensor:
        return value.detach().float().to(device)

    jacobians = single(exact_jacobians).requires_grad_()
    placed = skin_surfels(
        single(surfels.local_means), single(surfels.quats), single(surfels.scales), None,
        surfels.face_index.to(device), None,
        (single(rest.rotations), single(rest.quats), single(rest.scales)),
        rest.adjacency.to(device), DeformedFaces(single(exact.centers), jacobians, None, None),
    )  # fmt: skip
    for normals, leaf in (
        (transport(surfels, rest, exact).normals(), exact_jacobians),
        (placed.normals, jacobians),
    ):
        assert float(normals.detach().abs().max()) == 0.0
        normals.sum().backward()
        assert leaf.grad is not None
        assert float(leaf.grad.abs().max()) == 0.0


@triton_test
def test_surfels_with_weights_need_polar_factors(device):
    rest, vertices = mesh("unit")
    posed = pose_faces(vertices, rest, "jacobian")
    surfels = bound_surfels(len(rest.faces), "jbs")
    assert posed.jacobians is not None
    with pytest.raises(ValueError, match="must have polar factors"):
        skin_surfels(
            surfels.local_means, surfels.quats, surfels.scales, surfels.blend_weights,
            surfels.face_index, None, (rest.rotations, rest.quats, rest.scales), rest.adjacency,
            DeformedFaces(posed.centers, posed.jacobians, None, None),
        )  # fmt: skip


@pytest.mark.parametrize("capability", [80, 90])
def test_kernels_compile_without_spilling(capability):
    pytest.importorskip("triton")
    if is_interpreting():
        pytest.skip("interpreted functions cannot be compiled")
    from vultus.kernels.triton_runtime import recorded_launches

    rest, vertices = mesh("sqrt_area")
    surfels = bound_surfels(len(rest.faces), "jbs")
    with recorded_launches() as launches:
        posed = deform_faces(
            vertices.float().requires_grad_(), rest.faces, rest.inverse_edges.float(),
            is_unit=False, has_polar=True,
        )  # fmt: skip
        assert surfels.blend_weights is not None
        placed = skin_surfels(
            surfels.local_means.float().requires_grad_(), surfels.quats.float(),
            surfels.scales.float(), surfels.blend_weights.float(), surfels.face_index,
            torch.ones(len(surfels.face_index), dtype=torch.bool),
            (rest.rotations.float(), rest.quats.float(), rest.scales.float()), rest.adjacency,
            posed,
        )  # fmt: skip
        (placed.means.sum() + placed.normals.sum() + placed.quats.sum()).backward()
    assert [launch.kernel.fn.__name__ for launch in launches] == [
        "deform", "skin", "skin_backward", "deform_backward",
    ]  # fmt: skip
    for launch in launches:
        # Sines of large angles, which do not occur, would need a table.
        assert compile_launch(launch, capability).stack <= 48, launch.kernel.fn.__name__
