"""PNG and JPEG files: exact bytes, known modes, damage refused."""

from __future__ import annotations

import struct
import tomllib
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from packaging.requirements import Requirement
from PIL import Image
from torch import Tensor

import vultus
from vultus.core.image_io import (
    decode_image,
    image_size,
    read_image,
    read_image_bytes,
    read_mask,
    read_radiance,
    read_rgba,
    to_bytes,
    write_image,
    write_radiance,
)


def _bytes(channels: int, height: int = 5, width: int = 7) -> Tensor:
    generator = torch.Generator().manual_seed(channels)
    return torch.randint(0, 256, (channels, height, width), generator=generator).to(torch.uint8)


def test_png_bytes_come_back_exactly(tmp_path: Path) -> None:
    write_image(tmp_path / "a.png", _bytes(3))
    assert torch.equal(read_image_bytes(tmp_path / "a.png"), _bytes(3))
    torch.testing.assert_close(read_image(tmp_path / "a.png") * 255, _bytes(3).float())


def test_every_byte_survives_a_trip_through_floats() -> None:
    values = torch.arange(256)
    assert torch.equal(to_bytes((values / 255)[None, None])[0, 0], values.to(torch.uint8))


def test_floats_are_rounded_to_nearest_and_clamped() -> None:
    values = torch.tensor([-1.0, 0.49 / 255, 0.51 / 255, 254.6 / 255, 2.0, float("nan")])
    assert to_bytes(values[None, None])[0, 0].tolist() == [0, 0, 1, 255, 255, 0]


def test_alpha_is_kept_dropped_or_one_as_asked(tmp_path: Path) -> None:
    write_image(tmp_path / "a.png", _bytes(4))
    write_image(tmp_path / "b.png", _bytes(3))
    assert torch.equal(to_bytes(read_rgba(tmp_path / "a.png")), _bytes(4))
    assert torch.equal(to_bytes(read_image(tmp_path / "a.png")), _bytes(4)[:3])
    assert bool((read_rgba(tmp_path / "b.png")[3] == 1).all())


def test_grey_files_are_masks_and_repeat_as_colour(tmp_path: Path) -> None:
    write_image(tmp_path / "a.png", _bytes(1))
    assert torch.equal(to_bytes(read_mask(tmp_path / "a.png")), _bytes(1))
    assert torch.equal(read_image_bytes(tmp_path / "a.png"), _bytes(1).expand(3, -1, -1))


def test_a_mask_repeated_in_three_channels_is_accepted_and_a_photo_is_not(tmp_path: Path) -> None:
    write_image(tmp_path / "a.png", _bytes(1).expand(3, -1, -1))
    write_image(tmp_path / "b.png", _bytes(3))
    assert torch.equal(to_bytes(read_mask(tmp_path / "a.png")), _bytes(1))
    with pytest.raises(ValueError, match=r"b\.png: a mask must be grey"):
        read_mask(tmp_path / "b.png")


def test_sixteen_bit_masks_keep_their_precision(tmp_path: Path) -> None:
    values = np.array([[0, 1, 300, 65535]], np.uint16)
    Image.fromarray(values).save(tmp_path / "a.png")
    expected = torch.from_numpy(values.astype(np.float32) / 65535)[None]
    torch.testing.assert_close(read_mask(tmp_path / "a.png"), expected, rtol=0, atol=1e-9)
    with pytest.raises(ValueError, match=r"a\.png: must have 8 bits"):
        read_image_bytes(tmp_path / "a.png")


def _deep_png(pixels: np.ndarray, color_type: int, extra: bytes = b"") -> bytes:
    """A PNG of 16 bits a channel, by its specification: rows of big-endian numbers, unfiltered."""
    height, width = pixels.shape[:2]
    header = struct.pack(">IIBBBBB", width, height, 16, color_type, 0, 0, 0)
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in pixels)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    if extra:
        chunks.insert(1, (b"tRNS", extra))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in chunks
    )


