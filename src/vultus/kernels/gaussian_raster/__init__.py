"""Differentiable rasterization of 3D Gaussians.

Reference: Kerbl et al., 3D Gaussian Splatting for Real-Time Radiance Field Rendering, 2023;
Zwicker et al., EWA Splatting, 2002; Yu et al., Mip-Splatting, 2024 (opacity compensation).
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor

from vultus.geometry.cameras import Camera
from vultus.kernels.gaussian_raster._types import (
    Cull,
    GaussianImages,
    Gaussians,
    Gradients,
    OutputName,
    RasterSettings,
)

__all__ = ["Backend", "Cull", "GaussianImages", "Gradients", "OutputName", "rasterize_gaussians"]

Backend = Literal["auto", "ref", "cpu", "gpu"]
_MAX_SH_DEGREE = 3


def rasterize_gaussians(
    means: Float[Tensor, "b n 3"],
    quats: Float[Tensor, "b n 4"] | None,
    scales: Float[Tensor, "b n 3"] | None,
    opacities: Float[Tensor, "b n"],
    camera: Camera,
    *,
    covariances: Float[Tensor, "b n 6"] | None = None,
    features: Float[Tensor, "b n c"] | None = None,
    sh_coeffs: Float[Tensor, "b n k 3"] | None = None,
    sh_degree: int | None = None,
    jacobians: Float[Tensor, "b n 3 3"] | None = None,
    background: Float[Tensor, " channels"] | None = None,
    near: float = 0.2,
    dilation: float = 0.3,
    antialiased: bool = False,
    scale_modifier: float = 1.0,
    normalize_quats: bool = True,
    max_alpha: float = 0.99,
    pixel_center: float = 0.5,
    cull: Cull = "exact",
    gradients: Gradients = "exact",
    outputs: Collection[OutputName] = (),
    backend: Backend = "auto",
) -> GaussianImages:
    """Blend Gaussians front to back, every frame of the batch with its own Gaussians and camera.

    Convention: a covariance is ``J R S (J R S)^T`` with the rotation R, the scales S and the
    Jacobian J; it is projected with the linearisation of the camera at the centre, where rays are
    clamped to 1.3 times the half image. Gaussians are sorted by the depth of their centres, ties by
    row. Contributions below 1/255 are skipped, a pixel stops before its transmittance falls below
    1e-4.

    Args:
        means: Centres, world units.
        quats: Rotations, wxyz, any norm but zero.
        scales: Standard deviations along the rotated axes, world units; signs do not matter.
        opacities: In [0, 1].
        camera: One pinhole camera per frame; skew is not supported.
        covariances: xx, xy, xz, yy, yz, zz in the world, in place of ``quats`` and ``scales``.
        features: Channels that are blended as they are, after those of the colour.
        sh_coeffs: Colour max(0, 0.5 + SH), in the world direction from the camera.
        sh_degree: Evaluate up to this degree; by default the one of ``sh_coeffs``.
        jacobians: Deformation gradients, canonical to posed; the identity if None. Means are
            posed already.
        background: Value per channel behind everything; zeros if None.
        near: Smallest depth of centres.
        dilation: Added to both variances on the screen, in square pixels.
        antialiased: Multiply opacities by the root of the ratio of the areas before and after
            dilation, so that what is smaller than a pixel fades.
        scale_modifier: Multiplies the scales.
        normalize_quats: False uses quats as they are, so that their norm scales the covariance as
            in the published rasterizer.
        max_alpha: Largest opacity of a Gaussian at a pixel, below 1.
        pixel_center: Where pixels have their centre in the coordinates of the intrinsics.
        cull: ``exact``: no contribution is lost. ``3sigma``: only 16 x 16 tiles that the square
            around the published radius touches (for parity).
        gradients: ``published`` ignores that alpha is clamped, and takes a clamped ray's position
            as constant in the linearisation (for parity).
        outputs: What to return besides image and alpha.
        backend: ``auto`` takes gpu for tensors on a GPU, else cpu for float32 and ref for float64.

    Raises:
        ValueError: On inconsistent shapes, values that are not finite, or unknown options.
        TypeError: If the backend does not support device or dtype.

    Reference: 3DGS, section 4 and appendix A; EWA splatting, eqs. 23-31.
    """
    _check_shape(quats, scales, covariances, scale_modifier)
    degree = _check_colors(features, sh_coeffs, sh_degree)
    channels = (3 if degree >= 0 else 0) + (0 if features is None else features.shape[2])
    _check_options(cull=(cull, Cull), gradients=(gradients, Gradients))
    _check_options(**{f"outputs[{i}]": (name, OutputName) for i, name in enumerate(outputs)})
    _check_numbers(near, dilation, max_alpha)
    _check_camera(camera, means)
    if background is not None and background.shape != (channels,):
        raise ValueError(
            f"background must have {channels} channels, got shape {tuple(background.shape)}"
        )
    if scales is not None and scale_modifier != 1.0:
        scales = scales * scale_modifier
    inputs = (means, quats, scales, opacities, covariances, features, sh_coeffs, jacobians)
    needs_grad = torch.is_grad_enabled() and any(
        tensor is not None and tensor.requires_grad for tensor in inputs
    )
    # One zero, seen everywhere: filling memory would wake the threads of PyTorch, which then spin
    # on the cores that the CPU kernels need.
    screen_gradient = means.new_zeros(()).expand(*means.shape[:2], 2).requires_grad_(needs_grad)
    settings = RasterSettings(
        sh_degree=degree,
        near=near,
        dilation=dilation,
        is_antialiased=antialiased,
        max_alpha=max_alpha,
        pixel_center=pixel_center,
        cull=cull,
        gradients=gradients,
        normalizes_quats=normalize_quats,
        outputs=frozenset(outputs),
    )
    rasterize = _load_backend(_choose_backend(backend, means))
    image, alpha, depth, median, radii = rasterize(
        Gaussians(*inputs, screen_gradient), background, camera, settings
    )
    return GaussianImages(
        image=image,
        alpha=alpha,
        radii=radii,
        screen_gradient=screen_gradient,
        depth_sum=depth,
        median_depth=median,
    )


def _check_shape(
    quats: Tensor | None,
    scales: Tensor | None,
    covariances: Tensor | None,
    scale_modifier: float,
) -> None:
    if covariances is None:
        if quats is None or scales is None:
            raise ValueError("quats and scales, or covariances must be given")
    elif quats is not None or scales is not None:
        raise ValueError("quats and scales must be None beside covariances")
    elif scale_modifier != 1.0:
        raise ValueError(f"scale_modifier must be 1 beside covariances, got {scale_modifier}")


def _check_colors(features: Tensor | None, sh_coeffs: Tensor | None, sh_degree: int | None) -> int:
    """Degree to evaluate; -1 without SH."""
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


def _check_options(**options: tuple[str, object]) -> None:
    for name, (value, kind) in options.items():
        if value not in get_args(kind):
            raise ValueError(f"{name} must be of {', '.join(get_args(kind))}, got {value!r}")


def _check_numbers(near: float, dilation: float, max_alpha: float) -> None:
    if not near > 0:
        raise ValueError(f"near must be positive, got {near}")
    if not dilation >= 0:
        raise ValueError(f"dilation must not be negative, got {dilation}")
    if not 0 < max_alpha < 1:
        raise ValueError(f"max_alpha must lie between 0 and 1, got {max_alpha}")


def _check_camera(camera: Camera, means: Tensor) -> None:
    if len(camera) != means.shape[0]:
        raise ValueError(
            f"camera must have the batch size of means, got {len(camera)} and {means.shape[0]}"
        )
    # Looking at a GPU's tensor would wait for it; the kernels look themselves.
    is_on_cpu = camera.intrinsics.device.type == "cpu"
    if is_on_cpu and bool((camera.intrinsics[:, 0, 1] != 0).any()):
        raise ValueError("camera.intrinsics must have no skew")


def _choose_backend(backend: str, means: Tensor) -> str:
    if backend not in get_args(Backend):
        raise ValueError(f"backend must be of {', '.join(get_args(Backend))}, got {backend!r}")
    if backend != "auto":
        return backend
    if means.device.type != "cpu":
        return "gpu"
    return "cpu" if means.dtype == torch.float32 else "ref"


def _load_backend(backend: str):
    """Import late: Numba takes half a second, and Triton exists on Linux only."""
    if backend == "gpu":
        from vultus.kernels.gaussian_raster.gpu import rasterize
    elif backend == "cpu":
        from vultus.kernels.gaussian_raster.cpu import rasterize
    else:
        from vultus.kernels.gaussian_raster.ref import rasterize
    return rasterize
