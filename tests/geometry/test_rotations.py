from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation, Slerp

from tolerances import assert_close
from vultus.geometry import rotations as R

KINDS = ("axis_angle", "quaternion", "matrix", "rotation_6d")


def vectors(count: int = 200, largest: float = 3.1, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    axes = torch.randn(count, 3, generator=generator, dtype=torch.float64)
    angles = largest * torch.rand(count, 1, generator=generator, dtype=torch.float64)
    return angles * axes / axes.norm(dim=1, keepdim=True)


def from_scipy(rotation: Rotation, kind: str) -> torch.Tensor:
    matrix = torch.from_numpy(rotation.as_matrix())
    return {
        "axis_angle": lambda: torch.from_numpy(rotation.as_rotvec()),
        "quaternion": lambda: torch.from_numpy(
            np.roll(rotation.as_quat(canonical=True), 1, axis=-1)
        ),
        "matrix": lambda: matrix,
        "rotation_6d": lambda: torch.cat([matrix[..., 0], matrix[..., 1]], dim=-1),
    }[kind]()


@pytest.mark.parametrize(("source", "target"), list(itertools.permutations(KINDS, 2)))
def test_conversions_agree_with_scipy(source: str, target: str) -> None:
    rotation = Rotation.from_rotvec(vectors().numpy())
    convert = getattr(R, f"{source}_to_{target}")
    assert_close(convert(from_scipy(rotation, source)), from_scipy(rotation, target))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("angle", [0.0, 1e-12, 1e-6, 1e-3, 0.03, 0.0317, 1.0, math.pi - 1e-6])
def test_logarithm_inverts_the_exponential(dtype: torch.dtype, angle: float) -> None:
    axis_angle = (vectors() / vectors().norm(dim=1, keepdim=True) * angle).to(dtype)
    assert_close(R.matrix_to_axis_angle(R.axis_angle_to_matrix(axis_angle)), axis_angle)
    assert_close(R.quaternion_to_axis_angle(R.axis_angle_to_quaternion(axis_angle)), axis_angle)


def test_small_angles_keep_their_relative_precision() -> None:
    axis_angle = 1e-9 * vectors()
    back = R.matrix_to_axis_angle(R.axis_angle_to_matrix(axis_angle))
    torch.testing.assert_close(back, axis_angle, rtol=1e-12, atol=0)


@pytest.mark.parametrize("axis", range(3))
def test_half_turns_have_a_logarithm(axis: int) -> None:
    matrix = -torch.eye(3, dtype=torch.float64)
    matrix[axis, axis] = 1.0
    log = R.matrix_to_axis_angle(matrix)
    assert_close(log.abs(), math.pi * torch.eye(3, dtype=torch.float64)[axis])


@pytest.mark.parametrize("angle", [0.0, 1e-8, 0.0316, 0.0317, 1.0, 3.0, math.pi - 1e-4])
@pytest.mark.parametrize(
    "function",
    [
        R.axis_angle_to_matrix,
        R.axis_angle_to_quaternion,
        lambda v: R.matrix_to_axis_angle(R.axis_angle_to_matrix(v)),
        lambda v: R.quaternion_to_axis_angle(R.axis_angle_to_quaternion(v)),
        lambda v: R.quaternion_to_matrix(R.axis_angle_to_quaternion(v)),
        lambda v: R.rotation_6d_to_matrix(R.axis_angle_to_rotation_6d(v)),
    ],
)
def test_gradients_are_right_at_every_angle(function, angle: float) -> None:
    axis = torch.tensor([0.6, -0.48, 0.64], dtype=torch.float64)
    assert torch.autograd.gradcheck(function, (angle * axis).requires_grad_())


@pytest.mark.parametrize("angle", [0.0, 1e-5, 0.5])
def test_second_derivatives_are_right(angle: float) -> None:
    axis = torch.tensor([0.6, -0.48, 0.64], dtype=torch.float64)
    assert torch.autograd.gradgradcheck(R.axis_angle_to_matrix, (angle * axis).requires_grad_())


def test_gradients_are_finite_for_float32_identity_and_half_turn() -> None:
    for start in (torch.eye(3), torch.diag(torch.tensor([-1.0, -1.0, 1.0]))):
        matrix = start.clone().requires_grad_()
        R.matrix_to_axis_angle(matrix).sum().backward()
        assert matrix.grad is not None
        assert matrix.grad.isfinite().all()


def test_product_of_quaternions_is_the_product_of_matrices() -> None:
    a, b = (R.axis_angle_to_quaternion(vectors(seed=seed)) for seed in (1, 2))
    product = R.quaternion_to_matrix(a) @ R.quaternion_to_matrix(b)
    assert_close(R.quaternion_to_matrix(R.quaternion_multiply(a, b)), product)
    identity = R.quaternion_multiply(a, R.quaternion_conjugate(a))
    assert_close(identity, torch.tensor([1.0, 0, 0, 0]).double().expand_as(identity))


def test_quaternions_rotate_as_their_matrices() -> None:
    quats, points = R.axis_angle_to_quaternion(vectors()), vectors(seed=3)
    matrices = R.quaternion_to_matrix(quats)
    assert_close(R.quaternion_rotate(quats, points), (matrices @ points[..., None])[..., 0])
    assert_close(R.quaternion_rotate(quats[0], points), points @ matrices[0].T)


def test_norm_and_sign_of_a_quaternion_do_not_matter() -> None:
    quats = R.axis_angle_to_quaternion(vectors())
    for other in (3.0 * quats, -quats):
        assert_close(R.quaternion_to_matrix(other), R.quaternion_to_matrix(quats))
        assert_close(R.quaternion_to_axis_angle(other), R.quaternion_to_axis_angle(quats))


def test_slerp_agrees_with_scipy_and_takes_the_short_way() -> None:
    ends = [R.axis_angle_to_quaternion(vectors(50, seed=seed)) for seed in (4, 5)]
    times = torch.linspace(0, 1, 50, dtype=torch.float64)
    ours = R.quaternion_to_matrix(R.quaternion_slerp(ends[0], -ends[1], times))
    for i, time in enumerate(times):
        keys = Rotation.from_quat(np.stack([np.roll(end[i].numpy(), -1) for end in ends]))
        assert_close(ours[i], torch.from_numpy(Slerp([0, 1], keys)(time).as_matrix()))


def test_slerp_between_equal_rotations_has_finite_gradients() -> None:
    quats = torch.tensor([0.8, 0.0, 0.6, 0.0], requires_grad=True)
    R.quaternion_slerp(quats, quats, torch.tensor(0.3)).sum().backward()
    assert quats.grad is not None
    assert quats.grad.isfinite().all()


def test_rotation_between_vectors_turns_one_into_the_other_by_the_least_angle() -> None:
    source, target = vectors(seed=6), vectors(seed=7)
    quats = R.rotation_between_vectors(source, target)
    unit_source, unit_target = (v / v.norm(dim=1, keepdim=True) for v in (source, target))
    assert_close(R.quaternion_rotate(quats, unit_source), unit_target)
    angle = R.quaternion_to_axis_angle(quats).norm(dim=1)
    assert_close(angle.cos(), (unit_source * unit_target).sum(-1))


@pytest.mark.parametrize("axis", range(3))
def test_rotation_between_opposite_vectors_is_a_half_turn(axis: int) -> None:
    source = torch.eye(3, dtype=torch.float64)[axis].requires_grad_()
    quats = R.rotation_between_vectors(source, -source.detach())
    assert_close(R.quaternion_rotate(quats, source), -source)
    quats.sum().backward()
    assert source.grad is not None
    assert source.grad.isfinite().all()


def test_xyzw_moves_the_real_part() -> None:
    quats = torch.tensor([1.0, 2.0, 3.0, 4.0])
    assert R.quaternion_to_xyzw(quats).tolist() == [2.0, 3.0, 4.0, 1.0]
    assert torch.equal(R.xyzw_to_quaternion(R.quaternion_to_xyzw(quats)), quats)


def test_skew_matrices_are_cross_products() -> None:
    a, b = vectors(seed=8), vectors(seed=9)
    assert_close((R.skew_matrices(a) @ b[..., None])[..., 0], torch.linalg.cross(a, b))
