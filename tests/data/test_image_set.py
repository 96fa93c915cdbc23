"""Image sets of generators: folders and archives say the same, and what is wrong is refused."""

from __future__ import annotations

import json
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from tiny_image_sets import image_files, labels_at, png, write_files, write_image_set
from vultus.core import zip_limits
from vultus.data.image_archive import open_archive
from vultus.data.image_set import open_image_set
from vultus.data.semantics import PARSING_CLASSES

LABELS = labels_at([0.0, 1.0, -2.0, 3.0, 0.5])
NAME = "00000/img00000001.png"


def test_folder_and_archive_give_the_same_images_masks_and_labels(tmp_path: Path) -> None:
    folder = open_image_set(write_image_set(tmp_path / "a", LABELS))
    archive = open_image_set(write_image_set(tmp_path / "b", LABELS, suffix=".zip"))
    assert len(folder) == len(archive) == 5
    assert (folder.size, folder.num_channels) == (16, 4)
    # The file lists them backwards.
    assert torch.allclose(folder.labels, LABELS)
    assert folder.fingerprint() == archive.fingerprint()
    generator = torch.Generator().manual_seed(0)
    for index in range(5):
        drawn = torch.randint(0, 256, (4, 16, 16), generator=generator, dtype=torch.uint8)
        assert torch.equal(folder.pixels(index), drawn)
        assert torch.equal(archive.pixels(index), drawn)


def test_masks_may_lie_elsewhere_and_be_absent(tmp_path: Path) -> None:
    images, masks = image_files(LABELS)
    write_files(tmp_path / "pictures", images)
    renamed = {name.replace(".png", ".PNG"): data for name, data in masks.items()}
    write_files(tmp_path / "mattes.zip", renamed)
    path = tmp_path / "pictures"
    assert open_image_set(path, tmp_path / "mattes.zip").num_channels == 4
    assert open_image_set(path).num_channels == 3
    with pytest.raises(ValueError, match="has no masks"):
        open_image_set(path, needs_masks=True)


def test_masks_that_are_named_are_taken_instead_of_those_beside(tmp_path: Path) -> None:
    write_image_set(tmp_path / "set", LABELS)
    _, masks = image_files(LABELS, seed=1)
    write_files(tmp_path / "others", masks)
    own, other = (
        open_image_set(tmp_path / "set", folder).pixels(0) for folder in (None, tmp_path / "others")
    )
    assert torch.equal(own[:3], other[:3])
    assert not torch.equal(own[3], other[3])


def test_alpha_is_the_mask_for_those_who_take_it(tmp_path: Path) -> None:
    images, masks = image_files(LABELS)
    pixels = torch.randint(0, 256, (5, 4, 16, 16), dtype=torch.uint8)
    names = sorted(name for name in images if name.endswith(".png"))
    images |= {name: png(picture) for name, picture in zip(names, pixels, strict=True)}
    write_files(tmp_path / "img", images)
    write_files(tmp_path / "seg", masks)
    found = open_image_set(tmp_path, needs_masks=True, alpha="mask")
    assert (found.num_channels, found.has_masks, found.masks) == (4, True, None)
    assert torch.equal(found.pixels(2), pixels[2])
    with pytest.raises(ValueError, match="must have 3 channels of 16 x 16, got 4"):
        open_image_set(tmp_path)
    seen = open_image_set(tmp_path / "img", alpha="ignored")
    assert (seen.num_channels, seen.has_masks) == (3, False)
    assert torch.equal(seen.pixels(2), pixels[2, :3])
    with pytest.raises(ValueError, match="alpha channel, which need no --masks"):
        open_image_set(tmp_path / "img", tmp_path / "seg", alpha="mask")


def write_parts(root: Path, classes: Tensor, suffix: str = "") -> None:
    """Semantic maps of a set that was written before."""
    names = [f"{index // 4:05d}/img{index:08d}.png" for index in range(len(classes))]
    files = {name: png(one[None]) for name, one in zip(names, classes, strict=True)}
    write_files(root / f"parts{suffix}", files)


