"""The benchmark's Gaussians are what the table says, and every implementation gets a row."""

from __future__ import annotations

import torch

from vultus.bench.gaussians import bench_gaussian_reference, bench_gaussians, head_like_gaussians
from vultus.bench.raster import head_like_camera
from vultus.kernels.gaussian_raster import rasterize_gaussians


def test_gaussians_are_flat_and_the_same_for_the_same_seed():
    scene = head_like_gaussians(100, seed=3)
    along, across = scene[2][..., :2], scene[2][..., 2]
    torch.testing.assert_close(across, 0.3 * along.prod(dim=-1).sqrt())
    assert all(torch.equal(a, b) for a, b in zip(scene, head_like_gaussians(100, 3), strict=True))


def test_the_head_fills_the_image_without_touching_its_corners():
    means, quats, scales, opacities, sh_coeffs = head_like_gaussians(2000)
    images = rasterize_gaussians(
        means, quats, scales, opacities, head_like_camera(32), sh_coeffs=sh_coeffs
    )
    alpha = images.alpha[0, 0]
    assert float(alpha[8:24, 10:22].min()) > 0.9
    assert not alpha[[0, 0, -1, -1], [0, -1, 0, -1]].any()


def test_every_implementation_gets_a_row_of_one_scene():
    rows = bench_gaussians(20, 8, 1, num_features=1)
    assert [row.implementation for row in rows] == ["cpu", "cpu, all outputs"]
    assert {row.scene for row in rows} == {"20 Gaussians, 8 x 8, 4 channels"}
    assert all(0 < row.forward.minimum and 0 < row.timing.minimum for row in rows)
    rows = bench_gaussian_reference(20, 8, 1)
    assert [row.implementation for row in rows] == ["cpu", "ref"]
