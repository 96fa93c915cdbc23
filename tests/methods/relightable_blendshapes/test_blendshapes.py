"""Blending and posing obey what must hold for any Gaussians, rigs and expressions."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from vultus.geometry.rotations import (
    axis_angle_to_matrix,
    axis_angle_to_quaternion,
    quaternion_to_matrix,
)
from vultus.methods.relightable_blendshapes.blendshapes import (
    ExpressionMotions,
    blend_attributes,
    expression_motions,
    initial_mean_deltas,
    initial_quat_deltas,
    rotation_part,
)
from vultus.methods.relightable_blendshapes.posing import Anchors, FrameMotion, pose_gaussians

FACES = torch.tensor([[0, 1, 2], [0, 2, 3], [0, 3, 1], [1, 3, 2]])


def normal(*shape: int, seed: int = 0, scale: float = 1.0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return scale * torch.randn(*shape, generator=generator, dtype=torch.float64)


def tetrahedron() -> Tensor:
    return torch.tensor([[0.0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]], dtype=torch.float64)


def attributes(num: int, num_expressions: int) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    shapes = {"means": (3,), "quats": (4,), "log_scales": (3,), "opacity_logits": (), "sh": (4, 3)}
    neutral = {name: normal(num, *shape, seed=i) for i, (name, shape) in enumerate(shapes.items())}
    deltas = {
        name: normal(num, *shape, num_expressions, seed=10 + i)
        for i, (name, shape) in enumerate(shapes.items())
    }
    return neutral, deltas


def anchors_of(num: int, num_joints: int, num_expressions: int, num_features: int = 9) -> Anchors:
    return Anchors(
        skinning_weights=normal(num, num_joints).softmax(dim=1),
        expression_mask=normal(num, num_expressions, seed=1).abs(),
        mean_deltas=normal(num, 3, num_expressions, seed=2),
        quat_deltas=normal(num, 4, num_expressions, seed=3),
        pose_shapes=normal(num, 3, num_features, seed=4, scale=0.1),
        eyelid_shapes=normal(num, 3, 2, seed=5, scale=0.1),
    )


@pytest.mark.parametrize("batch", [1, 3])
def test_blending_is_the_sum_written_out(batch: int) -> None:
    neutral, deltas = attributes(5, 4)
    mask, expression = normal(5, 4, seed=7).abs(), normal(batch, 4, seed=8)
    fixed = {"means": normal(5, 3, 4, seed=9)}
    blended = blend_attributes(neutral, deltas, fixed, mask, expression)
    assert list(blended) == list(neutral)
    for name, value in neutral.items():
        for frame in range(batch):
            expected = value.clone()
            for row in range(5):
                for k in range(4):
                    weight = expression[frame, k]
                    expected[row] += weight * mask[row, k] * deltas[name][row, ..., k]
                    if name in fixed:
                        expected[row] += weight * fixed[name][row, ..., k]
            torch.testing.assert_close(blended[name][frame], expected)


@pytest.mark.parametrize("batch", [1, 2])
def test_gradients_of_blending_agree_with_finite_differences(batch: int) -> None:
    mask, expression = normal(3, 4, seed=7), normal(batch, 4, seed=8)
    value, delta = normal(3, 2, 2), normal(3, 2, 2, 4, seed=1)

    def blend(value: Tensor, delta: Tensor) -> Tensor:
        return blend_attributes({"a": value}, {"a": delta}, {}, mask, expression)["a"]

    assert torch.autograd.gradcheck(blend, (value.requires_grad_(), delta.requires_grad_()))


def test_no_expression_gives_the_neutral_and_a_masked_one_too() -> None:
    neutral, deltas = attributes(5, 4)
    for mask, expression in (
        (torch.ones(5, 4), torch.zeros(1, 4)),
        (torch.zeros(5, 4), torch.ones(1, 4)),
    ):
        blended = blend_attributes(neutral, deltas, {}, mask.double(), expression.double())
        for name, value in neutral.items():
            torch.testing.assert_close(blended[name][0], value)


def test_deltas_of_nothing_are_refused() -> None:
    with pytest.raises(ValueError, match="deltas of 'albedo' have no neutral value"):
        blend_attributes(
            {"means": torch.zeros(2, 3)},
            {"albedo": torch.zeros(2, 3, 1)},
            {},
            torch.ones(2, 1),
            torch.ones(1, 1),
        )


@pytest.mark.parametrize("rule", ["polar", "three_steps"])
def test_faces_of_a_turned_and_stretched_mesh_report_exactly_that(rule: str) -> None:
    vertices = tetrahedron()
    angles = normal(2, 3, scale=0.5)
    rotations, offsets = axis_angle_to_matrix(angles), normal(2, 3, seed=1)
    # Equal along all axes: then the normal stretches as the edges do.
    expressed = 1.1 * vertices @ rotations.mT + offsets[:, None]
    motions = expression_motions(vertices, expressed, FACES, rule)  # pyright: ignore
    matrices = 1.1 * rotations[:, None].expand(-1, 4, -1, -1)
    torch.testing.assert_close(motions.matrices, matrices)
    torch.testing.assert_close(motions.offsets, offsets[:, None].expand(-1, 4, -1))
    quats = torch.nn.functional.normalize(motions.quats, dim=-1)
    torch.testing.assert_close(
        quaternion_to_matrix(quats), rotations[:, None].expand(-1, 4, -1, -1), atol=1e-6, rtol=0
    )


def test_initial_points_stick_to_their_faces_and_turn_with_them() -> None:
    """One expression at full weight moves a point as the affine map of its face does."""
    vertices = tetrahedron()
    expressed = vertices + normal(3, 4, 3, scale=0.2)
    motions = expression_motions(vertices, expressed, FACES)
    index = torch.tensor([0, 1, 2, 3, 1])
    barycentrics = normal(5, 3, seed=4).softmax(dim=1)
    points = (vertices[FACES[index]] * barycentrics[..., None]).sum(dim=1)
    deltas = initial_mean_deltas(motions, index, points)
    for k in range(3):
        expected = (expressed[k][FACES[index]] * barycentrics[..., None]).sum(dim=1)
        torch.testing.assert_close(points + deltas[..., k], expected)
    unit = torch.tensor([1.0, 0, 0, 0], dtype=torch.float64).expand(5, -1)
    quats = unit[..., None] + initial_quat_deltas(motions, index, unit)
    torch.testing.assert_close(quats.permute(2, 0, 1), motions.quats[:, index])


def test_a_squashed_face_still_gets_a_rotation_by_polar_decomposition() -> None:
    vertices = tetrahedron()
    closed = vertices.clone()
    closed[2] = torch.tensor([1e-4, 1e-3, 0.0])  # The first face is now a needle.
    motions = expression_motions(vertices, closed[None], FACES)
    assert isinstance(motions, ExpressionMotions)
    assert bool(motions.quats.isfinite().all())
    torch.testing.assert_close(motions.quats.norm(dim=-1), torch.ones(1, 4, dtype=torch.float64))


def test_a_mean_of_rotations_becomes_the_rotation_between_them() -> None:
    angles = torch.tensor([[0.3, 0, 0], [0.9, 0, 0]], dtype=torch.float64)
    mean = axis_angle_to_matrix(angles).mean(dim=0)
    middle = axis_angle_to_matrix(angles.mean(dim=0))
    torch.testing.assert_close(rotation_part(mean), middle, atol=1e-7, rtol=0)


def test_at_rest_gaussians_stay_where_they_are() -> None:
    neutral, deltas = attributes(6, 4)
    anchors = anchors_of(6, 5, 4)
    still = torch.eye(3, 4, dtype=torch.float64).expand(1, 5, -1, -1)
    zeros = torch.zeros(1, 9, dtype=torch.float64)
    motion = FrameMotion(zeros[:, :4], still, zeros, zeros[:, :2])
    fixed = {"means": anchors.mean_deltas, "quats": anchors.quat_deltas}
    blended = blend_attributes(neutral, deltas, fixed, anchors.expression_mask, motion.expression)
    posed = pose_gaussians(blended, anchors, motion)
    torch.testing.assert_close(posed.means[0], neutral["means"])
    torch.testing.assert_close(
        posed.quats[0], torch.nn.functional.normalize(neutral["quats"], dim=-1)
    )
    torch.testing.assert_close(posed.opacities[0], neutral["opacity_logits"].sigmoid())
    torch.testing.assert_close(posed.scales[0], neutral["log_scales"].exp())


def test_a_rigid_motion_of_all_joints_moves_and_turns_all_gaussians() -> None:
    neutral, _ = attributes(6, 4)
    anchors = anchors_of(6, 5, 4)
    rotation = axis_angle_to_matrix(torch.tensor([0.2, -0.7, 0.4], dtype=torch.float64))
    offset = torch.tensor([0.1, 0.2, -0.3], dtype=torch.float64)
    transform = torch.cat([rotation, offset[:, None]], dim=1).expand(1, 5, -1, -1)
    zeros = torch.zeros(1, 9, dtype=torch.float64)
    motion = FrameMotion(zeros[:, :4], transform, zeros, zeros[:, :2])
    blended = {name: value[None] for name, value in neutral.items()}
    posed = pose_gaussians(blended, anchors, motion)
    torch.testing.assert_close(posed.means[0], neutral["means"] @ rotation.T + offset)
    turned = rotation @ quaternion_to_matrix(neutral["quats"])
    torch.testing.assert_close(quaternion_to_matrix(posed.quats[0]), turned)


def test_frames_of_a_batch_do_not_mix() -> None:
    neutral, deltas = attributes(6, 4)
    anchors = anchors_of(6, 2, 4)
    axis_angles = normal(3, 2, 3, seed=5, scale=0.4)
    transforms = torch.cat([axis_angle_to_matrix(axis_angles), normal(3, 2, 3, 1, seed=6)], dim=-1)
    motion = FrameMotion(
        normal(3, 4, seed=7), transforms, normal(3, 9, seed=8), normal(3, 2, seed=9)
    )

    def posed(frames: FrameMotion) -> Tensor:
        mask = anchors.expression_mask
        blended = blend_attributes(neutral, deltas, {}, mask, frames.expression)
        gaussians = pose_gaussians(blended, anchors, frames)
        return torch.cat([gaussians.means, gaussians.quats, gaussians.scales], dim=-1)

    alone = torch.cat([posed(motion[torch.tensor([i])]) for i in range(3)])
    torch.testing.assert_close(posed(motion), alone)


def test_eyelids_close_after_the_joints_have_turned() -> None:
    anchors = anchors_of(6, 1, 4)
    rotation = axis_angle_to_matrix(torch.tensor([0.0, 0.0, 0.5 * math.pi], dtype=torch.float64))
    transform = torch.cat([rotation, torch.zeros(3, 1, dtype=torch.float64)], dim=1)[None, None]
    zeros = torch.zeros(1, 9, dtype=torch.float64)
    neutral, _ = attributes(6, 4)
    blended = {name: value[None] for name, value in neutral.items()}
    closed = torch.tensor([[1.0, 0.0]], dtype=torch.float64)
    open_, shut = (
        pose_gaussians(blended, anchors, FrameMotion(zeros[:, :4], transform, zeros, lids)).means
        for lids in (0.0 * closed, closed)
    )
    torch.testing.assert_close((shut - open_)[0], anchors.eyelid_shapes[..., 0])


def test_a_quaternion_that_blends_to_zero_is_no_number_that_spreads() -> None:
    anchors = anchors_of(2, 1, 1)
    still = torch.eye(3, 4, dtype=torch.float64)[None, None]
    zeros = torch.zeros(1, 9, dtype=torch.float64)
    blended = {
        "means": torch.zeros(1, 2, 3, dtype=torch.float64),
        "quats": torch.zeros(1, 2, 4, dtype=torch.float64).requires_grad_(),
        "log_scales": torch.zeros(1, 2, 3, dtype=torch.float64),
        "opacity_logits": torch.zeros(1, 2, dtype=torch.float64),
    }
    posed = pose_gaussians(blended, anchors, FrameMotion(zeros[:, :1], still, zeros, zeros[:, :2]))
    posed.quats.sum().backward()
    gradient = blended["quats"].grad
    assert gradient is not None
    assert bool(gradient.isfinite().all())
    assert float(posed.quats.detach().abs().max()) == 0.0


def test_quaternions_of_rotations_are_the_same_by_either_rule() -> None:
    angles = normal(4, 3, seed=3, scale=0.6)
    vertices = tetrahedron()
    expressed = vertices @ axis_angle_to_matrix(angles).mT
    polar = expression_motions(vertices, expressed, FACES, "polar").quats
    steps = expression_motions(vertices, expressed, FACES, "three_steps").quats
    torch.testing.assert_close(polar, steps)
    torch.testing.assert_close(polar[:, 0], axis_angle_to_quaternion(angles))