@pytest.mark.parametrize("suffix", ["", ".zip"])
def test_semantic_maps_are_read_where_they_are_asked_for(tmp_path: Path, suffix: str) -> None:
    root = write_image_set(tmp_path / "set", LABELS, suffix=suffix)
    with pytest.raises(ValueError, match="set: has no semantic maps; it must be a folder that"):
        open_image_set(root, needs_parts=True)
    classes = torch.randint(0, len(PARSING_CLASSES), (5, 16, 16), dtype=torch.uint8)
    write_parts(root, classes, suffix)
    plain, found = open_image_set(root), open_image_set(root, needs_parts=True)
    assert (plain.num_channels, found.num_channels) == (4, 5)
    assert torch.equal(found.pixels(3)[:4], plain.pixels(3))
    assert torch.equal(found.pixels(3)[4], classes[3])
    for wrong, message in (
        (classes[:4], "has no semantic map for the image 00001/img00000004.png"),
        (classes + 200, f"labels must be 0 to {len(PARSING_CLASSES) - 1}, got 2"),
        (classes[:, :8, :8], "img00000000.png must have 16 x 16 pixels, got 8 x 8"),
    ):
        (root / "parts.zip").unlink(missing_ok=True)
        shutil.rmtree(root / "parts", ignore_errors=True)
        write_parts(root, wrong, suffix)
        with pytest.raises(ValueError, match=message):
            open_image_set(root, needs_parts=True)


def test_semantic_maps_without_masks_are_refused(tmp_path: Path) -> None:
    root = write_image_set(tmp_path / "set", LABELS)
    write_parts(root, torch.zeros(5, 16, 16, dtype=torch.uint8))
    shutil.rmtree(root / "seg")
    with pytest.raises(ValueError, match="img: has no masks; say where they are with --masks"):
        open_image_set(root, needs_parts=True)


def test_numbers_may_be_strings(tmp_path: Path) -> None:
    images, _ = image_files(LABELS)
    content = json.loads(images["dataset.json"])
    content["labels"] = [[n, [f"{x:.6f}" for x in label]] for n, label in content["labels"]]
    images["dataset.json"] = json.dumps(content).encode()
    found = open_image_set(write_files(tmp_path / "set", images)).labels
    assert torch.allclose(found, LABELS, atol=1e-6)


def relabel(change: Callable[[list], None]) -> Callable[[dict, dict], None]:
    """Edit the list of labels."""

    def apply(images: dict, _masks: dict) -> None:
        content = json.loads(images["dataset.json"])
        change(content["labels"])
        images["dataset.json"] = json.dumps(content).encode()

    return apply


def entry_of(labels: list) -> list:
    return next(entry for entry in labels if entry[0] == NAME)


def shear(labels: list) -> None:
    entry_of(labels)[1][1] += 0.5


def word(labels: list) -> None:
    entry_of(labels)[1][3] = "left"


def replace(images: bool, data: bytes | Tensor) -> Callable[[dict, dict], None]:
    content = png(data) if isinstance(data, Tensor) else data

    def apply(of_images: dict, of_masks: dict) -> None:
        (of_images if images else of_masks)[NAME] = content

    return apply


def drop(images: bool, name: str = NAME) -> Callable[[dict, dict], None]:
    return lambda of_images, of_masks: (of_images if images else of_masks).pop(name)


COLOURS = torch.zeros(4, 16, 16, dtype=torch.uint8)
COLOURS[0] = 7
FAULTS: dict[str, tuple[Callable[[dict, dict], None], str]] = {
    "short label": (relabel(lambda all_: entry_of(all_)[1].pop()), f"{NAME} must have 25 numbers"),
    "class": (relabel(lambda all_: entry_of(all_).__setitem__(1, 3)), "must be a list of 25"),
    "word": (relabel(word), "must hold numbers: .*left"),
    "shear": (relabel(shear), f"{NAME}: camera_to_world must be rigid"),
    "unlabelled": (relabel(lambda all_: all_.remove(entry_of(all_))), "no label for the image"),
    "spare label": (relabel(lambda all_: all_.append(["x.png", []])), "label for x.png, which is"),
    "twice": (relabel(lambda all_: all_.append(all_[0])), "two labels"),
    "odd entry": (relabel(lambda all_: all_.append({"a": 1})), "an entry must be"),
    "no image": (drop(images=True), f"a label for {NAME}, which is no image"),
    "no mask": (drop(images=False), f"no mask for the image {NAME}"),
    "no labels": (drop(True, "dataset.json"), "dataset.json is missing"),
    "four channels": (replace(True, COLOURS), f"{NAME} must have 3 channels of 16 x 16, got 4"),
    "small": (replace(True, COLOURS[:3, :8, :8]), "got 3 channels of 8 x 8"),
    "coloured mask": (replace(False, COLOURS[:3]), f"{NAME} must have 1 channels"),
    "no picture": (replace(True, b"text"), f"{NAME}: not a readable PNG"),
}


