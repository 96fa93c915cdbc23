"""Closest points of a mesh and lookups of environment maps: golden values."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import load_file

from tolerances import assert_close
from vultus.geometry.mesh_sampling import closest_barycentrics, closest_points
from vultus.render.lighting.envmap import sample_envmap


@pytest.fixture(scope="module")
def golden(golden_dir):
    return load_file(golden_dir / "relightable_blendshapes" / "nearest.safetensors")


@pytest.mark.parametrize("num_neighbors", [None, 8])
def test_closest_points_are_the_golden_ones(golden, num_neighbors) -> None:
    query, faces = golden["nearest.query"], golden["nearest.faces"].long()
    found = closest_points(query, golden["nearest.vertices"], faces, num_neighbors=num_neighbors)
    assert_close((found.points - query).square().sum(dim=1), golden["nearest.dist2"])
    is_unique = golden["nearest.second_dist2"] - golden["nearest.dist2"] > 1e-12
    assert is_unique.float().mean() > 0.3
    index = golden["nearest.triangle_id"][is_unique]
    assert torch.equal(found.face_index[is_unique], index)
    assert_close(found.barycentrics[is_unique], golden["nearest.barycentric"][is_unique])


def test_closest_points_of_single_triangles_are_the_golden_ones(golden) -> None:
    triangles, face = golden["tri.triangles"].double(), torch.tensor([[0, 1, 2]])
    for k, query in enumerate(golden["tri.query"].double()):
        found = closest_points(query[None], triangles[k], face)
        reason = "the fixture is float32"
        expected = golden["tri.closest_point"][k], golden["tri.barycentric"][k]
        assert_close(found.points[0].float(), expected[0], looser=2.0, reason=reason)
        assert_close(found.barycentrics[0].float(), expected[1], looser=2.0, reason=reason)


def test_lookups_of_a_map_are_the_golden_ones(golden) -> None:
    directions, expected = golden["envlookup.dirs"], golden["envlookup.rgb"]
    found = sample_envmap(golden["envlookup.envmap"][None].double(), directions[None].double())[0]
    assert_close(found.float(), expected)


def test_gradients_of_recomputed_barycentrics_are_the_golden_ones(golden) -> None:
    query = golden["tri.query"].double().requires_grad_()
    weights = closest_barycentrics(query, golden["tri.triangles"].double())
    weights.backward(golden["tri.grad_barycentric"].double())
    assert query.grad is not None
    difference = (query.grad - golden["tri.grad_query"]).norm(dim=1)
    size = golden["tri.grad_query"].double().norm(dim=1)
    assert (difference / size.clamp(min=1e-3)).max() < 1e-3
