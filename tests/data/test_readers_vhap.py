"""The layout of VHAP, written by hand, with a stand-in for FLAME."""

import json
import math
import shutil
import tempfile
from pathlib import Path

import numpy as np
import pytest
import torch

from fakes import FakeHead
from vultus.core.image_io import write_image
from vultus.data.frame_store import FrameStore
from vultus.data.readers import absolute_options, detect_format, load_frame, read_sequence
from vultus.data.readers.gaussian_avatars import Options
from vultus.data.readers.manifest import resize
from vultus.data.readers.options import ReaderOptions
from vultus.geometry.cameras import Camera, look_at, opencv_to_opengl
from vultus.heads.base import ParameterSpec


class FakeFlame(FakeHead):
    name = "flame"
    version = "2023"

    @property
    def parameters_spec(self):
        return (
            ParameterSpec("identity_coeffs", 300, is_static=True),
            ParameterSpec("expression_coeffs", 100),
            ParameterSpec("global_rotation", 3),
            ParameterSpec("neck_pose", 3),
            ParameterSpec("jaw_pose", 3),
            ParameterSpec("eye_pose", 6),
            ParameterSpec("translation", 3),
            ParameterSpec("static_offset", 3 * self.neutral.shape[0], is_static=True),
        )


SIZE = (20, 30)  # Width, height.


def flame_row(timestep: int, num_offsets: int) -> dict[str, np.ndarray]:
    generator = np.random.default_rng(timestep)

    def draw(*shape: int) -> np.ndarray:
        return generator.normal(size=shape).astype(np.float32)

    return {
        "shape": np.arange(300, dtype=np.float32) / 300,
        "expr": draw(1, 100),
        "rotation": draw(1, 3),
        "neck_pose": draw(1, 3),
        "jaw_pose": draw(1, 3),
        "eyes_pose": draw(1, 6),
        "translation": draw(1, 3),
        "static_offset": np.ones((1, num_offsets, 3), dtype=np.float32),
    }


def camera_to_world(camera: int) -> torch.Tensor:
    eye = torch.tensor([[0.2 * camera - 0.1, 0.1, 1.0]], dtype=torch.float64)
    world_to_camera = look_at(eye, torch.zeros(3, dtype=torch.float64))
    return torch.linalg.inv(world_to_camera)[0]


def write_sequence(folder: Path, timesteps: range, cameras: int = 2) -> list[dict]:
    """One sequence folder as VHAP exports it; returns its frames with paths relative to it."""
    for name in ("images", "fg_masks", "flame_param"):
        (folder / name).mkdir(parents=True)
    frames = []
    for t in timesteps:
        np.savez(folder / f"flame_param/{t:05d}.npz", **flame_row(t, num_offsets=70))
        for c in range(cameras):
            name = f"{t:05d}_{c:02d}.png"
            picture = torch.full((3, SIZE[1], SIZE[0]), 0.1 * c + 0.01 * t)
            mask = torch.zeros(1, SIZE[1], SIZE[0])
            mask[:, 10:20, 5:15] = 1
            write_image(folder / "images" / name, picture * mask + 1 - mask)
            write_image(folder / "fg_masks" / name, mask)
            frames.append(
                {
                    "timestep_index": t,
                    "camera_index": c,
                    "camera_id": str(c),
                    "w": SIZE[0],
                    "h": SIZE[1],
                    "camera_angle_x": 0.5,
                    "transform_matrix": opencv_to_opengl(camera_to_world(c)).tolist(),
                    "file_path": f"images/{name}",
                    "fg_mask_path": f"fg_masks/{name}",
                    "flame_param_path": f"flame_param/{t:05d}.npz",
                }
            )
    return frames


def write_manifest(path: Path, frames: list[dict], **shared: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({**shared, "frames": frames}))


@pytest.fixture
def single(tmp_path) -> Path:
    root = tmp_path / "one"
    write_manifest(root / "transforms.json", write_sequence(root, range(8)))
    return root


@pytest.fixture
def union(tmp_path) -> Path:
    frames = []
    for start, name in ((0, "EMO-1"), (3, "EXP-2")):
        for frame in write_sequence(tmp_path / name, range(start, start + 3)):
            paths = {
                k: f"../{name}/{v}"
                for k, v in frame.items()
                if k.endswith("_path") and isinstance(v, str)
            }
            frames.append({**frame, **paths})
    root = tmp_path / "union"
    write_manifest(root / "transforms_train.json", frames[:6:2])
    write_manifest(root / "transforms_val.json", frames[1:6:2])
    write_manifest(root / "transforms_test.json", frames[6:])
    return root


