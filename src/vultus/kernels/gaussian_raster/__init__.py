"""Differentiable rasterization of 3D Gaussians.

Reference: Kerbl et al., 3D Gaussian Splatting for Real-Time Radiance Field Rendering, 2023;
Zwicker et al., EWA Splatting, 2002; Yu et al., Mip-Splatting, 2024 (opacity compensation).
"""

from __future__ import annotations

from collections.abc import Collection
from functools import lru_cache

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
from vultus.kernels.raster_calls import (
    Backend,
    check_background,
    check_camera,
    check_colors,
    choose_backend,
    screen_signal,
)

__all__ = ["Backend", "Cull", "GaussianImages", "Gradients", "OutputName", "rasterize_gaussians"]


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
    degree = check_colors(features, sh_coeffs, sh_degree)
    check_camera(camera, means)
    check_background(background, degree, features)
    if scales is not None and scale_modifier != 1.0:
        scales = scales * scale_modifier
    inputs = (means, quats, scales, opacities, covariances, features, sh_coeffs, jacobians)
    screen_gradient = screen_signal(means, inputs)
    settings = _settings(
        sh_degree=degree,
        near=near,
        dilation=dilation,
        is_antialiased=antialiased,
        max_alpha=max_alpha,
        pixel_center=pixel_center,
        cull=cull,
        gradients=gradients,
        normalizes_quats=normalize_quats,
        outputs=tuple(outputs),
    )
    rasterize = _load_backend(choose_backend(backend, means))
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


_settings = lru_cache(maxsize=64, typed=True)(RasterSettings)
"""Checks what is the same in every call of a training once."""


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


def _load_backend(backend: str):
    """Import late: Numba takes half a second, and Triton exists on Linux only."""
    if backend == "gpu":
        from vultus.kernels.gaussian_raster.gpu import rasterize
    elif backend == "cpu":
        from vultus.kernels.gaussian_raster.cpu import rasterize
    else:
        from vultus.kernels.gaussian_raster.ref import rasterize
    return rasterize
