from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from vultus.metrics.mesh_distance import mesh_distance, point_distance


def square(z: float, size: float = 0.2) -> tuple[Tensor, Tensor]:
    corners = torch.tensor([[0, 0, z], [size, 0, z], [size, size, z], [0, size, z]])
    return corners, torch.tensor([[0, 1, 2], [0, 2, 3]])


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def test_parallel_squares_are_as_far_apart_as_their_planes() -> None:
    found = mesh_distance(*square(0.0), *square(0.005), generator=generator(), num_points=5000)
    assert found.accuracy == pytest.approx(5.0, abs=0.1)
    assert found.completeness == pytest.approx(5.0, abs=0.1)
    assert found.f_score == 0.0


def test_floor_of_equal_meshes_is_the_documented_one() -> None:
    meshes = (*square(0.0), *square(0.0))
    found = mesh_distance(*meshes, generator=generator(), num_points=5000, threshold_mm=2.0)
    floor = 1000 * 0.5 * math.sqrt(0.04 / 50_000)
    assert found.chamfer == pytest.approx(floor, rel=0.1)
    assert found.f_score == pytest.approx(1.0, abs=0.01)


def test_missing_part_harms_completeness_only() -> None:
    vertices, faces = square(0.0)
    found = mesh_distance(
        vertices, faces[:1], vertices, faces, generator=generator(), num_points=4000
    )
    assert found.accuracy < 1.0
    assert found.completeness > 10.0
    assert 0.5 < found.f_score < 0.8


def test_distances_of_points_are_in_millimetres() -> None:
    points = torch.tensor([[0.0, 0, 0], [0.1, 0, 0]])
    found = point_distance(points, torch.tensor([[0.0, 0, 0.003]]), threshold_mm=10.0)
    assert found.accuracy == pytest.approx((3 + math.hypot(100, 3)) / 2, rel=1e-6)
    assert found.completeness == pytest.approx(3.0, rel=1e-5)
    assert found.f_score == pytest.approx(2 * 0.5 / 1.5)


def test_empty_and_infinite_points_are_rejected() -> None:
    good = torch.zeros(1, 3)
    with pytest.raises(ValueError, match="reference must be finite and not empty, got 0 points"):
        point_distance(good, torch.zeros(0, 3))
    with pytest.raises(ValueError, match="points must be finite and not empty"):
        point_distance(good * math.nan, good)
