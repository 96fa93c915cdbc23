"""Frozen dataclasses to JSON data and back, exactly, driven by the field types.

Supported field types: ``bool``, ``int``, ``float``, ``str``, ``None``, ``Path``, enums,
``Literal``, unions, ``list``, ``tuple``, ``dict`` with string keys, and nested dataclasses.
Nothing is evaluated.
"""

from __future__ import annotations

import dataclasses
import enum
import math
import types
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from vultus.core.files import read_json, write_json

__all__ = [
    "JsonValue",
    "absent_fields",
    "add_new_fields",
    "config_from_data",
    "config_to_data",
    "load_config",
    "nan_fields",
    "save_config",
    "with_absolute_paths",
]

JsonValue = dict[str, Any] | list[Any] | str | int | float | bool | None
"""What the standard ``json`` module reads and writes."""

ConfigT = TypeVar("ConfigT")

# JSON has no such numbers; they are written as strings.
_NON_FINITE = {"inf": math.inf, "-inf": -math.inf, "nan": math.nan}
_CLASS_KEY = "class"  # tells the members of a union of dataclasses apart


def config_to_data(config: object, name: str = "config") -> dict[str, Any]:
    """Turn a dataclass into JSON data that ``config_from_data`` turns back into an equal one.

    Args:
        config: An instance of a dataclass.
        name: How error messages call it.

    Raises:
        ValueError: If a value does not fit the type of its field, or a type is not supported;
            the message names the dotted field.
    """
    if not dataclasses.is_dataclass(config) or isinstance(config, type):
        raise ValueError(f"{name} must be an instance of a dataclass, got {config!r}")
    return _encode_dataclass(config, name)


def config_from_data(config_class: type[ConfigT], data: JsonValue, name: str = "config") -> ConfigT:
    """Build a dataclass from JSON data; every field must be there and nothing else.

    Raises:
        ValueError: Naming the first dotted field that is unknown, missing or of a wrong type, or
            the rule that ``__post_init__`` found broken.
    """
    if not dataclasses.is_dataclass(config_class):
        raise ValueError(f"{name} must be read as a dataclass, got {config_class!r}")
    return _decode_dataclass(data, config_class, name)


def absent_fields(data: JsonValue, default: object, name: str = "config") -> list[str]:
    """Dotted names of what ``add_new_fields`` adds."""
    if not dataclasses.is_dataclass(default) or not isinstance(data, dict):
        return []
    absent = []
    for key in _fields(type(default)):
        inner = f"{name}.{key}"
        absent += absent_fields(data[key], getattr(default, key), inner) if key in data else [inner]
    return absent


def add_new_fields(data: JsonValue, default: object) -> JsonValue:
    """Add what data lack from a dataclass: fields that are newer than the file they come from."""
    is_config = dataclasses.is_dataclass(default) and not isinstance(default, type)
    if not is_config or not isinstance(data, dict):
        return data
    known = {key: getattr(default, key) for key in _fields(type(default))}
    added = {
        key: _encode(value, _fields(type(default))[key], key)
        for key, value in known.items()
        if key not in data
    }
    return {key: add_new_fields(value, known.get(key)) for key, value in data.items()} | added


def with_absolute_paths(config: ConfigT) -> ConfigT:
    """The same settings, with all paths in them named from the root of the file system.

    What is stored can then be used from any folder. Nested dataclasses are followed, lists are not.
    """
    assert dataclasses.is_dataclass(config)
    assert not isinstance(config, type)
    changes: dict[str, Any] = {}
    for key in _fields(type(config)):
        value = getattr(config, key)
        if isinstance(value, Path):
            changes[key] = value.resolve()
        elif dataclasses.is_dataclass(value) and not isinstance(value, type):
            changes[key] = with_absolute_paths(value)
    return dataclasses.replace(config, **changes)


def save_config(path: Path, config: object) -> None:
    """Write a dataclass as a JSON file, atomically."""
    write_json(path, config_to_data(config, path.name))


def load_config(path: Path, config_class: type[ConfigT]) -> ConfigT:
    """Read what ``save_config`` wrote.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: Naming the file and the dotted field.
    """
    return config_from_data(config_class, read_json(path), f"{path}: config")


def _fields(config_class: type) -> dict[str, Any]:
    """Types of the fields that the constructor takes, ``Annotated`` markers removed."""
    hints = get_type_hints(config_class)
    return {f.name: hints[f.name] for f in dataclasses.fields(config_class) if f.init}


