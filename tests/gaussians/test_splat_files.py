from __future__ import annotations

import math
import struct
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
import torch

from vultus.gaussians.splat_files import (
    Splats,
    read_splats,
    splats_to_surfels,
    surfels_to_splats,
    write_splats,
)

NUM = 7


def splats(num_scales: int = 2, num_rest: int = 15, *, is_bound: bool = True) -> Splats:
    generator = torch.Generator().manual_seed(0)

    def random(*shape: int) -> torch.Tensor:
        return torch.randn(NUM, *shape, generator=generator)

    return Splats(
        means=random(3),
        log_scales=random(num_scales),
        quats=random(4),
        opacity_logits=random(),
        sh_dc=random(1, 3),
        sh_rest=random(num_rest, 3),
        blend_weight_logits=random(4) if is_bound else None,
        specular_features=random(24) if is_bound else None,
        face_index=torch.tensor([5, 0, 10143, 2, 2, 9, 1]) if is_bound else None,
    )


def assert_equal(a: Splats, b: Splats) -> None:
    for field in fields(Splats):
        mine, theirs = getattr(a, field.name), getattr(b, field.name)
        assert (mine is None) == (theirs is None), field.name
        assert mine is None or (mine.shape == theirs.shape and torch.equal(mine, theirs)), (
            field.name
        )


def header_of(path: Path) -> list[str]:
    return path.read_bytes().split(b"end_header")[0].decode().splitlines()


def write_text(path: Path, header: list[str], body: bytes = b"", *, end: str = "\n") -> Path:
    path.write_bytes((end.join(["ply", *header, "end_header"]) + end).encode() + body)
    return path


@pytest.mark.parametrize("num_scales", [2, 3])
@pytest.mark.parametrize("num_rest", [0, 3, 8, 15])
@pytest.mark.parametrize("is_bound", [True, False])
def test_written_files_come_back_exactly(
    tmp_path: Path, num_scales: int, num_rest: int, is_bound: bool
) -> None:
    original = splats(num_scales, num_rest, is_bound=is_bound)
    write_splats(tmp_path / "a.ply", original)
    assert_equal(read_splats(tmp_path / "a.ply"), original)


def test_properties_have_the_order_of_the_published_writer(tmp_path: Path) -> None:
    write_splats(tmp_path / "a.ply", splats())
    lines = header_of(tmp_path / "a.ply")
    assert lines[:3] == ["ply", "format binary_little_endian 1.0", f"element vertex {NUM}"]
    names = [line.removeprefix("property float ") for line in lines[3:]]
    expected = ["x", "y", "z", "nx", "ny", "nz"]
    for prefix, count in (("blend_weight", 4), ("f_dc", 3), ("f_rest", 45)):
        expected += [f"{prefix}_{i}" for i in range(count)]
    expected += ["opacity", "scale_0", "scale_1", "rot_0", "rot_1", "rot_2", "rot_3"]
    expected += [*(f"f_sg_{i}" for i in range(24)), "binding_0"]
    assert names == expected
    assert len(names) == 90  # as published: 360 bytes per surfel


def test_higher_coefficients_are_stored_channel_by_channel(tmp_path: Path) -> None:
    original = splats(is_bound=False)
    write_splats(tmp_path / "a.ply", original)
    names = [line.split()[-1] for line in header_of(tmp_path / "a.ply")[3:]]
    body = (tmp_path / "a.ply").read_bytes().split(b"end_header\n", 1)[1]
    rows = np.frombuffer(body, "<f4").reshape(NUM, -1)
    for channel, coefficient in ((0, 0), (1, 4), (2, 14)):
        column = rows[:, names.index(f"f_rest_{channel * 15 + coefficient}")]
        assert column.tolist() == original.sh_rest[:, coefficient, channel].tolist()


