"""Triton kernel that shades surface samples, one per lane; the function of ``_shading_kernel``."""

# ruff: noqa: RUF005 -- Triton unpacks no tuples.
from __future__ import annotations

import math

from torch import Tensor

from vultus.data.studio import _materials
from vultus.kernels.triton_math import add3, cross3, dot3, scale3
from vultus.kernels.triton_runtime import constexpr, jit, launch, tl

__all__ = ["shade_on_gpu"]

_LANES, _WARPS = 32, 1
_PI = tl.constexpr(math.pi)
_NUM_MAPS = tl.constexpr(_materials.NUM_MAPS)
_NUM_SURFACE = tl.constexpr(_materials.NUM_SURFACE)
_WRAP_RED = tl.constexpr(_materials.WRAP[0])
_WRAP_GREEN = tl.constexpr(_materials.WRAP[1])
_WRAP_BLUE = tl.constexpr(_materials.WRAP[2])
_MIN_ROUGHNESS = tl.constexpr(_materials.MIN_ROUGHNESS)
_SPECULAR_SCALE = tl.constexpr(_materials.SPECULAR_SCALE)
_SPECULAR_FADE = tl.constexpr(_materials.SPECULAR_FADE)
_EYE_REFLECTANCE = tl.constexpr(_materials.EYE_REFLECTANCE)
_EYE_GRAZING = tl.constexpr(_materials.EYE_GRAZING)
_EYE_ROUGHNESS = tl.constexpr(_materials.EYE_ROUGHNESS)
_EYE_SHARPNESS = tl.constexpr(_materials.EYE_SHARPNESS)
_MAX_BOUNCE_GAIN = tl.constexpr(_materials.MAX_BOUNCE_GAIN)


