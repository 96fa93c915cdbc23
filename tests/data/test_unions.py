"""Unions of filmed sequences, and what else VHAP's exports may hold."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from studio_flame import StandInFlame, film_stand_in
from tolerances import assert_close
from vultus.core.image_io import write_image, write_radiance
from vultus.data.check import check_capture
from vultus.data.readers import (
    detect_format,
    load_frame,
    read_relight_truth,
    read_sequence,
)
from vultus.data.sequence import HeadSequence, Split
from vultus.data.studio.config import StudioConfig
from vultus.data.unions import plan_union

CONFIG = StudioConfig(
    frames=2, cameras=3, size=40, texture_size=128, samples=1, num_lights=16, test_share=0.0
)
NAMES = ("EMO-1", "EMO-2", "FREE")


@pytest.fixture(scope="module")
def filmed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three sequences of one FLAME subject, each with another performance."""
    root = tmp_path_factory.mktemp("union")
    for seed, name in enumerate(NAMES):
        film_stand_in(replace(CONFIG, seed=seed), root / name)
        (root / name / "rig.json").unlink()  # VHAP writes none
    return root


@pytest.fixture
def sequences(filmed: Path, tmp_path: Path) -> list[Path]:
    """Copies that a test may damage."""
    return [Path(shutil.copytree(filmed / name, tmp_path / name)) for name in NAMES]


def write_union(root: Path, sequences: list[Path], **choices: Any) -> dict[Split, int]:
    plan = plan_union(root, sequences, **choices)
    assert not root.exists()
    plan.write()
    return plan.counts


def read(root: Path, **options: object) -> HeadSequence:
    return read_sequence(root, head=StandInFlame(), **options)


def edit(path: Path, **values: object) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


def frames_of(root: Path) -> Iterator[dict]:
    for path in sorted(root.glob("transforms*.json")):
        yield from json.loads(path.read_text())["frames"]


def test_a_union_holds_the_frames_of_its_sequences(sequences: list[Path], tmp_path: Path) -> None:
    union = tmp_path / "UNION" / "of all"
    counts = write_union(union, sequences, test_sequences=["FREE"])
    assert counts == {"train": 8, "val": 4, "test": 6}
    assert detect_format(union) == "gaussian_avatars"
    joined = read(union)
    assert [r.timestep for r in joined.split("test")] == [4, 4, 4, 5, 5, 5]
    assert {r.camera_index for r in joined.split("val")} == {2}
    assert {r.camera_index for r in joined.split("test")} == {0, 1, 2}
    for record in joined.frames:
        number = record.timestep // 2
        alone = read(sequences[number])
        matching = [
            r
            for r in alone.frames
            if (r.timestep, r.camera_index) == (record.timestep % 2, record.camera_index)
        ]
        assert record.image_path.samefile(matching[0].image_path)
        assert record.mask_path.samefile(matching[0].mask_path)
        assert record.normal_path.samefile(matching[0].normal_path)
        mine, theirs = joined.pose[record.timestep], alone.pose[record.timestep % 2]
        assert torch.equal(mine.neck_pose, theirs.neck_pose)
        assert torch.equal(mine.expression_coeffs, theirs.expression_coeffs)
        assert torch.equal(record.camera.intrinsics, matching[0].camera.intrinsics)
    report = check_capture(union, head=StandInFlame())
    assert report.errors == ()
    assert report.warnings == ()


def test_manifests_of_a_union_look_like_those_of_vhap(
    sequences: list[Path], tmp_path: Path
) -> None:
    union = tmp_path / "union"
    write_union(union, sequences, test_sequences=["EMO-2"], val_cameras=[0, 1])
    assert (union / "sequences_trainval.txt").read_text() == "EMO-1\nFREE\n"
    assert (union / "sequences_test.txt").read_text() == "EMO-2\n"
    with np.load(union / "canonical_flame_param.npz") as canonical:
        assert canonical["jaw_pose"][0, 0] == pytest.approx(0.3)
    frame = next(frames_of(union))
    assert frame["file_path"].startswith("../EMO-")
    assert frame["flame_param_path"].startswith("../EMO-")
    assert "timestep_id" not in frame
    assert {f["timestep_index_original"] for f in frames_of(union)} == {0, 1}
    joined = read(union)
    assert {r.camera_index for r in joined.split("train")} == {2}
    assert {r.timestep for r in joined.split("test")} == {2, 3}


