"""Radiance ``.hdr`` pictures: three 8-bit mantissas that share an exponent, run-length coded.

Reference: Greg Ward, "Real Pixels", Graphics Gems II, 1991, and the Radiance file format document.
A channel is mantissa * 2^(exponent - 136). The half step that Radiance itself adds when it decodes
is left out, as most readers do; the writer rounds to nearest, so that a round trip is unbiased.
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from vultus.core.files import write_bytes

__all__ = ["read_hdr", "write_hdr"]

_BIAS = 136  # 128 of the exponent plus the 8 bits of the mantissa
_SIZE_LINE = re.compile(rb"([+-])Y (\d{1,6}) ([+-])X (\d{1,6})")
_CODED_WIDTHS = range(8, 32768)  # other widths cannot carry the scanline marker
_MAX_PIXELS = 2**27
_ROWS = 256
"""Decoded at once, in double precision."""
_LARGEST = 1.6e38  # just below 255 * 2^(255 - 136)
_MIN_RUN = 4  # a shorter run costs as much as literals


def read_hdr(path: Path) -> Float[Tensor, "3 h w"]:
    """Read linear RGB radiance; ``EXPOSURE`` lines of the header are undone.

    Raises:
        ValueError: If the file is not a complete RGBE picture; names the file.
    """
    data = path.read_bytes()
    try:
        rgbe, exposure = _parse(data)
    except (ValueError, IndexError) as error:
        reason = "it ends too early" if isinstance(error, IndexError) else str(error)
        raise ValueError(f"{path}: not a readable Radiance HDR file: {reason}") from error
    rgb = np.empty((*rgbe.shape[:2], 3), np.float32)
    for first in range(0, len(rgbe), _ROWS):
        rows = rgbe[first : first + _ROWS]
        exponent = rows[..., 3:].astype(np.int32)
        scale = np.where(exponent == 0, 0.0, np.ldexp(1.0 / exposure, exponent - _BIAS))
        rgb[first : first + _ROWS] = rows[..., :3] * scale
    return torch.from_numpy(rgb).permute(2, 0, 1).contiguous()


def write_hdr(path: Path, radiance: Float[Tensor, "3 h w"]) -> None:
    """Write linear RGB radiance atomically, run-length coded.

    The error is at most 1/256 of the pixel's largest channel; light below 1e-38 becomes black.

    Raises:
        ValueError: If a value is negative, not a number or beyond 1.6e38.
    """
    rgb = radiance.detach().cpu().double().permute(1, 2, 0).numpy()
    # NaN fails both comparisons.
    if not (rgb.min(initial=0.0) >= 0 and rgb.max(initial=0.0) <= _LARGEST):
        raise ValueError(f"{path}: HDR files hold values from 0 to {_LARGEST} only")
    rgbe = _to_rgbe(rgb)
    height, width = rgbe.shape[:2]
    header = f"#?RADIANCE\nFORMAT=32-bit_rle_rgbe\n\n-Y {height} +X {width}\n".encode()
    if width in _CODED_WIDTHS:
        body = b"".join(_encode_row(row) for row in rgbe)
    else:
        body = rgbe.tobytes()
    write_bytes(path, header + body)


def _to_rgbe(rgb: np.ndarray) -> np.ndarray:
    brightest = rgb.max(axis=-1)
    _, exponent = np.frexp(brightest)
    # Rounding 255.5 and more up to 256 needs the next exponent.
    exponent += np.rint(np.ldexp(brightest, 8 - exponent)) > 255
    mantissas = np.rint(np.ldexp(rgb, (8 - exponent)[..., None]))
    is_dark = (brightest == 0) | (exponent < -127)
    rgbe = np.zeros((*brightest.shape, 4), np.uint8)
    rgbe[..., :3] = np.where(is_dark[..., None], 0, mantissas)
    rgbe[..., 3] = np.where(is_dark, 0, exponent + 128)
    return rgbe


def _parse(data: bytes) -> tuple[np.ndarray, float]:
    """Return the RGBE bytes [h w 4] in reading order, and the product of the exposures."""
    if not data.startswith(b"#?"):
        raise ValueError("it does not start with #?")
    end = data.find(b"\n\n")
    if end < 0:
        raise ValueError("the header does not end")
    exposure = 1.0
    for line in data[:end].split(b"\n"):
        key, _, value = line.partition(b"=")
        if key == b"FORMAT" and value.strip() != b"32-bit_rle_rgbe":
            raise ValueError(f"format {value[:40].decode('latin1')!r} is not supported")
        if key == b"EXPOSURE":
            exposure *= float(value)
    if not 0 < exposure < float("inf"):
        raise ValueError(f"exposure must be positive, got {exposure}")
    stop = data.find(b"\n", end + 2)
    match = _SIZE_LINE.fullmatch(data[end + 2 : max(stop, 0)])
    if match is None:
        raise ValueError("the line with the size is not of the form -Y 32 +X 64")
    height, width = int(match[2]), int(match[4])
    # A run covers 127 pixels with two bytes: a picture larger than that is a false header.
    if not 0 < height * width <= min(_MAX_PIXELS, 64 * len(data)):
        raise ValueError(f"a size of {width} x {height} does not fit a file of {len(data)} bytes")
    rgbe = _decode_rows(data, stop + 1, height, width)
    rgbe = rgbe[::-1] if match[1] == b"+" else rgbe
    return (rgbe[:, ::-1] if match[3] == b"-" else rgbe), exposure


def _decode_rows(data: bytes, position: int, height: int, width: int) -> np.ndarray:
    rows = bytearray()
    marker = bytes([2, 2, width >> 8, width & 255])
    for _ in range(height):
        if width in _CODED_WIDTHS and data[position : position + 4] == marker:
            row, position = _decode_row(data, position + 4, width)
        else:
            row, position = _decode_flat_row(data, position, width)
        rows += row
    return np.frombuffer(bytes(rows), np.uint8).reshape(height, width, 4)


def _decode_row(data: bytes, position: int, width: int) -> tuple[bytes, int]:
    """Decode four planes of runs (count above 128) and literals."""
    planes = bytearray()
    for plane in range(1, 5):
        stop = plane * width
        while len(planes) < stop:
            count = data[position]
            if count > 128:
                planes += data[position + 1 : position + 2] * (count - 128)
                position += 2
            elif count > 0:
                planes += data[position + 1 : position + 1 + count]
                position += 1 + count
            else:
                raise ValueError("a run of length zero")
            if position > len(data):
                raise ValueError("it ends too early")
        if len(planes) > stop:
            raise ValueError("a run crosses the end of its row")
    row = np.frombuffer(bytes(planes), np.uint8).reshape(4, width).T
    return row.tobytes(), position


def _decode_flat_row(data: bytes, position: int, width: int) -> tuple[bytes, int]:
    """Decode whole pixels; (1, 1, 1, n) repeats the last one n times, shifted when consecutive."""
    row = bytearray()
    shift = 0
    while len(row) < 4 * width:
        pixel = data[position : position + 4]
        if len(pixel) < 4:
            raise ValueError("it ends too early")
        position += 4
        if pixel[:3] != b"\x01\x01\x01":
            row += pixel
            shift = 0
            continue
        if not row or shift > 24:
            raise ValueError("a repeat without a pixel before it")
        count = pixel[3] << shift
        if len(row) + 4 * count > 4 * width:
            raise ValueError("a run crosses the end of its row")
        row += row[-4:] * count
        shift += 8
    return bytes(row), position


def _encode_row(row: np.ndarray) -> bytes:
    width = row.shape[0]
    coded = bytearray([2, 2, width >> 8, width & 255])
    for channel in range(4):
        plane = row[:, channel].tobytes()
        starts = np.flatnonzero(np.diff(row[:, channel].astype(np.int16), prepend=-1))
        lengths = np.diff(starts, append=width)
        literal_start = 0
        for start, length in zip(starts.tolist(), lengths.tolist(), strict=True):
            if length < _MIN_RUN:
                continue
            _add_literals(coded, plane[literal_start:start])
            literal_start = start + length
            for left in range(length, 0, -127):
                coded += bytes([128 + min(left, 127), plane[start]])
        _add_literals(coded, plane[literal_start:])
    return bytes(coded)


def _add_literals(coded: bytearray, values: bytes) -> None:
    for start in range(0, len(values), 128):
        piece = values[start : start + 128]
        coded += bytes([len(piece)]) + piece
