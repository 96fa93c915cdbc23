"""Settings of a method as words: a name such as ``model.num-points`` and a value."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TypeVar

from vultus.core.config import JsonValue, config_from_data, config_to_data, nan_fields

__all__ = ["with_settings"]

ConfigT = TypeVar("ConfigT")

_WORDS: dict[str, JsonValue] = {"none": None, "true": True, "false": False}


def with_settings(config: ConfigT, settings: Mapping[str, str], option: str) -> ConfigT:
    """Change settings by name.

    Args:
        config: A dataclass.
        settings: Dotted names, dashes or underscores, with values: numbers, words, paths, none,
            true and false, and lists as in JSON.
        option: Where they come from, for messages.

    Raises:
        ValueError: If there is no such setting, or it cannot have the value.
    """
    for name, text in settings.items():
        config = _with_setting(config, name.replace("-", "_"), text, option)
        if name.replace("-", "_") in nan_fields(config):
            raise ValueError(f"{option} {name} must be a number, got {text}")
    return config


def _with_setting(config: ConfigT, name: str, text: str, option: str) -> ConfigT:
    errors = []
    for value in _readings(text):
        data = config_to_data(config)
        group: JsonValue = data
        *path, last = name.split(".")
        for step in path:
            group = group.get(step) if isinstance(group, dict) else None
        if not isinstance(group, dict):
            raise ValueError(f"{option} {name} is not known")
        group[last] = value
        try:
            return config_from_data(type(config), data)
        except ValueError as error:
            errors.append(error)
    message = str(errors[0]).removeprefix("config.").removeprefix("config: ")
    raise ValueError(f"{option} {message}") from errors[0]


def _readings(text: str) -> list[JsonValue]:
    """What a word may mean, best guess first."""
    if text.lower() in _WORDS:
        return [_WORDS[text.lower()], text]
    try:
        return [json.loads(text), text]
    except json.JSONDecodeError:
        return [text]