def _type_name(hint: Any) -> str:
    origin, args = get_origin(hint), get_args(hint)
    if origin is Literal:
        return "one of " + ", ".join(map(repr, args))
    if origin in (Union, types.UnionType):
        return " or ".join(_type_name(member) for member in args)
    if origin is not None:
        inner = ", ".join("..." if arg is ... else _type_name(arg) for arg in args)
        return f"{origin.__name__}[{inner}]"
    if isinstance(hint, type) and issubclass(hint, enum.Enum):
        return "one of " + ", ".join(hint.__members__)
    return "None" if hint is type(None) else getattr(hint, "__name__", str(hint))


def _misfit(value: object, hint: Any, name: str) -> ValueError:
    text = repr(value)
    shown = text if len(text) <= 80 else text[:77] + "..."
    return ValueError(f"{name} must be {_type_name(hint)}, got {shown}")


def nan_fields(config: Any) -> list[str]:
    """Dotted names of the numbers of a dataclass, and of those in it, that are NaN."""
    found = []
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if dataclasses.is_dataclass(value):
            found += [f"{field.name}.{name}" for name in nan_fields(value)]
            continue
        values = value if isinstance(value, tuple | list) else (value,)
        if any(isinstance(each, float) and math.isnan(each) for each in values):
            found.append(field.name)
    return found


# ---- dataclass -> data -----------------------------------------------------------------------


def _encode_dataclass(config: Any, name: str) -> dict[str, Any]:
    hints = _fields(type(config))
    return {
        key: _encode(getattr(config, key), hint, f"{name}.{key}") for key, hint in hints.items()
    }


def _encode(value: Any, hint: Any, name: str) -> JsonValue:
    origin = get_origin(hint)
    if origin in (Union, types.UnionType):
        return _encode_union(value, get_args(hint), hint, name)
    if _is_dataclass_type(hint):
        if type(value) is not hint:
            raise _misfit(value, hint, name)
        return _encode_dataclass(value, name)
    if origin in (tuple, list):
        if not isinstance(value, origin):
            raise _misfit(value, hint, name)
        members = _item_hints(value, hint, name)
        return [
            _encode(v, h, f"{name}[{i}]")
            for i, (v, h) in enumerate(zip(value, members, strict=True))
        ]
    if origin is dict:
        if not isinstance(value, dict):
            raise _misfit(value, hint, name)
        inner = _value_hint(value, hint, name)
        return {key: _encode(item, inner, f"{name}.{key}") for key, item in value.items()}
    return _encode_scalar(value, hint, name)


def _encode_scalar(value: Any, hint: Any, name: str) -> JsonValue:
    if get_origin(hint) is not Literal and isinstance(hint, type):
        if issubclass(hint, enum.Enum) and isinstance(value, hint):
            return value.name
        if issubclass(hint, Path) and isinstance(value, Path):
            return value.as_posix()
        if hint is float and isinstance(value, float) and not math.isfinite(value):
            return str(value)
    _decode_scalar(value, hint, name)  # The remaining types look the same in JSON.
    return value


def _encode_union(value: Any, members: tuple[Any, ...], hint: Any, name: str) -> JsonValue:
    if dataclasses.is_dataclass(value):
        if type(value) not in members:
            raise _misfit(value, hint, name)
        data = _encode_dataclass(value, name)
        needs_class = sum(map(_is_dataclass_type, members)) > 1
        return {_CLASS_KEY: type(value).__name__, **data} if needs_class else data
    for member in members:
        try:
            data = _encode(value, member, name)
        except ValueError:
            continue
        # A string in ``Path | str`` would come back as a path.
        back = _decode_union(data, members, hint, name)
        if back != value and value == value:
            raise ValueError(f"{name} cannot be read back: {value!r} would become {back!r}")
        return data
    raise _misfit(value, hint, name)


# ---- data -> dataclass -----------------------------------------------------------------------


def _decode_dataclass(data: JsonValue, config_class: type[Any], name: str) -> Any:
    if not isinstance(data, dict):
        raise ValueError(f"{name} must be an object with the fields of {config_class.__name__}")
    hints = _fields(config_class)
    for key in data:
        if key not in hints:
            shown = key if key.isidentifier() else repr(key)
            raise ValueError(
                f"{name}.{shown} is not known; {config_class.__name__} has: {', '.join(hints)}"
            )
    for key in hints:
        if key not in data:
            raise ValueError(f"{name}.{key} is missing")
    values = {key: _decode(data[key], hint, f"{name}.{key}") for key, hint in hints.items()}
    try:
        return config_class(**values)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from error


