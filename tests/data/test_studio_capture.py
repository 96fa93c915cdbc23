import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from fakes import FakeHead
from synthetic_flame import synthetic_flame
from vultus.core.exr_io import read_exr, write_exr
from vultus.core.image_io import read_image, to_bytes
from vultus.data.frames import load_frame
from vultus.data.readers import read_sequence
from vultus.data.rig_files import read_flame_row, write_flame_row
from vultus.data.studio.capture import film, plan_film
from vultus.data.studio.config import PRESETS, StudioConfig, demo_config
from vultus.data.studio.lights import auto_exposure, load_light, studio_light
from vultus.data.studio.renderer import StudioRenderer
from vultus.data.studio.scene import Shooting, build_scene
from vultus.data.studio.subject import Subject, build_subject, plain_appearance
from vultus.geometry.cameras import camera_centers
from vultus.heads.base import HeadPose
from vultus.heads.flame import FlameHead
from vultus.render.lighting.envmap import EnvironmentMap, envmap_directions

TINY = StudioConfig(frames=4, cameras=3, size=40, samples=1, num_lights=16, test_share=0.25)


def fake_subject() -> Subject:
    head = FakeHead(rings=24, segments=36)
    return Subject(head, torch.tensor([[0.4]]), plain_appearance(head, 0, 64))


