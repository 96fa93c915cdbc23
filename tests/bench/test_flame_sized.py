from __future__ import annotations

import torch

from vultus.bench.flame_sized import flame_sized_head
from vultus.bench.steps import bench_surfhead_steps
from vultus.geometry.meshes import vertex_normals


def test_the_head_is_a_closed_surface_of_about_flames_size():
    head = flame_sized_head()
    faces = head.topology.faces
    assert abs(len(faces) - 10_144) < 100
    assert abs(len(head.neutral) - 5_143) < 100
    edges = torch.cat([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])
    _, counts = torch.unique(edges.sort(dim=1).values, dim=0, return_counts=True)
    assert bool((counts == 2).all())
    outward = vertex_normals(head.neutral[None], faces)[0]
    assert bool(((outward * head.neutral).sum(dim=1) > 0).all())
    areas = torch.linalg.cross(
        head.neutral[faces[:, 1]] - head.neutral[faces[:, 0]],
        head.neutral[faces[:, 2]] - head.neutral[faces[:, 0]],
    ).norm(dim=1)
    assert float(areas.max() / areas.min()) < 6
    eyes = head.topology.face_region("left_eyeball", "right_eyeball")
    assert 0.15 < float(eyes.float().mean()) < 0.25


def test_steps_of_the_published_settings_are_timed():
    (row,) = bench_surfhead_steps(2000, 24, 32)
    assert row.implementation == "eager"
    assert 0 < row.timing.minimum <= row.timing.median