def edit(path: Path, change) -> None:
    data = json.loads(path.read_text())
    change(data)
    path.write_text(json.dumps(data))


def test_union_resolves_paths_into_its_sequences(union):
    assert detect_format(union) == "gaussian_avatars"
    sequence = read_sequence(union, head=FakeFlame())
    assert [len(sequence.splits[s]) for s in ("train", "val", "test")] == [3, 3, 6]
    assert {r.camera_index for r in sequence.split("val")} == {1}
    assert {r.timestep for r in sequence.split("test")} == {3, 4, 5}
    assert sequence.split("test")[0].image_path.samefile(union / "../EXP-2/images/00003_00.png")


def test_flame_parameters_arrive_by_name(union):
    pose = read_sequence(union, head=FakeFlame()).pose
    row = flame_row(4, 70)
    for field, key in (
        ("expression_coeffs", "expr"),
        ("global_rotation", "rotation"),
        ("neck_pose", "neck_pose"),
        ("jaw_pose", "jaw_pose"),
        ("eye_pose", "eyes_pose"),
        ("translation", "translation"),
    ):
        torch.testing.assert_close(getattr(pose[4], field), torch.from_numpy(row[key]))
    torch.testing.assert_close(pose.identity_coeffs, torch.from_numpy(row["shape"])[None])


def test_static_offset_is_padded_with_zeros_or_left_out(union):
    head = FakeFlame()
    pose = read_sequence(union, head=head).pose
    assert pose.static_offset.shape == (1, head.neutral.shape[0], 3)
    assert (pose.static_offset[0, :70] == 1).all()
    assert (pose.static_offset[0, 70:] == 0).all()
    assert read_sequence(union, head=head, use_static_offset="no").pose.static_offset is None


def test_single_sequence_is_split_as_vhap_does(single):
    sequence = read_sequence(single, head=FakeFlame())
    train, val, test = (sequence.split(name) for name in ("train", "val", "test"))
    assert {r.timestep for r in train} == {r.timestep for r in val} == set(range(6))
    assert {r.camera_index for r in train} == {0}
    assert {r.camera_index for r in val} == {1}
    assert {(r.timestep, r.camera_index) for r in test} == {(t, c) for t in (6, 7) for c in (0, 1)}


def test_timesteps_without_parameters_stay_zero(single):
    edit(single / "transforms.json", lambda d: d.update(frames=d["frames"][:2] + d["frames"][6:]))
    pose = read_sequence(single, head=FakeFlame()).pose
    assert len(pose) == 8
    assert (pose.expression_coeffs[1:3] == 0).all()
    assert pose.expression_coeffs[3].abs().max() > 0


def test_camera_matrices_turn_into_opencv_axes(single):
    record = read_sequence(single, head=FakeFlame()).frames[1]
    expected = torch.linalg.inv(camera_to_world(1)).float()
    torch.testing.assert_close(record.camera.world_to_camera[0], expected, atol=1e-6, rtol=0)


def test_missing_intrinsics_mean_square_pixels_and_a_centred_principal_point(single):
    intrinsics = read_sequence(single, head=FakeFlame()).frames[0].camera.intrinsics[0]
    focal = 10 / math.tan(0.25)
    torch.testing.assert_close(
        intrinsics, torch.tensor([[focal, 0, 10], [0, focal, 15], [0, 0, 1.0]])
    )


def test_given_intrinsics_are_honoured_unless_the_official_rule_is_asked_for(single):
    shared = {"fl_x": 50.0, "fl_y": 60.0, "cx": 9.0, "cy": 16.0}
    edit(single / "transforms.json", lambda d: d.update(shared))
    ours = read_sequence(single, head=FakeFlame()).frames[0].camera.intrinsics[0]
    torch.testing.assert_close(ours, torch.tensor([[50.0, 0, 9], [0, 60, 16], [0, 0, 1]]))
    official = read_sequence(single, head=FakeFlame(), official_intrinsics=True)
    assert official.frames[0].camera.intrinsics[0, 0, 0] == pytest.approx(10 / math.tan(0.25))
    assert official.frames[0].camera.intrinsics[0, 0, 2] == 10