@pytest.fixture(scope="module")
def filmed(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("studio") / "capture"
    assert film(TINY, out, subject=fake_subject()) == 12
    return out


@pytest.fixture(scope="module")
def sequence(filmed):
    return read_sequence(filmed, head=fake_subject().head)


def test_the_shape_of_the_person_can_be_forgotten(filmed, sequence):
    head = fake_subject().head
    mean = read_sequence(filmed, head=head, identity="mean")
    assert not torch.equal(sequence.pose.identity_coeffs, mean.pose.identity_coeffs)
    known = sequence.pose.replace(identity_coeffs=torch.zeros_like(sequence.pose.identity_coeffs))
    for name, tensor in known.tensors().items():
        assert torch.equal(getattr(mean.pose, name), tensor)
    with pytest.raises(ValueError, match="option identity must be 'filmed', 'mean', got 'none'"):
        read_sequence(filmed, head=head, identity="none")


def test_cameras_and_poses_come_back(sequence):
    scene = build_scene(TINY, fake_subject())
    for name, tensor in scene.pose.tensors().items():
        torch.testing.assert_close(getattr(sequence.pose, name), tensor, atol=1e-7, rtol=0)
    for record in sequence.frames:
        expected = scene.cameras[record.camera_index]
        torch.testing.assert_close(
            record.camera.world_to_camera, expected.world_to_camera, atol=1e-6, rtol=0
        )
        torch.testing.assert_close(record.camera.intrinsics, expected.intrinsics)


def test_pictures_and_truth_come_back(sequence):
    scene = build_scene(TINY, fake_subject())
    head = scene.subject.head
    renderer = StudioRenderer(head.topology.faces, scene.subject.appearance, threads=1)
    renderer.set_light(scene.light, TINY.num_lights, scene.exposure, max_radiance_ratio=None)
    record = sequence.frames[5]
    renderer.pose(head.vertices(scene.pose[record.timestep])[0], head.neutral)
    expected = renderer.render(scene.cameras[record.camera_index], samples=1)
    frame = load_frame(sequence, record)
    assert torch.equal(to_bytes(frame.rgb[0]), to_bytes(expected.rgb))
    torch.testing.assert_close(frame.mask[0], expected.alpha, atol=0.5 / 255, rtol=0)
    torch.testing.assert_close(frame.depth[0], expected.depth, atol=0, rtol=0)
    known = expected.normals.norm(dim=0) > 0.5
    cosine = (frame.normals[0] * expected.normals).sum(dim=0)[known].clamp(max=1)
    assert float(torch.rad2deg(torch.arccos(cosine)).max()) < 0.5
    assert (frame.normals[0][:, ~known] == 0).all()


def test_depth_and_mask_agree_with_the_posed_mesh(sequence):
    record = sequence.frames[0]
    frame = load_frame(sequence, record)
    vertices = sequence.head.vertices(sequence.pose[record.timestep])[0]
    distance = (vertices - camera_centers(record.camera)).norm(dim=1)
    depth = frame.depth[frame.depth > 0]
    assert float(depth.min()) == pytest.approx(float(distance.min()), abs=2e-3)
    assert ((frame.depth > 0) == (frame.mask > 0.5)).all()


def test_splits_hold_out_a_camera_and_the_last_moments(sequence):
    train, val, test = (sequence.split(name) for name in ("train", "val", "test"))
    assert {(r.timestep, r.camera_index) for r in test} == {(3, c) for c in range(3)}
    assert {r.camera_index for r in val} == {1}
    assert {r.camera_index for r in train} == {0, 2}
    assert {r.timestep for r in train} == {r.timestep for r in val} == {0, 1, 2}
    assert len(sequence.frames) == 12


def test_manifests_have_the_keys_of_vhap(filmed):
    data = json.loads((filmed / "transforms.json").read_text())
    assert len(data["frames"]) == 12
    shared = {"cx", "cy", "fl_x", "fl_y", "h", "w", "camera_angle_x", "camera_angle_y"}
    assert shared | {"timestep_indices", "camera_indices"} <= data.keys()
    assert data["frames"][4].keys() >= shared | {
        "timestep_index",
        "timestep_index_original",
        "timestep_id",
        "camera_index",
        "camera_id",
        "transform_matrix",
        "file_path",
        "fg_mask_path",
        "rig_param_path",
    }
    with np.load(filmed / data["frames"][4]["rig_param_path"]) as file:
        assert set(file.files) == {"expression_coeffs", "global_rotation", "translation"}
        assert all(file[name].dtype == np.float32 for name in file.files)


def test_the_stored_light_and_exposure_are_those_of_the_pictures(filmed):
    facts = json.loads((filmed / "light.json").read_text())
    light = EnvironmentMap(read_exr(filmed / "light.exr"))
    torch.testing.assert_close(light.radiance, studio_light().radiance)
    assert facts["exposure"] == pytest.approx(auto_exposure(light), rel=1e-6)


def test_a_second_filming_takes_nothing_and_a_lost_file_is_filmed_again(filmed):
    lost = filmed / "depth/00002_01.npz"
    image = filmed / "images/00002_01.png"
    before, picture = lost.read_bytes(), image.read_bytes()
    assert film(TINY, filmed, subject=fake_subject()) == 0
    lost.unlink()
    assert film(TINY, filmed, subject=fake_subject(), threads=1) == 1
    assert lost.read_bytes() == before
    assert image.read_bytes() == picture


def test_a_stopped_filming_continues_to_the_same_pictures(filmed, tmp_path, monkeypatch):
    take = Shooting.take

    def stop_after_five(*arguments):
        for count, shot in enumerate(take(*arguments)):
            if count == 5:
                raise KeyboardInterrupt
            yield shot

    monkeypatch.setattr(Shooting, "take", stop_after_five)
    out = tmp_path / "capture"
    with pytest.raises(KeyboardInterrupt):
        film(TINY, out, subject=fake_subject())
    assert not (out / "transforms.json").exists()
    monkeypatch.undo()
    assert 0 < film(TINY, out, subject=fake_subject()) < 12
    for path in sorted((filmed / "images").iterdir()):
        assert (out / "images" / path.name).read_bytes() == path.read_bytes()


def test_a_folder_of_another_config_is_refused(filmed, tmp_path):
    with pytest.raises(ValueError, match=r"holds another filming: config\.seed is 0 there, 1 here"):
        film(replace(TINY, seed=1), filmed, subject=fake_subject())
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(ValueError, match="must be an empty or new folder"):
        film(TINY, tmp_path, subject=fake_subject())


def test_a_plan_writes_nothing(tmp_path):
    plan = plan_film(TINY, tmp_path / "new", fake_subject())
    assert plan.num_missing == 12
    assert plan.facts()["pictures to take"] == "12 of 12"
    assert not (tmp_path / "new").exists()


def test_another_rig_is_refused_on_reading(filmed):
    with pytest.raises(ValueError, match=r"rig\.json: num_vertices is 830, the head's is 86"):
        read_sequence(filmed, head=FakeHead())


def test_flame_rows_come_back(tmp_path):
    generator = torch.Generator().manual_seed(0)
    sizes = {
        "identity_coeffs": 300,
        "expression_coeffs": 100,
        "global_rotation": 3,
        "neck_pose": 3,
        "jaw_pose": 3,
        "eye_pose": 6,
        "translation": 3,
    }
    fields = {name: torch.randn(1, size, generator=generator) for name, size in sizes.items()}
    pose = HeadPose(**fields, static_offset=torch.randn(1, 7, 3, generator=generator))
    write_flame_row(tmp_path / "00000.npz", pose)
    with np.load(tmp_path / "00000.npz") as file:
        assert file["shape"].shape == (300,)
        assert file["expr"].shape == (1, 100)
        assert file["static_offset"].shape == (1, 7, 3)
    for name, tensor in read_flame_row(tmp_path / "00000.npz").tensors().items():
        torch.testing.assert_close(tensor, getattr(pose, name), atol=0, rtol=0)


def test_a_flame_capture_is_read_by_both_readers(tmp_path):
    head = FlameHead(synthetic_flame())
    subject = Subject(head, torch.randn(1, 5), plain_appearance(head, 0, 16))
    config = replace(TINY, frames=2, cameras=1, size=16, test_share=0.5)
    film(config, tmp_path / "capture", subject=subject)
    expected = build_scene(config, subject).pose
    assert float(expected.jaw_pose.abs().max() + expected.eye_pose.abs().max()) > 0
    for format in ("studio", "gaussian_avatars"):
        pose = read_sequence(tmp_path / "capture", format, head=head).pose
        for name, tensor in expected.tensors().items():
            torch.testing.assert_close(getattr(pose, name), tensor)
    canonical = read_flame_row(tmp_path / "capture/canonical_flame_param.npz")
    torch.testing.assert_close(canonical.jaw_pose, torch.tensor([[0.3, 0, 0]]))
    torch.testing.assert_close(canonical.identity_coeffs, subject.identity)


def test_exposure_makes_a_white_board_in_front_bright():
    # A lamp of unit radiance over the front hemisphere lights a board facing it with pi.
    front = (envmap_directions(64, 128)[..., 2] > 0).float()
    light = EnvironmentMap(5.0 * front.expand(3, -1, -1).contiguous())
    assert 5.0 * auto_exposure(light) == pytest.approx(0.85, rel=1e-3)
    with pytest.raises(ValueError, match="leaves the face dark"):
        auto_exposure(EnvironmentMap(light.radiance.flip(2).roll(64, 2) * (1 - front)))


def test_front_centred_maps_light_the_face_from_their_middle(tmp_path):
    radiance = torch.zeros(3, 32, 64)
    radiance[:, 16, 31:33] = 1.0
    write_exr(tmp_path / "lamp.exr", radiance)
    light = load_light(tmp_path / "lamp.exr", "front_centered")
    brightest = envmap_directions(32, 64).reshape(-1, 3)[light.radiance[0].flatten().argmax()]
    assert brightest[2] > 0.98
    write_exr(tmp_path / "square.exr", torch.ones(3, 8, 8))
    with pytest.raises(ValueError, match=r"square\.exr: must be twice as wide as high"):
        load_light(tmp_path / "square.exr", "vultus")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"frames": 0}, "frames must be positive, got 0"),
        ({"rig": "monocular"}, "cameras must be 1 for the monocular rig, got 4"),
        ({"track": "arkit"}, "track 'arkit' needs arkit_file"),
        ({"held_out_cameras": (4,)}, "held_out_cameras must be below 4, got 4"),
        ({"held_out_cameras": (0, 1, 2, 3)}, "must leave a camera for training"),
        ({"test_share": 1.0}, "test_share must leave moments for training"),
        ({"fov": 0.0}, "fov must be in"),
        ({"texture_size": 64}, "texture_size must be at least 128, got 64"),
        ({"exposure": -1.0}, "exposure must be positive"),
    ],
)
def test_contradictions_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        replace(PRESETS["demo"], **change)


