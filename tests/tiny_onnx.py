"""An ONNX model of two nodes, written byte by byte: no package that could write it is needed."""

from __future__ import annotations

from pathlib import Path

__all__ = ["write_mean_color_model"]


def _varint(value: int) -> bytes:
    low, rest = value & 0x7F, value >> 7
    return bytes([low | 0x80]) + _varint(rest) if rest else bytes([low])


def _field(number: int, content: int | str | bytes) -> bytes:
    """A field of a message: an integer, or what has a length."""
    if isinstance(content, int):
        return _varint(number << 3) + _varint(content)
    data = content.encode() if isinstance(content, str) else content
    return _varint(number << 3 | 2) + _varint(len(data)) + data


def _node(kind: str, source: str, target: str) -> bytes:
    return _field(1, source) + _field(2, target) + _field(4, kind)


def _value(name: str, shape: tuple[int, ...]) -> bytes:
    """Name, element type float, and shape of an input or output."""
    sizes = b"".join(_field(1, _field(1, size)) for size in shape)
    return _field(1, name) + _field(2, _field(1, _field(1, 1) + _field(2, sizes)))


def write_mean_color_model(path: Path, size: int = 112) -> Path:
    """Describes a picture [1 3 size size] by its mean colour [1 3]."""
    graph = (
        _field(1, _node("GlobalAveragePool", "pixels", "means"))
        + _field(1, _node("Flatten", "means", "color"))
        + _field(2, "mean_color")
        + _field(11, _value("pixels", (1, 3, size, size)))
        + _field(12, _value("color", (1, 3)))
    )
    operators = _field(1, "") + _field(2, 13)
    path.write_bytes(_field(1, 8) + _field(7, graph) + _field(8, operators))
    return path
