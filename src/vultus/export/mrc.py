"""Write scalar volumes as MRC files, which viewers of microscopy such as ChimeraX show."""

from __future__ import annotations

import struct
from pathlib import Path

from jaxtyping import Float
from torch import Tensor

from vultus.core.files import write_bytes

__all__ = ["write_mrc"]

_FLOAT32_MODE = 2
_HEADER_BYTES = 1024
_FIRST_EXTRA = 96
_ORIGIN = 196
_LITTLE_ENDIAN = bytes((0x44, 0x44, 0, 0))


def write_mrc(path: Path, volume: Float[Tensor, "x y z"], length: float) -> None:
    """Write a cubic volume around the origin atomically.

    Cell and origin are in world units; the format calls them ångström.

    Args:
        path: ``.mrc``.
        volume: At ``geometry.isosurface.grid_points``.
        length: Side of the cube from the first to the last points.

    Raises:
        ValueError: If the suffix is another one.
        FileNotFoundError: If the folder does not exist.

    Reference: Cheng et al., MRC2014: Extensions to the MRC format header, 2015.
    """
    if path.suffix.lower() != ".mrc":
        raise ValueError(f"{path}: suffix must be .mrc")
    values = volume.detach().cpu().float()
    size = tuple(values.shape)
    cell = [length * count / (count - 1) for count in size]
    deviation = float(values.double().std(correction=0))
    header = bytearray(_HEADER_BYTES)
    struct.pack_into("<4i", header, 0, *size, _FLOAT32_MODE)
    struct.pack_into("<3i", header, 28, *size)  # intervals of the cell
    struct.pack_into("<6f", header, 40, *cell, 90.0, 90.0, 90.0)
    struct.pack_into("<3i", header, 64, 1, 2, 3)  # columns are x, rows y, sections z
    struct.pack_into(
        "<3fi", header, 76, float(values.min()), float(values.max()), float(values.mean()), 1
    )
    struct.pack_into("<i", header, _FIRST_EXTRA + 12, 20140)  # version of the format
    struct.pack_into("<3f", header, _ORIGIN, *(3 * [-0.5 * length]))
    header[208:212], header[212:216] = b"MAP ", _LITTLE_ENDIAN
    struct.pack_into("<f", header, 216, deviation)
    # x changes fastest in the file.
    data = values.permute(2, 1, 0).contiguous().numpy().astype("<f4")
    write_bytes(path, bytes(header) + data.tobytes())
