"""Differentiable rasterization of 2D surfels.

Reference: Huang et al., 2D Gaussian Splatting for Geometrically Accurate Radiance Fields, 2024;
Lee et al., SurFhead, 2025 (per-surfel Jacobians).
"""

from __future__ import annotations

from collections.abc import Collection
from functools import lru_cache

from jaxtyping import Float
from torch import Tensor

from vultus.geometry.cameras import Camera
from vultus.kernels.raster_calls import (
    Backend,
    check_background,
    check_camera,
    check_colors,
    choose_backend,
    screen_signal,
)
from vultus.kernels.surfel_raster._types import (
    Convention,
    Cull,
    OutputName,
    RasterSettings,
    SurfelImages,
    Surfels,
)

__all__ = ["Backend", "Convention", "Cull", "OutputName", "SurfelImages", "rasterize_surfels"]


def rasterize_surfels(
    means: Float[Tensor, "b n 3"],
    quats: Float[Tensor, "b n 4"],
    scales: Float[Tensor, "b n 2"],
    opacities: Float[Tensor, "b n"],
    camera: Camera,
    *,
    features: Float[Tensor, "b n c"] | None = None,
    sh_coeffs: Float[Tensor, "b n k 3"] | None = None,
    sh_degree: int | None = None,
    jacobians: Float[Tensor, "b n 3 3"] | None = None,
    jacobian_grad: bool = True,
    background: Float[Tensor, " channels"] | None = None,
    near: float = 0.2,
    convention: Convention = "2dgs",
    cull: Cull = "exact",
    outputs: Collection[OutputName] = (),
    detach_distortion_weights: bool | None = None,
    backend: Backend = "auto",
) -> SurfelImages:
    """Blend surfels front to back, every frame of the batch with its own surfels and camera.

    Convention: a surfel's tangents are the first two columns of ``jacobian @ rotation`` times the
    scales, its normal ``jacobian^-T`` times the third column, not re-normalised. Surfels are sorted
    by the depth of their centres. A pixel's density is the larger one of the surfel's at the
    ray/plane intersection and of a screen-space low-pass of variance 1/2 pixel^2; contributions
    below 1/255 are skipped, alpha is clamped to 0.99, a pixel stops before its transmittance falls
    below 1e-4. The conventions differ in

    - the camera-facing flip of normals: by the view ray (2dgs) or by the camera axis (surfhead);
    - the low-pass centre: centre of the bounding box of 3 (2dgs) or 1 standard deviations;
    - the published radius;
    - depth in low-pass pixels: of the intersection (2dgs) or of the surfel's centre (surfhead);
    - gradients of distortion: full (2dgs) or with constant weights (surfhead).

    Args:
        means: Centres, world units.
        quats: Rotations, wxyz, any norm but zero.
        scales: Standard deviations along the tangents, world units.
        opacities: In [0, 1].
        camera: One pinhole camera per frame; skew is not supported.
        features: Channels that are blended as they are, after those of the colour.
        sh_coeffs: Colour max(0, 0.5 + SH), in the world direction from the camera.
        sh_degree: Evaluate up to this degree; by default the one of ``sh_coeffs``.
        jacobians: Deformation gradients, canonical to posed; the identity if None.
        jacobian_grad: Propagate gradients to ``jacobians``. The published system does not.
        background: Value per channel behind everything; zeros if None.
        near: Smallest depth of centres and intersections; also scales distortion.
        convention: Which published system to follow.
        cull: ``exact``: no contribution is lost. ``3sigma``: only 16 x 16 tiles that the square
            around the published radius touches (for parity).
        outputs: What to return besides image and alpha.
        detach_distortion_weights: Overrides the convention.
        backend: ``auto`` takes gpu for tensors on a GPU, else cpu for float32 and ref for float64.
            On gpu, what values are wrong may be reported by the backward pass, which may also ask
            to repeat the step (`kernels.capacity`).

    Raises:
        ValueError: On inconsistent shapes, values that are not finite, or unknown options.
        TypeError: If the backend does not support device or dtype.
        ModuleNotFoundError: For backend gpu without Triton.

    Reference: 2DGS eqs. 4-11 and 13; differences are listed above.
    """
    degree = check_colors(features, sh_coeffs, sh_degree)
    check_camera(camera, means)
    check_background(background, degree, features)
    if jacobians is not None and not jacobian_grad:
        jacobians = jacobians.detach()
    inputs = (means, quats, scales, opacities, features, sh_coeffs, jacobians)
    screen_gradient = screen_signal(means, inputs)
    if detach_distortion_weights is None:
        detach_distortion_weights = convention == "surfhead"
    settings = _settings(
        sh_degree=degree,
        near=near,
        convention=convention,
        cull=cull,
        outputs=tuple(outputs),
        has_detached_weights=detach_distortion_weights,
    )
    surfels = Surfels(*inputs, screen_gradient)
    rasterize = _load_backend(choose_backend(backend, means))
    image, alpha, depth, normal, median, distortion, radii = rasterize(
        surfels, background, camera, settings
    )
    return SurfelImages(
        image=image,
        alpha=alpha,
        radii=radii,
        screen_gradient=screen_gradient,
        depth_sum=depth,
        normal_view_sum=normal,
        median_depth=median,
        distortion=distortion,
    )


_settings = lru_cache(maxsize=64, typed=True)(RasterSettings)
"""Checks what is the same in every call of a training once."""


def _load_backend(backend: str):
    """Import late: Numba takes half a second, and Triton exists on Linux only."""
    if backend == "gpu":
        from vultus.kernels.surfel_raster.gpu import rasterize
    elif backend == "cpu":
        from vultus.kernels.surfel_raster.cpu import rasterize
    else:
        from vultus.kernels.surfel_raster.ref import rasterize
    return rasterize