def test_unions_of_any_rig_keep_its_card(tmp_path: Path) -> None:
    for seed in (0, 1):
        film_stand_in(replace(CONFIG, seed=seed), tmp_path / f"s{seed}")
    write_union(tmp_path / "union", [tmp_path / "s0", tmp_path / "s1"], test_sequences=["s1"])
    assert detect_format(tmp_path / "union") == "studio"
    assert len(read(tmp_path / "union").pose) == 4
    card = json.loads((tmp_path / "s1" / "rig.json").read_text())
    edit(tmp_path / "s1" / "rig.json", identity=[1.0, *card["identity"][1:]])
    with pytest.raises(ValueError, match=r"s1/rig\.json: must equal .* one subject"):
        write_union(tmp_path / "other", [tmp_path / "s0", tmp_path / "s1"])


def test_cameras_at_the_top_of_a_manifest_go_to_the_frames(
    sequences: list[Path], tmp_path: Path
) -> None:
    path = sequences[0] / "transforms.json"
    data = json.loads(path.read_text())
    for frame in data["frames"]:
        for key in ("fl_x", "fl_y"):
            frame.pop(key)
    path.write_text(json.dumps({**data, "fl_x": 77.0, "fl_y": 78.0}))
    write_union(tmp_path / "union", sequences)
    focal = {float(r.camera.intrinsics[0, 1, 1]) for r in read(tmp_path / "union").frames[:4]}
    assert focal == {78.0}


def test_sequences_with_one_camera_hold_none_out(sequences: list[Path], tmp_path: Path) -> None:
    for folder in sequences:
        path = folder / "transforms.json"
        frames = [f for f in json.loads(path.read_text())["frames"] if f["camera_index"] == 1]
        edit(path, frames=frames)
    counts = write_union(tmp_path / "union", sequences, test_sequences=["FREE"])
    assert counts == {"train": 4, "val": 0, "test": 2}
    joined = read(tmp_path / "union")
    assert len(joined.splits["val"]) == 0
    assert {r.camera_index for r in joined.frames} == {1}


def test_a_monocular_export_holds_out_times_alone(sequences: list[Path]) -> None:
    root = sequences[0]
    for path in root.glob("transforms_*.json"):
        path.unlink()
    one = read(root, camera=1, train_share=0.5)
    assert [len(one.splits[split]) for split in ("train", "val", "test")] == [1, 0, 1]


def test_wrong_unions_are_refused(sequences: list[Path], tmp_path: Path) -> None:
    root = tmp_path / "union"
    with pytest.raises(ValueError, match="must be of EMO-1, EMO-2, FREE, got 'EXP-9'"):
        write_union(root, sequences, test_sequences=["EXP-9"])
    with pytest.raises(ValueError, match="'EMO-1' comes twice"):
        write_union(root, [sequences[0], sequences[0]])
    with pytest.raises(ValueError, match="must name at least one folder"):
        write_union(root, [])
    with pytest.raises(ValueError, match="split 'train' is empty"):
        write_union(root, sequences, test_sequences=NAMES)
    edit(sequences[1] / "transforms.json", background=[0, 0, 0])
    with pytest.raises(ValueError, match=r"EMO-2/transforms\.json: background must be that of"):
        write_union(root, sequences)
    (sequences[1] / "transforms.json").unlink()
    with pytest.raises(FileNotFoundError, match=r"EMO-2/transforms\.json"):
        write_union(root, sequences)


# ---- face masks -------------------------------------------------------------------------------


@pytest.mark.parametrize("folder", ["face_masks", "binary_facer"])
def test_face_masks_beside_the_images_are_read(sequences: list[Path], folder: str) -> None:
    root = sequences[0]
    (root / folder).mkdir()
    for path in (root / "images").iterdir():
        mask = torch.zeros(1, 40, 40)
        mask[:, 10:20, 5:25] = 1
        write_image(root / folder / path.name, mask)
    sequence = read(root, resolution=2)
    frame = load_frame(sequence, sequence.frames[0])
    assert float(frame.face_mask.sum()) == 5 * 10
    assert frame.evaluation_mask is frame.face_mask
    assert "face masks" in check_capture(root, head=StandInFlame()).facts["beside every image"]
    (root / folder / "00000_00.png").unlink()
    with pytest.raises(FileNotFoundError, match=rf"{folder}/00000_00\.png does not exist"):
        read(root)


def test_face_masks_may_be_named_by_the_manifest(sequences: list[Path]) -> None:
    root = sequences[0]
    write_image(root / "face.png", torch.ones(1, 40, 40))
    for path in root.glob("transforms*.json"):
        frames = json.loads(path.read_text())["frames"]
        edit(path, frames=[{**frame, "face_mask_path": "face.png"} for frame in frames])
    sequence = read(root)
    assert float(load_frame(sequence, sequence.frames[0]).face_mask.min()) == 1.0
    write_image(root / "face.png", torch.ones(1, 40, 30))
    with pytest.raises(ValueError, match=r"face\.png: must have the camera's size"):
        load_frame(sequence, sequence.frames[0])


