"""Facts about the machine and the software that belong in every run's card."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import subprocess
from pathlib import Path
from typing import Any

import torch

import vultus
from vultus.core.threads import num_threads

__all__ = ["code_revision", "describe_hardware", "package_version", "package_versions"]

_PACKAGES = ("torch", "numpy", "scipy", "numba", "safetensors", "triton")


def package_version(name: str) -> str | None:
    """Return the version of an installed distribution, or None."""
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def package_versions() -> dict[str, str | None]:
    """Return the versions that results depend on; None means not installed."""
    versions: dict[str, str | None] = {
        "vultus": vultus.__version__,
        "python": platform.python_version(),
    }
    return versions | {name: package_version(name) for name in _PACKAGES}


def code_revision() -> str | None:
    """Return the git commit of the source tree, with ``+changes`` if it has any.

    None if the package was not installed from a checkout, or git is not there.
    """
    root = Path(vultus.__file__).parents[2]
    if not (root / ".git").exists():
        return None
    try:
        commit = _git(root, "rev-parse", "HEAD")
        changes = _git(root, "status", "--porcelain", "--untracked-files=no")
    except (OSError, subprocess.SubprocessError):
        return None
    return commit + ("+changes" if changes else "")


def describe_hardware() -> dict[str, Any]:
    """Return processor, threads, memory and GPUs."""
    return {
        "platform": platform.platform(),
        "cpu": _cpu_name(),
        "threads": num_threads(),
        "memory_gib": _memory_gib(),
        "gpus": [
            torch.cuda.get_device_name(index)
            for index in range(torch.cuda.device_count() if torch.cuda.is_available() else 0)
        ],
    }


def _git(root: Path, *arguments: str) -> str:
    done = subprocess.run(
        ["git", *arguments], cwd=root, capture_output=True, text=True, check=True, timeout=10
    )
    return done.stdout.strip()


def _cpu_name() -> str:
    information = Path("/proc/cpuinfo")
    if information.is_file():
        for line in information.read_text(errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _memory_gib() -> float | None:
    if not hasattr(os, "sysconf") or "SC_PHYS_PAGES" not in os.sysconf_names:
        return None
    return round(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30, 1)
