"""Folders of metrical-tracker, INSTA and GaussianBlendshapes, written from studio pictures."""

from __future__ import annotations

import json
import pickle
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor
from torch.nn.functional import interpolate

from studio_flame import StandInFlame, film_stand_in
from synthetic_flame import synthetic_flame
from vultus.cli.main import run
from vultus.core.bundles import save_bundle
from vultus.core.image_io import read_image, read_mask, write_image, write_radiance
from vultus.data.check import check_capture
from vultus.data.frame_store import FrameStore
from vultus.data.ground_truth import with_ground_truth
from vultus.data.readers import detect_format, load_frame, read_relight_truth, read_sequence
from vultus.data.relighting import light_to_world, load_materials
from vultus.data.semantics import read_parsing, resize_label_map
from vultus.data.sequence import HeadSequence
from vultus.data.studio.config import StudioConfig
from vultus.data.tracker_frames import read_tracker_frame, rotation_rows_to_axis_angle
from vultus.geometry.cameras import opengl_to_opencv, project_points
from vultus.geometry.rotations import axis_angle_to_matrix
from vultus.heads.flame import FLAME_ARRAYS, FLAME_FORMAT, MASK_PREFIX

SIZE = 48
CONFIG = StudioConfig(
    frames=6, rig="monocular", cameras=1, size=SIZE, texture_size=128, samples=1, num_lights=16,
    track="turns",
)  # fmt: skip


def rows_6d(axis_angle: Tensor) -> Tensor:
    """The first two rows of the matrix."""
    return axis_angle_to_matrix(axis_angle)[..., :2, :].flatten(-2)


def tracked_frame(sequence: HeadSequence, index: int) -> dict[str, Any]:
    """What the tracker saves: the head stands, the camera moves, arrays are float32 with a 1."""
    record = sequence.frames[index]
    pose = sequence.pose[record.timestep]
    turn = torch.eye(4)
    total = pose.global_rotation + pose.neck_pose  # as the stand-in has one joint for both
    turn[:3, :3] = axis_angle_to_matrix(total)[0]
    turn[:3, 3] = pose.translation[0]
    world_to_camera = record.camera.world_to_camera[0] @ turn
    eyes = torch.tensor([[0.1, -0.2, 0.0], [0.05, 0.3, 0.0]])
    jaw = torch.tensor([[0.25, 0.01, -0.02]])

    def array(tensor: Tensor) -> np.ndarray:
        return tensor.numpy().astype(np.float32)

    return {
        "flame": {
            "exp": array(pose.expression_coeffs),
            "shape": array(sequence.pose.identity_coeffs),
            "tex": np.zeros((1, 140), np.float32),
            "sh": np.zeros((1, 9, 3), np.float32),
            "eyes": array(rows_6d(eyes).reshape(1, 12)),
            "jaw": array(rows_6d(jaw)),
            "eyelids": np.zeros((1, 2), np.float32),
        },
        "camera": {"R": np.zeros((1, 6), np.float32)},
        "opencv": {
            "R": array(world_to_camera[None, :3, :3]),
            "t": array(world_to_camera[None, :3, 3]),
            "K": array(record.camera.intrinsics),
        },
        "img_size": np.array([SIZE, SIZE]),
        "frame_id": f"{index:05d}",
        "global_step": 7,
    }


@pytest.fixture(scope="module")
def filmed(tmp_path_factory: pytest.TempPathFactory) -> HeadSequence:
    out = tmp_path_factory.mktemp("tracker") / "studio"
    head = film_stand_in(CONFIG, out)
    return read_sequence(out, head=head)