def test_without_face_masks_the_foreground_is_evaluated(sequences: list[Path]) -> None:
    sequence = read(sequences[0])
    frame = load_frame(sequence, sequence.frames[0])
    assert frame.face_mask is None
    assert frame.evaluation_mask is frame.mask


def card(folder: Path, **values: object) -> None:
    """A light card; relit pictures are the originals in other colours."""
    known = {"train_env": "light.exr", "exposure": 0.5, "color_space": "srgb", "frame": "world"}
    (folder / "light.json").write_text(json.dumps({**known, **values}))
    for name in values.get("tests", []):
        (folder / "envs").mkdir(exist_ok=True)
        write_radiance(folder / "envs" / f"{name}.exr", torch.full((3, 2, 4), 0.25))
        shutil.copytree(folder / "images", folder / "relight" / name / "images")


def test_lights_that_sequences_agree_on_are_those_of_the_union(sequences, tmp_path) -> None:
    for folder in sequences:
        write_radiance(folder / "light.exr", torch.full((3, 2, 4), 2.0))
        card(folder, tests=["top"], test_exposures={"top": 4.0})
    union = tmp_path / "union"
    plan = plan_union(union, sequences, test_sequences=["FREE"])
    assert plan.lights.notes == ()
    plan.write()
    joined = read(union)
    truth = read_relight_truth(joined)
    assert truth is not None
    assert truth.train_light is not None
    assert_close(truth.train_light.load().radiance, torch.full((3, 2, 4), 1.0))
    assert_close(truth.test_lights["top"].load().radiance, torch.full((3, 2, 4), 1.0))
    held_out = joined.split("test")
    relit = truth.relit(held_out, "top")
    assert len(relit) == len(held_out)
    for record, other in zip(held_out, relit, strict=True):
        expected = tmp_path / "FREE" / "relight" / "top" / "images" / record.image_path.name
        assert other.image_path.samefile(expected)


def test_lights_that_differ_are_left_out_and_named(sequences, tmp_path) -> None:
    for index, folder in enumerate(sequences):
        write_radiance(folder / "light.exr", torch.full((3, 2, 4), 2.0 + index))
        card(folder, tests=["top", "left"], test_exposures={"left": 1.0 + index})
    plan = plan_union(tmp_path / "union", sequences)
    assert plan.lights.notes == (
        "the training light is unknown: sequences were taken under different ones",
        "test light 'left' is left out: it differs between sequences",
    )
    plan.write()
    truth = read_relight_truth(read(tmp_path / "union"))
    assert truth is not None
    assert truth.train_light is None
    assert list(truth.test_lights) == ["top"]


def test_a_union_written_again_forgets_cards_that_its_sequences_no_longer_have(
    sequences, tmp_path
) -> None:
    union = tmp_path / "union"
    for folder in sequences:
        card(folder, train_env=None, color_space="linear", frame="camera")
        (folder / "rig.json").write_text("{}")
    write_union(union, sequences)
    assert {"light.json", "rig.json"} < {path.name for path in union.iterdir()}
    for folder in sequences:
        (folder / "light.json").unlink()
        (folder / "rig.json").unlink()
    plan_union(union, sequences).write()
    assert not {"light.json", "rig.json"} & {path.name for path in union.iterdir()}
    assert (union / "canonical_flame_param.npz").is_file()
    assert not read(union).has_linear_colors


def test_a_union_without_known_lights_has_no_card_but_keeps_what_pictures_hold(
    sequences, tmp_path
) -> None:
    for folder in sequences:
        (folder / "light.json").unlink(missing_ok=True)
    write_union(tmp_path / "dark", sequences)
    assert read_relight_truth(read(tmp_path / "dark")) is None
    for folder in sequences:
        card(folder, train_env=None, color_space="linear", frame="camera")
    write_union(tmp_path / "linear", sequences)
    joined = read(tmp_path / "linear")
    assert joined.has_linear_colors
    assert joined.light_space == "camera_opengl"
    (sequences[1] / "light.json").unlink()
    with pytest.raises(ValueError, match=r"EMO-2/light.json: space must be camera_opengl as in"):
        plan_union(tmp_path / "mixed", sequences)
    card(sequences[0])
    (sequences[0] / "light.exr").unlink(missing_ok=True)
    for folder in sequences[1:]:
        card(folder)
    with pytest.raises(FileNotFoundError, match=r"train_env: .*EMO-1/light.exr does not exist"):
        plan_union(tmp_path / "missing", sequences)
