"""``vultus doctor``: does everything here work, and what is missing."""

from __future__ import annotations

import importlib
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from vultus.cli.console import print_table
from vultus.cli.option_parser import parse_arguments
from vultus.core.asset_registry import list_assets
from vultus.core.environment import package_version
from vultus.core.threads import num_threads
from vultus.core.video_io import ffmpeg_path

__all__ = ["Check", "DoctorOptions", "main", "run_checks"]

_MINIMUM_PYTHON = (3, 11)
_OPTIONAL_PACKAGES = {
    "triton": "GPU kernels",
    "tensorboard": "curves in TensorBoard: pip install 'vultus[tensorboard]'",
    "viser": "the browser viewer: pip install 'vultus[viewer]'",
    "trimesh": "comparisons with other mesh code",
    "onnxruntime": "running exported networks",
}
_NEEDED_PACKAGES = ("numpy", "scipy", "safetensors", "tyro", "rich", "pillow", "scikit-image")


@dataclass(frozen=True)
class DoctorOptions:
    """No options."""


@dataclass(frozen=True)
class Check:
    """One line of the table."""

    name: str
    status: Literal["ok", "absent", "broken"]
    """``absent`` is fine, ``broken`` is not."""
    detail: str


def main(arguments: list[str]) -> None:
    """Print the table; exit with 1 if something that is needed is broken."""
    parse_arguments(
        DoctorOptions,
        arguments,
        prog="vultus doctor",
        description="Check the installation: needed parts, optional parts, assets.",
    )
    checks = list(run_checks())
    broken = [check.name for check in checks if check.status == "broken"]
    note = f"broken: {', '.join(broken)}" if broken else "everything that is needed works"
    print_table(
        "", ["part", "status", "detail"], [[c.name, c.status, c.detail] for c in checks], note=note
    )
    if broken:
        raise SystemExit(1)


def run_checks() -> Iterator[Check]:
    """Run all checks; one that fails does not stop the others."""
    needed: dict[str, Callable[[], str]] = {
        "python": _python,
        "packages": _packages,
        "torch": _torch,
        "numba": _numba,
        "processor": _processor,
        "kernel cache": _kernel_cache,
        "ffmpeg": _ffmpeg,
        "OpenEXR": _openexr,
    }
    for name, check in needed.items():
        try:
            yield Check(name, "ok", check())
        except Exception as error:  # noqa: BLE001 - whatever is wrong belongs in the table
            reason = " ".join(str(error).split()) or type(error).__name__
            yield Check(name, "broken", f"{type(error).__name__}: {reason}")
    yield _gpu()
    for name, use in _OPTIONAL_PACKAGES.items():
        version = package_version(name)
        yield Check(name, "ok" if version else "absent", version or f"would enable {use}")
    for status in list_assets():
        label = f"asset {status.spec.name}"
        if status.path:
            yield Check(label, "ok", str(status.path))
        else:
            detail = f"would enable {status.spec.enables}; {status.spec.published}"
            yield Check(label, "absent", detail)


def _python() -> str:
    if sys.version_info < _MINIMUM_PYTHON:
        raise RuntimeError(f"3.11 or newer is needed, got {platform.python_version()}")
    return f"{platform.python_version()} ({platform.platform()})"


def _packages() -> str:
    versions = {name: package_version(name) for name in _NEEDED_PACKAGES}
    missing = [name for name, version in versions.items() if version is None]
    if missing:
        raise RuntimeError(f"not installed: {', '.join(missing)}")
    return ", ".join(f"{name} {version}" for name, version in versions.items())


def _torch() -> str:
    import torch

    identity = torch.eye(3, dtype=torch.float64)
    if not torch.equal(torch.linalg.inv(2 * identity), 0.5 * identity):
        raise RuntimeError("a matrix inverse is wrong")
    return f"{torch.__version__}, {torch.get_num_threads()} threads"


def _numba() -> str:
    import numba

    # A lambda, since the shape checks of the tests wrap named functions.
    if numba.njit(lambda value: 2 * value)(21) != 42:
        raise RuntimeError("a compiled function is wrong")
    return f"{numba.__version__}, compiles"


def _processor() -> str:
    from llvmlite import binding

    features = binding.get_host_cpu_features()
    known = ("sse4.2", "avx", "avx2", "fma", "avx512f", "neon", "sve")
    present = [name for name in known if features.get(name)]
    threads = num_threads()
    return f"{binding.get_host_cpu_name()}, {threads} threads, {' '.join(present) or 'scalar'}"


def _kernel_cache() -> str:
    """Compiled kernels lie beside their sources, or in the home, or in ``NUMBA_CACHE_DIR``."""
    from vultus.core.compiling import cache_folder

    chosen = os.environ.get("NUMBA_CACHE_DIR", "")
    if not chosen:
        return f"{cache_folder()} is writable"
    folder = Path(chosen)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return f"{folder} is writable"
    except OSError as error:
        raise OSError(f"{folder} is not writable; set NUMBA_CACHE_DIR to another folder") from error


def _ffmpeg() -> str:
    done = subprocess.run([ffmpeg_path(), "-version"], capture_output=True, text=True, check=True)
    return done.stdout.partition("\n")[0].partition(" Copyright")[0]


def _openexr() -> str:
    return str(importlib.import_module("OpenEXR").__version__)


def _gpu() -> Check:
    import torch

    if not torch.cuda.is_available():
        return Check("gpu", "absent", "no NVIDIA GPU that torch can use; CPU kernels are used")
    try:
        torch.ones(2, device="cuda").sum().item()
    except RuntimeError as error:
        return Check("gpu", "broken", " ".join(str(error).split()))
    names = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    return Check("gpu", "ok", ", ".join(names))