def _decode(data: Any, hint: Any, name: str) -> Any:
    origin = get_origin(hint)
    if origin in (Union, types.UnionType):
        return _decode_union(data, get_args(hint), hint, name)
    if _is_dataclass_type(hint):
        return _decode_dataclass(data, hint, name)
    if origin in (tuple, list):
        if not isinstance(data, list):
            raise _misfit(data, hint, name)
        members = _item_hints(data, hint, name)
        pairs = enumerate(zip(data, members, strict=True))
        return origin(_decode(v, h, f"{name}[{i}]") for i, (v, h) in pairs)
    if origin is dict:
        if not isinstance(data, dict):
            raise _misfit(data, hint, name)
        inner = _value_hint(data, hint, name)
        return {key: _decode(item, inner, f"{name}.{key}") for key, item in data.items()}
    return _decode_scalar(data, hint, name)


def _decode_scalar(data: Any, hint: Any, name: str) -> Any:
    if get_origin(hint) is Literal:
        # True == 1 in Python, so the types are compared too.
        if not any(type(data) is type(choice) and data == choice for choice in get_args(hint)):
            raise _misfit(data, hint, name)
        return data
    if hint is None or hint is type(None):
        if data is not None:
            raise _misfit(data, hint, name)
        return None
    if not isinstance(hint, type):
        raise ValueError(f"{name} has a type that config files do not support: {hint}")
    if issubclass(hint, enum.Enum):
        if not isinstance(data, str) or data not in hint.__members__:
            raise _misfit(data, hint, name)
        return hint[data]
    return _decode_plain(data, hint, name)


def _decode_plain(data: Any, hint: type, name: str) -> Any:
    is_number = isinstance(data, (int, float)) and not isinstance(data, bool)
    if hint is float and (is_number or (isinstance(data, str) and data in _NON_FINITE)):
        return _NON_FINITE[data] if isinstance(data, str) else float(data)
    if hint is int and is_number and isinstance(data, int):
        return data
    if issubclass(hint, Path) and isinstance(data, str):
        return Path(data)
    if hint in (str, bool) and isinstance(data, hint):
        return data
    if hint not in (float, int, str, bool) and not issubclass(hint, Path):
        raise ValueError(f"{name} has a type that config files do not support: {_type_name(hint)}")
    raise _misfit(data, hint, name)


def _decode_union(data: Any, members: tuple[Any, ...], hint: Any, name: str) -> Any:
    classes: dict[str, type] = {m.__name__: m for m in members if _is_dataclass_type(m)}
    if isinstance(data, Mapping) and classes:
        if len(classes) == 1:
            return _decode_dataclass(dict(data), next(iter(classes.values())), name)
        chosen = data.get(_CLASS_KEY)
        if not isinstance(chosen, str) or chosen not in classes:
            known = ", ".join(classes)
            raise ValueError(f"{name}.{_CLASS_KEY} must be one of {known}, got {chosen!r}")
        rest = {key: value for key, value in data.items() if key != _CLASS_KEY}
        return _decode_dataclass(rest, classes[chosen], name)
    # An int is a valid float, but in ``float | int`` it must stay an int: floats come last.
    order = sorted(members, key=lambda member: member is float and isinstance(data, int))
    for member in order:
        try:
            return _decode(data, member, name)
        except ValueError:
            continue
    raise _misfit(data, hint, name)


def _item_hints(values: Any, hint: Any, name: str) -> list[Any]:
    args = get_args(hint)
    if get_origin(hint) is list or (len(args) == 2 and args[1] is ...):
        return [args[0]] * len(values)
    if len(values) != len(args):
        raise ValueError(f"{name} must have {len(args)} items, got {len(values)}")
    return list(args)


def _value_hint(values: dict[Any, Any], hint: Any, name: str) -> Any:
    key_hint, value_hint = get_args(hint)
    if key_hint is not str or not all(isinstance(key, str) for key in values):
        raise ValueError(f"{name} must have string keys, got {list(values)}")
    return value_hint


def _is_dataclass_type(hint: Any) -> bool:
    return isinstance(hint, type) and dataclasses.is_dataclass(hint)
