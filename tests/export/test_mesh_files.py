from __future__ import annotations

import io
import json
import struct
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tolerances import assert_close
from vultus.export.glb import read_glb, write_glb
from vultus.export.mesh_files import MESH_SUFFIXES, read_mesh, write_mesh
from vultus.export.ply import read_ply
from vultus.geometry.meshes import TriangleMesh, vertex_normals


def mesh_with(*parts: str) -> TriangleMesh:
    generator = torch.Generator().manual_seed(0)
    vertices = torch.randn(7, 3, generator=generator)
    faces = torch.tensor([[0, 1, 2], [2, 1, 3], [4, 5, 6]])
    return TriangleMesh(
        vertices,
        faces,
        torch.randint(0, 256, (7, 3), generator=generator) / 255 if "colors" in parts else None,
        vertex_normals(vertices, faces) if "normals" in parts else None,
        torch.rand(8, 2, generator=generator) if "uv" in parts else None,
        torch.tensor([[0, 1, 2], [7, 1, 3], [4, 5, 6]]) if "uv" in parts else None,
    )


@pytest.mark.parametrize("parts", [(), ("colors",), ("normals",), ("colors", "normals")])
@pytest.mark.parametrize("suffix", MESH_SUFFIXES)
def test_a_mesh_comes_back_as_it_was_written(tmp_path: Path, suffix: str, parts) -> None:
    mesh = mesh_with(*parts)
    write_mesh(tmp_path / f"mesh{suffix}", mesh)
    back = read_mesh(tmp_path / f"mesh{suffix}")
    assert torch.equal(back.vertices, mesh.vertices)
    assert torch.equal(back.faces, mesh.faces)
    for name in ("colors", "normals"):
        expected, actual = getattr(mesh, name), getattr(back, name)
        assert (actual is None) == (expected is None)
        if expected is not None:
            assert_close(actual, expected)


@pytest.mark.parametrize("suffix", [".obj", ".glb"])
def test_texture_coordinates_come_back_at_every_corner(tmp_path: Path, suffix: str) -> None:
    mesh = mesh_with("uv", "colors", "normals")
    write_mesh(tmp_path / f"mesh{suffix}", mesh)
    back = read_mesh(tmp_path / f"mesh{suffix}")
    assert mesh.uv is not None
    assert back.uv is not None
    assert_close(back.uv[back.uv_faces], mesh.uv[mesh.uv_faces])
    assert_close(back.vertices[back.faces], mesh.vertices[mesh.faces])
    if suffix == ".glb":
        assert len(back.vertices) == 8  # vertex 2 lies on a seam


def test_a_mesh_without_faces_can_be_written(tmp_path: Path) -> None:
    cloud = TriangleMesh(torch.rand(4, 3), torch.zeros(0, 3).long(), torch.ones(4, 3))
    for suffix in MESH_SUFFIXES:
        write_mesh(tmp_path / f"cloud{suffix}", cloud)
        assert read_mesh(tmp_path / f"cloud{suffix}").faces.shape == (0, 3)


def glb_parts(path: Path) -> tuple[dict, bytes]:
    """Split a GLB by the letter of the specification, not with the reader under test."""
    data = path.read_bytes()
    assert struct.unpack("<4sII", data[:12]) == (b"glTF", 2, len(data))
    length, kind = struct.unpack("<I4s", data[12:20])
    assert (kind, length % 4) == (b"JSON", 0)
    binary_length, kind = struct.unpack("<I4s", data[20 + length : 28 + length])
    assert (kind, binary_length % 4) == (b"BIN\0", 0)
    assert 28 + length + binary_length == len(data)
    return json.loads(data[20 : 20 + length]), data[28 + length :]


def test_glb_follows_the_specification(tmp_path: Path) -> None:
    mesh = mesh_with("uv", "colors")
    texture = torch.zeros(3, 4, 6)
    texture[0, 0, 0] = 1.0
    write_glb(tmp_path / "mesh.glb", mesh, texture)
    document, blob = glb_parts(tmp_path / "mesh.glb")
    attributes = document["meshes"][0]["primitives"][0]["attributes"]
    position = document["accessors"][attributes["POSITION"]]
    assert position["min"] == pytest.approx(mesh.vertices.min(0).values.tolist())
    assert position["max"] == pytest.approx(mesh.vertices.max(0).values.tolist())
    # Colors are linear in glTF: the darkest channel shows it best.
    view = document["bufferViews"][document["accessors"][attributes["COLOR_0"]]["bufferView"]]
    stored = np.frombuffer(blob, "<f4", 24, view["byteOffset"]).reshape(8, 3)
    assert mesh.colors is not None
    first = mesh.colors[0].double()
    linear = torch.where(first <= 0.04045, first / 12.92, ((first + 0.055) / 1.055) ** 2.4)
    assert stored[0] == pytest.approx(linear.numpy(), abs=1e-6)
    view = document["bufferViews"][document["images"][0]["bufferView"]]
    png = blob[view["byteOffset"] : view["byteOffset"] + view["byteLength"]]
    pixels = np.asarray(Image.open(io.BytesIO(png)))
    assert pixels.shape == (4, 6, 3)
    assert pixels[0, 0].tolist() == [255, 0, 0]
    with pytest.raises(ValueError, match="must have uv"):
        write_glb(tmp_path / "mesh.glb", mesh_with(), texture)


