"""Read files of ``torch.save``, zip archives and older streams, without running their pickles."""

from __future__ import annotations

import struct
import zipfile
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vultus.core.safe_pickle import (
    Builder,
    PickledGlobal,
    PickledObject,
    parse_pickle,
    split_pickles,
)

__all__ = ["load_state_dict_file", "load_torch_file"]

_LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
_LEGACY_HEADERS = 3  # magic number, protocol, facts about the machine
_ZIP_SIGNATURE = b"PK\x03\x04"
_MAX_DIMENSIONS = 64
_INCOMPLETE = "not a complete file of torch.save"

# What zipfile raises for damaged, encrypted or foreign archives.
_ARCHIVE_DAMAGE = (
    zipfile.BadZipFile,
    EOFError,
    KeyError,
    OSError,
    RuntimeError,
    UnicodeDecodeError,
    struct.error,
)

_STORAGE_TYPES = {
    "BFloat16Storage": torch.bfloat16,
    "BoolStorage": torch.bool,
    "ByteStorage": torch.uint8,
    "CharStorage": torch.int8,
    "ComplexDoubleStorage": torch.complex128,
    "ComplexFloatStorage": torch.complex64,
    "DoubleStorage": torch.float64,
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "IntStorage": torch.int32,
    "LongStorage": torch.int64,
    "ShortStorage": torch.int16,
}
_DTYPES = {f"torch.{str(dtype).removeprefix('torch.')}": dtype for dtype in _STORAGE_TYPES.values()}


@dataclass(frozen=True)
class _Storage:
    """Elements in a row that tensors are views of."""

    elements: Tensor


