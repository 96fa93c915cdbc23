"""Numba kernel that shades surface samples; one vector holds 16 lights."""

import math
from typing import no_type_check

import numpy as np

from vultus.core.simd import (
    LANES,
    fetch_add,
    hsum,
    kernel,
    splat,
    vexp2,
    vload,
    vload_u8,
    vmax,
    vsqrt,
)
from vultus.data.studio import _materials
from vultus.data.studio._materials import (
    EYE_GRAZING,
    EYE_REFLECTANCE,
    EYE_ROUGHNESS,
    EYE_SHARPNESS,
    MAX_BOUNCE_GAIN,
    MIN_ROUGHNESS,
    NUM_MAPS,
    SPECULAR_FADE,
    SPECULAR_SCALE,
    WRAP,
)

__all__ = ["shade_samples"]

_SAMPLES_PER_JOB = 256
_ZERO, _ONE = np.float32(0), np.float32(1)

_compile = kernel(_materials.__file__)


@_compile
@no_type_check
def _row(array, i):
    # One type for all scalars: every mixture would compile the functions below once more.
    return np.float64(array[i, 0]), np.float64(array[i, 1]), np.float64(array[i, 2])


@_compile
@no_type_check
def _dot(a, b):
    return a[0] * b[0] + a[1] * b[1] + a[2] * b[2]


@_compile
@no_type_check
def _cross(a, b):
    return a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]


@_compile
@no_type_check
def _combine(a, s, b, t):
    """Linear combination s a + t b."""
    return a[0] * s + b[0] * t, a[1] * s + b[1] * t, a[2] * s + b[2] * t


@_compile
@no_type_check
def _unit(a):
    s = 1.0 / math.sqrt(_dot(a, a) + 1e-20)
    return a[0] * s, a[1] * s, a[2] * s


@_compile
@no_type_check
def _look_up(image, x, y, out):
    """Bilinear texture lookup at pixel coordinates; the borders are repeated."""
    height, width, channels = image.shape
    y = min(max(y - 0.5, 0.0), height - 1.0)
    x = min(max(x - 0.5, 0.0), width - 1.0)
    left = int(x)
    top = int(y)
    across = x - left
    down = y - top
    right = min(left + 1, width - 1)
    bottom = min(top + 1, height - 1)
    for c in range(channels):
        upper = image[top, left, c] * (1 - across) + image[top, right, c] * across
        lower = image[bottom, left, c] * (1 - across) + image[bottom, right, c] * across
        out[c] = upper * (1 - down) + lower * down


@_compile
@no_type_check
def _bend_normal(normal, edge_1, edge_2, uv_1, uv_2, encoded):
    """Turn a normal by a tangent-space map; ``uv_1`` and ``uv_2`` are the edges in the texture."""
    sign = 1.0 if uv_1[0] * uv_2[1] - uv_2[0] * uv_1[1] > 0 else -1.0
    tangent = _combine(edge_1, uv_2[1] * sign, edge_2, -uv_1[1] * sign)
    tangent = _unit(_combine(tangent, 1.0, normal, -_dot(tangent, normal)))
    bitangent = _cross(normal, tangent)
    bent = _combine(tangent, encoded[0] * 2.0 - 1.0, bitangent, (encoded[1] * 2.0 - 1.0) * sign)
    return _unit(_combine(bent, 1.0, normal, max(encoded[2] * 2.0 - 1.0, 0.05)))


@_compile
@no_type_check
def _bounce_gain(openness, albedo):
    """Light lost to occluders of the same color comes back in part.

    Reference: Jimenez et al., Practical Realtime Strategies for Accurate Indirect Occlusion, 2016.
    """
    a = 2.0404 * albedo - 0.3324
    b = -4.7951 * albedo + 0.6417
    c = 2.7552 * albedo + 0.6903
    bounced = max(openness, ((openness * a + b) * openness + c) * openness)
    return min(bounced / max(openness, 1e-3), MAX_BOUNCE_GAIN)