@pytest.mark.parametrize("suffix", ["", ".zip"])
@pytest.mark.parametrize("fault", FAULTS)
def test_faults_are_named_with_their_file(tmp_path: Path, fault: str, suffix: str) -> None:
    images, masks = image_files(LABELS)
    damage, message = FAULTS[fault]
    damage(images, masks)
    write_files(tmp_path / f"img{suffix}", images)
    write_files(tmp_path / f"seg{suffix}", masks)
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        open_image_set(tmp_path).pixels(1)


def test_a_truncated_archive_is_refused_when_it_is_opened(tmp_path: Path) -> None:
    write_image_set(tmp_path, LABELS, suffix=".zip")
    path = tmp_path / "img.zip"
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(ValueError, match=r"img\.zip: not a complete zip archive"):
        open_image_set(tmp_path)


def test_an_archive_of_another_version_is_refused_when_it_is_opened(tmp_path: Path) -> None:
    write_image_set(tmp_path, LABELS, suffix=".zip")
    path = tmp_path / "img.zip"
    data = bytearray(path.read_bytes())
    data[data.index(b"PK\x01\x02") + 6] = 255
    path.write_bytes(data)
    with pytest.raises(ValueError, match=r"img\.zip: not a complete zip archive: zip file version"):
        open_image_set(tmp_path)


def test_damage_inside_an_archive_is_found_when_the_image_is_read(tmp_path: Path) -> None:
    write_image_set(tmp_path, LABELS, suffix=".zip")
    path = tmp_path / "img.zip"
    data = bytearray(path.read_bytes())
    start = data.index(NAME.encode()) + len(NAME)
    data[start + 60] ^= 255
    path.write_bytes(data)
    with pytest.raises(ValueError, match=rf"img\.zip: {NAME} is damaged"):
        open_image_set(tmp_path).pixels(1)


@pytest.mark.parametrize(
    ("size", "message"), [((16, 24), "got 24 x 16"), ((20, 20), "power of two as side, got 20")]
)
def test_images_of_an_odd_size_are_refused(
    tmp_path: Path, size: tuple[int, int], message: str
) -> None:
    images, _ = image_files(LABELS[:1])
    images["00000/img00000000.png"] = png(torch.zeros(3, *size, dtype=torch.uint8))
    with pytest.raises(ValueError, match=message):
        open_image_set(write_files(tmp_path / "set", images))


def test_places_without_images_are_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="does not exist"):
        open_image_set(tmp_path / "nothing")
    with pytest.raises(ValueError, match="holds no PNG or JPEG"):
        open_image_set(tmp_path)


def test_what_an_interrupted_write_has_left_is_no_image(tmp_path: Path) -> None:
    source = write_image_set(tmp_path / "set", LABELS)
    before = open_image_set(source).fingerprint()
    for name in ("00000/.vultus-tmp-12-img00000009.png", ".vultus-tmp-3-00001/img00000008.png"):
        (source / name).parent.mkdir(exist_ok=True)
        (source / name).write_bytes(b"half a picture")
    images = open_image_set(source)
    assert len(images) == len(LABELS)
    assert images.fingerprint() == before


def test_images_that_unfold_to_more_than_memory_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(zip_limits, "_ALWAYS", 100_000)
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("bomb.png", bytes(1_000_000))
        archive.writestr("stored.png", bytes(1_000_000), zipfile.ZIP_STORED)
    images = open_archive(tmp_path / "a.zip")
    assert len(images.read("stored.png")) == 1_000_000
    with pytest.raises(ValueError, match=r"a\.zip: bomb\.png is damaged: .* would unfold from"):
        images.read("bomb.png")