@pytest.mark.parametrize(("order", "mark"), [("little", "<"), ("big", ">")])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_properties_may_come_in_any_order_type_and_byte_order(
    tmp_path: Path, order: str, mark: str, end: str
) -> None:
    original = splats(is_bound=False, num_rest=3)
    write_splats(tmp_path / "a.ply", original)
    names = [line.split()[-1] for line in header_of(tmp_path / "a.ply")[3:]]
    body = (tmp_path / "a.ply").read_bytes().split(b"end_header\n", 1)[1]
    table = np.frombuffer(body, "<f4").reshape(NUM, -1)
    shuffled = np.random.default_rng(0).permutation(len(names))
    types = [("double", "f8") if i % 3 == 0 else ("float", "f4") for i in shuffled]
    dtype = np.dtype([(names[i], mark + t[1]) for i, t in zip(shuffled, types, strict=True)])
    rows = np.zeros(NUM, dtype)
    for i in shuffled:
        rows[names[i]] = table[:, i]
    header = [
        f"format binary_{order}_endian 1.0",
        "comment made by hand",
        "element extra 2",
        "property uchar a",
        "property short b",
        f"element vertex {NUM}",
        *(f"property {t[0]} {names[i]}" for i, t in zip(shuffled, types, strict=True)),
        "element face 1",
        "property list uchar int vertex_indices",
    ]
    path = write_text(tmp_path / "b.ply", header, bytes(6) + rows.tobytes() + bytes(13), end=end)
    assert_equal(read_splats(path), original)


def test_real_file_of_a_splat_viewer_loads(data_dir: Path) -> None:
    found = read_splats(data_dir / "lam_avatar" / "head_20k_sh0.ply")
    assert len(found) == 20_018
    assert found.sh_rest.shape == (20_018, 0, 3)
    assert found.log_scales.shape == (20_018, 3)
    assert found.face_index is None
    torch.testing.assert_close(found.quats.norm(dim=1), torch.ones(20_018), rtol=1e-3, atol=0.0)
    opaque = (found.opacity_logits.sigmoid() > 0.5).float().mean()
    assert float(opaque) == pytest.approx(0.19, abs=0.01)
    assert float(found.means.abs().max()) < 0.5


def test_infinite_logits_are_clamped(tmp_path: Path) -> None:
    original = splats()
    assert original.blend_weight_logits is not None
    original.blend_weight_logits[0] = torch.tensor([torch.inf, -torch.inf, -torch.inf, 1.0])
    write_splats(tmp_path / "a.ply", original)
    found = read_splats(tmp_path / "a.ply").blend_weight_logits
    assert found is not None
    assert found[0].tolist() == [20.0, -20.0, -20.0, 1.0]


def test_surfels_and_splats_convert_into_each_other() -> None:
    original = splats()
    surfels = splats_to_surfels(original)
    assert surfels.local_means is original.means
    assert_equal(surfels_to_splats(surfels), original)


def test_splats_that_are_no_surfels_are_rejected() -> None:
    with pytest.raises(ValueError, match="binding_0 is missing"):
        splats_to_surfels(splats(is_bound=False))
    with pytest.raises(ValueError, match="surfels have 2 scales, got 3"):
        splats_to_surfels(splats(num_scales=3))


def test_values_that_cannot_be_meant_are_rejected(tmp_path: Path) -> None:
    path = tmp_path / "a.ply"
    original = splats()
    broken = original.means.clone()
    broken[2, 1] = torch.nan
    write_splats(path, replace(original, means=broken))
    with pytest.raises(ValueError, match=r"a\.ply: property 'y' must be finite everywhere"):
        read_splats(path)
    write_splats(path, original)
    data = path.read_bytes()
    for index in (-4.0, 0.5, 2.0**31, 1e30, math.inf, math.nan):
        path.write_bytes(data[:-4] + struct.pack("<f", index))  # the last number of the last row
        with pytest.raises(ValueError, match=r"a\.ply: property 'binding_0' must hold whole face"):
            read_splats(path)