@_compile
@no_type_check
def _sum_lights(  # noqa: PLR0915 - one loop over the lights, kept in registers
    point, normal, view, material, is_eye, lights, num_lights, visible, rows, weights, sums
):
    """Add up all lights at one point.

    ``lights`` holds planes of ``num_lights``: x, y, z, w, intensity (3), spread. Visibility is
    blended from three rows. ``sums`` receives diffuse (3), specular (3), openness, and visibility
    around the mirror direction.
    """
    roughness = max(material[3], MIN_ROUGHNESS) if not is_eye else EYE_ROUGHNESS
    base = SPECULAR_SCALE * material[4] if not is_eye else EYE_REFLECTANCE
    n_v = max(_dot(normal, view), 0.02)
    k = (roughness + 1) * (roughness + 1) / 8
    view_term = 1.0 / (4.0 * math.pi * (n_v * (1 - k) + k))
    mirror = _combine(normal, 2.0 * n_v, view, -1.0)
    wrap_0, wrap_1, wrap_2 = WRAP[0] * material[5], WRAP[1] * material[5], WRAP[2] * material[5]
    diffuse_0 = splat(_ZERO)
    diffuse_1 = splat(_ZERO)
    diffuse_2 = splat(_ZERO)
    specular_0 = splat(_ZERO)
    specular_1 = splat(_ZERO)
    specular_2 = splat(_ZERO)
    seen = splat(_ZERO)
    all_light = splat(_ZERO)
    seen_mirror = splat(_ZERO)
    all_mirror = splat(_ZERO)
    for i in range(0, num_lights, LANES):
        w = vload(lights, 3 * num_lights + i)
        lx = vload(lights, i) - w * point[0]
        ly = vload(lights, num_lights + i) - w * point[1]
        lz = vload(lights, 2 * num_lights + i) - w * point[2]
        # The direction of a light at infinity is unit, so that this is its falloff, too.
        falloff = _ONE / vmax(lx * lx + ly * ly + lz * lz, np.float32(1e-12))
        inverse = vsqrt(falloff)
        lx *= inverse
        ly *= inverse
        lz *= inverse
        visibility = vload_u8(visible, rows[0] * num_lights + i) * weights[0]
        visibility += vload_u8(visible, rows[1] * num_lights + i) * weights[1]
        visibility += vload_u8(visible, rows[2] * num_lights + i) * weights[2]
        light = visibility * falloff
        e0 = vload(lights, 4 * num_lights + i) * light
        e1 = vload(lights, 5 * num_lights + i) * light
        e2 = vload(lights, 6 * num_lights + i) * light
        spread = vload(lights, 7 * num_lights + i)
        n_l = lx * normal[0] + ly * normal[1] + lz * normal[2]
        # Wrapped light counts above the horizon only; 1 + 2 w keeps the sum over a bright sky.
        diffuse_0 += e0 * vmax((n_l + wrap_0) * (1 / (1 + 2 * wrap_0)), _ZERO)
        diffuse_1 += e1 * vmax((n_l + wrap_1) * (1 / (1 + 2 * wrap_1)), _ZERO)
        diffuse_2 += e2 * vmax((n_l + wrap_2) * (1 / (1 + 2 * wrap_2)), _ZERO)
        n_l = vmax(n_l, _ZERO)
        seen += visibility * n_l * spread
        all_light += n_l * spread
        hx = lx + view[0]
        hy = ly + view[1]
        hz = lz + view[2]
        inverse = _ONE / vsqrt(hx * hx + hy * hy + hz * hz + 1e-9)
        n_h = vmax((hx * normal[0] + hy * normal[1] + hz * normal[2]) * inverse, _ZERO)
        v_h = vmax((hx * view[0] + hy * view[1] + hz * view[2]) * inverse, _ZERO)
        alpha_2 = spread + roughness * roughness * roughness * roughness
        d = n_h * n_h * (alpha_2 - _ONE) + _ONE
        x = _ONE - v_h
        x_2 = x * x
        fresnel = x_2 * x_2 * x * (1 - base) + base
        lobe = fresnel * n_l * alpha_2 * view_term / (d * d * (n_l * (1 - k) + k))
        specular_0 += lobe * e0
        specular_1 += lobe * e1
        specular_2 += lobe * e2
        if is_eye:
            cosine = lx * mirror[0] + ly * mirror[1] + lz * mirror[2]
            near = vexp2((cosine - _ONE) * EYE_SHARPNESS)
            all_mirror += near
            seen_mirror += near * visibility
    sums[0] = hsum(diffuse_0)
    sums[1] = hsum(diffuse_1)
    sums[2] = hsum(diffuse_2)
    sums[3] = hsum(specular_0)
    sums[4] = hsum(specular_1)
    sums[5] = hsum(specular_2)
    # Lights without spread say nothing about how open the surroundings are.
    total = hsum(all_light)
    sums[6] = min(hsum(seen) / total, 1.0) if total > 1e-9 else 1.0
    sums[7] = hsum(seen_mirror) / max(hsum(all_mirror), 1e-12)


@_compile
@no_type_check
def _tell_surface(material, is_eye, row):
    """Write what is in effect; see ``NUM_SURFACE``."""
    for c in range(3):
        row[c] = material[c]
    row[3] = EYE_ROUGHNESS if is_eye else max(material[3], MIN_ROUGHNESS)
    row[4] = EYE_REFLECTANCE / SPECULAR_SCALE if is_eye else material[4]


