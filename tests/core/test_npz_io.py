"""Arrays in files of others."""

from __future__ import annotations

import io
import pickle
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from vultus.core.npz_io import finite_floats, read_npz, read_npz_array


@pytest.fixture
def path(tmp_path: Path) -> Path:
    np.savez_compressed(tmp_path / "a.npz", w=np.arange(3), other=np.zeros(2))
    return tmp_path / "a.npz"


def test_arrays_are_found_by_their_names(path: Path) -> None:
    assert set(read_npz(path)) == {"w", "other"}
    assert set(read_npz(path, ("w", "absent"))) == {"w"}
    assert read_npz_array(path, "w").tolist() == [0, 1, 2]


def test_missing_files_and_arrays_are_named(path: Path) -> None:
    with pytest.raises(ValueError, match=r"a\.npz: array 'absent' is missing"):
        read_npz_array(path, "absent")
    with pytest.raises(FileNotFoundError, match=r"b\.npz does not exist"):
        read_npz(path.with_name("b.npz"))


def _with_header(text: str) -> Callable[[Path], None]:
    """An array of 24 bytes whose header says something else."""

    def write(path: Path) -> None:
        header = text.encode()
        with zipfile.ZipFile(path, "w") as archive:
            start = b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header))
            archive.writestr("w.npy", start + header + bytes(24))

    return write


def _with_entries(offset: int, value: int) -> Callable[[Path], None]:
    """Change a byte of all entries of the archive; it comes 2 later in the directory at the end."""

    def write(path: Path) -> None:
        data = bytearray(path.read_bytes())
        for signature, where in ((b"PK\x03\x04", offset), (b"PK\x01\x02", offset + 2)):
            at = data.find(signature)
            while at >= 0:
                data[at + where] = value
                at = data.find(signature, at + 1)
        path.write_bytes(data)

    return write


def _damaged_stream(path: Path) -> None:
    data = bytearray(path.read_bytes())
    start = data.find(b"w.npy") + 5
    data[start + 20 : start + 60] = b"\xff" * 40
    path.write_bytes(data)


def _foreign_member(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("w.npy", "no array")


def _other_names_inside(path: Path) -> None:
    """What is said about it has bytes of the file in it."""
    data = bytearray(path.read_bytes())
    at = data.index(b"w.npy") - 4
    data[at : at + 2] = (2_000).to_bytes(2, "little")
    path.write_bytes(data + bytes(4_000))


def _single(path: Path) -> None:
    with path.open("wb") as file:
        np.save(file, np.zeros(9))


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(b"text"),
        lambda path: path.write_bytes(path.read_bytes()[:40]),
        lambda path: path.write_bytes(path.read_bytes()[:-30]),
        lambda path: np.savez(path, w=np.array([{}], dtype=object)),
        _single,
        _foreign_member,
        _other_names_inside,
        _with_entries(6, 1),  # encrypted
        _with_entries(8, 99),  # compressed by something else
        _damaged_stream,
        _with_header("{'descr': '<f8', 'fortran_order': False, 'shape': (3,"),
        _with_header(f"{{'descr': '<f8', 'fortran_order': False, 'shape': ({2**62},)}}\n"),
        _with_header(f"{{'descr': '<f8', 'fortran_order': False, 'shape': ({2**40},)}}\n"),
        _with_header("{'descr': '<f8', 'fortran_order': False, 'shape': (-3,)}\n"),
        _with_header("{'descr': 'x9', 'fortran_order': False, 'shape': (3,)}\n"),
        _with_header("[" * 900),
    ],
)
def test_what_is_no_such_file_is_refused_by_name(
    damage: Callable[[Path], object], path: Path
) -> None:
    damage(path)
    for read in (read_npz, lambda path: read_npz_array(path, "w")):
        with pytest.raises(ValueError, match=r"a\.npz: not a readable \.npz file: \S") as caught:
            read(path)
        assert "\n" not in str(caught.value)
        assert len(str(caught.value)) < 300 + len(str(path))


def test_numbers_of_any_type_become_floats() -> None:
    for dtype in (np.uint8, np.int64, np.float16, ">f8"):
        values = finite_floats(np.array([[1, 2]], dtype), "a.npz: w")
        assert values.dtype == np.float32
        assert values.tolist() == [[1.0, 2.0]]
    assert finite_floats(np.array(3.5), "a.npz: w").shape == ()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (np.array([1.0, np.nan]), "a.npz: w must be finite"),
        (np.array([np.inf]), "a.npz: w must be finite"),
        (np.array([1e300]), "a.npz: w must be finite"),
        (np.array(["1"]), "a.npz: w must be numbers, got <U1"),
        (np.array([True]), "a.npz: w must be numbers, got bool"),
        (np.array([1j]), "a.npz: w must be numbers, got complex128"),
    ],
)
def test_what_are_no_finite_numbers_is_refused(values: np.ndarray, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        finite_floats(values, "a.npz: w")


def test_pictures_and_pickles_are_no_archives(path: Path) -> None:
    """NumPy would say how to load them unsafely."""
    for content in (b"\x89PNG\r\n\x1a\n" + bytes(100), pickle.dumps({"w": 1}), b""):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"a\.npz: not .* file: it is no archive$"):
            read_npz(path)


def test_archives_that_unfold_to_more_than_memory_are_refused(path: Path) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        with archive.open("w.npy", "w", force_zip64=True) as member:
            header = io.BytesIO()
            np.lib.format.write_array_header_1_0(
                header, {"descr": "<f8", "fortran_order": False, "shape": (1 << 26,)}
            )
            member.write(header.getvalue())
            for _ in range(512):
                member.write(bytes(1 << 20))
        small = io.BytesIO()
        np.save(small, np.zeros(3))
        archive.writestr("small.npy", small.getvalue())
    with pytest.raises(ValueError, match=r"w.npy' would unfold from \d+ to \d+ bytes"):
        read_npz(path)
    assert read_npz(path, ("small",))["small"].tolist() == [0.0, 0.0, 0.0]
