from __future__ import annotations

import json
import math

import numpy as np
import pytest
import torch
from PIL import Image

from vultus.geometry.cameras import (
    Camera,
    camera_centers,
    fov_to_focal,
    look_at,
    opengl_to_opencv,
    project_points,
)
from vultus.heads.base import HeadPose
from vultus.heads.fitting import Landmarks, MaskFitConfig, fit_to_masks, silhouettes
from vultus.heads.texture_baking import cover_texels

SIZE = 96


def ring_of_cameras(count, size=SIZE):
    azimuths = torch.arange(count) * 2 * math.pi / count
    heights = torch.tensor([0.0, 0.3, -0.2]).repeat(count)[:count]
    eyes = torch.stack([azimuths.sin(), heights, azimuths.cos()], dim=1) * 1.1
    focal = fov_to_focal(0.4, size)
    intrinsics = torch.tensor([[focal, 0, size / 2], [0, focal, size / 2], [0, 0, 1.0]])
    return Camera(look_at(eyes, torch.zeros(3)), intrinsics.expand(count, 3, 3), size, size)


@pytest.fixture(autouse=True)
def one_thread():
    """Hundreds of small steps: waiting for a second thread costs more than it brings."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def subject(ict_light):
    """A posed subject whose parameters the fit does not know, and its masks."""
    generator = torch.Generator().manual_seed(5)
    pose = HeadPose(
        identity_coeffs=torch.randn(1, 20, generator=generator),
        global_rotation=torch.tensor([[0.08, -0.12, 0.05]]),
        translation=torch.tensor([[0.02, -0.01, -0.03]]),
    )
    cameras = ring_of_cameras(6)
    vertices = 1.1 * ict_light.vertices(pose)
    skin = ict_light.topology.faces[ict_light.topology.face_region("skin")]
    return vertices, silhouettes(vertices, skin, cameras).float()[:, None], cameras


def test_covered_texels_are_those_with_their_centre_inside():
    inside = [[0.0, 0.0], [4.0, 0.0], [0.0, 4.0]]
    outside = [[50.0, 50.0], [60.0, 50.0], [50.0, 60.0]]
    corners = np.array([inside, outside])
    covered = cover_texels(corners, 8, 8)
    expected = {(r, c) for r in range(8) for c in range(8) if r + 0.5 + c + 0.5 <= 4}
    assert set(zip(covered.row.tolist(), covered.column.tolist(), strict=True)) == expected
    assert set(covered.face.tolist()) == {0}
    points = np.einsum("nk,nkd->nd", covered.weights, corners[covered.face])
    np.testing.assert_allclose(points, np.stack([covered.column, covered.row], axis=1) + 0.5)


def test_a_known_subject_is_found_again(ict_light, subject):
    vertices, masks, cameras = subject
    fit = fit_to_masks(ict_light, masks, cameras)
    assert float(fit.iou.min()) > 0.97
    gap = (fit.vertices(ict_light) - vertices)[0, ict_light.landmarks68].norm(dim=1)
    # One pixel is 4.6 mm here, and inner features show in no outline.
    assert float(gap.median()) < 0.006
    assert fit.scale == pytest.approx(1.1, rel=0.08)


def test_rescaled_cameras_see_the_same_without_the_scale(ict_light, subject):
    _, masks, cameras = subject
    fit = fit_to_masks(
        ict_light, masks, cameras, config=MaskFitConfig(rigid_steps=20, identity_steps=0)
    )
    assert float(fit.pose.identity_coeffs.abs().max()) == 0.0
    with_scale, _ = project_points(fit.vertices(ict_light).expand(6, -1, -1), cameras)
    without, _ = project_points(
        ict_light.vertices(fit.pose).expand(6, -1, -1), fit.cameras_in_metres(cameras)
    )
    torch.testing.assert_close(with_scale, without, rtol=1e-4, atol=1e-3)


def test_the_pose_in_the_world_needs_no_scale_beside_it(ict_light, subject):
    _, masks, cameras = subject
    config = MaskFitConfig(rigid_steps=10, identity_steps=5)
    fit = fit_to_masks(ict_light, masks, cameras, config=config)
    assert abs(fit.scale - 1.0) > 0.01
    torch.testing.assert_close(
        ict_light.vertices(fit.world_pose(ict_light)), fit.vertices(ict_light), rtol=0, atol=1e-6
    )


def test_landmarks_pull_where_masks_cannot_see(ict_light, subject):
    vertices, masks, cameras = subject
    ids = ict_light.landmarks68
    pixels, _ = project_points(vertices[:, ids].expand(6, -1, -1), cameras)
    pixels = torch.where(torch.arange(6)[:, None, None] < 2, pixels, torch.nan)
    config = MaskFitConfig(rigid_steps=40, identity_steps=60, landmark_weight=2.0, vertex_stride=4)

    def median_gap(landmarks):
        fit = fit_to_masks(ict_light, masks, cameras, landmarks=landmarks, config=config)
        return float((fit.vertices(ict_light) - vertices)[0, ids].norm(dim=1).median())

    assert median_gap(Landmarks(ids, pixels)) < 0.7 * median_gap(None)


def test_the_fit_is_deterministic(ict_light, subject):
    _, masks, cameras = subject
    config = MaskFitConfig(rigid_steps=5, identity_steps=5)
    first, second = (fit_to_masks(ict_light, masks, cameras, config=config) for _ in range(2))
    assert torch.equal(first.pose.identity_coeffs, second.pose.identity_coeffs)
    assert first.scale == second.scale


def test_what_lies_below_the_cut_has_no_influence(ict_light, subject):
    _, masks, cameras = subject
    config = MaskFitConfig(rigid_steps=5, identity_steps=0)
    spoiled = masks.clone()
    spoiled[:, :, int(0.85 * SIZE) :] = 1.0
    clean = fit_to_masks(ict_light, masks, cameras, cut_height=-0.08, config=config)
    dirty = fit_to_masks(ict_light, spoiled, cameras, cut_height=-0.08, config=config)
    torch.testing.assert_close(clean.pose.translation, dirty.pose.translation)
    torch.testing.assert_close(clean.iou, dirty.iou)


def test_masks_that_do_not_fit_the_cameras_are_refused(ict_light, subject):
    _, masks, cameras = subject
    with pytest.raises(ValueError, match="masks must be 6 images of 96 x 96"):
        fit_to_masks(ict_light, masks[:3], cameras)
    empty = masks.clone()
    empty[4] = 0.0
    with pytest.raises(ValueError, match="mask 4 does not"):
        fit_to_masks(ict_light, empty, cameras)


@pytest.mark.slow
def test_a_real_scan_is_matched_outside_and_in_front(data_dir, ict_full):
    folder = data_dir / "lps_multiview" / "train"
    info = json.loads((folder / "transforms.json").read_text())
    matrices = torch.tensor([frame["transform_matrix"] for frame in info["frames"]])
    count = len(matrices)
    intrinsics = torch.tensor(
        [[info["fl_x"], 0, info["cx"]], [0, info["fl_y"], info["cy"]], [0, 0, 1]]
    )
    cameras = Camera(
        torch.linalg.inv(opengl_to_opencv(matrices)),
        intrinsics.expand(count, 3, 3).contiguous(),
        info["w"],
        info["h"],
    )
    images = [np.asarray(Image.open(folder / "mask" / f"{i:03d}.png")) for i in range(count)]
    masks = torch.from_numpy(np.stack(images)).float()[:, None] / 255
    fit = fit_to_masks(ict_full, masks, cameras, cut_height=-0.11)
    assert float(fit.iou.mean()) > 0.98
    assert float(fit.iou.min()) > 0.97

    # The depth of the front view was not used above.
    vertices = fit.vertices(ict_full)
    faces = ict_full.topology.faces[ict_full.topology.face_region("face")]
    pixels, _ = project_points(vertices, cameras[0])
    covered = cover_texels(pixels[0, faces].double().numpy(), info["w"], info["h"])
    points = np.einsum("nk,nkd->nd", covered.weights, vertices[0, faces].numpy()[covered.face])
    distance = np.linalg.norm(points - camera_centers(cameras)[0].numpy(), axis=1)
    nearest = np.full((info["h"], info["w"]), np.inf)
    np.minimum.at(nearest, (covered.row, covered.column), distance)
    with np.load(folder / "depth.npz") as archive:
        truth = archive["depth"][0]
    known = np.isfinite(nearest) & (truth > 0) & (np.arange(info["h"])[:, None] < 185)
    assert np.median(np.abs(nearest - truth)[known]) < 0.003