@_compile
@no_type_check
def shade_samples(
    job,
    sample_faces,
    barycentrics,
    directions,
    faces,
    vertices,
    normals,
    uv,
    uv_faces,
    maps,
    is_eyeball,
    lights,
    visible,
    is_per_sample,
    bounces,
    environment,
    radiance,
    surface,
):
    """Shade samples, as one of the workers that share ``job``.

    ``lights`` is [8, k] with k a multiple of 16; ``visible`` has one row per vertex, or per sample;
    ``bounces`` says whether occluders give light back.
    ``environment`` [h, w + 2, 3] is what eyes mirror, with one more column on either side that
    repeats the opposite border; an empty one makes eyes show the lights. ``surface`` is [n, 5]; see
    ``NUM_SURFACE``.
    """
    num_lights = lights.shape[1]
    planes = lights.reshape(-1)
    flat_visible = visible.reshape(-1)
    material = np.empty(NUM_MAPS, np.float64)
    mirrored = np.empty(3, np.float64)
    sums = np.empty(8, np.float64)
    num_samples = sample_faces.shape[0]
    while True:
        begin = fetch_add(job, 0, 1) * _SAMPLES_PER_JOB
        if begin >= num_samples:
            break
        for s in range(begin, min(begin + _SAMPLES_PER_JOB, num_samples)):
            face = sample_faces[s]
            weights = _row(barycentrics, s)
            i0, i1, i2 = faces[face, 0], faces[face, 1], faces[face, 2]
            t0, t1, t2 = uv_faces[face, 0], uv_faces[face, 1], uv_faces[face, 2]
            corner = _row(vertices, i0)
            edge_1 = _combine(_row(vertices, i1), 1.0, corner, -1.0)
            edge_2 = _combine(_row(vertices, i2), 1.0, corner, -1.0)
            point = _combine(edge_1, weights[1], edge_2, weights[2])
            point = _combine(corner, 1.0, point, 1.0)
            uv_1 = np.float64(uv[t1, 0] - uv[t0, 0]), np.float64(uv[t1, 1] - uv[t0, 1])
            uv_2 = np.float64(uv[t2, 0] - uv[t0, 0]), np.float64(uv[t2, 1] - uv[t0, 1])
            u = uv[t0, 0] + uv_1[0] * weights[1] + uv_2[0] * weights[2]
            v = uv[t0, 1] + uv_1[1] * weights[1] + uv_2[1] * weights[2]
            _look_up(maps, u * maps.shape[1], (1.0 - v) * maps.shape[0], material)

            direction = _unit(_row(directions, s))
            view = (-direction[0], -direction[1], -direction[2])
            normal = _combine(_row(normals, i0), weights[0], _row(normals, i1), weights[1])
            normal = _unit(_combine(normal, 1.0, _row(normals, i2), weights[2]))
            if _dot(_cross(edge_1, edge_2), direction) > 0:  # the inside of the surface
                normal = (-normal[0], -normal[1], -normal[2])
            normal = _bend_normal(normal, edge_1, edge_2, uv_1, uv_2, material[6:])

            rows = (s, s, s) if is_per_sample else (int(i0), int(i1), int(i2))
            is_eye = is_eyeball[face]
            _sum_lights(
                point,
                normal,
                view,
                material,
                is_eye,
                planes,
                num_lights,
                flat_visible,
                rows,
                weights,
                sums,
            )
            has_mirror = is_eye and environment.shape[0] > 0
            fade = 1.0 if is_eye else min(material[4] / SPECULAR_FADE, 1.0)
            if has_mirror:
                n_v = max(_dot(normal, view), 0.0)
                mirror = _combine(normal, 2.0 * n_v, view, -1.0)
                turn = math.atan2(mirror[2], mirror[0]) / (2.0 * math.pi)
                x = (turn - math.floor(turn)) * (environment.shape[1] - 2) + 1.0
                polar = math.acos(min(max(mirror[1], -1.0), 1.0))
                _look_up(environment, x, polar / math.pi * environment.shape[0], mirrored)
                fade = sums[7] * (EYE_REFLECTANCE + EYE_GRAZING * (1.0 - n_v) ** 5)
            for c in range(3):
                gain = _bounce_gain(sums[6], material[c]) if bounces else 1.0
                reflected = mirrored[c] if has_mirror else sums[3 + c]
                radiance[s, c] = material[c] / math.pi * sums[c] * gain + fade * reflected
            _tell_surface(material, is_eye, surface[s])