def shade_on_gpu(
    sample_faces: Tensor,
    barycentrics: Tensor,
    directions: Tensor,
    mesh: tuple[Tensor, Tensor, Tensor],
    texture: tuple[Tensor, Tensor, Tensor, Tensor],
    lights: Tensor,
    visible: Tensor,
    environment: Tensor,
    radiance: Tensor,
    surface: Tensor,
    bounces: bool,
) -> None:
    """Shade samples; those whose face is -1 become 0.

    Args:
        sample_faces: int64.
        barycentrics: A row per sample.
        directions: A row per sample, of any length.
        mesh: Faces (int32), vertices, normals.
        texture: Coordinates, their faces (int32), maps, whether a face is of an eyeball (uint8).
        lights: Eight planes; see ``PackedLight``.
        visible: A row per vertex, or per sample.
        environment: See ``PackedLight``.
        radiance: Receives a row per sample.
        surface: Receives a row per sample; see ``NUM_SURFACE``.
        bounces: Whether occluders give light back.
    """
    _, vertices, _ = mesh
    maps = texture[2]
    num_samples = len(sample_faces)
    launch(
        shade_lanes, (-(-num_samples // _LANES),), sample_faces, barycentrics, directions, *mesh,
        *texture, lights, visible, environment, radiance, surface, num_samples, visible.shape[1],
        lights.shape[1], maps.shape[0], maps.shape[1], environment.shape[0], environment.shape[1],
        IS_PER_SAMPLE=len(visible) != len(vertices), HAS_MIRROR=environment.numel() > 0,
        BOUNCES=bounces, LANES=_LANES, num_warps=_WARPS,
    )  # fmt: skip


@jit
def _unit(a):
    return scale3(1.0 / tl.sqrt(dot3(a, a) + 1e-20), a)


@jit
def _load_rows(rows, index):
    """A vector per lane."""
    at = rows + 3 * index.to(tl.int64)
    return (tl.load(at), tl.load(at + 1), tl.load(at + 2))


@jit
def _blend3(a, b, c, weights):
    """Combination of three vectors."""
    ab = add3(scale3(weights[0], a), scale3(weights[1], b))
    return add3(ab, scale3(weights[2], c))


@jit
def _look_up(image, x, y, width, height, CHANNELS: constexpr):
    """Bilinear texture lookup at pixel coordinates; the borders are repeated."""
    x = tl.minimum(tl.maximum(x - 0.5, 0.0), width - 1.0)
    y = tl.minimum(tl.maximum(y - 0.5, 0.0), height - 1.0)
    left = x.to(tl.int32)
    top = y.to(tl.int32)
    across = x - left
    down = y - top
    right = tl.minimum(left + 1, width - 1)
    bottom = tl.minimum(top + 1, height - 1)
    upper = image + (top * width).to(tl.int64) * CHANNELS
    lower = image + (bottom * width).to(tl.int64) * CHANNELS
    values = ()
    for c in tl.static_range(CHANNELS):
        above = tl.load(upper + left * CHANNELS + c) * (1 - across)
        above += tl.load(upper + right * CHANNELS + c) * across
        below = tl.load(lower + left * CHANNELS + c) * (1 - across)
        below += tl.load(lower + right * CHANNELS + c) * across
        values = values + (above * (1 - down) + below * down,)
    return values


@jit
def _atan2(y, x):
    """Angle of a direction in the plane, to 2e-7.

    Reference: Abramowitz and Stegun, Handbook of Mathematical Functions, 4.4.49.
    """
    along = tl.abs(x)
    up = tl.abs(y)
    t = tl.minimum(along, up) / tl.maximum(tl.maximum(along, up), 1e-30)
    s = t * t
    p = s * 0.0028662257 - 0.0161657367
    p = p * s + 0.0429096138
    p = p * s - 0.0752896400
    p = p * s + 0.1065626393
    p = p * s - 0.1420889944
    p = p * s + 0.1999355085
    p = p * s - 0.3333314528
    angle = t + t * s * p
    angle = tl.where(up > along, 0.5 * _PI - angle, angle)
    angle = tl.where(x < 0, _PI - angle, angle)
    return tl.where(y < 0, -angle, angle)


@jit
def _bend_normal(normal, edge_1, edge_2, du_1, dv_1, du_2, dv_2, x, y, z):
    """Turn a normal by an encoded tangent-space normal; ``du`` and ``dv`` are texture edges."""
    sign = tl.where(du_1 * dv_2 - du_2 * dv_1 > 0, 1.0, -1.0)
    tangent = add3(scale3(dv_2 * sign, edge_1), scale3(-dv_1 * sign, edge_2))
    tangent = _unit(add3(tangent, scale3(-dot3(tangent, normal), normal)))
    bitangent = cross3(normal, tangent)
    bent = add3(scale3(x * 2 - 1, tangent), scale3((y * 2 - 1) * sign, bitangent))
    return _unit(add3(bent, scale3(tl.maximum(z * 2 - 1, 0.05), normal)))


@jit
def _bounced(openness, albedo):
    """Factor for the light that comes back from occluders of the same color.

    Reference: Jimenez et al., Practical Realtime Strategies for Accurate Indirect Occlusion, 2016.
    """
    a = 2.0404 * albedo - 0.3324
    b = -4.7951 * albedo + 0.6417
    c = 2.7552 * albedo + 0.6903
    bounced = tl.maximum(openness, ((openness * a + b) * openness + c) * openness)
    return tl.minimum(bounced / tl.maximum(openness, 1e-3), _MAX_BOUNCE_GAIN)


@jit
def _wrapped(n_l, wrap):
    return tl.maximum((n_l + wrap) / (1 + 2 * wrap), 0.0)


@jit
def _load_visibility(visible, rows, weights, light, IS_PER_SAMPLE: constexpr):
    """Visibility of a light: that of the sample, or blended from three vertices."""
    seen = tl.load(visible + rows[0] + light).to(tl.float32)
    if not IS_PER_SAMPLE:
        seen = seen * weights[0]
        seen += tl.load(visible + rows[1] + light).to(tl.float32) * weights[1]
        seen += tl.load(visible + rows[2] + light).to(tl.float32) * weights[2]
    return seen


@jit
def _sum_lights(  # noqa: PLR0915 - one loop over the lights, kept in registers
    point, normal, view, roughness, base, scatter, lights, visible, rows, weights, num_lights,
    plane, IS_PER_SAMPLE: constexpr,
):  # fmt: skip
    """Add up all lights at one point per lane.

    Returns:
        Diffuse light, highlights, openness, and visibility around the mirror direction.
    """
    n_v = tl.maximum(dot3(normal, view), 0.02)
    k = (roughness + 1) * (roughness + 1) / 8
    view_term = 1.0 / (4.0 * _PI * (n_v * (1 - k) + k))
    mirror = add3(scale3(2.0 * n_v, normal), scale3(-1.0, view))
    zero = n_v * 0.0
    diffuse_0 = zero
    diffuse_1 = zero
    diffuse_2 = zero
    specular_0 = zero
    specular_1 = zero
    specular_2 = zero
    seen = zero
    all_light = zero
    seen_mirror = zero
    all_mirror = zero
    for i in range(num_lights):
        w = tl.load(lights + 3 * plane + i)
        towards = (
            tl.load(lights + i) - w * point[0],
            tl.load(lights + plane + i) - w * point[1],
            tl.load(lights + 2 * plane + i) - w * point[2],
        )
        # The direction of a light at infinity is unit, so that this is its falloff, too.
        falloff = 1.0 / tl.maximum(dot3(towards, towards), 1e-12)
        towards = scale3(tl.sqrt(falloff), towards)
        visibility = _load_visibility(visible, rows, weights, i, IS_PER_SAMPLE)
        light = visibility * falloff
        e0 = tl.load(lights + 4 * plane + i) * light
        e1 = tl.load(lights + 5 * plane + i) * light
        e2 = tl.load(lights + 6 * plane + i) * light
        spread = tl.load(lights + 7 * plane + i)
        n_l = dot3(towards, normal)
        diffuse_0 += e0 * _wrapped(n_l, _WRAP_RED * scatter)
        diffuse_1 += e1 * _wrapped(n_l, _WRAP_GREEN * scatter)
        diffuse_2 += e2 * _wrapped(n_l, _WRAP_BLUE * scatter)
        n_l = tl.maximum(n_l, 0.0)
        seen += visibility * n_l * spread
        all_light += n_l * spread
        half = add3(towards, view)
        half = scale3(1.0 / tl.sqrt(dot3(half, half) + 1e-9), half)
        n_h = tl.maximum(dot3(half, normal), 0.0)
        x = 1.0 - tl.maximum(dot3(half, view), 0.0)
        alpha_2 = spread + roughness * roughness * roughness * roughness
        d = n_h * n_h * (alpha_2 - 1.0) + 1.0
        x_2 = x * x
        fresnel = x_2 * x_2 * x * (1 - base) + base
        lobe = fresnel * n_l * alpha_2 * view_term / (d * d * (n_l * (1 - k) + k))
        specular_0 += lobe * e0
        specular_1 += lobe * e1
        specular_2 += lobe * e2
        near = tl.exp2((dot3(towards, mirror) - 1.0) * _EYE_SHARPNESS)
        all_mirror += near
        seen_mirror += near * visibility
    # Lights without spread say nothing about how open the surroundings are.
    openness = tl.minimum(seen / tl.maximum(all_light, 1e-9), 1.0)
    openness = tl.where(all_light > 1e-9, openness, 1.0)
    mirrored = seen_mirror / tl.maximum(all_mirror, 1e-12)
    diffuse = (diffuse_0, diffuse_1, diffuse_2)
    return diffuse, (specular_0, specular_1, specular_2), openness, mirrored


@jit
def _reflect(environment, normal, view, width, height):
    """What a mirror shows, and how much of it an eye reflects."""
    n_v = tl.maximum(dot3(normal, view), 0.0)
    mirror = add3(scale3(2.0 * n_v, normal), scale3(-1.0, view))
    turn = _atan2(mirror[2], mirror[0]) / (2 * _PI)
    x = (turn - tl.floor(turn)) * (width - 2) + 1.0
    ring = tl.sqrt(mirror[0] * mirror[0] + mirror[2] * mirror[2])
    polar = _atan2(ring, mirror[1])
    grazing = 1.0 - n_v
    grazing_2 = grazing * grazing
    share = _EYE_REFLECTANCE + _EYE_GRAZING * (grazing_2 * grazing_2 * grazing)
    return _look_up(environment, x, polar / _PI * height, width, height, 3), share


@jit
def shade_lanes(  # noqa: PLR0915 - a sample from its textures to its light
    sample_faces, barycentrics, directions, faces, vertices, normals, uv, uv_faces, maps,
    is_eyeball, lights, visible, environment, radiance, surface, num_samples, num_lights, plane,
    height, width, mirror_height, mirror_width, IS_PER_SAMPLE: constexpr, HAS_MIRROR: constexpr,
    BOUNCES: constexpr, LANES: constexpr,
):  # fmt: skip
    """Shade LANES samples; see ``shade_on_gpu``. ``plane`` is the distance of planes of lights."""
    sample = tl.program_id(0) * LANES + tl.arange(0, LANES)
    mask = sample < num_samples
    face = tl.load(sample_faces + sample, mask=mask, other=-1)
    is_seen = face >= 0
    # Lanes without a surface compute with the first face and the last sample, and write zeros.
    face = tl.maximum(face, 0)
    row = tl.minimum(sample, num_samples - 1)
    weights = _load_rows(barycentrics, row)
    direction = _unit(_load_rows(directions, row))
    view = scale3(-1.0, direction)

    i0 = tl.load(faces + 3 * face)
    i1 = tl.load(faces + 3 * face + 1)
    i2 = tl.load(faces + 3 * face + 2)
    corner = _load_rows(vertices, i0)
    edge_1 = add3(_load_rows(vertices, i1), scale3(-1.0, corner))
    edge_2 = add3(_load_rows(vertices, i2), scale3(-1.0, corner))
    point = add3(corner, add3(scale3(weights[1], edge_1), scale3(weights[2], edge_2)))
    normal = _blend3(
        _load_rows(normals, i0), _load_rows(normals, i1), _load_rows(normals, i2), weights
    )
    is_inside = dot3(cross3(edge_1, edge_2), direction) > 0
    normal = scale3(tl.where(is_inside, -1.0, 1.0), _unit(normal))

    t0 = uv + 2 * tl.load(uv_faces + 3 * face)
    t1 = uv + 2 * tl.load(uv_faces + 3 * face + 1)
    t2 = uv + 2 * tl.load(uv_faces + 3 * face + 2)
    u = tl.load(t0)
    v = tl.load(t0 + 1)
    du_1 = tl.load(t1) - u
    dv_1 = tl.load(t1 + 1) - v
    du_2 = tl.load(t2) - u
    dv_2 = tl.load(t2 + 1) - v
    u += du_1 * weights[1] + du_2 * weights[2]
    v += dv_1 * weights[1] + dv_2 * weights[2]
    material = _look_up(maps, u * width, (1.0 - v) * height, width, height, _NUM_MAPS)
    normal = _bend_normal(
        normal, edge_1, edge_2, du_1, dv_1, du_2, dv_2, material[6], material[7], material[8]
    )

    is_eye = tl.load(is_eyeball + face) > 0
    roughness = tl.where(is_eye, _EYE_ROUGHNESS, tl.maximum(material[3], _MIN_ROUGHNESS))
    base = tl.where(is_eye, _EYE_REFLECTANCE, _SPECULAR_SCALE * material[4])
    fade = tl.where(is_eye, 1.0, tl.minimum(material[4] / _SPECULAR_FADE, 1.0))
    if IS_PER_SAMPLE:
        first = row.to(tl.int64) * num_lights
        rows = (first, first, first)
    else:
        rows = (
            i0.to(tl.int64) * num_lights, i1.to(tl.int64) * num_lights,
            i2.to(tl.int64) * num_lights,
        )  # fmt: skip
    count = tl.where(tl.max(is_seen.to(tl.int32), 0) > 0, num_lights, 0)
    diffuse, reflected, openness, openness_of_mirror = _sum_lights(
        point, normal, view, roughness, base, material[5], lights, visible, rows, weights, count,
        plane, IS_PER_SAMPLE,
    )  # fmt: skip
    if HAS_MIRROR:
        mirrored, share = _reflect(environment, normal, view, mirror_width, mirror_height)
        fade = tl.where(is_eye, openness_of_mirror * share, fade)
        reflected = (
            tl.where(is_eye, mirrored[0], reflected[0]),
            tl.where(is_eye, mirrored[1], reflected[1]),
            tl.where(is_eye, mirrored[2], reflected[2]),
        )
    at_surface = _NUM_SURFACE * sample.to(tl.int64)
    for c in tl.static_range(3):
        light = material[c] / _PI * diffuse[c]
        if BOUNCES:
            light *= _bounced(openness, material[c])
        at = 3 * sample.to(tl.int64) + c
        tl.store(radiance + at, tl.where(is_seen, light + fade * reflected[c], 0.0), mask=mask)
        tl.store(surface + at_surface + c, tl.where(is_seen, material[c], 0.0), mask=mask)
    tl.store(surface + at_surface + 3, tl.where(is_seen, roughness, 0.0), mask=mask)
    specular = base / _SPECULAR_SCALE
    tl.store(surface + at_surface + 4, tl.where(is_seen, specular, 0.0), mask=mask)
