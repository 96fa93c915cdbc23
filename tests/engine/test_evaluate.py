"""Evaluation: every image of a split gets its row, and damage is named before it costs time."""

from __future__ import annotations

import math
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tiny_captures import tiny_surfhead
from vultus.core.image_io import write_image
from vultus.data.readers import load_frame, read_sequence
from vultus.data.sequence import HeadSequence
from vultus.engine.evaluate import check_frames, check_protocol, evaluate_split, render_frames
from vultus.methods.surfhead.model import SurfHead
from vultus.metrics.protocols import PROTOCOLS

PROTOCOL = PROTOCOLS["surfhead-v1"]


@pytest.fixture(scope="module")
def avatar(sequence: HeadSequence) -> SurfHead:
    return SurfHead(tiny_surfhead(), sequence, 0)


def test_every_image_is_measured_and_the_mean_is_theirs(
    avatar: SurfHead, sequence: HeadSequence
) -> None:
    result = evaluate_split(avatar, sequence, "val", PROTOCOL)
    records = sequence.split("val")
    names = [str(record.image_path.relative_to(sequence.root)) for record in records]
    assert [row["image"] for row in result.frames] == names
    # PSNR by hand, in double precision.
    expected = []
    for record in records:
        truth = load_frame(sequence, record).rgb.double()
        image = avatar.render(avatar.track[record.timestep], record.camera).image.double()
        error = (image.clamp(0, 1) - truth).square().mean()
        expected.append(-10 * math.log10(float(error)))
    assert [row["psnr"] for row in result.frames] == pytest.approx(expected, abs=1e-3)
    assert result.mean["psnr"] == pytest.approx(sum(expected) / len(expected), abs=1e-3)
    assert result.protocol == "surfhead-v1"
    assert result.masks == {"foreground": len(records)}


def test_images_with_face_masks_are_counted_apart(
    avatar: SurfHead, sequence: HeadSequence, tmp_path: Path
) -> None:
    first, *others = sequence.split("val")
    face = torch.zeros(1, 40, 40)
    face[:, 10:30, 12:28] = 1.0
    write_image(tmp_path / "face.png", face)
    known = replace(first, face_mask_path=tmp_path / "face.png")
    frames = tuple(known if record is first else record for record in sequence.frames)
    result = evaluate_split(avatar, replace(sequence, frames=frames), "val", PROTOCOL)
    plain = evaluate_split(avatar, sequence, "val", PROTOCOL)
    assert result.masks == {"face": 1, "foreground": len(others)}
    assert result.frames[0]["mask"] == "face"
    assert result.frames[0]["psnr_masked"] != plain.frames[0]["psnr_masked"]
    assert result.frames[0]["psnr"] == plain.frames[0]["psnr"]
    assert result.frames[1:] == plain.frames[1:]


def test_metrics_without_their_network_are_reported_and_left_out(
    avatar: SurfHead, sequence: HeadSequence
) -> None:
    result = evaluate_split(avatar, sequence, "test", PROTOCOL)
    assert "lpips" in "".join(result.unavailable)
    assert result.mean.keys().isdisjoint(result.unavailable)
    assert result.mean.keys() | result.unavailable.keys() == set(PROTOCOL.metrics)
    assert all(math.isfinite(value) for value in result.mean.values())


def test_the_truth_itself_is_perfect(avatar: SurfHead, sequence: HeadSequence) -> None:
    for record, frame, output in render_frames(avatar, sequence, sequence.split("val")):
        perfect = replace(output, image=frame.rgb)
        assert PROTOCOL.measure(perfect, frame, None).values["ssim"] == pytest.approx(1, abs=1e-6)
        assert frame.record is record


def test_a_protocol_of_another_size_or_background_is_refused(sequence: HeadSequence) -> None:
    check_protocol(sequence, "val", PROTOCOL)
    with pytest.raises(ValueError, match=r"demo-v1 measures 256 x 256 images, .*png has 40 x 40"):
        check_protocol(sequence, "val", PROTOCOLS["demo-v1"])
    black = replace(sequence, background=(0.0, 0.0, 0.0))
    with pytest.raises(ValueError, match="surfhead-v1 measures over the background"):
        check_protocol(black, "val", PROTOCOL)


@pytest.mark.parametrize("folder", ["images", "fg_masks", "normals"])
def test_a_damaged_held_out_file_is_named(
    sequence: HeadSequence, folder: str, tmp_path: Path
) -> None:
    root = shutil.copytree(sequence.root, tmp_path / "capture")
    broken = root / folder / "00004_02.png"
    write_image(broken, torch.zeros(3, 40, 39))
    damaged = read_sequence(root, head=sequence.head)
    check_frames(damaged, "val")
    with pytest.raises(ValueError, match=f"{folder}/00004_02.png: .* 40 x 40, got 39 x 40"):
        check_frames(damaged, "test")
