"""Folders of golden fixtures and sample data: named by the user, or found beside the repository."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

__all__ = ["GOLDEN_COPIES", "chosen_folder", "find_golden"]

REPOSITORY = Path(__file__).resolve().parent.parent
GOLDEN_COPIES = REPOSITORY / "tests" / "golden" / "data"
"""Small copies, so that the suite checks golden values wherever it runs."""


def chosen_folder(config: pytest.Config, option: str) -> Path | None:
    """The folder that the user named, else the default if it exists.

    Raises:
        pytest.UsageError: If the named folder does not exist.
    """
    named = config.getoption(f"--{option}") or os.environ.get(f"VULTUS_{option.upper()}")
    if named:
        folder = Path(named).resolve()
        if not folder.is_dir():
            raise pytest.UsageError(f"--{option}: {folder} is not a folder")
        return folder
    default = REPOSITORY.parent / "shared" / option
    return default if default.is_dir() else None


def find_golden(config: pytest.Config) -> Path:
    """The folder of golden fixtures; the small copies where there is no other."""
    return chosen_folder(config, "golden") or GOLDEN_COPIES