def load_torch_file(path: Path, *, inert: Collection[str] = ()) -> Any:
    """Read tensors in plain containers; also a bare pickle that has tensors in it.

    Tensors come back on the CPU; parameters as tensors.

    Args:
        path: The file.
        inert: Names (``module.class``) that come back as ``PickledObject``.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the file is damaged or its pickle names anything else; names the file.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist")
    with path.open("rb") as file:
        is_archive = file.read(4) == _ZIP_SIGNATURE
    if is_archive:
        return _load_archive(path, inert)
    data = path.read_bytes()
    if _is_legacy(data):
        return _load_legacy(data, str(path), inert)
    return parse_pickle(data, str(path), inert=inert, builders=_builders(inert))


def load_state_dict_file(path: Path, key: str | None = None) -> dict[str, Tensor]:
    """Read a flat dictionary of tensors.

    Args:
        path: The file.
        key: Where the dictionary lies inside an outer one, if it does.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it holds something else; names the file and the key.
    """
    loaded = load_torch_file(path)
    if key is not None:
        if not isinstance(loaded, dict) or key not in loaded:
            raise ValueError(f"{path}: {key!r} is missing")
        loaded = loaded[key]
    if not isinstance(loaded, dict):
        raise ValueError(f"{path}: must hold a dictionary of tensors, got {type(loaded).__name__}")
    for name, value in loaded.items():
        if not isinstance(name, str) or not isinstance(value, Tensor):
            raise ValueError(f"{path}: {name!r} must be a tensor, got {type(value).__name__}")
    return loaded


# ---- zip archives ----------------------------------------------------------------------------


def _load_archive(path: Path, inert: Collection[str]) -> Any:
    try:
        archive = zipfile.ZipFile(path)
    except (*_ARCHIVE_DAMAGE, ValueError) as error:
        raise ValueError(f"{path}: {_INCOMPLETE}: {_text(error)}") from error
    with archive:
        try:
            folder = _check_archive(archive, path)
            return parse_pickle(
                archive.read(f"{folder}/data.pkl"),
                str(path),
                inert=inert,
                builders=_builders(inert),
                persistent=_persistent_loader(_archive_storages(archive, folder)),
            )
        except _ARCHIVE_DAMAGE as error:
            raise ValueError(f"{path}: {_INCOMPLETE}: {_text(error)}") from error


def _check_archive(archive: zipfile.ZipFile, path: Path) -> str:
    """Return the name of the only top folder."""
    members = {info.filename: info for info in archive.infolist()}
    folders = {name.partition("/")[0] for name in members}
    if len(folders) != 1:
        raise ValueError(f"{path}: {_INCOMPLETE}: it has {len(folders)} top folders")
    (folder,) = folders
    if any(name.startswith(f"{folder}/code/") for name in members):
        raise ValueError(f"{path} is a TorchScript program, not a file of torch.save")
    if any(info.compress_type != zipfile.ZIP_STORED for info in members.values()):
        raise ValueError(f"{path}: {_INCOMPLETE}: it has compressed members")
    order = f"{folder}/byteorder"
    if order in members and archive.read(order) != b"little":
        raise ValueError(f"{path} was written on a big-endian machine, which is not supported")
    return folder


def _archive_storages(
    archive: zipfile.ZipFile, folder: str
) -> Callable[[str, torch.dtype, int], _Storage]:
    storages: dict[str, bytearray] = {}

    def read(key: str, dtype: torch.dtype, count: int) -> _Storage:
        if key not in storages:
            storages[key] = bytearray(archive.read(f"{folder}/data/{key}"))
        return _storage(storages[key], dtype, count)

    return read


# ---- the older stream ------------------------------------------------------------------------


def _is_legacy(data: bytes) -> bool:
    # LONG1 with the ten bytes of the magic number, after the protocol mark.
    return data[2:14] == b"\x8a\x0a" + _LEGACY_MAGIC.to_bytes(10, "little")


def _load_legacy(data: bytes, source: str, inert: Collection[str]) -> Any:
    try:
        spans = list(split_pickles(data, limit=_LEGACY_HEADERS + 2))
    except ValueError as error:
        raise ValueError(f"{source}: {_INCOMPLETE}: {error}") from error
    body, keys = (data[start:end] for start, end in spans[_LEGACY_HEADERS:])
    storages: dict[str, _Storage] = {}

    def reserve(key: str, dtype: torch.dtype, count: int) -> _Storage:
        # The elements follow the pickle; the tensors made now are views of them.
        if not 0 <= count * dtype.itemsize <= len(data):
            raise ValueError(f"a storage of {count} elements does not fit the file")
        return storages.setdefault(key, _Storage(torch.empty(count, dtype=dtype)))

    loaded = parse_pickle(
        body,
        source,
        inert=inert,
        builders=_builders(inert),
        persistent=_persistent_loader(reserve),
    )
    order = parse_pickle(keys, source)
    if not isinstance(order, list) or set(order) != set(storages):
        raise ValueError(f"{source}: {_INCOMPLETE}: its list of storages is wrong")
    _fill_storages(data, spans[-1][1], [storages[key] for key in order], source)
    return loaded


def _fill_storages(data: bytes, position: int, storages: list[_Storage], source: str) -> None:
    """Copy the raw elements in: for each storage a 64-bit count, then the bytes."""
    for storage in storages:
        elements = storage.elements
        end = position + 8 + elements.numel() * elements.itemsize
        if end > len(data) or struct.unpack_from("<q", data, position)[0] != elements.numel():
            raise ValueError(f"{source}: {_INCOMPLETE}: a storage is cut off")
        raw = bytearray(data[position + 8 : end])
        elements.copy_(_storage(raw, elements.dtype, elements.numel()).elements)
        position = end


# ---- storages and tensors --------------------------------------------------------------------


def _storage(data: bytearray, dtype: torch.dtype, count: int) -> _Storage:
    if count < 0 or count * dtype.itemsize > len(data):
        raise ValueError(f"a storage of {count} elements has {len(data)} bytes")
    if count == 0:
        return _Storage(torch.empty(0, dtype=dtype))
    return _Storage(torch.frombuffer(data, dtype=dtype, count=count))


def _persistent_loader(read: Callable[[str, torch.dtype, int], object]) -> Callable[[Any], object]:
    """Make the function that turns ("storage", type, key, location, count, ...) into a storage."""

    def load(identifier: Any) -> object:
        if not isinstance(identifier, tuple) or len(identifier) < 5 or identifier[0] != "storage":
            raise ValueError("a persistent identifier is not that of a storage")
        _, kind, key, _, count, *view = identifier
        if any(part is not None for part in view):
            raise ValueError("views of storages are not supported")
        name = kind.name.rpartition(".")[2] if isinstance(kind, PickledGlobal) else ""
        if name not in _STORAGE_TYPES or not isinstance(key, str) or not isinstance(count, int):
            raise ValueError(f"a storage of type {name!r} is not supported")
        return read(key, _STORAGE_TYPES[name], count)

    return load


def _build_tensor(described: PickledObject) -> Tensor:
    storage, offset, size, stride = described.arguments[:4]
    if not isinstance(storage, _Storage):
        raise ValueError("a tensor has no storage")
    numbers = (offset, *size, *stride)
    if len(size) != len(stride) or len(size) > _MAX_DIMENSIONS:
        raise ValueError(f"size {size} and stride {stride} do not fit each other")
    if not all(type(number) is int and 0 <= number < 2**62 for number in numbers):
        raise ValueError(f"size {size} and stride {stride} are not those of a tensor")
    last = offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True))
    if 0 not in size and last >= storage.elements.numel():
        raise ValueError(f"a tensor of size {tuple(size)} reaches beyond its storage")
    return torch.as_strided(storage.elements, tuple(size), tuple(stride), offset)


def _build_parameter(described: PickledObject) -> Tensor:
    if not isinstance(described.arguments[0], Tensor):
        raise ValueError("a parameter holds no tensor")
    return described.arguments[0]


def _build_size(described: PickledObject) -> tuple[int, ...]:
    (size,) = described.arguments
    return tuple(int(number) for number in size)


def _build_device(described: PickledObject) -> str:
    return ":".join(str(argument) for argument in described.arguments)


def _builders(inert: Collection[str]) -> dict[str, Builder]:
    def build_embedded(described: PickledObject) -> object:
        """Read a storage that is itself a file of torch.save inside the pickle."""
        (data,) = described.arguments
        if not isinstance(data, bytes) or not _is_legacy(data):
            raise ValueError("an embedded storage is not readable")
        return _load_legacy(data, "embedded storage", inert)

    def build_mention(described: PickledObject) -> object:
        raise ValueError(f"{described.name!r} may be mentioned but not built")

    table: dict[str, Builder] = dict.fromkeys(_DTYPES, build_mention)
    for name in _STORAGE_TYPES:
        table[f"torch.{name}"] = table[f"torch.storage.{name}"] = build_mention
    return table | {
        "torch._utils._rebuild_tensor": _build_tensor,
        "torch._utils._rebuild_tensor_v2": _build_tensor,
        "torch._utils._rebuild_parameter": _build_parameter,
        "torch.storage._load_from_bytes": build_embedded,
        "torch.Size": _build_size,
        "torch.device": _build_device,
    }


def _text(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__