TEXT_PLY = """ply
format ascii 1.0
comment made by hand
element vertex 4
property double x
property double y
property double z
property uchar red
property uchar green
property uchar blue
element face 1
property list uchar int vertex_index
end_header
0 0 0 255 0 0
1 0 0 0 255 0
1 1 0 0 0 255
0 1 0 51 51 51
4 0 1 2 3
"""


def test_a_text_ply_with_polygons_is_read_as_fans(tmp_path: Path) -> None:
    (tmp_path / "quad.ply").write_text(TEXT_PLY)
    mesh = read_ply(tmp_path / "quad.ply")
    assert mesh.faces.tolist() == [[0, 1, 2], [0, 2, 3]]
    assert mesh.vertices[2].tolist() == [1, 1, 0]
    assert mesh.colors is not None
    assert_close(mesh.colors[3], torch.full((3,), 0.2))


@pytest.mark.parametrize(
    ("wrong", "right", "message"),
    [
        ("4 0 1 2 3", "4 0 1 2 4", r"faces must lie in \[0, 4\)"),
        ("4 0 1 2 3", "4 0 1 2 -1", r"faces must lie in \[0, 4\)"),
        ("uchar int vertex", "uchar float vertex", "vertex indices must be whole numbers"),
        ("property double z", "property double w", "must have an element vertex with x, y, z"),
    ],
)
def test_a_ply_that_is_no_mesh_is_refused(
    tmp_path: Path, wrong: str, right: str, message: str
) -> None:
    (tmp_path / "bad.ply").write_text(TEXT_PLY.replace(wrong, right))
    with pytest.raises(ValueError, match=message) as caught:
        read_ply(tmp_path / "bad.ply")
    assert str(caught.value).startswith(str(tmp_path / "bad.ply"))


@pytest.mark.parametrize("order", ["little", "big"])
def test_a_binary_ply_with_polygons_and_other_data_is_read(tmp_path: Path, order: str) -> None:
    sign = "<" if order == "little" else ">"
    header = (
        f"ply\nformat binary_{order}_endian 1.0\nelement vertex 4\nproperty float x\n"
        "property float y\nproperty float z\nproperty short quality\nelement face 2\n"
        "property list uchar uint vertex_indices\nproperty uchar flags\nend_header\n"
    ).encode()
    points = [(0, 0, 0, 1), (1, 0, 0, 2), (1, 1, 0, 3), (0, 1, 0, 4)]
    body = b"".join(struct.pack(f"{sign}fffh", *point) for point in points)
    body += struct.pack(f"{sign}B4IB", 4, 0, 1, 2, 3, 9) + struct.pack(f"{sign}B3IB", 3, 3, 2, 1, 9)
    (tmp_path / "mixed.ply").write_bytes(header + body)
    mesh = read_ply(tmp_path / "mixed.ply")
    assert mesh.faces.tolist() == [[0, 1, 2], [0, 2, 3], [3, 2, 1]]
    assert mesh.vertices.tolist() == [[0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0]]


def test_an_obj_with_polygons_groups_and_negative_indices_is_read(tmp_path: Path) -> None:
    lines = "o head\nv 0 0 0\nv 1 0 0\nv 1 1 0\nv 0 1 0\n# quad\nusemtl skin\nf -4//1 2 3/ -1\n"
    (tmp_path / "quad.obj").write_text(lines)
    mesh = read_mesh(tmp_path / "quad.obj")
    assert mesh.faces.tolist() == [[0, 1, 2], [0, 2, 3]]
    assert mesh.uv is None
    assert mesh.normals is None


