"""Label files of image sets: ``{"labels": [[name, numbers], ...]}`` and other tables beside it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from vultus.core.files import parse_json

__all__ = ["label_table", "parse_label", "read_label_file"]


def read_label_file(data: bytes, where: str) -> Mapping[str, Any]:
    """Read the content of a label file.

    Raises:
        ValueError: As ``parse_json``, or if it is no object.
    """
    content = parse_json(data, where)
    if not isinstance(content, Mapping):
        raise ValueError(f'{where} must hold {{"labels": [[name, numbers], ...]}}')
    return content


def label_table(content: Mapping[str, Any], key: str, where: str) -> dict[str, Any]:
    """Take one of the tables: what each image has there.

    Args:
        content: Of ``read_label_file``.
        key: ``labels`` for cameras, ``sh`` for lights.
        where: Names the file.

    Raises:
        ValueError: If there is no such table, an entry is none, or an image has two.
    """
    entries = content.get(key)
    if not isinstance(entries, list):
        raise ValueError(f'{where} must hold {{"{key}": [[name, numbers], ...]}}')
    table: dict[str, Any] = {}
    for entry in entries:
        if not (isinstance(entry, list) and len(entry) == 2 and isinstance(entry[0], str)):
            raise ValueError(f"{where}: an entry must be [name, numbers], got {entry!r:.80}")
        name = entry[0].replace("\\", "/")
        if name in table:
            raise ValueError(f"{where} has two {key} for {name!r}")
        table[name] = entry[1]
    return table


def parse_label(value: Any, length: int, name: str) -> Float[Tensor, " k"]:
    """Parse a list of numbers, which may be strings and nested.

    Raises:
        ValueError: If it is something else, or has another length.
    """
    if not isinstance(value, list):
        raise ValueError(f"{name} must be a list of {length} numbers, got {value!r:.80}")
    flat = [number for part in value for number in (part if isinstance(part, list) else [part])]
    try:
        label = torch.tensor([float(number) for number in flat])
    except (TypeError, ValueError) as error:
        raise ValueError(f"{name} must hold numbers: {error}") from error
    if len(label) != length:
        raise ValueError(f"{name} must have {length} numbers, got {len(label)}")
    return label
