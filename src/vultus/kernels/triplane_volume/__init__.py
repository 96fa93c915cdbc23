"""Volume rendering of feature planes: dual spheres, tri-planes and tri-grids.

Reference: Li et al., SphereHead, 2024; Chan et al., EG3D, 2022; An et al., PanoHead, 2023.
"""

from __future__ import annotations

from typing import Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor

from vultus.kernels.triplane_volume import ref
from vultus.kernels.triplane_volume.settings import (
    DecoderActivation,
    DecoderWeights,
    Representation,
    VolumeDraws,
    VolumeRender,
    VolumeSettings,
)

__all__ = [
    "Backend",
    "DecoderActivation",
    "DecoderWeights",
    "Precision",
    "Representation",
    "VolumeDraws",
    "VolumeRender",
    "VolumeSettings",
    "query_points",
    "render_planes",
]

Backend = Literal["auto", "ref", "cpu", "gpu"]
Precision = Literal["half", "single"]


def render_planes(
    planes: Float[Tensor, "b ..."],
    decoder: DecoderWeights,
    origins: Float[Tensor, "b r 3"],
    directions: Float[Tensor, "b r 3"],
    settings: VolumeSettings,
    draws: VolumeDraws,
    *,
    backend: Backend = "auto",
    precision: Precision = "half",
) -> VolumeRender:
    """Render rays: coarse samples, then fine ones where the coarse pass found weight.

    Differentiable once by planes, decoder, origins and directions; where the samples lie is a
    constant, except for limits that depend on the ray.

    Args:
        planes: b 2 3 d h w for two spheres, b 3 d h w for planes, b 3 d*layers h w for grids. On
            a GPU, channels that are contiguous in memory are read in place, others copied.
        decoder: Applied weights.
        origins: World positions.
        directions: Unit vectors.
        settings: How to sample.
        draws: The random numbers; ``VolumeDraws.draw`` makes them.
        backend: ``auto`` takes gpu for float32 rays on a GPU, cpu for such on the CPU, else ref.
        precision: Of planes and features inside the gpu backend: ``half`` keeps them as float16
            and their gradients as bfloat16, ``single`` as float32 with products to match. Sums
            and gradients of planes are float32 in both; planes that are float16 themselves get
            float16 gradients, in which those of mean losses vanish.

    Raises:
        ValueError: If the draws are not those of the settings and rays, if limits are those of
            the box and no ray meets it, or if a backend other than ref gets planes that are not
            square.
        TypeError: If the backend does not support device or dtype.
    """
    _check_choices(backend, precision)
    arguments = planes, decoder, origins, directions, settings, draws
    chosen = _choose(backend, origins)
    # Imported late: Numba takes half a second, and Triton exists on Linux only.
    if chosen == "gpu":
        from vultus.kernels.triplane_volume import gpu

        return gpu.render_planes(*arguments, is_half=precision == "half")
    if chosen == "cpu":
        from vultus.kernels.triplane_volume import cpu

        return cpu.render_planes(*arguments)
    return ref.render_planes(*arguments)


def query_points(
    planes: Float[Tensor, "b ..."],
    decoder: DecoderWeights,
    points: Float[Tensor, "b p 3"],
    settings: VolumeSettings,
    *,
    is_cropped: bool = True,
    noise: Float[Tensor, "b p"] | None = None,
    backend: Backend = "auto",
) -> tuple[Float[Tensor, "b p e"], Float[Tensor, "b p"]]:
    """Features and raw densities at world points, differentiable once by all tensors.

    Args:
        planes: As for ``render_planes``.
        decoder: Applied weights.
        points: World positions.
        settings: Representation, box, crop and strength of the noise.
        is_cropped: Points outside get the density that rays see there.
        noise: Normal numbers for the noise on the density.
        backend: As for ``render_planes``.

    Raises:
        ValueError: If a backend other than ref gets planes that are not square.
        TypeError: If the backend does not support device or dtype.
    """
    _check_choices(backend, "half")
    chosen = _choose(backend, points)
    if chosen == "gpu":
        from vultus.kernels.triplane_volume import gpu

        features = gpu.mean_features(planes, points, settings)
    elif chosen == "cpu":
        from vultus.kernels.triplane_volume import cpu

        features = cpu.mean_features(planes, points, settings)
    else:
        features = ref.sample_planes(planes, points, settings).mean(dim=1)
    return ref.decode_points(
        features, decoder, points, settings, is_cropped=is_cropped, noise=noise
    )


def _choose(backend: Backend, positions: Tensor) -> Backend:
    if backend != "auto":
        return backend
    if positions.dtype != torch.float32:
        return "ref"
    return "cpu" if positions.device.type == "cpu" else "gpu"


def _check_choices(backend: str, precision: str) -> None:
    for name, value, kind in (("backend", backend, Backend), ("precision", precision, Precision)):
        if value not in get_args(kind):
            raise ValueError(f"{name} must be of {', '.join(get_args(kind))}, got {value!r}")
