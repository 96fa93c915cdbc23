"""The mesh that rays are timed against."""

from __future__ import annotations

import pytest
import torch

from vultus.bench.rays import bench_rays, head_like_mesh
from vultus.kernels.ray_mesh import Bvh, first_hit


@pytest.mark.parametrize("num_faces", [16, 5000])
def test_head_like_mesh_is_closed_and_has_about_the_faces_asked_for(num_faces):
    vertices, faces = head_like_mesh(num_faces)
    assert 0.9 < len(faces) / num_faces < 1.1
    directions = torch.randn(500, 3, generator=torch.Generator().manual_seed(0))
    hits = first_hit(Bvh.build(vertices, faces), torch.zeros(500, 3), directions)
    assert bool((hits.face >= 0).all())


def test_shadow_rays_start_where_camera_rays_hit():
    rows = {row.facts["query"]: row for row in bench_rays(500, 20, 1)}
    assert rows["camera"].facts["num_rays"] == 400
    assert 0.3 < int(rows["shadow"].facts["num_rays"]) / 400 < 0.9
    assert all(row.total.median > 0 for row in rows.values())
