"""Files under the names of pictures belong to one picture each, and lie within the capture."""

from __future__ import annotations

from pathlib import Path

import pytest

from vultus.data.companion_files import find_companions

BELOW = Path("gt/albedo")


def touched(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    return path


def test_files_beside_the_pictures_come_before_those_of_the_capture(tmp_path: Path) -> None:
    a, b = tmp_path / "a/image/1.jpg", tmp_path / "b/image/1.jpg"
    of_all = touched(tmp_path / BELOW / "1.png")
    of_b = touched(tmp_path / "b" / BELOW / "1.png")
    touched(tmp_path / "a" / BELOW / "2.png")
    assert find_companions(tmp_path, [a, b, a], BELOW, ".png") == {a: of_all, b: of_b}
    assert find_companions(tmp_path, [a, b], BELOW) == {}


def test_a_file_for_two_pictures_is_refused(tmp_path: Path) -> None:
    file = touched(tmp_path / BELOW / "1.png")
    pictures = [tmp_path / name / "image/1.png" for name in ("a", "b")]
    message = f"{file}: pictures must have names of their own, {pictures[0]} and {pictures[1]} "
    with pytest.raises(ValueError, match="names of their own") as caught:
        find_companions(tmp_path, pictures, BELOW)
    assert str(caught.value).startswith(message)


def test_folders_above_the_capture_are_none_of_its_own(tmp_path: Path) -> None:
    root = tmp_path / "capture"
    touched(tmp_path / BELOW / "1.png")
    inside, picture = root / BELOW / "1.png", touched(root / "1.png")
    assert find_companions(root, [picture], BELOW) == {}
    touched(inside)
    assert find_companions(root, [picture], BELOW) == {picture: inside}


def test_pictures_of_a_union_keep_the_files_of_their_sequence(tmp_path: Path) -> None:
    root = tmp_path / "union"
    root.mkdir()
    touched(tmp_path / "EMO-1" / BELOW / "1.png")
    picture = root / "../EMO-1/images/1.png"
    assert find_companions(root, [picture], BELOW) == {picture: root / "../EMO-1" / BELOW / "1.png"}