@pytest.fixture(scope="module")
def written(filmed: HeadSequence, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("tracker") / "any_name"
    for name in ("checkpoint", "images", "semantic"):
        (root / name).mkdir(parents=True)
    for index, record in enumerate(filmed.frames):
        torch.save(tracked_frame(filmed, index), root / f"checkpoint/{index:05d}.frame")
        mask = (read_mask(record.mask_path) > 0.5).float()
        rgb = read_image(record.image_path) * mask
        write_image(root / f"images/{index:05d}.png", torch.cat([rgb, mask]))
        shutil.copy(record.parsing_path, root / f"semantic/{index:05d}.png")
    return root


@pytest.fixture
def capture(written: Path, tmp_path: Path) -> Path:
    return shutil.copytree(written, tmp_path / "capture")


def read(root: Path, **options: Any) -> HeadSequence:
    return read_sequence(root, head=StandInFlame(), **{"held_out": 2, **options})


def test_the_format_is_told_by_the_files_of_the_tracker(written: Path) -> None:
    assert detect_format(written) == "metrical_tracker"


def test_the_mesh_falls_onto_the_pixels_that_the_studio_filmed(
    written: Path, filmed: HeadSequence
) -> None:
    sequence = read(written)
    for mine, theirs in zip(sequence.frames, filmed.frames, strict=True):
        posed = sequence.head.vertices(sequence.pose[mine.timestep])
        expected = filmed.head.vertices(filmed.pose[theirs.timestep])
        pixels, depth = project_points(posed, mine.camera)
        wanted, z = project_points(expected, theirs.camera)
        torch.testing.assert_close(pixels, wanted, atol=2e-3, rtol=0)
        torch.testing.assert_close(depth, z, atol=1e-5, rtol=0)
    turned = [record.camera.world_to_camera[0, :3, :3] for record in sequence.frames]
    assert float((turned[0] - turned[1]).abs().max()) > 0.05


def test_joints_are_rows_of_six_numbers(written: Path) -> None:
    pose = read(written).pose
    torch.testing.assert_close(
        pose.jaw_pose[3], torch.tensor([0.25, 0.01, -0.02]), atol=1e-6, rtol=0
    )
    eyes = torch.tensor([0.1, -0.2, 0.0, 0.05, 0.3, 0.0])
    torch.testing.assert_close(pose.eye_pose[3], eyes, atol=1e-6, rtol=0)
    assert float(pose.neck_pose.abs().max() + pose.global_rotation.abs().max()) == 0


def test_poses_agree_with_the_published_conversion(golden_dir: Path) -> None:
    fixture = load_file(golden_dir / "relightable_blendshapes/nearest.safetensors")
    jaw, eyes = fixture["mtpose.jaw6d"].float(), fixture["mtpose.eyes12d"].float()
    expected = fixture["mtpose.pose15"].float().reshape(len(jaw), 5, 3)
    six = torch.cat([jaw.reshape(-1, 1, 6), eyes.reshape(-1, 2, 6)], dim=1)
    torch.testing.assert_close(rotation_rows_to_axis_angle(six), expected[:, 2:], atol=1e-5, rtol=0)


def test_mattes_colours_and_labels_are_read(written: Path, filmed: HeadSequence) -> None:
    sequence = read(written)
    frame = load_frame(sequence, sequence.frames[2])
    rgba = read_image(written / "images/00002.png")
    assert torch.equal(frame.rgb[0], rgba)
    assert frame.mask is not None
    assert set(frame.mask.unique().tolist()) == {0.0, 1.0}
    other = load_frame(filmed, filmed.frames[2])
    assert frame.semantics is not None
    assert torch.equal(frame.semantics, other.semantics)
    white = read(written, background="white")
    assert float(load_frame(white, white.frames[2]).rgb[0, :, 0, 0].min()) == 1.0
    store = FrameStore(sequence, "train")
    assert store.batch([0]).mask is not None


def test_the_end_is_held_out(written: Path, capture: Path) -> None:
    sequence = read(written)
    assert sequence.splits["train"].tolist() == [0, 1, 2, 3]
    assert sequence.splits["test"].tolist() == [4, 5]
    assert len(sequence.splits["val"]) == 0
    with pytest.raises(ValueError, match="6 frames leave none for training when the last 350 are"):
        read_sequence(written, head=StandInFlame())
    (capture / "image_mask").mkdir()
    for index in range(6):
        write_image(capture / f"image_mask/mask_{index:05d}.png", torch.ones(1, SIZE, SIZE))
    with pytest.raises(ValueError, match="when the last 500 are held out"):
        read_sequence(capture, head=StandInFlame())
    (capture / "transforms_test.json").write_text(json.dumps({"frames": [{}, {}, {}]}))
    assert len(read_sequence(capture, head=StandInFlame()).splits["test"]) == 3


def test_mattes_of_their_own_take_the_place_of_alpha(capture: Path) -> None:
    (capture / "image_mask").mkdir()
    half = torch.zeros(1, SIZE, SIZE)
    half[:, :, :20] = 1
    for index in range(6):
        rgb = read_image(capture / f"images/{index:05d}.png")
        write_image(capture / f"images/{index:05d}.png", rgb)
        write_image(capture / f"image_mask/mask_{index:05d}.png", half)
    sequence = read(capture)
    frame = load_frame(sequence, sequence.frames[0])
    assert torch.equal(frame.mask[0], half)
    assert float(frame.rgb[0, :, :, 20:].max()) == 0


def test_larger_pictures_scale_the_camera(capture: Path) -> None:
    for folder in ("images.HQ", "semantic.HQ"):
        (capture / folder).mkdir()
    for index in range(6):
        image = read_image(capture / f"images/{index:05d}.png")
        large = interpolate(image[None], scale_factor=2)[0]
        write_image(capture / f"images.HQ/{index:05d}.png", torch.cat([large, large[:1].ceil()]))
        # Published label maps may keep the size of the smaller pictures.
        shutil.copy(capture / f"semantic/{index:05d}.png", capture / "semantic.HQ")
    small, large = read(capture), read(capture, image_folder="images.HQ")
    assert large.frames[0].camera.width == 2 * SIZE
    points = torch.randn(1, 5, 3, generator=torch.Generator().manual_seed(0)) * 0.05
    ours, _ = project_points(points, small.frames[1].camera)
    theirs, _ = project_points(points, large.frames[1].camera)
    torch.testing.assert_close(theirs, 2 * ours)
    semantics = load_frame(large, large.frames[1]).semantics
    parsing = read_parsing(capture / "semantic/00001.png")
    assert semantics is not None
    assert bool((semantics[0, 0] == 0).eq(resize_label_map(parsing, 96, 96) == 1).all())


@pytest.mark.parametrize(
    ("images", "own", "other"),
    [("images", "semantic", "semantic.HQ"), ("images.HQ", "semantic.HQ", "semantic")],
)
def test_label_maps_of_the_other_pictures_serve_as_well(
    capture: Path, images: str, own: str, other: str, caplog: pytest.LogCaptureFixture
) -> None:
    """patch-dataset writes semantic.HQ/ alone where a capture has both sizes."""
    shutil.copytree(capture / "images", capture / "images.HQ")
    (capture / "semantic").rename(capture / other)
    with caplog.at_level("INFO"):
        (record, *_) = read(capture, image_folder=images).frames
    assert record.parsing_path == capture / other / "00000.png"
    assert f"label maps of {images} are read from {other}" in caplog.text
    shutil.copytree(capture / other, capture / own)
    (record, *_) = read(capture, image_folder=images).frames
    assert record.parsing_path == capture / own / "00000.png"


def test_the_trackers_own_pictures_have_no_mattes(capture: Path) -> None:
    (capture / "images").rename(capture / "input")
    for path in (capture / "input").iterdir():
        write_image(path, read_image(path))
    report = check_capture(capture, head=StandInFlame(), held_out=2)
    assert report.errors == ()
    assert any("some frames have no mask" in warning for warning in report.warnings)


def test_light_stands_still_in_the_cameras_axes(written: Path) -> None:
    """The room does not turn with the head: the light of a still room turns about the head."""
    sequence = read(written)
    assert sequence.light_space == "camera_opengl"
    record = sequence.frames[3]
    up_in_picture = light_to_world(record.camera, sequence.light_space)[0, :, 1]
    expected = -record.camera.world_to_camera[0, 1, :3]
    torch.testing.assert_close(up_in_picture, expected)
    report = check_capture(written, head=StandInFlame(), held_out=2)
    assert report.errors == report.warnings == ()
    facts = report.facts
    assert int(facts["light on the head"].split()[-2]) > 10
    assert facts["jaw"].startswith("0.25 to 0.25")
    assert facts["beside every image"] == "masks, semantics"


@pytest.mark.parametrize(
    ("frame", "space"),
    [({}, "camera_opengl"), ({"frame": "camera"}, "camera_opengl"), ({"frame": "world"}, "world")],
)
def test_a_light_card_tells_the_lights_of_a_capture(
    capture: Path, frame: dict[str, str], space: str
) -> None:
    card = {"train_env": "envs/a.exr", "exposure": 0.5, "tests": ["b"], "color_space": "linear"}
    (capture / "light.json").write_text(json.dumps({**card, **frame}))
    (capture / "envs").mkdir()
    (capture / "relight/b/images").mkdir(parents=True)
    for value, name in enumerate("ab", start=1):
        write_radiance(capture / f"envs/{name}.exr", torch.full((3, 4, 8), float(value)))
    for number in (4, 5):
        shutil.copy(capture / f"images/{number:05d}.png", capture / "relight/b/images")
    sequence = read(capture)
    assert sequence.light_space == space
    assert sequence.has_linear_colors
    truth = read_relight_truth(sequence)
    assert truth is not None
    assert truth.train_light is not None
    assert (truth.light_space, truth.film) == (space, "srgb")
    assert float(truth.train_light.load().radiance.max()) == 0.5
    assert float(truth.test_lights["b"].load().radiance.max()) == 1.0
    assert [record.timestep for record in truth.relit(sequence.frames, "b")] == [4, 5]
    assert check_capture(capture, head=StandInFlame(), held_out=2).errors == ()


def test_ground_truth_of_the_surface_lies_in_a_folder_of_its_own(
    capture: Path, filmed: HeadSequence
) -> None:
    for kind in ("albedo", "normal", "specular"):
        (capture / "gt" / kind).mkdir(parents=True)
    expected = {}
    for index in (4, 5):
        known = load_frame(filmed, filmed.frames[index])
        to_camera = opengl_to_opencv(known.record.camera.camera_to_world)[0, :3, :3].T
        expected[index] = torch.einsum("ij,jhw->ihw", to_camera, known.normals[0])
        is_known = (known.normals[0] != 0).any(dim=0)
        name = f"{index:05d}.png"
        write_image(capture / "gt/normal" / name, (0.5 + 0.5 * expected[index]) * is_known)
        write_image(capture / "gt/albedo" / name, torch.full_like(known.rgb[0], 0.2))
        write_image(capture / "gt/specular" / name, torch.full_like(known.rgb[0, :1], 0.6))
    sequence = read(capture)
    frames = [load_frame(sequence, record) for record in sequence.frames]
    assert [frame.normals is not None for frame in frames] == [False] * 4 + [True] * 2
    for index, wanted in expected.items():
        to_camera = opengl_to_opencv(frames[index].record.camera.camera_to_world)[0, :3, :3].T
        found = torch.einsum("ij,jhw->ihw", to_camera, frames[index].normals[0])
        torch.testing.assert_close(found, wanted, atol=0.02, rtol=0)
        materials = load_materials(sequence.frames[index])
        assert materials is not None
        assert materials.roughness is None
        torch.testing.assert_close(materials.albedo, torch.full_like(materials.albedo, 0.2))
        assert materials.specular.mean() == pytest.approx(0.6)
    assert load_materials(sequence.frames[0]) is None
    assert check_capture(capture, head=StandInFlame(), held_out=2).errors == ()


def test_two_kinds_of_normals_are_refused(filmed: HeadSequence) -> None:
    (filmed.root / "gt/normal").mkdir(parents=True)
    record = filmed.frames[0]
    shutil.copy(record.normal_path, filmed.root / "gt/normal" / record.image_path.name)
    bare = replace(filmed, frames=(replace(record, normal_path=None), *filmed.frames[1:]))
    with pytest.raises(ValueError, match=r"the capture has normals of its own, such as .*normals/"):
        with_ground_truth(bare)
    shutil.rmtree(filmed.root / "gt")
    assert with_ground_truth(filmed).frames == filmed.frames


def test_a_capture_without_a_light_card_stays_as_it_was(capture: Path) -> None:
    sequence = read(capture)
    assert read_relight_truth(sequence) is None
    assert sequence.light_space == "camera_opengl"
    assert not sequence.has_linear_colors


def test_the_mouth_offset_is_a_fact_of_the_capture(capture: Path) -> None:
    (capture / "offset.txt").write_text("0.001 -0.002\n0.0005\n")
    assert read(capture).info["mouth_offset"] == pytest.approx([0.001, -0.002, 0.0005])
    for text in ("1 2", "a b c", "1 2 nan"):
        (capture / "offset.txt").write_text(text)
        with pytest.raises(ValueError, match=r"offset\.txt: must hold three"):
            read(capture)


def test_insta_manifests_alone_are_told_what_is_missing(capture: Path) -> None:
    frame = {"exp_path": "a", "seg_mask_path": "b", "file_path": "c"}
    (capture / "transforms.json").write_text(json.dumps({"frames": [frame]}))
    assert detect_format(capture) == "metrical_tracker"
    shutil.rmtree(capture / "checkpoint")
    with pytest.raises(ValueError, match="do not say how the jaw moves; put the tracker's folder"):
        read_sequence(capture)


def test_the_head_has_as_many_coefficients_as_the_files(written: Path, tmp_path: Path) -> None:
    data = synthetic_flame(num_identity=300, num_expression=100)
    arrays = {name: getattr(data, name) for name in FLAME_ARRAYS}
    masks = {MASK_PREFIX + name: ids for name, ids in data.masks.items()}
    path = tmp_path / "flame.safetensors"
    save_bundle(path, {**arrays, **masks}, {"format": FLAME_FORMAT, "version": "2020"})
    sequence = read_sequence(written, head_file=path, held_out=2)
    sizes = {spec.name: spec.size for spec in sequence.head.parameters_spec}
    assert (sizes["identity_coeffs"], sizes["expression_coeffs"]) == (300, 100)
    assert bool(torch.isfinite(sequence.head.vertices(sequence.pose)).all())


def test_the_command_names_the_model_that_is_missing(
    written: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--options", "head_file", str(tmp_path / "none.safetensors")]
    assert run(["data", "check", str(written), "--dry-run", *options]) == 2
    assert "no converted FLAME model there" in " ".join(capsys.readouterr().err.split())


class _Bomb:
    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (Path("exploded"),))


def _edited(change: Callable[[dict[str, Any]], object]) -> Callable[[Path], None]:
    def damage(root: Path) -> None:
        path = root / "checkpoint/00002.frame"
        data = torch.load(path, weights_only=False)
        change(data)
        torch.save(data, path)

    return damage


def _bomb(root: Path) -> None:
    with (root / "checkpoint/00002.frame").open("wb") as file:
        pickle.dump({"flame": _Bomb()}, file)


def _garbage(root: Path) -> None:
    (root / "checkpoint/00002.frame").write_bytes(b"PK\x03\x04" + bytes(range(200)))


def _cut_off(root: Path) -> None:
    path = root / "checkpoint/00002.frame"
    path.write_bytes(path.read_bytes()[:700])


def _foreign_name(root: Path) -> None:
    shutil.copy(root / "checkpoint/00002.frame", root / "checkpoint/best.frame")


def _twice(root: Path) -> None:
    shutil.copy(root / "checkpoint/00002.frame", root / "checkpoint/2.frame")


def _no_image(root: Path) -> None:
    (root / "images/00002.png").unlink()


def _no_labels(root: Path) -> None:
    (root / "semantic/00002.png").unlink()


def _wide_image(root: Path) -> None:
    write_image(root / "images/00002.png", torch.ones(3, SIZE, SIZE + 8))


NAN = float("nan")


@pytest.mark.parametrize(
    ("damage", "error", "message"),
    [
        (_bomb, ValueError, r"00002\.frame: not a readable pickle: .* is not allowed"),
        (_garbage, ValueError, r"00002\.frame: not a complete file of torch\.save"),
        (_cut_off, ValueError, r"00002\.frame: not a complete file of torch\.save"),
        (_foreign_name, ValueError, r"best\.frame: must be named by the number of its frame"),
        (_twice, ValueError, r"2\.frame: has the number of"),
        (_no_image, FileNotFoundError, r"images: has no picture of the number 2"),
        (_no_labels, FileNotFoundError, r"semantic: has no picture of the number 2"),
        (_wide_image, ValueError, r"00002\.png: must have the aspect ratio of the image that"),
        (_edited(lambda d: d.pop("flame")), ValueError, "a dictionary 'flame'"),
        (_edited(lambda d: d.update(opencv=[1])), ValueError, "a dictionary 'opencv'"),
        (_edited(lambda d: d["flame"].pop("jaw")), ValueError, r"flame\.jaw must be an array"),
        (_edited(lambda d: d["flame"].update(exp="x")), ValueError, r"flame\.exp must be an array"),
        (
            _edited(lambda d: d["flame"].update(jaw=np.zeros((1, 6), np.float32))),
            ValueError,
            r"flame\.jaw must hold 6D rotations",
        ),
        (
            _edited(lambda d: d["flame"].update(eyes=np.zeros((1, 6), np.float32))),
            ValueError,
            r"flame\.eyes must have 12 numbers, got shape \(1, 6\)",
        ),
        (
            _edited(lambda d: d["flame"]["exp"].fill(NAN)),
            ValueError,
            r"flame\.exp must be finite",
        ),
        (
            _edited(lambda d: d["flame"].update(exp=np.zeros((1, 30), np.float32))),
            ValueError,
            "expression_coeffs must have size 100 per frame, got 30",
        ),
        (
            _edited(lambda d: d["opencv"].update(R=2 * d["opencv"]["R"])),
            ValueError,
            r"opencv\.R and opencv\.t must be rigid",
        ),
        (
            _edited(lambda d: d["opencv"].update(K=-d["opencv"]["K"])),
            ValueError,
            r"opencv\.K must have positive focal lengths",
        ),
        (
            _edited(lambda d: d.update(img_size=np.array([48, 0]))),
            ValueError,
            "img_size must be height and width, got 48.0, 0.0",
        ),
        (
            _edited(lambda d: d["opencv"]["K"].__setitem__((0, 0, 1), 0.5)),
            ValueError,
            r"opencv\.K must have positive focal lengths, no skew",
        ),
        (
            _edited(lambda d: d.update(img_size=[10**400, 48])),
            ValueError,
            "img_size must be finite",
        ),
        (
            _edited(lambda d: d.update(img_size=[1e300, 48])),
            ValueError,
            "img_size must be finite",
        ),
        (
            _edited(lambda d: d["flame"].update(exp=torch.zeros(1).expand(2**20, 2**20))),
            ValueError,
            r"flame\.exp must have at most 4096 numbers, got \(1048576, 1048576\)",
        ),
        (
            _edited(lambda d: d["flame"].update(jaw=torch.zeros(1, 6, dtype=torch.complex64))),
            ValueError,
            r"flame\.jaw must be an array of numbers, got Tensor",
        ),
    ],
)
def test_hostile_and_damaged_folders_are_refused_in_one_line(
    capture: Path,
    damage: Callable[[Path], None],
    error: type[Exception],
    message: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(capture)
    damage(capture)
    with pytest.raises(error, match=message) as caught:
        read(capture, resolution=1)
    assert "\n" not in str(caught.value)
    assert not (capture / "exploded").exists()


def test_arrays_may_be_tensors(capture: Path) -> None:
    before = read_tracker_frame(capture / "checkpoint/00002.frame")

    def to_tensors(part: dict[str, Any]) -> None:
        part.update({key: torch.from_numpy(np.asarray(value)) for key, value in part.items()})

    def change(data: dict[str, Any]) -> None:
        to_tensors(data["flame"])
        to_tensors(data["opencv"])
        data["flame"]["exp"] = data["flame"]["exp"].bfloat16()

    _edited(change)(capture)
    after = read_tracker_frame(capture / "checkpoint/00002.frame")
    assert before.pose.expression_coeffs is not None
    rounded = before.pose.expression_coeffs.bfloat16().float()
    assert torch.equal(after.pose.expression_coeffs, rounded)
    torch.testing.assert_close(after.pose.jaw_pose, before.pose.jaw_pose)
    torch.testing.assert_close(after.camera.intrinsics, before.camera.intrinsics)


def test_older_streams_and_sizes_as_lists_of_numbers_are_read(capture: Path) -> None:
    path = capture / "checkpoint/00002.frame"
    before = read_tracker_frame(path)
    _edited(lambda d: d.update(img_size=[np.int64(SIZE), np.float32(SIZE)]))(capture)
    content = torch.load(path, weights_only=False)
    torch.save(content, path, _use_new_zipfile_serialization=False)
    after = read_tracker_frame(path)
    assert (after.camera.width, after.camera.height) == (SIZE, SIZE)
    assert torch.equal(after.identity, before.identity)


def test_wrong_options_and_empty_folders_are_named(capture: Path) -> None:
    with pytest.raises(ValueError, match="held_out must not be negative"):
        read(capture, held_out=-1)
    with pytest.raises(FileNotFoundError, match=r"images\.HQ: no such folder"):
        read(capture, image_folder="images.HQ")
    shutil.rmtree(capture / "images")
    with pytest.raises(FileNotFoundError, match=r"none of the folders images, images\.HQ, input"):
        read(capture)
    for path in (capture / "checkpoint").iterdir():
        path.unlink()
    with pytest.raises(FileNotFoundError, match=r"checkpoint: has no \.frame files"):
        read_sequence(capture, "metrical_tracker")
    (capture / "checkpoint").rmdir()
    with pytest.raises(FileNotFoundError, match=r"it holds the tracker's \.frame files"):
        read_sequence(capture, "metrical_tracker")