def test_frame_store_holds_the_decoded_frames(single):
    sequence = read_sequence(single, head=FakeFlame())
    store = FrameStore(sequence, "val")
    batch = store.batch([4, 1])
    assert batch.timesteps.tolist() == [4, 1]
    for row, index in enumerate((4, 1)):
        frame = load_frame(sequence, store.records[index])
        torch.testing.assert_close(batch.rgb[row], frame.rgb[0], atol=1e-6, rtol=0)
        torch.testing.assert_close(batch.mask[row], frame.mask[0], atol=1e-6, rtol=0)
        torch.testing.assert_close(
            batch.camera.world_to_camera[row], frame.record.camera.world_to_camera[0]
        )


def test_frames_beyond_the_memory_limit_are_kept_on_disk(single, tmp_path, monkeypatch, caplog):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)
    sequence = read_sequence(single, head=FakeFlame())
    in_memory = FrameStore(sequence, "train")
    assert caplog.text == ""
    on_disk = FrameStore(sequence, "train", memory_limit=1000)
    assert f"more than memory allows: they are kept in a file in {tmp_path}" in caplog.text
    assert torch.equal(on_disk.pixels, in_memory.pixels)
    assert torch.equal(on_disk.batch([2, 0]).rgb, in_memory.batch([2, 0]).rgb)
    # Without a name, the file goes with the store.
    assert list(tmp_path.iterdir()) == [single]


def test_frames_that_fit_neither_memory_nor_disk_are_refused(single, monkeypatch):
    sequence = read_sequence(single, head=FakeFlame())
    usage = shutil.disk_usage(single)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=1000))
    with pytest.raises(ValueError, match=r"train images take .* has 0\.00 GiB left; read them sma"):
        FrameStore(sequence, "train", memory_limit=1000)


def test_frames_are_composited_over_the_chosen_background(single):
    sequence = read_sequence(single, head=FakeFlame(), background="black")
    rgb = load_frame(sequence, sequence.frames[3]).rgb[0]
    assert (rgb[:, 0, 0] == 0).all()
    torch.testing.assert_close(rgb[:, 15, 10], torch.full((3,), 0.11), atol=0.003, rtol=0)


def test_resolution_averages_pixels_and_scales_the_camera(single):
    sequence = read_sequence(single, head=FakeFlame(), resolution=2)
    frame = load_frame(sequence, sequence.frames[0])
    assert frame.rgb.shape == (1, 3, 15, 10)
    assert frame.record.camera.intrinsics[0, 0, 2] == 5
    full = read_sequence(single, head=FakeFlame())
    expected = load_frame(full, full.frames[0]).mask.reshape(15, 2, 10, 2).mean(dim=(1, 3))
    torch.testing.assert_close(frame.mask[0, 0], expected)


@pytest.mark.parametrize(
    ("resolution", "width", "size"),
    [
        (-1, 1600, None),
        (-1, 1602, (1600, 1002)),
        (-1, 3208, (1600, 1001)),
        (1, 3208, None),
        (4, 3208, (802, 502)),
        (550, 3208, (550, 344)),
    ],
)
def test_resolution_means_what_it_means_in_the_published_readers(
    resolution: int, width: int, size: tuple[int, int] | None
) -> None:
    height = round(width * 2008 / 3208)
    matrix = torch.tensor([[[2.0 * width, 0, width / 2], [0, 2.0 * width, 1], [0, 0, 1]]])
    camera = Camera(torch.eye(4)[None], matrix, width, height)
    resized, file_size = resize(camera, ReaderOptions(resolution=resolution))
    assert (resized.width, resized.height) == (size or (width, height))
    assert file_size == (None if size is None else (width, height))
    assert float(resized.intrinsics[0, 0, 0]) == pytest.approx(2.0 * resized.width)


def test_the_published_layout_is_read_at_the_published_resolution() -> None:
    assert Options().resolution == -1
    for wrong in (0, -2):
        with pytest.raises(ValueError, match=f"resolution must be positive or -1, got {wrong}"):
            Options(resolution=wrong)


def test_one_camera_can_be_selected(union):
    sequence = read_sequence(union, head=FakeFlame(), camera="0")
    assert {record.camera_index for record in sequence.frames} == {0}
    with pytest.raises(ValueError, match="split 'train' is empty for camera 5"):
        read_sequence(union, head=FakeFlame(), camera=5)


def _drop_file(root: Path) -> None:
    (root / "images/00002_01.png").unlink()


def _not_rigid(root: Path) -> None:
    edit(
        root / "transforms.json",
        lambda d: d["frames"][3]["transform_matrix"][0].__setitem__(0, 1.7),
    )


def _not_a_matrix(root: Path) -> None:
    edit(root / "transforms.json", lambda d: d["frames"][3].update(transform_matrix=[[1, 2]]))


