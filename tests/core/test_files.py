"""Files and folders appear whole or not at all."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from vultus.core.files import (
    atomic_directory,
    atomic_path,
    file_digest,
    is_temporary,
    read_json,
    write_json,
    write_text,
)


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    target = tmp_path / "a.txt"
    write_text(target, "old")

    def write(path: Path) -> None:
        path.write_text("half")
        raise RuntimeError

    with pytest.raises(RuntimeError), atomic_path(target) as temporary:
        write(temporary)
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


def test_the_temporary_name_keeps_the_suffix_and_is_recognised(tmp_path: Path) -> None:
    with atomic_path(tmp_path / "a.png") as temporary:
        assert temporary.suffix == ".png"
        assert is_temporary(temporary)
        temporary.write_bytes(b"x")
    assert not is_temporary(tmp_path / "a.png")


def test_a_new_file_has_the_permissions_of_the_umask(tmp_path: Path) -> None:
    write_text(tmp_path / "ours", "x")
    (tmp_path / "plain").write_text("x")
    assert (tmp_path / "ours").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_writing_nothing_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="nothing was written"), atomic_path(tmp_path / "a"):
        pass


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"the folder .*nowhere does not exist"):
        write_text(tmp_path / "nowhere" / "a.txt", "x")


def test_a_failed_folder_is_not_published(tmp_path: Path) -> None:
    def fill(folder: Path) -> None:
        (folder / "a").write_text("x")
        raise RuntimeError

    with pytest.raises(RuntimeError), atomic_directory(tmp_path / "d") as folder:
        fill(folder)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_is_replaced_only_on_request(tmp_path: Path) -> None:
    target = tmp_path / "d"
    for text in ("one", "two"):
        with atomic_directory(target, replace=True) as folder:
            (folder / text).write_text(text)
    assert [path.name for path in target.iterdir()] == ["two"]
    assert list(tmp_path.iterdir()) == [target]
    with pytest.raises(FileExistsError, match="exists already"), atomic_directory(target):
        pass


@pytest.mark.skipif(os.name != "posix", reason="needs SIGKILL")
def test_a_kill_while_writing_leaves_the_old_file_whole(tmp_path: Path) -> None:
    target = tmp_path / "a.txt"
    write_text(target, "old")
    program = (
        "import os, signal, sys; from pathlib import Path\n"
        "from vultus.core.files import atomic_path\n"
        f"with atomic_path(Path({str(target)!r})) as temporary:\n"
        "    temporary.write_text('half'); os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], check=False)
    assert done.returncode == -signal.SIGKILL
    assert target.read_text() == "old"
    assert [p for p in tmp_path.iterdir() if not is_temporary(p)] == [target]


def test_json_keeps_order_and_text(tmp_path: Path) -> None:
    data = {"b": 1, "a": [None, True, 0.1, "ä\n"]}
    write_json(tmp_path / "a.json", data)
    loaded = read_json(tmp_path / "a.json")
    assert loaded == data
    assert list(loaded) == ["b", "a"]


@pytest.mark.parametrize("value", [float("nan"), float("inf"), object(), {1, 2}])
def test_what_json_cannot_express_is_refused_with_the_file_name(
    value: object, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=r"a\.json: not expressible as JSON"):
        write_json(tmp_path / "a.json", {"x": value})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe\x00", b"[" * 100_000])
def test_damaged_json_is_refused_with_the_file_name(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(ValueError, match=r"a\.json:.*not JSON"):
        read_json(tmp_path / "a.json")


@pytest.mark.parametrize("number", ["9223372036854775808", "-1" + "0" * 400, "1" * 5000])
def test_whole_numbers_beyond_64_bits_are_refused_with_the_file_name(
    number: str, tmp_path: Path
) -> None:
    (tmp_path / "a.json").write_text(f'{{"x": [{number}]}}')
    expected = rf"a\.json: whole numbers must fit 64 bits, got {number[:20]} \({len(number)} char"
    with pytest.raises(ValueError, match=expected):
        read_json(tmp_path / "a.json")


def test_the_smallest_and_largest_whole_numbers_of_64_bits_are_read(tmp_path: Path) -> None:
    limits = [-(2**63), 2**63 - 1]
    write_json(tmp_path / "a.json", limits)
    assert read_json(tmp_path / "a.json") == limits


def test_a_digest_is_the_one_that_other_programs_print(tmp_path: Path) -> None:
    (tmp_path / "abc").write_bytes(b"abc")
    # The example of FIPS 180-2, appendix B.1.
    wanted = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert file_digest(tmp_path / "abc") == wanted
