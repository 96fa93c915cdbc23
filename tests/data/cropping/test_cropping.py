"""Crops of photographs: geometry, poses, labels, and the way from a folder to an image set."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation
from torch import Tensor

from vultus.core.image_io import write_image
from vultus.data.camera_labels import check_label, label_angles, labels_to_camera
from vultus.data.cropping.detectors import (
    Detectors,
    Photograph,
    boxes_from_file,
    landmarks_from_file,
    mattes_from_folder,
    poses_from_file,
)
from vultus.data.cropping.pipeline import CropConfig, Refusal, crop_photograph, plan_crops
from vultus.data.cropping.poses import (
    angles_to_rotation,
    camera_sphere,
    check_face_pose,
    face_pose,
    flip_disagreement,
    pose_label,
    rotation_to_angles,
    view_of,
)
from vultus.data.cropping.quads import CropQuad, box_quad, landmark_quad, square_box
from vultus.data.cropping.warping import (
    crop_image,
    crop_mask,
    laplacian_variance,
    singular_blur,
)
from vultus.data.image_set import open_image_set
from vultus.geometry.cameras import project_points
from vultus.heads.ict import IctHead


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_landmark_crops_are_those_of_ffhq() -> None:
    landmarks = 40 * drawn(68, 2) + 200
    # The published recipe, in NumPy.
    points = landmarks.numpy()
    left, right = points[36:42].mean(0), points[42:48].mean(0)
    eye_to_eye, eye_avg = right - left, 0.5 * (left + right)
    eye_to_mouth = 0.5 * (points[48] + points[54]) - eye_avg
    x = eye_to_eye - np.flipud(eye_to_mouth) * [-1, 1]
    x /= np.hypot(*x)
    x *= max(np.hypot(*eye_to_eye) * 2.0, np.hypot(*eye_to_mouth) * 1.8)
    y = np.flipud(x) * [-1, 1]
    c = eye_avg + eye_to_mouth * 0.1
    expected = np.stack([c - x - y, c - x + y, c + x + y, c + x - y])
    np.testing.assert_allclose(landmark_quad(landmarks).corners.numpy(), expected, atol=1e-9)
    dense = torch.zeros(106, 2, dtype=torch.float64)
    dense[104], dense[105] = torch.from_numpy(left), torch.from_numpy(right)
    dense[84], dense[90] = landmarks[48], landmarks[54]
    assert torch.allclose(landmark_quad(dense).corners, landmark_quad(landmarks).corners)


def test_crops_turn_and_scale_with_the_face() -> None:
    landmarks, angle = 40 * drawn(68, 2), 0.7
    quad = landmark_quad(landmarks)
    turn = torch.tensor(
        [[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]]
    ).double()
    moved = landmark_quad(3.0 * landmarks @ turn.T + 5.0)
    assert torch.allclose(moved.corners, 3.0 * quad.corners @ turn.T + 5.0)
    about = torch.tensor([3.0, -2.0]).double()
    turned = quad.turned(angle, about).corners
    assert torch.allclose(turned, (quad.corners - about) @ turn.T + about)
    points = drawn(7, 2, seed=1)
    assert torch.allclose(quad.from_photograph(quad.to_photograph(points)), points)


def test_crops_grow_at_the_top_and_the_sides() -> None:
    quad = CropQuad(torch.tensor([50.0, 60.0]), torch.tensor([20.0, 0.0]))
    top_left, _, bottom_right, _ = quad.expanded().corners
    assert top_left.tolist() == pytest.approx([28.0, 36.0])
    assert bottom_right.tolist() == pytest.approx([72.0, 80.0])
    moved = quad.moved(0.5, 0.25, 2.0)
    assert moved.center.tolist() == [60.0, 55.0]
    assert moved.side == 80.0
    with pytest.raises(ValueError, match="top must be twice sides"):
        quad.expanded(0.1, 0.1)


def test_boxes_become_the_crops_of_faces() -> None:
    square = square_box(torch.tensor([100.0, 100.0, 200.0, 220.0]), 1000, 1000)
    # 20 % and 10 % on each side: 140 x 144; then a square of 1.2 times the longer side.
    assert square.tolist() == pytest.approx([150 - 86.4, 160 - 86.4, 150 + 86.4, 160 + 86.4])
    quad = box_quad(square)
    assert quad.side == pytest.approx(0.74177 * 172.8, rel=1e-5)
    assert quad.center.tolist() == pytest.approx([150 - 0.00743 * 172.8, 160 + 0.00886 * 172.8])


@pytest.mark.parametrize("angles", [(0.1, 0.4, -0.2), (0.0, 2.8, 0.1), (-0.3, -1.5, 0.3)])
def test_angles_are_scipys(angles: tuple[float, float, float]) -> None:
    roll, yaw, pitch = angles
    rotation = angles_to_rotation(roll, yaw, pitch)
    expected = Rotation.from_euler("zyx", [-roll, -yaw, -pitch]).as_matrix()
    np.testing.assert_allclose(rotation.numpy(), expected, atol=1e-12)
    back = rotation_to_angles(rotation)
    euler = Rotation.from_matrix(expected).as_euler("zyx")
    np.testing.assert_allclose(back, -euler, atol=1e-9)
    assert torch.allclose(angles_to_rotation(*back), rotation)


def test_labels_of_poses_are_cameras_around_the_head() -> None:
    frontal = pose_label(torch.eye(3).double())
    expected = [1.0, 0, 0, 0, 0, -1, 0, 0, 0, 0, -1, 2.7, 0, 0, 0, 1]
    assert frontal[:16].tolist() == pytest.approx(expected)
    check_label(frontal, "label")
    # The published way: P = diag(1, -1, -1, 1) T(0, 0, -2.7) [R | 0], and its inverse.
    rotation = angles_to_rotation(0.2, 2.0, -0.3)
    pose, shift = np.eye(4), np.eye(4)
    pose[:3, :3], shift[2, 3] = rotation.numpy(), -2.7
    matrix = np.linalg.inv(np.diag([1.0, -1, -1, 1]) @ shift @ pose)
    np.testing.assert_allclose(pose_label(rotation)[:16].view(4, 4).numpy(), matrix, atol=1e-6)
    sides = {"front": 0.0, "left": math.pi / 2, "right": -math.pi / 2, "back": math.pi}
    for name, yaw in sides.items():
        # The camera sees the subject's left side if the head turns to its right.
        turned = angles_to_rotation(0.0, yaw, 0.0)
        label = pose_label(turned)
        assert view_of(label) == name
        theta, phi, radius = camera_sphere(label)
        difference = math.radians(theta - 90.0) - yaw
        assert abs(math.remainder(difference, 2 * math.pi)) < 1e-5
        assert (phi, radius) == pytest.approx((90.0, 2.7), abs=1e-4)


def photographed(points: Tensor, rotation: Tensor, size: int = 400) -> Tensor:
    """Pixels of points (metres, origin in the head) in a photograph with a pose."""
    label = pose_label(rotation)[None]
    camera = labels_to_camera(label, size)
    return project_points((points / 0.5).float()[None], camera)[0][0].double()


@pytest.mark.parametrize("yaw", [-0.6, 0.0, 0.45])
def test_poses_are_found_from_the_landmarks_of_another_head(data_dir: Path, yaw: float) -> None:
    head = IctHead.from_file(data_dir / "ict_face/ict_face_light.npz")
    rest = head.neutral
    eyes = head.joints[3:5].mean(dim=0)
    points = rest[head.landmarks68] - eyes + torch.tensor([0.0, 0.007, 0.07])
    truth = angles_to_rotation(0.1, yaw, 0.12)
    landmarks = photographed(points, truth)
    quad = landmark_quad(landmarks)
    pose = face_pose(landmarks, quad)
    assert check_face_pose(pose) is None
    # Crops stand upright with the eyes, and poses are those in the crop.
    tilt = math.atan2(float(quad.right[1]), float(quad.right[0]))
    upright = angles_to_rotation(-tilt, 0.0, 0.0) @ truth
    error = (pose.rotation.T @ upright).diagonal().sum()
    # Another face than the average one: some degrees.
    assert math.degrees(math.acos(min((float(error) - 1) / 2, 1.0))) < 6.0
    assert 0.85 < pose.scale < 1.15
    middle = photographed(torch.zeros(1, 3), truth)
    fitted = quad.moved(*pose.shift, pose.scale)
    assert float((fitted.center - middle).norm()) < 0.06 * quad.side


def test_unlikely_poses_are_named() -> None:
    quad = CropQuad(torch.tensor([100.0, 100.0]).double(), torch.tensor([50.0, 0.0]).double())
    grid = drawn(68, 2)
    good = face_pose(100 + 10 * grid, quad)
    assert check_face_pose(good) is not None
    pose = face_pose(photographed(torch.zeros(68, 3), torch.eye(3).double()) + 20 * grid, quad)
    assert "the scale of the face is" in str(check_face_pose(pose))


def test_a_crop_of_the_whole_picture_is_the_picture() -> None:
    image = drawn(3, 32, 32).float().sigmoid()
    whole = CropQuad(torch.tensor([16.0, 16.0]), torch.tensor([16.0, 0.0]))
    constant = torch.full((3, 32, 32), 0.3)
    crop, valid = crop_image(constant, whole, 16)
    assert torch.allclose(crop, torch.full((3, 16, 16), 0.3), atol=1e-6)
    assert float(valid.min()) == 1.0
    half = crop_mask(image[:1], whole, 16)
    means = torch.nn.functional.avg_pool2d(image[:1], 2)
    assert torch.allclose(half, means, atol=1e-5)


def test_turned_crops_show_the_right_places() -> None:
    rows, columns = torch.meshgrid(torch.arange(64.0), torch.arange(64.0), indexing="ij")
    ramp = (torch.stack([columns, rows, rows + columns]) + 0.5) / 128
    quad = CropQuad(torch.tensor([32.0, 30.0]), torch.tensor([8.0, 6.0]))
    crop, _ = crop_image(ramp, quad, 10)
    steps = (torch.arange(10.0) + 0.5) / 5 - 1
    down, right = torch.meshgrid(steps, steps, indexing="ij")
    places = quad.to_photograph(torch.stack([right.flatten(), down.flatten()], dim=1))
    expected = places.T.view(2, 10, 10) / 128
    assert torch.allclose(crop[:2], expected, atol=1e-4)


def test_beyond_the_border_there_is_no_mask_and_no_edge() -> None:
    image = torch.ones(3, 40, 40)
    image[:, :, :30] = 0.5
    quad = CropQuad(torch.tensor([0.0, 20.0]), torch.tensor([20.0, 0.0]))
    crop, valid = crop_image(image, quad, 40)
    assert float(valid[..., :20].max()) == 0.0
    assert float(valid[..., 20:].min()) == 1.0
    assert torch.allclose(crop, torch.full_like(crop, 0.5), atol=1e-5)
    mask = crop_mask(image[:1], quad, 40)
    assert float(mask[..., :18].max()) == 0.0
    assert float(mask[..., 2:-2, 22:].min()) == pytest.approx(0.5)


def test_blurred_pictures_are_told_from_sharp_ones() -> None:
    sharp = drawn(3, 64, 64).float().sigmoid()
    soft = torch.nn.functional.avg_pool2d(sharp[None], 9, stride=1, padding=4)[0]
    assert singular_blur(sharp) < singular_blur(soft)
    assert laplacian_variance(sharp) > 10 * laplacian_variance(soft)


def test_mirrored_poses_agree() -> None:
    assert flip_disagreement((0.1, 0.5, -0.2), (-0.1, -0.5, -0.2)) == pytest.approx(0.0)
    assert flip_disagreement((0.0, 3.1, 0.0), (0.0, 3.1, 0.0)) == pytest.approx(2 * math.pi - 6.2)
    assert flip_disagreement((0.0, 0.3, 0.1), (0.0, 0.3, 0.1)) == pytest.approx(0.6)


def photograph_from_behind(roll: float, size: int = 300) -> tuple[Photograph, Tensor, Tensor]:
    """A picture with a red dot on the crown and a green one under the chin; its box and pose."""
    truth = angles_to_rotation(0.0, 2.7, 0.1)
    tilt = angles_to_rotation(roll, 0.0, 0.0) @ truth
    dots = torch.tensor([[0.0, 0.1, 0.0], [0.0, -0.1, 0.0]]).double()
    seen = photographed(dots, tilt, size)
    rows, columns = torch.meshgrid(*2 * [torch.arange(size) + 0.5], indexing="ij")
    image = torch.zeros(3, size, size)
    for channel, (x, y) in enumerate(seen.tolist()):
        image[channel] = torch.exp(-((columns - x) ** 2 + (rows - y) ** 2) / 18.0)
    half = 0.3 * size
    middle = photographed(torch.zeros(1, 3).double(), tilt, size)[0]
    box = torch.cat([middle - half, middle + half])
    return Photograph("a.png", image), box, tilt


def place_of(channel: Tensor) -> tuple[float, float]:
    row, column = divmod(int(channel.argmax()), channel.shape[1])
    return float(column), float(row)


@pytest.mark.parametrize("sees_pixels", [False, True])
@pytest.mark.parametrize("roll", [0.0, 0.5, -0.4])
def test_heads_from_behind_are_turned_upright(roll: float, sees_pixels: bool) -> None:
    photo, box, tilt = photograph_from_behind(roll)
    upright = angles_to_rotation(0.0, 2.7, 0.1)

    def pose(seen: Photograph) -> tuple[float, float, float]:
        """Of files: always the same; of a network: by how far the dots are off the vertical."""
        if not sees_pixels:
            return rotation_to_angles(tilt)
        (x1, y1), (x0, y0) = place_of(seen.rgb[0]), place_of(seen.rgb[1])
        angle = math.atan2(x1 - x0, y0 - y1)
        return rotation_to_angles(angles_to_rotation(angle, 0.0, 0.0) @ upright)

    config = CropConfig(size=128, min_side=100, min_crop_side=50.0, max_flip_disagreement=1e3)
    detectors = Detectors(box=lambda _: box, pose=pose, sees_pixels=sees_pixels)
    crop = crop_photograph(photo, detectors, config)
    (x1, y1), (x0, y0) = place_of(crop.image[0]), place_of(crop.image[1])
    assert abs(x1 - x0) <= 2
    assert y1 < y0 - 30
    expected = pose_label(upright)
    # A dot's place is a whole pixel: two degrees.
    assert float((crop.label - expected).abs().max()) < (0.1 if sees_pixels else 0.05)
    assert crop.facts["view"] == "back"
    kept = crop_photograph(photo, detectors, CropConfig(size=128, min_side=100, min_crop_side=50.0,
                           max_flip_disagreement=1e3, remove_roll=False))  # fmt: skip
    assert float((kept.label - pose_label(tilt)).abs().max()) < 0.1


def face_landmarks(data_dir: Path, rotation: Tensor, size: int) -> Tensor:
    head = IctHead.from_file(data_dir / "ict_face/ict_face_light.npz")
    eyes = head.joints[3:5].mean(dim=0)
    points = head.neutral[head.landmarks68] - eyes + torch.tensor([0.0, 0.007, 0.07])
    return photographed(points, rotation, size)


def test_a_folder_becomes_an_image_set(data_dir: Path, tmp_path: Path) -> None:
    source = tmp_path / "photos"
    (source / "b").mkdir(parents=True)
    behind, box, tilt = photograph_from_behind(0.3)
    face = angles_to_rotation(0.0, 0.4, 0.0)
    landmarks = face_landmarks(data_dir, face, 300)
    grey = torch.full((3, 300, 300), 0.5)
    for name, image in (("a.png", behind.rgb), ("b/c.png", grey), ("d.png", grey[:, :90])):
        write_image(source / name, image)
    write_image(source / "e.png", grey)
    yaw, roll, pitch = (math.degrees(rotation_to_angles(tilt)[i]) for i in (1, 0, 2))
    tables = {
        "landmarks": {"b/c.png": landmarks.tolist()},
        "boxes": {"a.png": box.tolist()},
        "poses": {"a.png": [yaw, roll, pitch]},
    }
    for name, table in tables.items():
        (tmp_path / f"{name}.json").write_text(json.dumps(table))
    mattes = tmp_path / "mattes"
    (mattes / "b").mkdir(parents=True)
    for name in ("a.png", "b/c.png"):
        write_image(mattes / name, torch.ones(1, 300, 300))
    detectors = Detectors(
        landmarks_from_file(tmp_path / "landmarks.json"),
        boxes_from_file(tmp_path / "boxes.json"),
        poses_from_file(tmp_path / "poses.json"),
        mattes_from_folder(mattes),
    )
    config = CropConfig(size=64, min_side=100, min_crop_side=50.0)
    plan = plan_crops(source, tmp_path / "set", detectors, config)
    assert plan.write() == (2, 2)
    found = open_image_set(tmp_path / "set", needs_masks=True)
    assert found.num_channels == 4
    assert found.size == 64
    yaws = label_angles(found.labels)[:, 0].abs()
    assert yaws.tolist() == pytest.approx([2.7, 0.4], abs=0.12)
    info = json.loads((tmp_path / "set/info.json").read_text())
    assert [(crop["source"], crop["branch"]) for crop in info] == [
        ("a.png", "box"),
        ("b/c.png", "front"),
    ]
    assert [crop["dup_num"] for crop in info] == [1500, 1500]
    refused = json.loads((tmp_path / "set/refused.json").read_text())
    assert "shorter than 100" in refused["d.png"]
    assert refused["e.png"] == "neither a face nor a head was found"


def test_networks_must_agree_about_flipped_crops() -> None:
    photo, box, _ = photograph_from_behind(0.0)
    detectors = Detectors(box=lambda _: box, pose=lambda _: (0.0, 2.0, 0.0), sees_pixels=True)
    config = CropConfig(size=64, min_side=100, min_crop_side=50.0)
    with pytest.raises(Refusal, match=r"the flipped crop differs by 130\.8 degrees"):
        crop_photograph(photo, detectors, config)


REFUSALS: dict[str, tuple[Callable[[Path], object], type[Exception], str]] = {
    "folder": (lambda p: plan_crops(p / "x", p / "o", Detectors()), FileNotFoundError, "no folder"),
    "nothing known": (lambda p: plan_crops(p, p / "o", Detectors()), ValueError, "got neither"),
    "no pictures": (
        lambda p: plan_crops(p, p / "o", Detectors(landmarks=lambda _: None)),
        ValueError,
        "holds no PNG or JPEG",
    ),
    "size": (lambda _: CropConfig(size=100), ValueError, "size must be a power of two"),
    "landmarks": (lambda _: landmark_quad(torch.zeros(5, 2)), ValueError, "68 or 106 points"),
    "mattes": (lambda p: mattes_from_folder(p / "x"), FileNotFoundError, "no folder of mattes"),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_wrong_requests_are_refused(tmp_path: Path, case: str) -> None:
    call, kind, message = REFUSALS[case]
    with pytest.raises(kind, match=message):
        call(tmp_path)


def test_damaged_tables_are_named(tmp_path: Path) -> None:
    path = tmp_path / "boxes.json"
    path.write_text('{"a.png": [1, 2, 3], "b.png": "left"}')
    detect = boxes_from_file(path)
    photo = Photograph("a.png", torch.zeros(3, 4, 4))
    with pytest.raises(ValueError, match=r"boxes.json: a.png: must be finite numbers of shape"):
        detect(photo)
    with pytest.raises(ValueError, match=r"b.png: must be numbers"):
        detect(Photograph("b.png", photo.rgb))
    assert detect(Photograph("c.png", photo.rgb)) is None
    path.write_text("[]")
    with pytest.raises(ValueError, match="must be"):
        boxes_from_file(path)
