"""Kernels that read planes at samples of rays or at points, and those that scatter gradients back.

Rows and columns are those of ``_gpu_rays.py``. A program is a block of neighbouring rays at one
sample, so that its points, and the texels around them, lie close together.
"""

# ruff: noqa: D417 -- flags explain themselves.
from __future__ import annotations

from vultus.kernels.triplane_volume._gpu_decoder import softplus2
from vultus.kernels.triplane_volume._gpu_lookup import gather_features, scatter_features
from vultus.kernels.triton_runtime import constexpr, jit, tl

__all__ = ["gather_points", "sample_rays", "scatter_points", "scatter_rays"]

_CROPPED_DENSITY = tl.constexpr(-1000.0)


@jit
def _load3(vectors, row, mask):
    return (
        tl.load(vectors + row * 3, mask=mask, other=0.0),
        tl.load(vectors + row * 3 + 1, mask=mask, other=0.0),
        tl.load(vectors + row * 3 + 2, mask=mask, other=0.0),
    )


@jit
def _add3(vectors, row, x, y, z, mask):
    tl.atomic_add(vectors + row * 3, x, mask=mask, sem="relaxed")
    tl.atomic_add(vectors + row * 3 + 1, y, mask=mask, sem="relaxed")
    tl.atomic_add(vectors + row * 3 + 2, z, mask=mask, sem="relaxed")


@jit
def _points(origins, directions, ray, depth, mask):
    """Positions in the world, and directions."""
    o, d = _load3(origins, ray, mask), _load3(directions, ray, mask)
    return o[0] + depth * d[0], o[1] + depth * d[1], o[2] + depth * d[2], d


@jit
def sample_rays(
    planes, origins, directions, depths, w1, b1, w_density, density_bias, noise, features,
    densities, rays_per_image, R, first, scale, crop, image_stride, noise_scale,
    KIND: constexpr, LAYERS: constexpr, SIZE: constexpr, TEXEL: constexpr, PLANE: constexpr,
    CHANNELS: constexpr, C: constexpr, K: constexpr, HAS_NOISE: constexpr, PRECISION: constexpr,
    IS_HARDWARE: constexpr, BLOCK: constexpr,
):  # fmt: skip
    """Features and raw densities of samples; what is cropped away has no features.

    Args:
        w1: K by C, times log2 e.
        w_density: Row of the density, times ln 2.
        noise: From sample ``first`` on.
        scale: Half boxes per world unit.
        crop: Largest |x| and |z|, in world units.
    """
    column = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    s = tl.program_id(1) + first
    image = tl.program_id(2)
    ok = column < rays_per_image
    ray = image * rays_per_image + column
    row = ray.to(tl.int64) + s * R
    depth = tl.load(depths + row, mask=ok, other=0.0)
    x, y, z, _ = _points(origins, directions, ray, depth, ok)
    inside = ok & (tl.abs(x) <= crop) & (tl.abs(z) <= crop)
    density = tl.full([BLOCK], _CROPPED_DENSITY, tl.float32)
    channel = tl.arange(0, C)
    kept = tl.zeros([BLOCK, C], features.dtype.element_ty)
    if tl.max(inside.to(tl.int32), axis=0) > 0:
        mask = inside[:, None] & (channel < CHANNELS)[None, :]
        base = planes + image.to(tl.int64) * image_stride + channel[None, :]
        mean = gather_features(
            base, x * scale, y * scale, z * scale, mask, tl.zeros([BLOCK, C], tl.float32),
            KIND, LAYERS, SIZE, TEXEL, PLANE,
        )  # fmt: skip
        kept = mean.to(features.dtype.element_ty)
        hidden = tl.arange(0, K)
        weight = tl.load(w1 + hidden[None, :] * C + channel[:, None])
        pre = tl.dot(kept.to(weight.dtype), weight, input_precision=PRECISION)
        h = softplus2(pre + tl.load(b1 + hidden)[None, :], IS_HARDWARE)
        found = tl.sum(h * tl.load(w_density + hidden)[None, :], axis=1) + tl.load(density_bias)
        if HAS_NOISE:
            drawn = tl.load(noise + (row - first * R), mask=ok, other=0.0)
            found += noise_scale * drawn
        density = tl.where(inside, found, _CROPPED_DENSITY)
    tl.store(features + row[:, None] * C + channel[None, :], kept, mask=ok[:, None])
    tl.store(densities + row, density, mask=ok)


