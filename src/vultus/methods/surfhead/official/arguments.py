"""``cfg_args``: the command line of an official training, written as ``Namespace(...)``."""

from __future__ import annotations

import ast
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vultus.core.files import write_text

__all__ = ["format_arguments", "parse_arguments", "read_arguments", "write_arguments"]

_MAX_BYTES = 2**20
"""Such files have a few kilobytes; deep nesting in a larger one could exhaust the parser."""


def read_arguments(path: Path) -> dict[str, Any]:
    """Read the arguments as plain values; nothing of the file is evaluated.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it holds anything but ``Namespace`` of literals; names the file.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist")
    if path.stat().st_size > _MAX_BYTES:
        raise ValueError(f"{path}: must have at most {_MAX_BYTES} bytes to be a cfg_args file")
    try:
        return parse_arguments(path.read_bytes().decode())
    except ValueError as error:
        text = "not UTF-8 text" if isinstance(error, UnicodeDecodeError) else str(error)
        raise ValueError(f"{path}: {text}") from None


def write_arguments(path: Path, arguments: Mapping[str, Any]) -> None:
    """Write the arguments, atomically.

    Raises:
        ValueError: As ``format_arguments``.
    """
    write_text(path, format_arguments(arguments))


def parse_arguments(text: str) -> dict[str, Any]:
    """Parse ``Namespace(name=literal, ...)``.

    Raises:
        ValueError: If it is anything else.
    """
    try:
        call = ast.parse(text.strip(), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        raise ValueError("must be one line Namespace(name=value, ...)") from None
    if not isinstance(call, ast.Call) or ast.unparse(call.func) != "Namespace" or call.args:
        raise ValueError("must be one line Namespace(name=value, ...)")
    values: dict[str, Any] = {}
    for keyword in call.keywords:
        if keyword.arg is None:
            raise ValueError("must name every argument of Namespace")
        try:
            values[keyword.arg] = ast.literal_eval(keyword.value)
        except (ValueError, TypeError, RecursionError, MemoryError):
            raise ValueError(f"{keyword.arg} must be a literal value") from None
    return values


def format_arguments(arguments: Mapping[str, Any]) -> str:
    """Write ``Namespace(name=literal, ...)``; ``parse_arguments`` gives the same values again.

    Raises:
        ValueError: If a name is no identifier or a value is not a literal.
    """
    text = "Namespace(" + ", ".join(f"{name}={value!r}" for name, value in arguments.items()) + ")"
    if parse_arguments(text) != dict(arguments):
        raise ValueError(f"arguments must be literal values, got {dict(arguments)}")
    return text