@pytest.mark.parametrize("suffix", MESH_SUFFIXES)
@pytest.mark.parametrize("content", [b"", b"\x00\xff garbage \n" * 40, b"ply\n", b"glTF\x02"])
def test_garbage_gives_one_line_that_names_the_file(
    tmp_path: Path, suffix: str, content: bytes
) -> None:
    path = tmp_path / f"bad{suffix}"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=f"bad{suffix}") as caught:
        read_mesh(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("suffix", MESH_SUFFIXES)
def test_vertices_that_are_not_finite_are_refused(tmp_path: Path, suffix: str) -> None:
    mesh = mesh_with()
    mesh.vertices[1, 2] = torch.nan
    write_mesh(tmp_path / f"mesh{suffix}", mesh)
    with pytest.raises(ValueError, match=rf"mesh{suffix}: vertices must be finite"):
        read_mesh(tmp_path / f"mesh{suffix}")


@pytest.mark.parametrize("suffix", MESH_SUFFIXES)
def test_every_truncated_file_is_rejected_or_smaller(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"mesh{suffix}"
    write_mesh(path, mesh_with("colors", "normals"))
    whole = path.read_bytes()
    for size in range(0, len(whole) - 2, 7):
        path.write_bytes(whole[:size])
        if suffix == ".obj":  # a text without an end: its head may be a smaller mesh
            continue
        with pytest.raises(ValueError, match=path.name):
            read_mesh(path)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("f 1 2 9", r"faces must lie in \[0, 3\)"),
        ("f 0 1 2", "indices start at 1"),
        ("f 1 two 3", "bad.obj:4"),
        ("v 1 2", "3 numbers"),
    ],
)
def test_wrong_lines_of_an_obj_are_named(tmp_path: Path, line: str, message: str) -> None:
    (tmp_path / "bad.obj").write_text(f"v 0 0 0\nv 1 0 0\nv 0 1 0\n{line}\n")
    with pytest.raises(ValueError, match=message):
        read_mesh(tmp_path / "bad.obj")


def write_glb_parts(path: Path, text: bytes, blob: bytes) -> None:
    text += b" " * (-len(text) % 4)
    data = struct.pack("<4sIII4s", b"glTF", 2, 28 + len(text) + len(blob), len(text), b"JSON")
    path.write_bytes(data + text + struct.pack("<I4s", len(blob), b"BIN\0") + blob)


@pytest.mark.parametrize(
    ("keys", "value", "message"),
    [
        (("nodes", 0, "translation"), [0, 1, 0], "nodes with a transform are not supported"),
        (("nodes",), 7, "not iterable"),
        (("meshes",), [], "it holds no mesh"),
        (("meshes", 0, "primitives", 0, "mode"), 5, "only uncompressed triangles"),
        (("meshes", 0, "primitives", 0, "attributes"), {"NORMAL": 0}, "'POSITION' is missing"),
        (("meshes", 0, "primitives", 0, "attributes", "POSITION"), -1, "index must be a whole"),
        (("meshes", 0, "primitives", 0, "attributes", "POSITION"), 99, "out of range"),
        (("meshes", 0, "primitives", 0, "indices"), 0, "21 indices of type float32"),
        (("accessors", 0, "count"), 2**62, "the binary chunk ends early"),
        (("accessors", 0, "count"), -1, "count must be a whole number from 0 on, got -1"),
        (("accessors", 0, "count"), 6, "attributes must be of one length"),
        (("accessors", 0, "type"), "VEC2", "POSITION has 2 numbers a vertex"),
        (("accessors", 0, "type"), "MAT9", "'MAT9' is missing"),
        (("accessors", 0, "byteOffset"), -4, "byteOffset must be a whole number from 0 on"),
        (("accessors", 2, "count"), 8, "8 indices of type uint32 make no triangles"),
        (("bufferViews", 0, "byteStride"), 0, "byteStride must be a whole number from 12 on"),
        (("bufferViews", 0), "view", "no attribute 'get'"),
        (("bufferViews",), None, "not subscriptable"),
    ],
)
def test_glb_tables_that_cannot_be_used_are_named(
    tmp_path: Path, keys: tuple[str | int, ...], value: object, message: str
) -> None:
    path = tmp_path / "mesh.glb"
    write_glb(path, mesh_with("normals"))
    document, blob = glb_parts(path)
    inner = document
    for key in keys[:-1]:
        inner = inner[key]
    inner[keys[-1]] = value
    write_glb_parts(path, json.dumps(document).encode(), blob)
    with pytest.raises(ValueError, match=rf"mesh\.glb: not a GLB .*{message}"):
        read_glb(path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"{", "the first chunk:1: not JSON"),
        (b"[1]", "the first chunk must be an object, got list"),
        (b"\xff\xff", "the first chunk: not JSON"),
        (b"[" * 100_000, "nested too deeply"),
        (b'{"nodes": [' + b"9" * 400 + b"]}", "whole numbers must fit 64 bits"),
    ],
)
def test_a_glb_of_other_tables_is_refused(tmp_path: Path, text: bytes, message: str) -> None:
    write_glb_parts(tmp_path / "mesh.glb", text, b"")
    with pytest.raises(ValueError, match=rf"mesh\.glb: not a GLB .*{message}") as caught:
        read_glb(tmp_path / "mesh.glb")
    assert "\n" not in str(caught.value)


def test_unknown_suffixes_and_missing_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"mesh\.stl: a mesh file must end in \.ply, \.obj, \.glb"):
        write_mesh(tmp_path / "mesh.stl", mesh_with())
    with pytest.raises(FileNotFoundError, match=r"none\.ply"):
        read_mesh(tmp_path / "none.ply")
