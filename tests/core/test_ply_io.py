"""PLY tables come back from every format, and hostile files are one-line errors."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from vultus.core.ply_io import PlyTable, read_ply_tables, write_ply_tables

HEADER = [
    "comment end_header is not here",
    "element vertex 3",
    "property float x",
    "property uchar flag",
    "element face 3",
    "property short material",
    "property list uchar int indices",
    "property list uchar float weights",
    "element edge 1",
    "property int a",
]
VERTICES = [(0.5, 1), (-2.0, 255), (1e30, 0)]
FACES = [(-7, [0, 1, 2], [0.5]), (8, [2, 1, 0, 1], []), (9, [], [0.25, 1.0])]
EDGES = [(2**31 - 1,)]


def file_bytes(kind: str, faces: list[tuple[int, list[int], list[float]]] = FACES) -> bytes:
    if kind == "ascii":
        rows = [*VERTICES, *((m, len(i), *i, len(w), *w) for m, i, w in faces), *EDGES]
        body = "\n".join(" ".join(map(str, row)) for row in rows).encode()
    else:
        sign = "<" if kind == "binary_little_endian" else ">"
        body = b"".join(struct.pack(f"{sign}fB", *row) for row in VERTICES)
        for material, indices, weights in faces:
            form = f"{sign}hB{len(indices)}iB{len(weights)}f"
            body += struct.pack(form, material, len(indices), *indices, len(weights), *weights)
        body += struct.pack(f"{sign}i", *EDGES[0])
    lines = ["ply", f"format {kind} 1.0", *HEADER, "end_header", ""]
    return "\n".join(lines).encode() + body


def lists_of(table: PlyTable, name: str) -> list[list[float]]:
    found = table.lists[name]
    return [part.tolist() for part in np.split(found.values, np.cumsum(found.counts)[:-1])]


KINDS = ["binary_little_endian", "binary_big_endian", "ascii"]
EQUAL = [(m, [m, 1, 2], [0.5]) for m in (1, 2, 3)]


@pytest.mark.parametrize("faces", [FACES, EQUAL])
@pytest.mark.parametrize("kind", KINDS)
def test_every_format_gives_the_same_tables(
    tmp_path: Path, kind: str, faces: list[tuple[int, list[int], list[float]]]
) -> None:
    (tmp_path / "a.ply").write_bytes(file_bytes(kind, faces))
    tables = read_ply_tables(tmp_path / "a.ply")
    assert list(tables) == ["vertex", "face", "edge"]
    columns = tables["vertex"].columns
    assert columns["x"].tolist() == [float(np.float32(x)) for x, _ in VERTICES]
    assert columns["flag"].tolist() == [flag for _, flag in VERTICES]
    assert columns["flag"].dtype == np.uint8
    assert tables["face"].columns["material"].tolist() == [m for m, _, _ in faces]
    assert lists_of(tables["face"], "indices") == [i for _, i, _ in faces]
    assert lists_of(tables["face"], "weights") == [w for _, _, w in faces]
    assert tables["edge"].columns["a"].tolist() == [EDGES[0][0]]


def test_reading_stops_behind_the_last_element_asked_for(tmp_path: Path) -> None:
    whole = file_bytes("binary_little_endian")
    (tmp_path / "a.ply").write_bytes(whole[: whole.index(b"end_header\n") + 11 + 15])
    assert list(read_ply_tables(tmp_path / "a.ply", last="vertex")) == ["vertex"]
    with pytest.raises(ValueError, match="ends within element face"):
        read_ply_tables(tmp_path / "a.ply")
    with pytest.raises(ValueError, match="has no element splat"):
        read_ply_tables(tmp_path / "a.ply", last="splat")


def test_written_tables_come_back(tmp_path: Path) -> None:
    vertices = {"x": np.linspace(0, 1, 5), "red": np.arange(5, dtype=np.uint8)}
    triangles = np.array([[0, 1, 2], [4, 3, 2]])
    write_ply_tables(tmp_path / "a.ply", vertices, triangles)
    tables = read_ply_tables(tmp_path / "a.ply")
    assert tables["vertex"].columns["x"].tolist() == vertices["x"].astype(np.float32).tolist()
    assert tables["vertex"].columns["red"].dtype == np.uint8
    assert lists_of(tables["face"], "vertex_indices") == triangles.tolist()
    write_ply_tables(tmp_path / "b.ply", {"x": np.empty(0)}, np.empty((0, 3), np.int64))
    empty = read_ply_tables(tmp_path / "b.ply")
    assert empty["vertex"].columns["x"].shape == (0,)
    assert empty["face"].lists["vertex_indices"].counts.shape == (0,)


@pytest.mark.parametrize("kind", KINDS)
def test_every_cut_is_an_error_that_names_the_file(tmp_path: Path, kind: str) -> None:
    whole = file_bytes(kind)
    # The last number of a text may lose digits unseen.
    stop = len(whole) - (len(str(EDGES[0][0])) if kind == "ascii" else 0)
    for size in range(stop):
        (tmp_path / "a.ply").write_bytes(whole[:size])
        with pytest.raises(ValueError, match=r"a\.ply: "):
            read_ply_tables(tmp_path / "a.ply")


def test_random_bytes_never_give_anything_but_tables_or_one_line(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    messages = []
    for kind in KINDS:
        whole = np.frombuffer(file_bytes(kind), np.uint8)
        for _ in range(300):
            damaged = whole.copy()
            where = rng.integers(4, len(whole), 3)
            damaged[where] = rng.integers(0, 256, 3)
            (tmp_path / "a.ply").write_bytes(damaged.tobytes())
            try:
                read_ply_tables(tmp_path / "a.ply")
            except ValueError as error:
                messages.append(str(error))
    assert len(messages) > 300
    assert all(message.startswith(f"{tmp_path / 'a.ply'}: ") for message in messages)
    assert all(len(message.splitlines()) == 1 for message in messages)


def _signed(body: bytes) -> bytes:
    header = "ply\nformat binary_little_endian 1.0\nelement face 999999999\n"
    return (header + "property list int int a\nend_header\n").encode() + body


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (_signed(struct.pack("<2i", -1, 5)), "list of negative length in element face"),
        (_signed(struct.pack("<4i", 1, 5, -2, 0)), "list of negative length in element face"),
        (_signed(struct.pack("<i", 2**31 - 1)), "ends within element face"),
        (b"ply\nformat ascii 1.0\nelement v 99999999999\nend_header\n", "'v' no property"),
        (b"ply\nformat ascii 1.0\nelement v 1\nproperty int x\nend_header\ninf", "is no int32"),
        (b"ply\nformat ascii 1.0\nelement v 1\nproperty uchar x\nend_header\n256", "is no uint8"),
        (b"ply\nformat ascii 1.0\nelement v 1\nproperty int x\nend_header\nabc", "is no number"),
        (
            b"ply\nformat ascii 1.0\nelement v 2\nproperty list char int x\nend_header\n-1 0",
            "list of negative length in element v",
        ),
        (b"ply\nelement v " + b"9" * 9000 + b"\nend_header\n", "one line"),
    ],
)
def test_hostile_files_are_one_line_errors(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "a.ply").write_bytes(content)
    with pytest.raises(ValueError, match=r"a\.ply: ") as caught:
        read_ply_tables(tmp_path / "a.ply")
    assert message == "one line" or message in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize("write", [None, Path.mkdir])
def test_a_path_without_a_file_is_named(
    tmp_path: Path, write: Callable[[Path], None] | None
) -> None:
    path = tmp_path / "none.ply"
    if write is not None:
        write(path)
    with pytest.raises(FileNotFoundError, match=r"none\.ply does not exist"):
        read_ply_tables(path)
