"""Packing image sets: what comes out is what went in, and what is wrong leaves nothing behind."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from tiny_image_sets import image_files, labels_at, png, write_files, write_image_set
from vultus.core.image_io import decode_image
from vultus.data.camera_labels import mirror_labels
from vultus.data.image_archive import open_archive
from vultus.data.image_choice import yaw_repeats
from vultus.data.image_packing import PackConfig, PackPlan, plan_pack
from vultus.data.image_set import open_image_set
from vultus.data.semantics import PARSING_CLASSES
from vultus.geometry.spherical_harmonics import light_sh_basis

LABELS = labels_at([0.0, 1.0, -2.0, 3.0, 0.5])


@pytest.mark.parametrize("suffix", ["", ".zip"])
@pytest.mark.parametrize("archives", [False, True])
def test_packed_images_are_the_sources(tmp_path: Path, suffix: str, archives: bool) -> None:
    source = write_image_set(tmp_path / "source", LABELS, suffix=suffix)
    plan_pack(source, tmp_path / "out", PackConfig(archives=archives)).write()
    before, after = open_image_set(source), open_image_set(tmp_path / "out")
    assert (tmp_path / "out/img.zip").exists() == archives
    assert torch.allclose(before.labels, after.labels, atol=1e-6)
    assert after.num_channels == 4
    for index in range(5):
        assert torch.equal(before.pixels(index), after.pixels(index))


def test_packing_twice_gives_the_same_bytes(tmp_path: Path) -> None:
    source = write_image_set(tmp_path / "source", LABELS)
    for name in ("a", "b"):
        plan_pack(source, tmp_path / name).write()
    for file in ("img.zip", "seg.zip"):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()


def test_rare_views_are_repeated_and_all_are_flipped(tmp_path: Path) -> None:
    yaws = torch.tensor([0.0, 0.01, 0.02, 2.0])
    source = write_image_set(tmp_path / "source", labels_at(yaws.tolist()))
    config = PackConfig(least_per_group=4, yaw_group=30.0, mirror=True)
    plan = plan_pack(source, tmp_path / "out", config)
    repeats = yaw_repeats(torch.rad2deg(yaws), 30.0, 4).tolist()
    assert repeats == [2, 2, 2, 4]
    plan.write()
    before, after = open_image_set(source), open_image_set(tmp_path / "out")
    assert len(after) == 2 * sum(repeats)
    rows = [row for row, count in enumerate(repeats) for _ in range(count)]
    for place, row in enumerate(rows):
        plain, flipped = after.pixels(2 * place), after.pixels(2 * place + 1)
        assert torch.equal(plain, before.pixels(row))
        assert torch.equal(flipped, plain.flip(2))
        expected = mirror_labels(before.labels[row])
        assert torch.allclose(after.labels[2 * place + 1], expected, atol=1e-6)


@pytest.mark.parametrize("suffix", ["", ".zip"])
def test_semantic_maps_are_resized_without_mixing_and_flipped(tmp_path: Path, suffix: str) -> None:
    source = write_image_set(tmp_path / "source", LABELS[:2], suffix=suffix)
    hair, left, right = (PARSING_CLASSES.index(name) for name in ("hair", "l_eye", "r_eye"))
    classes = torch.full((2, 16, 16), hair, dtype=torch.uint8)
    classes[:, 4:6, 2:4], classes[:, 4:6, 10:12] = right, left
    names = [f"00000/img{index:08d}.png" for index in range(2)]
    files = {name: png(one[None]) for name, one in zip(names, classes, strict=True)}
    write_files(source / f"parts{suffix}", files)
    plan_pack(source, tmp_path / "out", PackConfig(size=8, mirror=True)).write()
    packed = open_image_set(tmp_path / "out", needs_parts=True)
    for index in range(4):
        # Half the size; in flipped ones the columns are 6 and 2, and the classes exchanged.
        columns = (1, 5) if index % 2 == 0 else (2, 6)
        expected = torch.full((8, 8), hair, dtype=torch.uint8)
        expected[2, list(columns)] = torch.tensor([right, left], dtype=torch.uint8)
        assert torch.equal(packed.pixels(index)[4], expected), index
    parts = tmp_path / "others"
    write_files(parts, {names[0]: files[names[0]]})
    with pytest.raises(ValueError, match="others has no semantic map for 00000/img00000001"):
        plan_pack(source, tmp_path / "x", parts=parts)
    write_files(parts, {names[1]: png(torch.full((1, 16, 16), 99, dtype=torch.uint8))})
    with pytest.raises(ValueError, match=r"img00000001.png: labels must be 0 to 18, got 99"):
        plan_pack(source, tmp_path / "x", parts=parts).write()
    assert not (tmp_path / "x").exists()


def test_lights_are_carried_along_and_flipped(tmp_path: Path) -> None:
    images, _ = image_files(LABELS)
    names = [name for name in images if name.endswith(".png")]
    lights = torch.randn(5, 9, 3, generator=torch.Generator().manual_seed(4))
    labels = json.loads(images["dataset.json"])["labels"]
    for file, table in (("dataset.json", lights[..., 0]), ("dataset_rgb_sh_2.json", lights)):
        sh = [[name, light.tolist()] for name, light in zip(names, table, strict=True)]
        content = {"labels": labels, "sh": sh, "sh_frame": "camera"}
        images[file] = json.dumps(content).encode()
    source = write_files(tmp_path / "source", images)
    plan_pack(source, tmp_path / "out", PackConfig(mirror=True, archives=False)).write()
    colored = json.loads((tmp_path / "out/img/dataset_rgb_sh_2.json").read_text())
    assert colored["sh_frame"] == "camera"
    packed = torch.tensor([row for _, row in colored["sh"]]).view(5, 2, 9, 3)
    assert torch.allclose(packed[:, 0], lights, atol=1e-6)
    directions = torch.nn.functional.normalize(torch.randn(30, 3), dim=1)
    mirrored = directions * torch.tensor([-1.0, 1.0, 1.0])
    for row in range(5):
        seen = light_sh_basis(mirrored, 2) @ packed[row, 1]
        assert torch.allclose(seen, light_sh_basis(directions, 2) @ lights[row], atol=1e-4)
    mono = json.loads((tmp_path / "out/img/dataset.json").read_text())["sh"]
    assert torch.allclose(torch.tensor([r for _, r in mono]).view(5, 2, 9), packed[..., 0])


def test_axes_of_lights_are_always_stated(tmp_path: Path) -> None:
    source = write_image_set(tmp_path / "set", LABELS)
    path = source / "img/dataset.json"
    content = json.loads(path.read_text())
    content["sh"] = [[name, [0.5] * 9] for name, _ in content["labels"]]
    path.write_text(json.dumps(content))
    config = PackConfig(archives=False)
    plan_pack(source, tmp_path / "out", config).write()
    assert json.loads((tmp_path / "out/img/dataset.json").read_text())["sh_frame"] == "camera"
    path.write_text(json.dumps({**content, "sh_frame": "world"}))
    with pytest.raises(ValueError, match="sh_frame must be one of camera, head, got 'world'"):
        plan_pack(source, tmp_path / "other", config)


def test_pictures_are_cropped_resized_and_keep_their_alpha(tmp_path: Path) -> None:
    flat = torch.zeros(4, 20, 32, dtype=torch.uint8)
    flat[:, :, 6:26] = torch.tensor([10, 200, 30, 128], dtype=torch.uint8)[:, None, None]
    files = {"a.png": png(flat)}
    label = LABELS[0].tolist()
    files["dataset.json"] = json.dumps({"labels": [["a.png", label]]}).encode()
    source = write_files(tmp_path / "source", files)
    config = PackConfig(crop=True, size=8, alpha="keep", archives=False)
    plan_pack(source, tmp_path / "out", config).write()
    data = (tmp_path / "out/img/00000/img00000000.png").read_bytes()
    packed = decode_image(data, "packed")
    # The middle square has one colour, which no resampling changes.
    expected = flat[:, :8, 6:14]
    assert torch.equal(packed, expected)


def test_names_may_match_without_folders(tmp_path: Path) -> None:
    images, masks = image_files(LABELS)
    content = json.loads(images.pop("dataset.json"))
    content["labels"] = [[name.split("/")[1], row] for name, row in content["labels"]]
    write_files(tmp_path / "images", images)
    write_files(tmp_path / "masks.zip", {f"x/{n.split('/')[1]}": d for n, d in masks.items()})
    (tmp_path / "labels.json").write_text(json.dumps(content))

    def plan(config: PackConfig) -> PackPlan:
        masks, labels = tmp_path / "masks.zip", tmp_path / "labels.json"
        return plan_pack(tmp_path / "images", tmp_path / "out", config, masks=masks, labels=labels)

    with pytest.raises(ValueError, match=r"has no mask for 00000/img00000000\.png"):
        plan(PackConfig())
    plan(PackConfig(match="stem")).write()
    assert torch.allclose(open_image_set(tmp_path / "out").labels, LABELS, atol=1e-6)


def test_incomplete_images_may_be_left_out(tmp_path: Path) -> None:
    source = write_image_set(tmp_path / "source", LABELS)
    (source / "seg/00000/img00000001.png").unlink()
    (source / "img/00000/img00000003.png").unlink()
    with pytest.raises(ValueError, match=r"has no mask for .*img00000001.png \(and 1 more faults"):
        plan_pack(source, tmp_path / "out")
    plan = plan_pack(source, tmp_path / "out", PackConfig(only_complete=True))
    assert plan.source.num_left_out == 1
    plan.write()
    kept = torch.stack([LABELS[0], LABELS[2], LABELS[4]])
    assert torch.allclose(open_image_set(tmp_path / "out").labels, kept, atol=1e-6)


def edit_labels(change: Callable[[list], object]) -> Callable[[Path], None]:
    def apply(source: Path) -> None:
        path = source / "img/dataset.json"
        content = json.loads(path.read_text())
        change(content["labels"])
        path.write_text(json.dumps(content))

    return apply


def replace_file(name: str, pixels: Tensor) -> Callable[[Path], None]:
    def apply(source: Path) -> None:
        (source / name).write_bytes(png(pixels))

    return apply


def truncate(source: Path) -> None:
    path = source / "img/00000/img00000002.png"
    path.write_bytes(path.read_bytes()[:200])


IMAGE, MASK = "img/00000/img00000002.png", "seg/00000/img00000002.png"
FAULTS = {
    "short": (edit_labels(lambda all_: all_[0][1].pop()), "must have 25 numbers, got 24"),
    "not rigid": (edit_labels(lambda all_: all_[0][1].__setitem__(0, 3.0)), "must be rigid"),
    "no label": (edit_labels(lambda all_: all_.pop()), "has no labels for 00000/img00000000"),
    "no image": (edit_labels(lambda all_: all_.append(["x.png", []])), "x.png, which is no image"),
    "damaged": (truncate, "img00000002.png: not a readable PNG"),
    "size": (replace_file(IMAGE, torch.zeros(3, 8, 8).byte()), "the shape of the first image"),
    "shape": (replace_file(IMAGE, torch.zeros(3, 16, 8).byte()), "must be square, got 8 x 16"),
    "grey": (replace_file(IMAGE, torch.zeros(1, 16, 16).byte()), "must be coloured"),
    "alpha": (replace_file(IMAGE, torch.zeros(4, 16, 16).byte()), "has an alpha channel"),
    "mask": (
        replace_file(MASK, torch.eye(3)[0].byte().view(3, 1, 1).repeat(1, 16, 16)),
        "must be grey",
    ),
    "mask size": (replace_file(MASK, torch.zeros(1, 8, 8).byte()), "a mask of its size, 16, got 8"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_faults_are_named_and_leave_nothing_behind(tmp_path: Path, fault: str) -> None:
    break_it, message = FAULTS[fault]
    source = write_image_set(tmp_path / "source", LABELS)
    break_it(source)
    with pytest.raises(ValueError, match=message):
        plan_pack(source, tmp_path / "out").write()
    assert [path.name for path in tmp_path.iterdir()] == ["source"]


def test_wrong_requests_are_refused(tmp_path: Path) -> None:
    source = write_image_set(tmp_path / "source", LABELS, size=12)
    with pytest.raises(ValueError, match="must have a power of two as side, got 12; give a size"):
        plan_pack(source, tmp_path / "out").write()
    with pytest.raises(ValueError, match="exists; give a new folder"):
        plan_pack(source, source)
    with pytest.raises(FileNotFoundError, match=r"none.json does not exist"):
        plan_pack(source, tmp_path / "out", labels=tmp_path / "none.json")
    with pytest.raises(ValueError, match="size must be a power of two, got 48"):
        PackConfig(size=48)
    views = plan_pack(source, tmp_path / "out", PackConfig(max_images=4)).facts()["views"]
    assert views == "1 front, 2 sides, 1 back"
    assert math.degrees(2.0) < 135
    assert open_archive(source).path == source