def _nan_in_rig(root: Path) -> None:
    row = flame_row(2, 70)
    row["jaw_pose"][0, 1] = np.nan
    np.savez(root / "flame_param/00002.npz", **row)


def _other_model_size(root: Path) -> None:
    np.savez(root / "flame_param/00002.npz", **{**flame_row(2, 70), "expr": np.zeros((1, 50))})


def _no_rig_path(root: Path) -> None:
    edit(root / "transforms.json", lambda d: d["frames"][5].pop("flame_param_path"))


def _one_array(root: Path) -> None:
    with (root / "flame_param/00002.npz").open("wb") as file:
        np.save(file, np.zeros(3))


def _cut_archive(root: Path) -> None:
    (root / "flame_param/00002.npz").write_bytes(b"PK\x03\x04 cut")


def _missing_key(root: Path) -> None:
    row = flame_row(2, 70)
    del row["eyes_pose"]
    np.savez(root / "flame_param/00002.npz", **row)


def _broken_json(root: Path) -> None:
    (root / "transforms.json").write_text('{"frames": [')


def _far_timestep(root: Path) -> None:
    edit(root / "transforms.json", lambda d: d["frames"][5].update(timestep_index=2**40))


def _no_frames(root: Path) -> None:
    edit(root / "transforms.json", lambda d: d.update(frames=[]))


@pytest.mark.parametrize(
    ("damage", "error", "message"),
    [
        (_drop_file, FileNotFoundError, r"frames\[5\]\.file_path: .*00002_01\.png does not exist"),
        (_not_rigid, ValueError, r"frames\[3\]\.transform_matrix must be rigid"),
        (_not_a_matrix, ValueError, r"frames\[3\]\.transform_matrix must be a 4x4 matrix"),
        (_nan_in_rig, ValueError, r"00002\.npz: jaw_pose must be finite"),
        (_other_model_size, ValueError, r"00002\.npz: expression_coeffs must have size 100"),
        (_no_rig_path, ValueError, r"frames\[5\]\.flame_param_path is missing"),
        (_one_array, ValueError, r"00002\.npz: not a readable \.npz file"),
        (_cut_archive, ValueError, r"00002\.npz: not a readable \.npz file"),
        (_missing_key, ValueError, r"00002\.npz: 'eyes_pose' is missing"),
        (_broken_json, ValueError, r"transforms\.json:1: not JSON"),
        (_far_timestep, ValueError, r"timestep must be below 1000000, got 1099511627776"),
        (_no_frames, ValueError, r"transforms\.json: split 'train' is empty"),
    ],
)
def test_damaged_folders_are_refused_in_one_line(single, damage, error, message):
    damage(single)
    with pytest.raises(error, match=message) as caught:
        read_sequence(single, "gaussian_avatars", head=FakeFlame())
    assert "\n" not in str(caught.value)


def test_a_mask_of_another_size_is_named(single):
    write_image(single / "fg_masks/00000_00.png", torch.zeros(1, 30, 19))
    sequence = read_sequence(single, head=FakeFlame())
    with pytest.raises(ValueError, match=r"fg_masks/00000_00\.png: .* 20 x 30, got 19 x 30"):
        load_frame(sequence, sequence.frames[0])


def test_an_unreadable_image_is_named(single):
    (single / "images/00000_00.png").write_bytes(b"no picture")
    sequence = read_sequence(single, head=FakeFlame())
    with pytest.raises(ValueError, match=r"images/00000_00\.png: not a readable PNG or JPEG"):
        FrameStore(sequence, "train")


def test_unknown_formats_and_options_are_refused(single, tmp_path):
    with pytest.raises(ValueError, match="format must be auto, gaussian_avatars"):
        read_sequence(single, "nerf")
    with pytest.raises(ValueError, match="option 'size' is not known; this reader has head"):
        read_sequence(single, size=3)
    with pytest.raises(ValueError, match="option resolution must be int, got 'half'"):
        read_sequence(single, resolution="half")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="no known capture"):
        read_sequence(tmp_path / "empty")
    with pytest.raises(FileNotFoundError, match="no such folder"):
        read_sequence(tmp_path / "nowhere")


def test_options_that_name_files_are_made_absolute_and_others_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    given = {"head_file": "rigs/head.npz", "background": "black", "resolution": "2"}
    found = absolute_options(tmp_path, "gaussian_avatars", given)
    assert found == given | {"head_file": str(tmp_path / "rigs" / "head.npz")}
    assert absolute_options(tmp_path / "not_there", "auto", {}) == {}