@jit
def scatter_rays(
    planes, g_planes, origins, directions, depths, shares, g_densities, g_features,
    g_origins, g_directions, g_depths, rays_per_image, R, first, num_coarse, scale, crop,
    image_stride,
    KIND: constexpr, LAYERS: constexpr, SIZE: constexpr, TEXEL: constexpr, PLANE: constexpr,
    CHANNELS: constexpr, C: constexpr, HAS_POINTS: constexpr, HAS_DEPTHS: constexpr,
    BLOCK: constexpr,
):  # fmt: skip
    """Add the gradients of samples' features to those of texels, rays and coarse depths.

    Args:
        g_features: From sample ``first`` on.
        g_depths: Holds what ``weigh_samples_backward`` has found.
    """
    column = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    local = tl.program_id(1)
    s = local + first
    image = tl.program_id(2)
    ok = column < rays_per_image
    ray = image * rays_per_image + column
    row = ray.to(tl.int64) + s * R
    share = tl.load(shares + row, mask=ok, other=0.0)
    g_density = tl.load(g_densities + row, mask=ok, other=0.0)
    live = ok & ((share != 0.0) | (g_density != 0.0))
    if tl.max(live.to(tl.int32), axis=0) > 0:
        depth = tl.load(depths + row, mask=ok, other=0.0)
        x, y, z, d = _points(origins, directions, ray, depth, ok)
        live = live & (tl.abs(x) <= crop) & (tl.abs(z) <= crop)
        channel = tl.arange(0, C)
        place = (ray.to(tl.int64) + local * R)[:, None] * C + channel[None, :]
        # Four channels a lane, the layout of the vector atomics: else every gradient would pass
        # through shared memory.
        pointers = tl.max_contiguous(g_features + place, [1, 4])
        mask = live[:, None] & (channel < CHANNELS)[None, :]
        dx = tl.load(pointers, mask=mask, other=0.0).to(tl.float32)
        start = image.to(tl.int64) * image_stride + channel[None, :]
        gx, gy, gz = scatter_features(
            g_planes + start, planes + start, x * scale, y * scale, z * scale, mask, dx,
            KIND, LAYERS, SIZE, TEXEL, PLANE, HAS_POINTS,
        )  # fmt: skip
        if HAS_POINTS:
            gx *= scale
            gy *= scale
            gz *= scale
            _add3(g_origins, ray, gx, gy, gz, live)
            _add3(g_directions, ray, gx * depth, gy * depth, gz * depth, live)
            if HAS_DEPTHS:
                along = gx * d[0] + gy * d[1] + gz * d[2]
                is_coarse = live & (ray * 0 + s < num_coarse)
                before = tl.load(g_depths + row, mask=is_coarse, other=0.0)
                tl.store(g_depths + row, before + along, mask=is_coarse)


@jit
def gather_points(
    planes, points, features, points_per_image, scale, image_stride,
    KIND: constexpr, LAYERS: constexpr, SIZE: constexpr, TEXEL: constexpr, PLANE: constexpr,
    CHANNELS: constexpr, C: constexpr, BLOCK: constexpr,
):  # fmt: skip
    """Mean features of points in the world, without padding."""
    image = tl.program_id(1)
    column = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    ok = column < points_per_image
    row = image.to(tl.int64) * points_per_image + column
    channel = tl.arange(0, C)
    mask = ok[:, None] & (channel < CHANNELS)[None, :]
    x, y, z = _load3(points, row, ok)
    base = planes + image.to(tl.int64) * image_stride + channel[None, :]
    mean = gather_features(
        base, x * scale, y * scale, z * scale, mask, tl.zeros([BLOCK, C], tl.float32),
        KIND, LAYERS, SIZE, TEXEL, PLANE,
    )  # fmt: skip
    tl.store(features + row[:, None] * CHANNELS + channel[None, :], mean, mask=mask)


@jit
def scatter_points(
    planes, g_planes, points, g_features, g_points, points_per_image, scale, image_stride,
    KIND: constexpr, LAYERS: constexpr, SIZE: constexpr, TEXEL: constexpr, PLANE: constexpr,
    CHANNELS: constexpr, C: constexpr, HAS_POINTS: constexpr, BLOCK: constexpr,
):  # fmt: skip
    """Gradients of texels and points from those of ``gather_points``."""
    image = tl.program_id(1)
    column = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    ok = column < points_per_image
    row = image.to(tl.int64) * points_per_image + column
    channel = tl.arange(0, C)
    mask = ok[:, None] & (channel < CHANNELS)[None, :]
    x, y, z = _load3(points, row, ok)
    place = g_features + row[:, None] * CHANNELS + channel[None, :]
    dx = tl.load(tl.max_contiguous(place, [1, 4]), mask=mask, other=0.0)
    start = image.to(tl.int64) * image_stride + channel[None, :]
    gx, gy, gz = scatter_features(
        g_planes + start, planes + start, x * scale, y * scale, z * scale, mask, dx,
        KIND, LAYERS, SIZE, TEXEL, PLANE, HAS_POINTS,
    )  # fmt: skip
    if HAS_POINTS:
        tl.store(g_points + row * 3, gx * scale, mask=ok)
        tl.store(g_points + row * 3 + 1, gy * scale, mask=ok)
        tl.store(g_points + row * 3 + 2, gz * scale, mask=ok)
