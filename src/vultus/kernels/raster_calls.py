"""What the rasterizers check and prepare before they choose a backend."""

from __future__ import annotations

from functools import lru_cache
from typing import Literal, get_args

import torch
from torch import Tensor

from vultus.geometry.cameras import Camera

__all__ = [
    "Backend",
    "camera_scalars",
    "check_background",
    "check_camera",
    "check_choices",
    "check_colors",
    "choose_backend",
    "screen_signal",
]

Backend = Literal["auto", "ref", "cpu", "gpu"]
_MAX_SH_DEGREE = 3


def check_colors(features: Tensor | None, sh_coeffs: Tensor | None, sh_degree: int | None) -> int:
    """Degree to evaluate; -1 without SH.

    Raises:
        ValueError: If there are no colours, or not as many coefficients as the degree needs.
    """
    if sh_coeffs is None:
        if sh_degree is not None:
            raise ValueError(f"sh_degree must come with sh_coeffs, got {sh_degree} alone")
        if features is None:
            raise ValueError("features or sh_coeffs must be given, got neither")
        return -1
    terms = sh_coeffs.shape[2]
    largest = min(int(terms**0.5 + 1e-6) - 1, _MAX_SH_DEGREE)
    degree = largest if sh_degree is None else sh_degree
    if not 0 <= degree <= largest:
        raise ValueError(
            f"sh_degree must be between 0 and {largest} for {terms} coefficients, got {degree}"
        )
    return degree


def check_background(background: Tensor | None, degree: int, features: Tensor | None) -> None:
    """Check that there is one value per channel: those of the SH colour, then the features.

    Raises:
        ValueError: If there is not.
    """
    if background is None:
        return
    channels = (3 if degree >= 0 else 0) + (0 if features is None else features.shape[2])
    if background.shape != (channels,):
        raise ValueError(
            f"background must have {channels} channels, got shape {tuple(background.shape)}"
        )


def check_choices(**choices: tuple[object, object]) -> None:
    """Check options against the ``Literal`` that they belong to.

    Raises:
        ValueError: Naming the option.
    """
    for name, (value, kind) in choices.items():
        if value not in get_args(kind):
            raise ValueError(f"{name} must be of {', '.join(get_args(kind))}, got {value!r}")


def check_camera(camera: Camera, means: Tensor) -> None:
    """Check that every frame has a camera without skew.

    Raises:
        ValueError: If not; a skew that is stored on a GPU is for the kernels to find.
    """
    if len(camera) != means.shape[0]:
        raise ValueError(
            f"camera must have the batch size of means, got {len(camera)} and {means.shape[0]}"
        )
    # Looking at a GPU's tensor would wait for it.
    is_on_cpu = camera.intrinsics.device.type == "cpu"
    if is_on_cpu and bool((camera.intrinsics[:, 0, 1] != 0).any()):
        raise ValueError("camera.intrinsics must have no skew")


def choose_backend(backend: str, means: Tensor) -> str:
    """Resolve ``auto``: gpu for tensors on a GPU, else cpu for float32 and ref for float64.

    Raises:
        ValueError: If there is no such backend.
    """
    check_choices(backend=(backend, Backend))
    if backend != "auto":
        return backend
    if means.device.type != "cpu":
        return "gpu"
    return "cpu" if means.dtype == torch.float32 else "ref"


def screen_signal(means: Tensor, inputs: tuple[Tensor | None, ...]) -> Tensor:
    """A leaf of zeros, two per primitive, whose gradient is the signal for densification.

    It asks for a gradient if one of the inputs does.
    """
    needs_grad = torch.is_grad_enabled() and any(
        tensor is not None and tensor.requires_grad for tensor in inputs
    )
    zeros = _zeros(*means.shape[:2], means.device, means.dtype).detach()
    return zeros.requires_grad_() if needs_grad else zeros


@lru_cache(maxsize=16)
def _zeros(batch: int, num: int, device: torch.device, dtype: torch.dtype) -> Tensor:
    """One zero, seen everywhere.

    Filling memory would cost a launch on a GPU. On the CPU it would wake the threads of PyTorch,
    which then spin on the cores that the kernels need.
    """
    with torch.inference_mode(False):
        return torch.zeros((), device=device, dtype=dtype).expand(batch, num, 2)


def camera_scalars(camera: Camera, frame: int) -> tuple[float, float, float, float]:
    """Focal lengths and principal point of one camera."""
    k = camera.intrinsics[frame].detach().double().cpu()
    return float(k[0, 0]), float(k[1, 1]), float(k[0, 2]), float(k[1, 2])
