"""Which device a command works on."""

from __future__ import annotations

from importlib.util import find_spec

import torch

__all__ = ["find_device"]


def find_device(name: str = "auto") -> torch.device:
    """Return the device of a name.

    Args:
        name: ``auto``: the first GPU, where PyTorch can use one and Triton is installed, else the
            CPU; ``cpu``; ``cuda``; ``cuda:1`` and so on.

    Raises:
        ValueError: If the name is none of these, or there is no such GPU.
        ModuleNotFoundError: If a GPU is asked for and Triton is missing.
    """
    has_triton = find_spec("triton") is not None
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() and has_triton else "cpu")
    kind, _, index = name.partition(":")
    if kind not in ("cpu", "cuda") or (name not in ("cpu", "cuda") and not index.isdecimal()):
        raise ValueError(f"device must be auto, cpu, cuda or cuda:N, got {name!r}")
    if kind == "cpu":
        return torch.device("cpu")
    if int(index or 0) >= torch.cuda.device_count():
        raise ValueError(
            f"device {name!r} is not there: torch can use {torch.cuda.device_count()} GPUs"
        )
    if not has_triton:
        raise ModuleNotFoundError(f"device {name!r} needs Triton: pip install 'triton>=3.6'")
    return torch.device(name)
