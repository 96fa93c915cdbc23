"""``config.json`` of runs that are older than some of the settings there are now."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path

from vultus.cli.console import print_note
from vultus.core.config import JsonValue, absent_fields, add_new_fields

__all__ = ["complete_run_config", "default_settings", "first_difference", "note_defaults"]

_NAMED = 3
"""More settings than these are counted in a note."""


def default_settings(settings: object) -> dict[str, object]:
    """Defaults of the parts of a run's settings that have one for every field, by their names."""
    assert dataclasses.is_dataclass(settings)
    parts = {field.name: getattr(settings, field.name) for field in dataclasses.fields(settings)}
    return {name: type(part)() for name, part in parts.items() if _has_defaults(part)}


def complete_run_config(stored: JsonValue, defaults: Mapping[str, object]) -> JsonValue:
    """Give settings that a run is older than their defaults.

    Args:
        stored: What ``config.json`` holds.
        defaults: Of some of its parts, by their names. Only what a part lacks is added: a part that
            is missing altogether, or has fields that are not known, stays wrong.
    """
    if not isinstance(stored, dict):
        return stored
    known = {name: default for name, default in defaults.items() if name in stored}
    return stored | {name: add_new_fields(stored[name], part) for name, part in known.items()}


def note_defaults(path: Path, stored: JsonValue, defaults: Mapping[str, object]) -> None:
    """Say in one line what ``complete_run_config`` adds, if anything."""
    if absent := _absent_settings(stored, defaults):
        rest = f" and {len(absent) - _NAMED} more" if len(absent) > _NAMED else ""
        names = ", ".join(absent[:_NAMED]) + rest
        print_note(f"{path} is older than {names}: defaults are taken")


def first_difference(
    stored: JsonValue, wanted: JsonValue, defaults: Mapping[str, object]
) -> str | None:
    """Say which setting of a run, as ``complete_run_config`` reads it, is another than wanted.

    A setting that the run is older than is said to be one: the same command, whose preset sets it
    otherwise, would not tell why the run does not fit.

    Args:
        stored: What ``config.json`` holds.
        wanted: What it would hold now.
        defaults: As for ``complete_run_config``.

    Returns:
        The first one in alphabetical order with both values; None if all are the same.
    """
    found = _difference(complete_run_config(stored, defaults), wanted, "")
    if found is None:
        return None
    name, there, here = found
    if any(f"{name}.".startswith(f"{field}.") for field in _absent_settings(stored, defaults)):
        return f"{name}: {there} there, the default as the run is older than this setting; {here}"
    return f"{name}: {there} there, {here}"


def _difference(old: JsonValue, new: JsonValue, name: str) -> tuple[str, str, str] | None:
    """Name of the first difference, what is there, and what is here."""
    if old == new:
        return None
    if not (isinstance(old, dict) and isinstance(new, dict)):
        return name or "config.json", _shown(old), f"{_shown(new)} here"
    for key in sorted(old.keys() | new.keys()):
        inner = f"{name}.{key}".lstrip(".")
        if key not in new:
            return inner, _shown(old[key]), "not known here"
        if key not in old:
            return inner, "not", f"{_shown(new[key])} here"
        if found := _difference(old[key], new[key], inner):
            return found
    return None


def _shown(value: JsonValue) -> str:
    return "a group of settings" if isinstance(value, dict) else repr(value)


def _absent_settings(stored: JsonValue, defaults: Mapping[str, object]) -> list[str]:
    """Dotted names of what ``complete_run_config`` adds."""
    if not isinstance(stored, dict):
        return []
    known = {name: default for name, default in defaults.items() if name in stored}
    return [field for name in known for field in absent_fields(stored[name], known[name], name)]


def _has_defaults(part: object) -> bool:
    if not dataclasses.is_dataclass(part):
        return False
    missing = dataclasses.MISSING
    return all(
        field.default is not missing or field.default_factory is not missing
        for field in dataclasses.fields(part)
    )
