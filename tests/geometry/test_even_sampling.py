"""Points that keep their distance cover meshes evenly."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.spatial import KDTree

from vultus.geometry.even_sampling import sample_evenly
from vultus.geometry.mesh_sampling import sample_surface

SQUARE = torch.tensor([[0.0, 0.0, 0.0], [1.0, 0.0, 0.0], [1.0, 1.0, 0.0], [0.0, 1.0, 0.0]])
FACES = torch.tensor([[0, 1, 2], [0, 2, 3]])


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def spacings(points: torch.Tensor) -> np.ndarray:
    return np.asarray(KDTree(points.numpy()).query(points.numpy(), 2)[0])[:, 1]


@pytest.mark.parametrize("num", [20, 300, 2_000])
def test_about_as_many_points_come_as_are_asked_for(num: int) -> None:
    found = sample_evenly(SQUARE, FACES, num, generator())
    assert 0.8 * num <= len(found.points) <= 1.15 * num


def test_points_keep_their_distance_and_leave_no_holes() -> None:
    even = sample_evenly(SQUARE, FACES, 2_000, generator()).points
    random = sample_surface(SQUARE, FACES, len(even), generator()).points
    distance = math.sqrt(0.56 / 2_000)
    assert spacings(even).min() > distance
    assert spacings(random).min() < 0.1 * distance
    # Any place has a point nearby: what is refused lies within the distance of one that is kept.
    places = sample_surface(SQUARE, FACES, 5_000, generator(1)).points.numpy()
    holes = np.asarray(KDTree(even.numpy()).query(places)[0])
    assert holes.max() < 1.6 * distance


def test_points_lie_on_their_faces_and_the_seed_decides_them() -> None:
    found = sample_evenly(SQUARE, FACES, 300, generator(3))
    corners = SQUARE[FACES[found.face_index]]
    on_faces = (corners * found.barycentrics[..., None]).sum(dim=1)
    torch.testing.assert_close(on_faces, found.points)
    assert found.face_index.unique().tolist() == [0, 1]
    again = sample_evenly(SQUARE, FACES, 300, generator(3)).points
    assert torch.equal(found.points, again)
    other = sample_evenly(SQUARE, FACES, 300, generator(4)).points
    assert not torch.equal(found.points[:50], other[:50])


def test_no_points_and_no_area_are_refused() -> None:
    with pytest.raises(ValueError, match="num_points must be positive, got 0"):
        sample_evenly(SQUARE, FACES, 0, generator())
    with pytest.raises(ValueError, match="must have an area"):
        sample_evenly(SQUARE * 0.0, FACES, 10, generator())
