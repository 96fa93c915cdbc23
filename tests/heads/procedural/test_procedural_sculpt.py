"""The signed distance sculpt and the skin laid on it."""

from __future__ import annotations

import numpy as np
import pytest

from vultus.heads.procedural.falloffs import bell, smooth_max, smooth_min, smoothstep
from vultus.heads.procedural.sculpt import (
    MIRROR,
    Capsule,
    Ellipsoid,
    cast_rays,
    front_hit,
    head_distance,
    head_gradient,
)
from vultus.heads.procedural.template import SkinTemplate, build_skin


@pytest.fixture(scope="module")
def skin() -> SkinTemplate:
    return build_skin()


def _points(count: int = 500) -> np.ndarray:
    return np.random.default_rng(0).uniform(-120, 120, (count, 3))


def test_the_distance_to_a_sphere_is_exact() -> None:
    points = _points()
    expected = np.linalg.norm(points - np.array([1.0, 2.0, 3.0]), axis=1) - 10
    np.testing.assert_allclose(
        Ellipsoid((1, 2, 3), (10, 10, 10)).distance(points), expected, atol=1e-6
    )


def test_a_capsule_of_no_length_change_is_a_tube() -> None:
    capsule = Capsule((0, -10, 0), (0, 10, 0), 2, 2)
    np.testing.assert_allclose(
        capsule.distance(np.array([[5.0, 3, 0], [0, 15, 0], [0, 0, 0]])), [3, 3, -2]
    )


def test_smooth_extrema_meet_the_sharp_ones_away_from_the_blend() -> None:
    a, b = np.linspace(-5, 5, 41), np.zeros(41)
    far = np.abs(a) >= 2
    np.testing.assert_allclose(smooth_min(a, b, 2.0)[far], np.minimum(a, b)[far])
    assert (smooth_min(a, b, 2.0) <= np.minimum(a, b)).all()
    np.testing.assert_allclose(smooth_max(a, b, 2.0), -smooth_min(-a, -b, 2.0))


def test_falloffs_have_their_ends() -> None:
    assert smoothstep(2, 5, 1) == 0
    assert smoothstep(2, 5, 6) == 1
    assert smoothstep(5, 2, 6) == 0
    assert bell(3.0, 3.0, 2.0) == 1
    assert bell(5.0, 3.0, 2.0) == pytest.approx(np.exp(-0.5))


def test_the_sculpt_is_symmetric() -> None:
    points = _points()
    np.testing.assert_allclose(head_distance(points), head_distance(points * MIRROR), atol=1e-9)


def test_gradients_point_outwards_with_about_unit_length() -> None:
    directions = _points(200) * np.array([1, 0.5, 1])
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    surface = cast_rays(np.array([0.0, 20, 0]), directions, 5, 250)
    surface = surface[surface[:, 1] > -40]
    gradient = head_gradient(surface)
    outward = (gradient * (surface - np.array([0, 0, 0]))).sum(1)
    assert (outward > 0).mean() > 0.98
    assert 0.6 < np.median(np.linalg.norm(gradient, axis=1)) < 1.2


def test_rays_stop_on_the_surface() -> None:
    hits = front_hit(np.array([[0.0, -35.0], [20.0, 30.0], [40.0, -40.0]]))
    assert np.abs(head_distance(hits)).max() < 0.01


def test_the_profile_has_the_landmarks_of_a_face() -> None:
    glabella, nasion, tip, base = front_hit(
        np.array([[0, 15.0], [0, 4.0], [0, -35.0], [0, -56.0]])
    )[:, 2]
    assert nasion < glabella < tip
    assert base < tip - 8
    assert 103 < tip < 113


def test_the_skin_is_manifold_with_one_open_border(skin: SkinTemplate) -> None:
    faces = skin.faces
    edges = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])
    directed = set(map(tuple, edges.tolist()))
    assert len(directed) == len(edges)
    border = {v for a, b in directed if (b, a) not in directed for v in (a, b)}
    tucked = set(skin.left_rims[1].tolist()) | set(skin.right_rims[1].tolist())
    assert border == set(skin.neck[-1].tolist()) | tucked


def test_no_triangle_is_degenerate(skin: SkinTemplate) -> None:
    a, b, c = (skin.vertices[skin.faces[:, corner]] for corner in range(3))
    area = 0.5 * np.linalg.norm(np.cross(b - a, c - a), axis=1)
    assert area.min() > 1e-3  # mm²


def test_free_skin_lies_on_the_sculpt(skin: SkinTemplate) -> None:
    x, y, z = skin.vertices.T
    cheek = (np.abs(x) > 45) & (y > -60) & (y < 60) & (z > 0)
    assert np.abs(head_distance(skin.vertices[cheek])).max() < 0.5


def test_building_twice_gives_the_same_bytes(skin: SkinTemplate) -> None:
    again = build_skin()
    assert again.vertices.tobytes() == skin.vertices.tobytes()
    assert again.faces.tobytes() == skin.faces.tobytes()