def test_signalling_nan_and_numbers_beyond_float32_are_rejected(tmp_path: Path) -> None:
    path = tmp_path / "a.ply"
    for kind, bits in (("float", b"\x01\x00\x80\x7f"), ("double", struct.pack("<d", 1e300))):
        write_splats(path, splats())
        header, end, body = path.read_bytes().partition(b"end_header\n")
        header = header.replace(f"vertex {NUM}".encode(), b"vertex 1")
        header = header.replace(b"property float x", f"property {kind} x".encode())
        path.write_bytes(header + end + bits + body[4:])
        with pytest.raises(ValueError, match=r"a\.ply: property 'x' must be finite everywhere"):
            read_splats(path)


BASE = ["x", "y", "z", "f_dc_0", "f_dc_1", "f_dc_2", "opacity", "scale_0", "scale_1", "rot_0"]
BASE += ["rot_1", "rot_2", "rot_3"]


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (BASE[1:], "splats lack the property 'x'"),
        ([*BASE, "f_rest_0"], r"must have 0, 9, 24, 45, 72 properties f_rest_\*, got 1"),
        ([n for n in BASE if n != "scale_1"], "must have 2 or 3 scales, got 1"),
        ([*BASE, "blend_weight_0"], "must have 0 or 4 blend weights, got 1"),
        ([*BASE[:-1], "rot_4"], "splats lack the property 'rot_3'"),
    ],
)
def test_missing_properties_are_named(tmp_path: Path, names: list[str], message: str) -> None:
    header = ["format binary_little_endian 1.0", "element vertex 1"]
    header += [f"property float {name}" for name in names]
    path = write_text(
        tmp_path / "a.ply", header, struct.pack(f"<{len(names)}f", *[0.5] * len(names))
    )
    with pytest.raises(ValueError, match=message):
        read_splats(path)


VERTEX = ["format binary_little_endian 1.0", "element vertex 3", "property float x"]


@pytest.mark.parametrize(
    ("header", "message"),
    [
        (["element vertex 1", "property float x"], "no format line"),
        (["format zip 1.0", "element vertex 1"], "format must be one of binary_little_endian, b"),
        (VERTEX[:1], "no element vertex"),
        (VERTEX, "must have 12 bytes for 3 rows of vertex, got 0"),
        (
            [VERTEX[0], "element vertex 99999999999999", VERTEX[2]],
            "must have 399999999999996 bytes",
        ),
        ([VERTEX[0], "element vertex -3"], "element count that is no number: '-3'"),
        ([*VERTEX, "property float x"], "names property 'x' twice"),
        ([*VERTEX, "property list uchar int ids"], "ends within element vertex"),
        ([*VERTEX, "property list float int ids"], "a line that cannot be read: 'property list"),
        (VERTEX[:2], "gives the element 'vertex' no property"),
        ([*VERTEX, "element vertex 3"], "names element 'vertex' twice"),
        ([*VERTEX, "property quaternion q"], "a line that cannot be read: 'property quaternion q'"),
        (["property float x"], "a line that cannot be read"),
    ],
)
def test_headers_that_cannot_be_read_are_one_line_errors(
    tmp_path: Path, header: list[str], message: str
) -> None:
    path = write_text(tmp_path / "a.ply", header)
    with pytest.raises(ValueError, match=message) as caught:
        read_splats(path)
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)


def test_garbage_and_cut_files_are_errors(tmp_path: Path) -> None:
    path = tmp_path / "a.ply"
    write_splats(path, splats())
    good = path.read_bytes()
    rng = np.random.default_rng(0)
    for data in (b"", b"ply", b"ply\n", rng.bytes(5000), good[:-1], good[:200], b"\x1f\x8b" + good):
        path.write_bytes(data)
        with pytest.raises(ValueError, match=r"a\.ply"):
            read_splats(path)


def test_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"nothing\.ply does not exist"):
        read_splats(tmp_path / "nothing.ply")
