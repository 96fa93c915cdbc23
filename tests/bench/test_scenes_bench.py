"""The benchmark's scenes are what the table says."""

from __future__ import annotations

import pytest
import torch

from vultus.bench.scenes import RasterScene, head_like_camera, head_like_gaussians
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


def test_a_scene_has_other_primitives_in_every_frame_and_features_beside_rgb():
    inputs = RasterScene("surfels", 7, 16, channels=5, batch=2).build()
    means, _, scales, _, _ = inputs.parameters
    assert means.shape == (2, 7, 3)
    assert scales.shape == (2, 7, 2)
    assert not torch.equal(means[0], means[1])
    assert inputs.features is not None
    assert inputs.features.shape == (2, 7, 2)
    assert len(inputs.camera) == 2


def test_a_trainable_copy_shares_nothing_with_the_scene():
    inputs = RasterScene("gaussians", 7, 16, channels=4).build()
    own = inputs.trainable()
    assert len(own.leaves()) == 6
    assert all(leaf.requires_grad and leaf.is_leaf for leaf in own.leaves())
    with torch.no_grad():
        own.parameters[0].zero_()
    assert inputs.parameters[0].any()


def test_titles_name_frames_primitives_image_and_channels():
    assert str(RasterScene("gaussians", 20, 8)) == "20 Gaussians, 8 x 8, 3 channels"
    scene = RasterScene("surfels", 20, 8, channels=16, batch=4)
    assert str(scene) == "4 x 20 surfels, 8 x 8, 16 channels"


def test_a_scene_without_all_of_rgb_is_refused():
    with pytest.raises(ValueError, match="channels must be at least 3, got 2"):
        RasterScene("gaussians", 20, 8, channels=2)
