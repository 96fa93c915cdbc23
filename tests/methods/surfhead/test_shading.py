from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from tolerances import assert_close
from vultus.geometry.rotations import axis_angle_to_matrix
from vultus.geometry.spherical_harmonics import evaluate_color_sh
from vultus.methods.surfhead.jacobian_blending import blend_weights
from vultus.methods.surfhead.shading import (
    Shading,
    canonical_rotations,
    canonical_sh_colors,
    place_rows,
    shading_of,
)
from vultus.methods.surfhead.specular import SpecularNetwork
from vultus.methods.surfhead.transport import BoundSurfels, RestMesh, pose_faces, transport

RIGS = ["similarity", "jacobian", "jbs"]
TURN = axis_angle_to_matrix(torch.tensor([0.4, -1.1, 0.3], dtype=torch.float64))
EYE = torch.tensor([[0.5, 0.7, 5.0]], dtype=torch.float64)


def ellipsoid() -> tuple[Tensor, Tensor]:
    points = torch.tensor(
        [[1.0, 0, 0], [-1.2, 0, 0], [0, 1.3, 0], [0, -1, 0], [0, 0, 0.8], [0, 0, -1]],
        dtype=torch.float64,
    )
    faces = torch.tensor(
        [[4, 0, 2], [4, 2, 1], [4, 1, 3], [4, 3, 0], [5, 2, 0], [5, 1, 2], [5, 3, 1], [5, 0, 3]]
    )
    return points, faces


def random_surfels(num_faces: int = 8, per_face: int = 3) -> BoundSurfels:
    generator = torch.Generator().manual_seed(1)
    index = torch.arange(num_faces).repeat(per_face)

    def normal(*shape: int) -> Tensor:
        return torch.randn(len(index), *shape, generator=generator, dtype=torch.float64)

    weights = blend_weights(normal(4))
    return BoundSurfels(index, 0.3 * normal(3), normal(4), normal(2).exp(), weights)


def seen(vertices: Tensor, eye: Tensor, rig: str, *, quirks: bool = False) -> Shading:
    rest_vertices, faces = ellipsoid()
    rest = RestMesh.build(rest_vertices, faces, "sqrt_area")
    surfels = random_surfels()
    posed = pose_faces(vertices[None], rest, rig)
    placed = transport(surfels, rest, posed)
    every = torch.arange(len(surfels.face_index))
    return shading_of(surfels, rest, posed, placed, eye, every, official_quirks=quirks)


@pytest.mark.parametrize("rig", RIGS)
def test_a_head_that_turns_with_its_camera_is_shaded_the_same(rig: str) -> None:
    vertices, _ = ellipsoid()
    shift = torch.tensor([0.3, 0.0, -0.5], dtype=torch.float64)
    still = seen(vertices, EYE, rig)
    moved = seen(vertices @ TURN.T + shift, EYE @ TURN.T + shift, rig)
    assert_close(moved.view_directions, still.view_directions)
    assert_close(moved.normals, still.normals)


@pytest.mark.parametrize("rig", RIGS)
def test_the_published_shading_changes_when_head_and_camera_turn_together(rig: str) -> None:
    vertices, _ = ellipsoid()
    still = seen(vertices, EYE, rig, quirks=True)
    moved = seen(vertices @ TURN.T, EYE @ TURN.T, rig, quirks=True)
    assert float((moved.normals - still.normals).abs().max()) > 0.1


@pytest.mark.parametrize("rig", RIGS)
def test_normals_face_the_camera(rig: str) -> None:
    vertices, _ = ellipsoid()
    bent = vertices + 0.1 * torch.randn(6, 3, generator=torch.Generator().manual_seed(2)).double()
    shading = seen(bent, EYE, rig)
    assert float((shading.view_directions * shading.normals).sum(-1).max()) <= 0.0
    assert_close(shading.view_directions.norm(dim=-1), torch.ones(1, 24, dtype=torch.float64))


@pytest.mark.parametrize("rig", RIGS)
def test_rotations_of_a_turned_head_are_that_turn(rig: str) -> None:
    vertices, faces = ellipsoid()
    rest = RestMesh.build(vertices, faces, "unit")
    surfels = random_surfels()
    posed = pose_faces((vertices @ TURN.T)[None], rest, rig)
    assert_close(canonical_rotations(surfels, rest, posed), TURN.expand(1, 24, 3, 3))


def test_rigid_surfels_turn_with_their_own_triangle() -> None:
    vertices, faces = ellipsoid()
    rest = RestMesh.build(vertices, faces, "sqrt_area")
    surfels = random_surfels()
    bent = vertices + 0.2 * torch.randn(6, 3, generator=torch.Generator().manual_seed(2)).double()
    blended, own = pose_faces(bent[None], rest, "jbs"), pose_faces(bent[None], rest, "jacobian")
    everyone = torch.ones(24, dtype=torch.bool)
    found = canonical_rotations(surfels, rest, blended, everyone)
    assert_close(found, canonical_rotations(surfels, rest, own))
    assert float((found - canonical_rotations(surfels, rest, blended)).abs().max()) > 1e-3


