"""Readers against real captures; these run where the sample data are."""

import json
from pathlib import Path

import pytest
import torch

from vultus.core.image_io import read_image, read_mask
from vultus.data.readers import detect_format, load_frame, read_sequence
from vultus.data.rig_files import write_rig_row
from vultus.geometry.cameras import camera_centers, pixel_directions, project_points
from vultus.heads.base import HeadPose
from vultus.heads.ict import IctHead


@pytest.fixture(scope="module")
def ict_full(data_dir) -> IctHead:
    return IctHead.from_file(data_dir / "ict_face/ict_face_model.npz")


@pytest.fixture(scope="module")
def obama(data_dir, ict_full):
    return read_sequence(data_dir / "obama_vhap", head=ict_full)


@pytest.fixture(scope="module")
def scan(data_dir, ict_full):
    return read_sequence(data_dir / "lps_multiview", head=ict_full, background="black")


def test_formats_are_told_by_their_manifests(data_dir):
    assert detect_format(data_dir / "obama_vhap") == "obama_vhap"
    assert detect_format(data_dir / "lps_multiview") == "lps_multiview"


def test_landmarks_of_the_posed_head_reproject_to_the_fitted_ones(obama, ict_full, data_dir):
    frames = json.loads((data_dir / "obama_vhap/transforms.json").read_text())["frames"]
    for record in obama.frames[::8]:
        vertices = ict_full.vertices(obama.pose[record.timestep])
        pixels, depth = project_points(vertices[:, ict_full.landmarks68], record.camera)
        expected = torch.tensor(frames[record.timestep]["landmarks68"])
        assert float((pixels[0] - expected).norm(dim=1).mean()) < 1.5
        assert (depth > 0.3).all()


def test_every_eighth_frame_is_held_out_and_the_option_turns_it_off(obama, data_dir, ict_full):
    assert obama.splits["test"].tolist() == [7, 15, 23, 31, 39, 47]
    assert len(obama.splits["train"]) == 42
    everything = read_sequence(data_dir / "obama_vhap", head=ict_full, hold_out_every="0")
    assert len(everything.splits["train"]) == 48
    with pytest.raises(ValueError, match="split 'test' is empty"):
        everything.split("test")


def test_tracked_normals_turn_to_the_side_that_the_vertices_face(obama, ict_full):
    record = obama.frames[0]
    frame = load_frame(obama, record)
    vertices = ict_full.vertices(obama.pose[0])[0]
    faces = ict_full.topology.faces
    corners = vertices[faces]
    normal = torch.linalg.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    normal = torch.nn.functional.normalize(normal, dim=1)
    center = corners.mean(dim=1)
    toward = torch.nn.functional.normalize(camera_centers(record.camera) - center, dim=1)
    skin = ict_full.topology.face_region("skin")
    front = ((normal * toward).sum(dim=1) > 0.5) & (center[:, 2] > 0.05) & skin
    pixels, _ = project_points(center[front][None], record.camera)
    x, y = pixels[0].long().clamp(0, 255).unbind(dim=1)
    tracked = frame.normals[0, :, y, x].T
    known = tracked.norm(dim=1) > 0.5
    cosine = (tracked * normal[front]).sum(dim=1)[known]
    assert float(known.float().mean()) > 0.9
    assert float(cosine.median()) > 0.85  # The readme states a median of 17 degrees.


def test_light_identity_needs_the_full_model(data_dir):
    with pytest.raises(ValueError, match="identity has 50 weights, head 'ict'"):
        read_sequence(
            data_dir / "obama_vhap", head_file=str(data_dir / "ict_face/ict_face_light.npz")
        )


def test_depth_of_the_scan_is_camera_z_and_fills_the_mask(scan):
    for record in (scan.frames[3], scan.frames[30]):
        frame = load_frame(scan, record)
        mask, depth = frame.mask[0, 0], frame.depth[0, 0]
        inside, outside = mask > 0.99, mask < 0.01
        assert float((depth[inside] > 0).float().mean()) > 0.995
        assert float((depth[outside] > 0).float().mean()) < 0.005
        # Unprojected points lie on the head, whatever the direction of the pixel.
        rays = pixel_directions(record.camera)[0] * depth[..., None]
        points = torch.cat([rays[inside], torch.ones(int(inside.sum()), 1)], dim=1)
        world = points @ record.camera.camera_to_world[0].T
        assert float(world[:, :3].norm(dim=1).quantile(0.99)) < 0.3


