"""OpenEXR files of three colour channels, or of named channels."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import ModuleType

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from vultus.core.files import atomic_path

__all__ = ["read_exr", "read_exr_channels", "write_exr", "write_exr_channels"]

_LARGEST_HALF = 65504.0


def read_exr(path: Path) -> Float[Tensor, "3 h w"]:
    """Read the channels R, G and B (or a lone Y, repeated) as they are stored.

    Raises:
        ValueError: If the file cannot be decoded or lacks the channels; names the file.
    """
    channels = read_exr_channels(path)
    if set(channels) == {"Y"}:
        return channels["Y"].expand(3, -1, -1).clone()
    missing = [name for name in "RGB" if name not in channels]
    if missing:
        raise ValueError(f"{path}: channel {missing[0]} is missing; it has {', '.join(channels)}")
    return torch.stack([channels[name] for name in "RGB"])


def read_exr_channels(path: Path) -> dict[str, Float[Tensor, "h w"]]:
    """Read all channels of the first part over its data window, as float32.

    Raises:
        ValueError: If the file cannot be decoded, or channels are subsampled; names the file.
    """
    library = _library(path)
    try:
        with library.File(str(path), separate_channels=True) as file:
            pixels = {name: np.asarray(c.pixels) for name, c in file.channels().items()}
    # The binding raises RuntimeError, TypeError, ValueError, MemoryError and its own types.
    except Exception as error:
        raise ValueError(f"{path}: not a readable EXR file: {_one_line(error)}") from error
    shapes = {array.shape for array in pixels.values()}
    if len(shapes) != 1 or len(next(iter(shapes))) != 2:
        raise ValueError(f"{path}: channels must be of one size, got {sorted(shapes)}")
    return {name: torch.from_numpy(a.astype(np.float32)) for name, a in pixels.items()}


def write_exr(path: Path, radiance: Float[Tensor, "3 h w"], *, half: bool = True) -> None:
    """Write R, G and B atomically, ZIP-compressed.

    Raises:
        ValueError: If ``half`` and a value is beyond 65504, the largest half float.
    """
    write_exr_channels(path, dict(zip("RGB", radiance, strict=True)), half=half)


def write_exr_channels(
    path: Path, channels: Mapping[str, Float[Tensor, "h w"]], *, half: bool = True
) -> None:
    """Write named channels of one size atomically, ZIP-compressed.

    Raises:
        ValueError: If ``half`` and a finite value is beyond 65504, the largest half float.
    """
    library = _library(path)
    arrays: dict[str, np.ndarray] = {}
    for name, channel in channels.items():
        values = channel.detach().cpu().float().contiguous().numpy()
        largest = float(np.abs(values, where=np.isfinite(values), out=np.zeros_like(values)).max())
        if half and largest > _LARGEST_HALF:
            raise ValueError(
                f"{path}: channel {name} reaches {largest:.6g}, beyond the largest half float "
                f"{_LARGEST_HALF:.0f}; write it with half=False"
            )
        arrays[name] = values.astype(np.float16) if half else values
    header = {"compression": library.ZIP_COMPRESSION, "type": library.scanlineimage}
    with atomic_path(path) as temporary:
        library.File(header, arrays).write(str(temporary))


def _library(path: Path) -> ModuleType:
    try:
        import OpenEXR
    except ImportError as error:
        raise ModuleNotFoundError(
            f"{path}: EXR files need the package OpenEXR: pip install 'OpenEXR>=3.3'"
        ) from error
    return OpenEXR


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