def test_before_densification_the_official_index_mistake_has_no_effect() -> None:
    vertices, faces = ellipsoid()
    rest = RestMesh.build(vertices, faces, "sqrt_area")
    surfels = random_surfels(per_face=1)
    posed = pose_faces(vertices[None], rest, "jacobian")  # at rest world and canonical agree
    placed = transport(surfels, rest, posed)
    arguments = (surfels, rest, posed, placed, EYE, torch.arange(8))
    fixed, quirky = shading_of(*arguments), shading_of(*arguments, official_quirks=True)
    assert_close(quirky.normals, fixed.normals)


def test_chosen_surfels_have_the_shading_that_they_have_among_all() -> None:
    vertices, faces = ellipsoid()
    rest = RestMesh.build(vertices, faces, "sqrt_area")
    surfels = random_surfels()
    bent = vertices + 0.2 * torch.randn(6, 3, generator=torch.Generator().manual_seed(2)).double()
    posed = pose_faces(bent[None], rest, "jbs")
    rigid = surfels.face_index < 3
    placed = transport(surfels, rest, posed, rigid)
    chosen = torch.tensor([20, 3, 7])
    for quirks in (False, True):
        every, some = (
            shading_of(surfels, rest, posed, placed, EYE, which, rigid, official_quirks=quirks)
            for which in (torch.arange(24), chosen)
        )
        assert_close(some.normals, every.normals[:, chosen])
        assert_close(some.view_directions, every.view_directions[:, chosen])


def test_canonical_colors_of_a_head_that_turns_with_its_camera_stay() -> None:
    generator = torch.Generator().manual_seed(5)
    coeffs = torch.randn(24, 16, 3, generator=generator, dtype=torch.float64)
    means = torch.randn(1, 24, 3, generator=generator, dtype=torch.float64)
    still = torch.eye(3, dtype=torch.float64).expand(1, 24, 3, 3)
    colors = canonical_sh_colors(coeffs, 3, means, EYE, still)
    directions = torch.nn.functional.normalize(means - EYE, dim=-1)
    assert_close(colors, (evaluate_color_sh(coeffs, directions, 3) + 0.5).clamp(min=0))
    turned = canonical_sh_colors(coeffs, 3, means @ TURN.T, EYE @ TURN.T, TURN.expand(1, 24, 3, 3))
    assert_close(turned, colors)


class NoWaiting(TorchDispatchMode):
    """Fails on operations that read a value back or copy one over, which graphs cannot hold."""

    FORBIDDEN = ("_local_scalar_dense", "nonzero", "lift_fresh", "is_nonzero", "equal", "unique")

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        assert func.overloadpacket.__name__ not in self.FORBIDDEN, func
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("rig", RIGS)
@pytest.mark.parametrize("quirks", [False, True])
def test_shading_and_its_gradient_can_be_captured(rig: str, quirks: bool) -> None:
    vertices, faces = ellipsoid()
    rest = RestMesh.build(vertices, faces, "sqrt_area")
    surfels = random_surfels()
    posed = pose_faces(vertices[None], rest, rig)
    placed = transport(surfels, rest, posed)
    network = SpecularNetwork("lasg", 5, torch.Generator().manual_seed(0)).double()
    features = torch.randn(24, 5, generator=torch.Generator().manual_seed(3)).double()
    features.requires_grad_()
    coeffs = torch.zeros(24, 16, 3, dtype=torch.float64, requires_grad=True)
    chosen, rigid = torch.tensor([20, 3, 7]), surfels.face_index < 3
    with NoWaiting():
        shading = shading_of(
            surfels, rest, posed, placed, EYE, chosen, rigid, official_quirks=quirks
        )
        rotations = canonical_rotations(surfels, rest, posed, rigid)
        colors = network(features[chosen], shading.view_directions, shading.normals)
        colors = place_rows(colors, chosen, 24)
        colors = colors + canonical_sh_colors(coeffs, 3, placed.means, EYE, rotations)
        colors.sum().backward()
    assert float(features.grad[chosen].abs().max()) > 0
    with pytest.raises(AssertionError, match="lift_fresh"), NoWaiting():
        torch.tensor([1.0])


def test_placed_rows_are_differentiable_and_leave_the_rest_zero() -> None:
    values = torch.ones(2, 3, 1, dtype=torch.float64, requires_grad=True)
    placed = place_rows(values, torch.tensor([4, 0, 2]), 6)
    assert placed[0, :, 0].tolist() == [1, 0, 1, 0, 1, 0]
    (placed * torch.arange(6.0, dtype=torch.float64)[:, None]).sum().backward()
    assert values.grad[0, :, 0].tolist() == [4, 0, 2]
