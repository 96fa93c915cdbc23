"""Label maps from an archive into captures."""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
import torch

from vultus.cli.main import run
from vultus.core.image_io import encode_image, write_image
from vultus.data.label_patch import plan_label_patch
from vultus.data.semantics import read_parsing

SIZE = 8


def label_map(value: int, height: int = SIZE, width: int = SIZE) -> bytes:
    return encode_image(torch.full((1, height, width), value, dtype=torch.uint8), "map.png")


def write_archive(path: Path, files: Mapping[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return path


def write_capture(folder: Path, images: str = "images", size: int = SIZE) -> Path:
    (folder / "checkpoint").mkdir(parents=True)
    (folder / images).mkdir()
    for number in range(2):
        write_image(folder / images / f"{number:05d}.png", torch.ones(3, size, size))
    return folder


def maps_of(subject: str, value: int = 1) -> dict[str, bytes]:
    return {f"{subject}/maps/{number:05d}.png": label_map(value + number) for number in range(2)}


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Captures at several depths, and folders that are none."""
    root = tmp_path / "data"
    write_capture(root / "insta/bala")
    write_capture(root / "subject1")
    write_capture(root / "deep/down/subject1", "images.HQ", 2 * SIZE)
    write_capture(root / "subject10")
    (root / "marcel/images").mkdir(parents=True)
    return root


def test_subjects_match_exactly_and_larger_pictures_have_their_own_folder(
    data: Path, tmp_path: Path
) -> None:
    files = {**maps_of("bala"), **maps_of("subject1", 5), **maps_of("marcel"), "readme.txt": b"x"}
    archive = write_archive(tmp_path / "maps.zip", files)
    patch = plan_label_patch(archive, data)
    assert [str(c.target.relative_to(data)) for c in patch.captures] == [
        "deep/down/subject1/semantic.HQ",
        "insta/bala/semantic",
        "subject1/semantic",
    ]
    assert patch.write() == 6
    assert int(read_parsing(data / "insta/bala/semantic/00001.png").max()) == 2
    assert int(read_parsing(data / "deep/down/subject1/semantic.HQ/00000.png").max()) == 5
    assert not (data / "subject10/semantic").exists()
    assert not (data / "marcel/semantic").exists()


def test_maps_that_are_there_stay_unless_forced(data: Path, tmp_path: Path) -> None:
    plan_label_patch(write_archive(tmp_path / "a.zip", maps_of("bala", 1)), data).write()
    later = write_archive(tmp_path / "b.zip", maps_of("bala", 7))
    first = data / "insta/bala/semantic/00000.png"
    stale = first.with_name("00009.png")
    stale.write_bytes(b"old")
    assert plan_label_patch(later, data).write() == 0
    assert int(read_parsing(first).max()) == 1
    assert plan_label_patch(later, data, force=True).write() == 2
    assert int(read_parsing(first).max()) == 7
    assert not stale.exists()


def test_only_chosen_subjects_are_patched(data: Path, tmp_path: Path) -> None:
    archive = write_archive(tmp_path / "maps.zip", {**maps_of("bala"), **maps_of("subject1")})
    assert plan_label_patch(archive, data, ["bala"]).write() == 2
    assert not (data / "subject1/semantic").exists()
    with pytest.raises(ValueError, match="has no maps of 'biden'; it has 'bala', 'subject1'"):
        plan_label_patch(archive, data, ["biden"])


def test_an_archive_cannot_write_beside_the_captures(data: Path, tmp_path: Path) -> None:
    files = {
        **maps_of("bala"),
        "bala/../../evil.png": label_map(1),
        "../00003.png": label_map(1),
        "/00004.png": label_map(1),
        "bala/.DS_Store": b"junk",
        "__MACOSX/bala/._00000.png": b"junk",
    }
    before = {path for path in tmp_path.rglob("*")}
    archive = write_archive(tmp_path / "maps.zip", files)
    assert plan_label_patch(archive, data).write() == 2
    target = data / "insta/bala/semantic"
    assert set(tmp_path.rglob("*")) - before == {archive, target, *target.iterdir()}


def _replaced(name: str, content: bytes) -> Callable[[dict[str, bytes]], object]:
    return lambda files: files.update({name: content})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_replaced("bala/maps/00001.png", b"garbage"), r"bala/maps/00001\.png: not a readable PNG"),
        (_replaced("bala/maps/00001.png", label_map(19)), "labels must be 0 to 18, got 19"),
        (_replaced("bala/maps/00001.png", label_map(1, 8, 9)), "must have the aspect ratio of"),
        (_replaced("bala/maps/00007.png", label_map(1)), "belongs to no picture of"),
        (_replaced("bala/other/1.png", label_map(1)), "have one number"),
        (_replaced("bala/maps/00001.png", bytes(2**26 + 1)), "at most 64 MiB"),
        (lambda files: files.pop("bala/maps/00001.png"), r"has no map of .*00001\.png"),
    ],
)
def test_nothing_is_written_if_one_map_is_wrong(
    data: Path, tmp_path: Path, change: Callable[[dict[str, bytes]], object], message: str
) -> None:
    files = {**maps_of("aaa"), **maps_of("bala")}
    write_capture(data / "aaa")
    change(files)
    archive = write_archive(tmp_path / "maps.zip", files)
    with pytest.raises(ValueError, match=message) as caught:
        plan_label_patch(archive, data).write()
    assert "\n" not in str(caught.value)
    assert not list(data.rglob("semantic*"))
    assert not list(data.rglob(".vultus*"))


def test_linked_captures_are_patched_once_and_loops_end(data: Path, tmp_path: Path) -> None:
    store = write_capture(tmp_path / "store/take_7")
    (data / "marcel/images").rmdir()
    (data / "marcel").rmdir()
    (data / "marcel").symlink_to(store, target_is_directory=True)
    (data / "again").symlink_to(data / "insta", target_is_directory=True)
    (data / "insta/loop").symlink_to(data, target_is_directory=True)
    archive = write_archive(tmp_path / "maps.zip", {**maps_of("bala"), **maps_of("marcel", 4)})
    patch = plan_label_patch(archive, data)
    assert {capture.subject: capture.target for capture in patch.captures} == {
        "bala": data / "insta/bala/semantic",
        "marcel": store / "semantic",
    }
    assert patch.write() == 4
    assert int(read_parsing(store / "semantic/00001.png").max()) == 5


def test_subjects_with_line_breaks_in_their_names_are_told_in_one_line(
    data: Path, tmp_path: Path
) -> None:
    archive = write_archive(tmp_path / "maps.zip", maps_of("two\nlines"))
    with pytest.raises(ValueError, match=r"has no maps of 'bala'; it has 'two\\nlines'$"):
        plan_label_patch(archive, data, ["bala"])
    with pytest.raises(FileNotFoundError, match=r"has no capture of 'two\\nlines': a folder"):
        plan_label_patch(archive, data)


def test_missing_archives_folders_and_captures_are_named(data: Path, tmp_path: Path) -> None:
    archive = write_archive(tmp_path / "maps.zip", maps_of("bala"))
    with pytest.raises(FileNotFoundError, match=r"none\.zip does not exist"):
        plan_label_patch(tmp_path / "none.zip", data)
    with pytest.raises(FileNotFoundError, match="nowhere: no such folder"):
        plan_label_patch(archive, tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError, match="has no capture of 'bala': a folder of that name"):
        plan_label_patch(archive, data / "subject1")
    (tmp_path / "broken.zip").write_bytes(archive.read_bytes()[:100])
    with pytest.raises(ValueError, match="not a complete zip archive"):
        plan_label_patch(tmp_path / "broken.zip", data)


def test_the_command_counts_and_dry_runs(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    archive = write_archive(tmp_path / "maps.zip", {**maps_of("bala"), **maps_of("subject1")})
    command = ["data", "patch-dataset", "-i", str(archive), "-o", str(data)]
    assert run([*command, "--dry-run"]) == 0
    assert "2 maps to write" in capsys.readouterr().out
    assert not list(data.rglob("semantic*"))
    assert run([*command, "--subjects", "bala"]) == 0
    assert "maps written: 2, captures: 1" in capsys.readouterr().out
    assert run(command) == 0
    output = " ".join(capsys.readouterr().out.split())
    assert "there already" in output
    assert "maps written: 4, captures: 2" in output
    assert run([*command, "--subjects", "nobody"]) == 2
    assert "has no maps of 'nobody'" in " ".join(capsys.readouterr().err.split())