def test_depth_of_two_cameras_meets_in_the_same_surface(scan):
    first, second = load_frame(scan, scan.frames[0]), load_frame(scan, scan.frames[1])
    camera, other = first.record.camera, second.record.camera
    depth = first.depth[0, 0]
    inside = first.mask[0, 0] > 0.99
    local = (pixel_directions(camera)[0] * depth[..., None])[inside]
    world = local @ camera.camera_to_world[0, :3, :3].T + camera_centers(camera)
    pixels, z = project_points(world[None], other)
    x, y = pixels[0].long().clamp(0, 255).unbind(dim=1)
    gap = z[0] - second.depth[0, 0, y, x]
    assert float(gap.abs().median()) < 1e-3


def test_normals_of_the_scan_face_the_camera(scan):
    record = scan.frames[5]
    frame = load_frame(scan, record)
    inside = (frame.mask[0, 0] > 0.99) & (frame.normals[0].norm(dim=0) > 0.5)
    toward = torch.nn.functional.normalize(camera_centers(record.camera)[0], dim=0)
    cosine = (frame.normals[0] * toward[:, None, None]).sum(dim=0)[inside]
    assert float((cosine > -0.2).float().mean()) > 0.98


def test_lights_of_the_scan_are_chosen_by_name(scan, data_dir, ict_full):
    root = data_dir / "lps_multiview"
    other = read_sequence(root, head=ict_full, light="dir0", background="black")
    assert other.frames[0].image_path == Path(root / "train/dir0/000.png")
    torch.testing.assert_close(
        load_frame(other, other.frames[0]).rgb[0], read_image(root / "train/dir0/000.png")
    )
    with pytest.raises(ValueError, match="lights has no 'noon'; it has kloppenheim_06"):
        read_sequence(root, head=ict_full, light="noon")


def test_background_is_added_where_the_mask_is_open(data_dir, ict_full):
    root = data_dir / "lps_multiview"
    white = read_sequence(root, head=ict_full)
    rgb = load_frame(white, white.frames[0]).rgb[0]
    dark = read_image(root / "train/kloppenheim_06/000.png")
    mask = read_mask(root / "train/mask/000.png")
    torch.testing.assert_close(rgb, (dark + 1 - mask).clamp(0, 1))


def test_half_resolution_keeps_the_view(data_dir, ict_full):
    half = read_sequence(data_dir / "lps_multiview", head=ict_full, resolution="2")
    frame = load_frame(half, half.frames[0])
    assert frame.rgb.shape == (1, 3, 128, 128)
    assert frame.depth.shape == (1, 1, 128, 128)
    assert half.frames[0].camera.intrinsics[0, 0, 0] == pytest.approx(554.4289 / 2, rel=1e-5)


def test_frames_are_cut_off_at_the_neck_of_the_rig(obama, data_dir, ict_full):
    cut = read_sequence(data_dir / "obama_vhap", head=ict_full, cut_height="-0.1")
    whole, head = load_frame(obama, obama.frames[0]), load_frame(cut, cut.frames[0])
    shoulders = slice(200, None)
    assert float(whole.mask[0, 0, shoulders].mean()) > 0.5
    assert float(head.mask[0, 0, shoulders].max()) == 0.0
    assert float(head.rgb[0, :, shoulders].min()) == 1.0
    torch.testing.assert_close(head.mask[0, :, :140], whole.mask[0, :, :140])
    is_face = (whole.mask > 0.5).expand(1, 3, -1, -1)[0, :, :140]
    assert torch.equal(head.rgb[0, :, :140][is_face], whole.rgb[0, :, :140][is_face])
    with pytest.raises(ValueError, match="option cut_height must be float, got 'low'"):
        read_sequence(data_dir / "obama_vhap", head=ict_full, cut_height="low")


def test_a_stored_fit_poses_the_head_of_a_still_capture(data_dir, ict_full, tmp_path):
    fit = HeadPose(translation=torch.tensor([[0.0, -0.02, 0.01]]))
    write_rig_row(tmp_path / "fit.npz", fit, ())
    posed = read_sequence(data_dir / "lps_multiview", head=ict_full, fit=str(tmp_path / "fit.npz"))
    assert torch.equal(posed.pose.translation, fit.translation)
    wrong = HeadPose(identity_coeffs=torch.zeros(1, 7))
    write_rig_row(tmp_path / "wrong.npz", wrong, ())
    with pytest.raises(ValueError, match=r"wrong\.npz"):
        read_sequence(data_dir / "lps_multiview", head=ict_full, fit=tmp_path / "wrong.npz")
    with pytest.raises(ValueError, match="pose and fit must not both be given"):
        read_sequence(data_dir / "lps_multiview", head=ict_full, fit=tmp_path / "fit.npz", pose=fit)
