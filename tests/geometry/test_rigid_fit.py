"""Rigid motions are found back, and mirrored clouds are not mirrored."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from vultus.geometry.rigid_fit import fit_rigid
from vultus.geometry.rotations import axis_angle_to_matrix


def normal(*shape: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("is_flat", [False, True])
def test_a_rigid_motion_is_found_back(is_flat: bool) -> None:
    points = normal(9, 3)
    if is_flat:
        points[:, 2] = 0.0
    rotations, offsets = axis_angle_to_matrix(normal(4, 3, seed=1)), normal(4, 3, seed=2)
    found, moved = fit_rigid(points, points @ rotations.mT + offsets[:, None])
    torch.testing.assert_close(found, rotations)
    torch.testing.assert_close(moved, offsets)


def test_a_mirrored_cloud_is_fitted_by_a_rotation() -> None:
    points = normal(9, 3)
    rotation, _ = fit_rigid(points, points * torch.tensor([-1.0, 1.0, 1.0], dtype=torch.float64))
    assert float(torch.linalg.det(rotation)) == pytest.approx(1.0)


def test_a_point_that_is_listed_twice_weighs_twice() -> None:
    points, target = normal(5, 3), normal(5, 3, seed=1)
    rows = torch.tensor([0, 1, 2, 3, 4, 2])
    _, translation = fit_rigid(points[rows], target[rows])
    weights = torch.tensor([1.0, 1, 2, 1, 1], dtype=torch.float64)[:, None] / 6.0
    rotation, _ = fit_rigid(points[rows], target[rows])
    center, target_center = (weights * points).sum(dim=0), (weights * target).sum(dim=0)
    torch.testing.assert_close(translation, target_center - rotation @ center)


def test_no_other_motion_comes_closer() -> None:
    points, target = normal(20, 3), normal(20, 3, seed=1)
    rotation, translation = fit_rigid(points, target)
    best = (points @ rotation.T + translation - target).square().sum()
    for seed in range(20):
        turned = axis_angle_to_matrix(0.05 * normal(3, seed=seed)) @ rotation
        offset = translation + 0.05 * normal(3, seed=seed + 100)
        assert float((points @ turned.T + offset - target).square().sum()) > float(best)
