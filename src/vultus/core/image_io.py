"""Images from and to files as tensors: PNG and JPEG (display-encoded), EXR and HDR (linear)."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, UInt8
from PIL import Image, ImageOps
from torch import Tensor

from vultus.core.exr_io import read_exr, write_exr
from vultus.core.files import write_bytes
from vultus.core.hdr_io import read_hdr, write_hdr

__all__ = [
    "decode_image",
    "encode_image",
    "image_size",
    "read_image",
    "read_image_bytes",
    "read_mask",
    "read_radiance",
    "read_rgba",
    "to_bytes",
    "write_image",
    "write_radiance",
]

_FORMATS = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG"}
# Besides OSError, Pillow lets these out of its decoders when a file is damaged.
_DECODE_ERRORS = (
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    IndexError,
    TypeError,
    struct.error,
    zlib.error,
    Image.DecompressionBombError,
    Image.DecompressionBombWarning,
)
# Of colours of 16 bits Pillow keeps the first byte, which is the high one. Where it is told that
# they are little-endian, it keeps the other one.
_SECOND_BYTES = {"RGB;16B": "RGB;16L", "RGBA;16B": "RGBA;16L"}


def read_image(path: Path) -> Float[Tensor, "3 h w"]:
    """Read a PNG or JPEG as display-encoded RGB in [0, 1]; alpha is dropped, grey repeated.

    The orientation that a phone notes in a JPEG is applied.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it cannot be decoded; names the file.
    """
    image = _to_float(_decode(path))
    return image[:3] if image.shape[0] >= 3 else image[:1].expand(3, -1, -1).clone()


def read_rgba(path: Path) -> Float[Tensor, "4 h w"]:
    """Read a PNG or JPEG with its alpha, which is 1 where the file has none.

    The colours are not premultiplied.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it cannot be decoded; names the file.
    """
    image = _to_float(_decode(path))
    channels = image.shape[0]
    rgb = image[:3] if channels >= 3 else image[:1].expand(3, -1, -1)
    alpha = image[-1:] if channels in (2, 4) else torch.ones_like(image[:1])
    return torch.cat([rgb, alpha])


def read_mask(path: Path) -> Float[Tensor, "1 h w"]:
    """Read a one-channel PNG or JPEG (8 or 16 bits) in [0, 1].

    Files that repeat a mask in three channels are accepted; a colour image is not.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it cannot be decoded or is coloured; names the file.
    """
    image = _to_float(_decode(path))
    if image.shape[0] >= 3 and not bool((image[:3] == image[:1]).all()):
        raise ValueError(f"{path}: a mask must be grey, got a colour image")
    return image[:1]


def read_image_bytes(path: Path) -> UInt8[Tensor, "3 h w"]:
    """Read a PNG or JPEG of 8 bits as RGB bytes; alpha is dropped, grey repeated.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it cannot be decoded or has 16 bits a channel; names the file.
    """
    pixels = _decode(path)
    if pixels.dtype != np.uint8:
        raise ValueError(f"{path}: must have 8 bits a channel, got {pixels.dtype}")
    image = torch.from_numpy(pixels).permute(2, 0, 1)
    image = image[:3] if image.shape[0] >= 3 else image[:1].expand(3, -1, -1)
    return image.contiguous()


def decode_image(data: bytes, name: str) -> UInt8[Tensor, "c h w"]:
    """Decode a PNG or JPEG of 8 bits that is in memory, with the channels that it has.

    Args:
        data: The whole file.
        name: How error messages call it.

    Raises:
        ValueError: If it cannot be decoded or has 16 bits a channel; names the file.
    """
    pixels = _decode_bytes(data, name)
    if pixels.dtype != np.uint8:
        raise ValueError(f"{name}: must have 8 bits a channel, got {pixels.dtype}")
    return torch.from_numpy(pixels).permute(2, 0, 1).contiguous()


def image_size(path: Path) -> tuple[int, int]:
    """Return (width, height) as ``read_image`` would give it, from the header alone.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the header cannot be read; names the file.
    """
    _check_exists(path)
    try:
        with Image.open(path, formats=("PNG", "JPEG")) as image:
            is_turned = image.getexif().get(0x0112, 1) >= 5  # orientations 5 to 8 swap the axes
            return (image.height, image.width) if is_turned else image.size
    except _DECODE_ERRORS as error:
        raise _damaged(path, error) from error


def to_bytes(image: Float[Tensor, "*c h w"]) -> UInt8[Tensor, "*c h w"]:
    """Quantise [0, 1] to bytes, rounding to nearest; values outside are clamped, NaN becomes 0."""
    return (image.nan_to_num(nan=0.0).clamp(0, 1) * 255 + 0.5).to(torch.uint8)


def write_image(
    path: Path, image: Float[Tensor, "c h w"] | UInt8[Tensor, "c h w"], quality: int = 95
) -> None:
    """Write a PNG or JPEG of 1, 3 or 4 channels atomically.

    Args:
        path: Its suffix chooses the format.
        image: Display-encoded [0, 1], clamped, or bytes.
        quality: Of a JPEG, 1 to 100; its colour is not subsampled.

    Raises:
        ValueError: If the suffix or the number of channels does not fit.
    """
    write_bytes(path, encode_image(image, str(path), quality))


def encode_image(
    image: Float[Tensor, "c h w"] | UInt8[Tensor, "c h w"], name: str, quality: int = 95
) -> bytes:
    """Encode what ``write_image`` would write to a file of that name.

    Raises:
        ValueError: If the suffix or the number of channels does not fit.
    """
    kind = _FORMATS.get(Path(name).suffix.lower())
    if kind is None:
        raise ValueError(f"{name}: suffix must be one of {', '.join(_FORMATS)}")
    if image.shape[0] not in ((1, 3) if kind == "JPEG" else (1, 3, 4)):
        raise ValueError(f"{name}: a {kind} file cannot have {image.shape[0]} channels")
    pixels = image.detach().cpu()
    pixels = pixels if pixels.dtype == torch.uint8 else to_bytes(pixels)
    array = pixels.permute(1, 2, 0).contiguous().numpy()
    buffer = io.BytesIO()
    picture = Image.fromarray(array[..., 0] if array.shape[2] == 1 else array)
    if kind == "JPEG":
        picture.save(buffer, kind, quality=quality, subsampling=0)
    else:
        picture.save(buffer, kind)
    return buffer.getvalue()


def read_radiance(path: Path) -> Float[Tensor, "3 h w"]:
    """Read linear light from an ``.exr`` or ``.hdr`` file.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the suffix is another or the file cannot be decoded; names the file.
    """
    _check_exists(path)
    suffix = path.suffix.lower()
    if suffix == ".exr":
        return read_exr(path)
    if suffix == ".hdr":
        return read_hdr(path)
    raise ValueError(f"{path}: suffix must be .exr or .hdr")


def write_radiance(path: Path, radiance: Float[Tensor, "3 h w"]) -> None:
    """Write linear light atomically: ``.exr`` as half floats, ``.hdr`` as shared-exponent bytes.

    Raises:
        ValueError: If the suffix is another, or the format cannot hold the values.
    """
    suffix = path.suffix.lower()
    if suffix == ".exr":
        write_exr(path, radiance)
    elif suffix == ".hdr":
        write_hdr(path, radiance)
    else:
        raise ValueError(f"{path}: suffix must be .exr or .hdr")


def _check_exists(path: Path) -> None:
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist")


def _damaged(name: Path | str, error: Exception) -> ValueError:
    # Pillow describes the buffer, not the file, when it recognises nothing.
    is_foreign = isinstance(error, Image.UnidentifiedImageError)
    reason = "unknown format" if is_foreign else " ".join(str(error).split())
    return ValueError(f"{name}: not a readable PNG or JPEG: {reason}")


def _decode(path: Path) -> np.ndarray:
    _check_exists(path)
    return _decode_bytes(path.read_bytes(), path)


def _decode_bytes(data: bytes, name: Path | str) -> np.ndarray:
    """Decode to [h w c] with c in 1 to 4, uint8 or uint16."""
    try:
        array, layout = _unpack(data)
        if layout in _SECOND_BYTES:
            low, _ = _unpack(data, _SECOND_BYTES[layout])
            array = (array.astype(np.uint16) << 8) | low
    except _DECODE_ERRORS as error:
        raise _damaged(name, error) from error
    return array if array.ndim == 3 else array[..., None]


def _unpack(data: bytes, layout: str | None = None) -> tuple[np.ndarray, str]:
    """Pixels as Pillow gives them, and its name for how a PNG packs them.

    Args:
        data: The file.
        layout: Unpack them as if they were packed in this way.
    """
    with Image.open(io.BytesIO(data), formats=("PNG", "JPEG")) as opened:
        own = ""
        if opened.format == "PNG" and opened.tile:
            codec, extents, offset, packing = opened.tile[0]
            own = str(packing)
            if layout is not None:
                # Not by Pillow's own class of tiles, which older releases lack.
                tile: Any = (codec, extents, offset, layout)
                opened.tile = [tile]
        if own.endswith(";16B") and own != "RGBA;16B" and opened.has_transparency_data:
            raise ValueError("of 16 bits a channel, only RGBA may be transparent")
        image = ImageOps.exif_transpose(opened)
        if image.mode.startswith("I"):
            return np.asarray(image).astype(np.uint16), own
        return np.array(image.convert(_plain_mode(image))), own


def _plain_mode(image: Image.Image) -> str:
    if image.mode in ("L", "LA", "RGB", "RGBA"):
        return image.mode
    if image.mode == "1":
        return "L"
    return "RGBA" if image.has_transparency_data else "RGB"


def _to_float(pixels: np.ndarray) -> Tensor:
    largest = float(np.iinfo(pixels.dtype).max)
    image = torch.from_numpy(pixels.astype(np.float32)) / largest
    return image.permute(2, 0, 1).contiguous()