def test_the_demo_holds_out_one_of_four_cameras_and_twelve_of_64_moments():
    config = demo_config(7)
    assert (config.cameras, config.frames, config.size, config.seed) == (4, 64, 256, 7)
    assert config.val_cameras == (2,)
    assert config.num_test_frames == 12


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 2])
def test_a_procedural_head_is_filmed_and_read_without_being_given(tmp_path, seed):
    config = replace(demo_config(seed), frames=2, turn_around=0, cameras=3, size=64, test_share=0.5)
    film(config, tmp_path / "capture")
    sequence = read_sequence(tmp_path / "capture")
    frame = load_frame(sequence, sequence.split("train")[0])
    assert 0.2 < float(frame.mask.mean()) < 0.8
    inside = frame.mask[0, 0] > 0.99
    assert 0.1 < float(frame.rgb[0, :, inside].mean()) < 0.8
    # The hair belongs to the head: a subject with another style must come back with it.
    expected = build_subject("procedural", None, seed, 128).head
    torch.testing.assert_close(sequence.head.neutral, expected.neutral, atol=0, rtol=0)


@pytest.mark.slow
def test_the_ict_head_speaks_a_recorded_sequence(data_dir, tmp_path):
    head_file = data_dir / "ict_face/ict_face_light.npz"
    config = replace(
        TINY,
        head="ict",
        head_file=head_file,
        texture_size=256,
        track="arkit",
        arkit_file=data_dir / "lam_avatar/arkit_sequence.npz",
        track_stride=20,
        size=96,
        light=data_dir / "envmaps/studio_small_03_64x32.hdr",
        light_orientation="front_centered",
    )
    film(config, tmp_path / "capture")
    sequence = read_sequence(tmp_path / "capture", head_file=head_file)
    assert sequence.pose.expression_coeffs.shape == (4, 53)
    assert float(sequence.pose.expression_coeffs.max()) > 0.05
    frame = load_frame(sequence, sequence.frames[0])
    assert 0.2 < float(frame.mask.mean()) < 0.8
    assert read_image(sequence.frames[0].albedo_path).shape == (3, 96, 96)


def test_subjects_differ_by_seed_and_repeat():
    first, again, other = (build_subject("procedural", None, seed, 128) for seed in (1, 1, 2))
    torch.testing.assert_close(first.identity, again.identity, atol=0, rtol=0)
    torch.testing.assert_close(first.appearance.albedo, again.appearance.albedo, atol=0, rtol=0)
    assert (first.identity - other.identity).abs().max() > 0.1


def test_methods_can_be_given_a_coarser_mesh(tmp_path):
    film(replace(TINY, frames=2, test_share=0.0, size=16, texture_size=128), tmp_path / "capture")
    fine = read_sequence(tmp_path / "capture")
    coarse = read_sequence(tmp_path / "capture", rig_faces="16000")
    assert len(coarse.head.topology.faces) <= 16_000 < len(fine.head.topology.faces)
    assert torch.equal(coarse.head.vertices(coarse.pose), fine.head.vertices(fine.pose))
    with pytest.raises(ValueError, match="rig_faces must be positive, got 0"):
        read_sequence(tmp_path / "capture", rig_faces="0")