def _deep_pixels(channels: int) -> np.ndarray:
    values = np.random.default_rng(channels).integers(0, 1 << 16, (5, 7, channels), dtype=np.uint16)
    values[0, 0], values[0, 1] = 1, 0x1FF  # lost, or far off, if bytes are left out or exchanged
    return values


@pytest.mark.parametrize(("channels", "color_type"), [(3, 2), (4, 6)])
def test_sixteen_bit_colours_keep_their_precision(
    tmp_path: Path, channels: int, color_type: int
) -> None:
    pixels, path = _deep_pixels(channels), tmp_path / "a.png"
    path.write_bytes(_deep_png(pixels, color_type))
    expected = torch.from_numpy(pixels.astype(np.float32) / 65535).permute(2, 0, 1)
    torch.testing.assert_close(read_image(path), expected[:3], rtol=0, atol=1e-9)
    torch.testing.assert_close(read_rgba(path)[:channels], expected, rtol=0, atol=1e-9)
    for read in (read_image_bytes, lambda path: decode_image(path.read_bytes(), str(path))):
        with pytest.raises(ValueError, match=r"a\.png: must have 8 bits a channel, got uint16"):
            read(path)


@pytest.mark.parametrize(("channels", "color_type", "key"), [(2, 4, b""), (3, 2, bytes(6))])
def test_transparency_that_cannot_be_read_in_sixteen_bits_is_refused(
    tmp_path: Path, channels: int, color_type: int, key: bytes
) -> None:
    (tmp_path / "a.png").write_bytes(_deep_png(_deep_pixels(channels), color_type, key))
    with pytest.raises(ValueError, match=r"a\.png: .*of 16 bits a channel, only RGBA may be"):
        read_rgba(tmp_path / "a.png")


def test_palettes_and_bitmaps_are_expanded(tmp_path: Path) -> None:
    colors = np.zeros((4, 4, 3), np.uint8)
    colors[:2] = (255, 0, 0)
    Image.fromarray(colors).convert("P", palette=Image.Palette.ADAPTIVE).save(tmp_path / "p.png")
    Image.fromarray(colors[..., 0] > 0).save(tmp_path / "b.png")
    assert torch.equal(read_image_bytes(tmp_path / "p.png").permute(1, 2, 0), torch.tensor(colors))
    assert torch.equal(read_mask(tmp_path / "b.png")[0], torch.tensor(colors[..., 0] / 255).float())


def test_the_orientation_of_a_phone_photo_is_applied(tmp_path: Path) -> None:
    upright = np.zeros((16, 32, 3), np.uint8)
    upright[:, 16:] = 255
    exif = Image.Exif()
    exif[0x0112] = 6  # stored turned: rotate by 90 degrees clockwise to view
    stored = Image.fromarray(np.ascontiguousarray(np.rot90(upright)))
    stored.save(tmp_path / "a.jpg", exif=exif, quality=95)
    image = read_image(tmp_path / "a.jpg")
    assert image.shape == (3, 16, 32)
    assert image_size(tmp_path / "a.jpg") == (32, 16)
    assert float(image[:, :, :14].max()) < 0.1
    assert float(image[:, :, 18:].min()) > 0.9


def test_jpeg_keeps_colours_of_single_pixels(tmp_path: Path) -> None:
    image = torch.zeros(3, 8, 8)
    image[0, :, ::2] = 1  # red columns bleed when colour is subsampled
    write_image(tmp_path / "a.jpg", image, quality=100)
    assert float((read_image(tmp_path / "a.jpg") - image).abs().max()) < 0.03


@pytest.mark.parametrize(
    ("name", "channels", "message"),
    [
        ("a.gif", 3, r"a\.gif: suffix must be one of \.png, \.jpg, \.jpeg"),
        ("a.jpg", 4, r"a\.jpg: a JPEG file cannot have 4 channels"),
        ("a.png", 2, r"a\.png: a PNG file cannot have 2 channels"),
    ],
)
def test_what_a_format_cannot_hold_is_refused(
    name: str, channels: int, message: str, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=message):
        write_image(tmp_path / name, _bytes(channels))


