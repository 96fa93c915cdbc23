"""Masks of expressions, rigid fits, and the room of the teeth."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from synthetic_flame import synthetic_flame
from vultus.geometry.meshes import face_normals
from vultus.geometry.rotations import axis_angle_to_matrix
from vultus.heads.flame import FlameHead
from vultus.heads.procedural import ProceduralHead
from vultus.methods.relightable_blendshapes.consistency import (
    BACK_OF_HEAD_FACES,
    align_rigidly,
    expression_mask,
    neck_vertices,
    vertex_motion,
)
from vultus.methods.relightable_blendshapes.mouth import (
    PUBLISHED_OFFSET,
    confine,
    cylinder_distance,
    mouth_cylinder,
    teeth_strips,
)
from vultus.methods.relightable_blendshapes.rig_motion import back_of_head


def normal(*shape: int, seed: int = 0, scale: float = 1.0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return scale * torch.randn(*shape, generator=generator, dtype=torch.float64)


def test_aligned_meshes_differ_by_the_expression_alone() -> None:
    neutral, smile = normal(12, 3), torch.zeros(12, 3, dtype=torch.float64)
    smile[7:] = normal(5, 3, seed=1)
    rotation = axis_angle_to_matrix(torch.tensor([0.1, 0.2, 0.3], dtype=torch.float64))
    expressed = (neutral + smile) @ rotation.T + 0.4
    still = torch.zeros(12, dtype=torch.bool)
    still[11] = True
    found = vertex_motion(neutral, expressed[None], still, torch.arange(7))
    smile[11] = 0.0
    torch.testing.assert_close(found[0], smile)
    aligned = align_rigidly(expressed[None], neutral, torch.arange(7))
    torch.testing.assert_close(aligned[0, :7], neutral[:7])


def test_the_mask_is_zero_where_nothing_moves_and_grows_past_one() -> None:
    offsets = torch.zeros(1, 4, 3)
    offsets[0, :, 1] = torch.tensor([0.0, 2.0e-5, 0.005703532602638, 0.02])
    mask = expression_mask(offsets)
    assert mask.shape == (4, 1)
    assert mask[:2, 0].tolist() == [0.0, 0.0]
    assert float(mask[2]) == pytest.approx(1.0, abs=1e-6)
    # From the free distance on it grows with the displacement.
    assert float(mask[3]) == pytest.approx((0.02 - 2.3727702e-5) / (0.0057035326 - 2.3727702e-5))


def test_the_lower_neck_is_at_the_cut_and_far_from_the_face() -> None:
    head = ProceduralHead()
    regions = head.topology.regions
    neck = neck_vertices(head.neutral, regions)
    assert bool(neck[regions["boundary"]].all())
    assert not bool(neck[regions["skin"] | regions["lips"] | regions["scalp"]].any())
    assert 0.2 < float(neck.sum() / regions["neck"].sum()) < 0.9
    none = {name: torch.zeros_like(neck) for name in regions}
    assert not bool(neck_vertices(head.neutral, none).any())


def test_the_back_of_flames_head_is_listed_as_often_as_faces_name_it() -> None:
    head = FlameHead(synthetic_flame(), teeth="none")
    # The made-up mesh has fewer faces than FLAME, and other heads have other faces.
    for other in (head, ProceduralHead()):
        with pytest.raises(ValueError, match="official_quirks needs FLAME"):
            back_of_head(other)
    assert len(set(BACK_OF_HEAD_FACES)) == len(BACK_OF_HEAD_FACES) == 56


def test_strips_face_forward_and_stand_in_the_room_of_the_teeth() -> None:
    upper, lower, faces = teeth_strips(PUBLISHED_OFFSET)
    cylinder = mouth_cylinder(PUBLISHED_OFFSET)
    for strip in (upper, lower):
        assert float(face_normals(strip, faces)[:, 2].min()) > 0.0
        assert float(cylinder_distance(strip, cylinder).max()) < 1e-5
    assert float(upper[:, 1].mean()) > float(lower[:, 1].mean())
    moved, _, _ = teeth_strips((0.0, 0.0, 0.1))
    offset = torch.tensor([0.0, 0.0, 0.1]) - torch.tensor(PUBLISHED_OFFSET)
    torch.testing.assert_close(moved - upper, offset.expand(10, 3))


def test_confined_points_are_inside_and_inner_points_stay() -> None:
    cylinder = mouth_cylinder(PUBLISHED_OFFSET)
    noise = torch.randn(200, 3, generator=torch.Generator().manual_seed(0))
    points = cylinder.center + 0.05 * noise
    confined = confine(points, cylinder)
    assert float(cylinder_distance(confined, cylinder).max()) < 1e-12
    inside = cylinder_distance(points, cylinder) == 0
    assert 0 < int(inside.sum()) < 200
    torch.testing.assert_close(confined[inside], points[inside])
    # Heights and directions from the axis are kept: only distances shrink.
    before, after = points - cylinder.center, confined - cylinder.center
    cross = before[:, 0] * after[:, 2] - before[:, 2] * after[:, 0]
    assert float(cross.abs().max()) < 1e-9


def test_the_distance_to_the_room_grows_with_the_square_and_has_a_gradient_on_the_axis() -> None:
    cylinder = mouth_cylinder(PUBLISHED_OFFSET)
    beside = cylinder.center + torch.tensor([cylinder.radius + 0.01, 0.0, 0.0])
    above = cylinder.center + torch.tensor([0.0, cylinder.half_height + 0.02, 0.0])
    both = torch.stack([beside, above, cylinder.center]).requires_grad_()
    distances = cylinder_distance(both, cylinder)
    torch.testing.assert_close(distances, torch.tensor([1e-4, 4e-4, 0.0]), atol=5e-7, rtol=0)
    distances.sum().backward()
    assert both.grad is not None
    assert bool(both.grad.isfinite().all())
