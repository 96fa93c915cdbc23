"""``config.json`` of runs that are older than some of the settings there are now."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path

from vultus.cli.console import print_note
from vultus.core.config import JsonValue, absent_fields, add_new_fields

__all__ = ["complete_run_config", "default_settings", "note_defaults"]

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
    if not isinstance(stored, dict):
        return
    known = {name: default for name, default in defaults.items() if name in stored}
    absent = [field for name in known for field in absent_fields(stored[name], known[name], name)]
    if absent:
        rest = f" and {len(absent) - _NAMED} more" if len(absent) > _NAMED else ""
        names = ", ".join(absent[:_NAMED]) + rest
        print_note(f"{path} is older than {names}: defaults are taken")


def _has_defaults(part: object) -> bool:
    if not dataclasses.is_dataclass(part):
        return False
    missing = dataclasses.MISSING
    return all(
        field.default is not missing or field.default_factory is not missing
        for field in dataclasses.fields(part)
    )