@pytest.mark.parametrize("suffix", [".png", ".jpg"])
def test_truncations_are_refused_with_the_file_name(suffix: str, tmp_path: Path) -> None:
    whole, cut = tmp_path / f"whole{suffix}", tmp_path / f"cut{suffix}"
    write_image(whole, _bytes(3, 24, 24))
    data = whole.read_bytes()
    for length in range(0, len(data) - 40, 7):
        cut.write_bytes(data[:length])
        with pytest.raises(ValueError, match=r"cut\.\w+: not a readable PNG or JPEG") as caught:
            read_image(cut)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("suffix", [".png", ".jpg"])
def test_damaged_files_are_read_or_refused_but_nothing_else(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"a{suffix}"
    write_image(path, _bytes(3, 24, 24))
    data = path.read_bytes()
    generator = np.random.default_rng(0)
    refused = 0
    for _ in range(150):
        copy = bytearray(data)
        for position in generator.integers(0, len(data), 4):
            copy[position] = generator.integers(0, 256)
        path.write_bytes(copy)
        for read in (read_image, image_size):
            try:
                read(path)
            except ValueError as error:
                refused += 1
                message = str(error)
                assert message.startswith(f"{path}: not a readable")
                assert "\n" not in message
    assert refused > 0


def test_a_header_that_claims_a_gigantic_picture_is_refused(tmp_path: Path) -> None:
    import struct
    import zlib

    def chunk(kind: bytes, body: bytes) -> bytes:
        return (
            struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        )

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 100_000, 100_000, 8, 2, 0, 0, 0))
    body = chunk(b"IDAT", zlib.compress(b"\0" * 1000)) + chunk(b"IEND", b"")
    (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n" + header + body)
    with pytest.raises(ValueError, match=r"a\.png: not a readable PNG or JPEG: .*exceeds limit"):
        read_image(tmp_path / "a.png")


def test_missing_files_are_named(tmp_path: Path) -> None:
    for read in (read_image, read_mask, read_rgba, read_image_bytes, image_size):
        with pytest.raises(FileNotFoundError, match=r"a\.png does not exist"):
            read(tmp_path / "a.png")
    with pytest.raises(FileNotFoundError, match=r"a\.exr does not exist"):
        read_radiance(tmp_path / "a.exr")


@pytest.mark.parametrize("suffix", [".exr", ".hdr"])
def test_radiance_goes_through_both_formats(suffix: str, tmp_path: Path) -> None:
    radiance = torch.rand(3, 4, 10, generator=torch.Generator().manual_seed(0)) * 30
    write_radiance(tmp_path / f"a{suffix}", radiance)
    read = read_radiance(tmp_path / f"a{suffix}")
    assert float((read - radiance).abs().max()) < 30 / 256


def test_other_radiance_formats_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.tif").write_bytes(b"")
    with pytest.raises(ValueError, match=r"a\.tif: suffix must be \.exr or \.hdr"):
        read_radiance(tmp_path / "a.tif")
    with pytest.raises(ValueError, match=r"a\.tif: suffix must be \.exr or \.hdr"):
        write_radiance(tmp_path / "a.tif", torch.zeros(3, 1, 1))


def test_releases_of_pillow_that_cannot_tell_transparency_are_not_installed() -> None:
    project = Path(vultus.__file__).parents[2] / "pyproject.toml"
    if not project.is_file():
        pytest.skip("the package was not installed from a checkout")
    needed = tomllib.loads(project.read_text())["project"]["dependencies"]
    [pillow] = [r for r in map(Requirement, needed) if r.name == "pillow"]
    # Image.has_transparency_data came with 10.1.
    assert "10.0.1" not in pillow.specifier
    assert "10.1.0" in pillow.specifier
