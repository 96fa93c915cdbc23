"""Triton kernels of specular lobes. A lane works on a surfel.

Symbols: v unit view direction, n normal towards the camera, both turned back to rest; o mirrored
direction; a lobe has axes D, T, B and the numbers (a0, a1, x, y) with l = softplus(x - 1) and
m = softplus(y - 1).
"""

# ruff: noqa: PLR0915, D417 -- a kernel is one function; Triton unpacks no tuples.
from __future__ import annotations

from vultus.kernels.triton_math import add3, apply3, apply_transposed3, dot3, scale3
from vultus.kernels.triton_matrices import (
    exp_factors,
    exp_gradient,
    load_matrix,
    load_vector,
    rotation_exp,
    store_vector,
)
from vultus.kernels.triton_runtime import constexpr, jit, tl

__all__ = ["answer", "answer_backward"]

_SHIFT = tl.constexpr(1.0)
_LENGTH_EPSILON = tl.constexpr(1e-8)
"""As in ``methods.surfhead.specular``."""
_LINEAR_FROM = tl.constexpr(20.0)
"""Where softplus is its argument."""
_TINY = tl.constexpr(1e-12)
_VIEW_INPUTS = tl.constexpr(16)


@jit
def _load_axis(pointer):
    """A vector that is the same for all lanes."""
    return (tl.load(pointer), tl.load(pointer + 1), tl.load(pointer + 2))


@jit
def _softplus(x):
    return tl.where(x > _LINEAR_FROM, x, tl.log(1.0 + tl.exp(tl.minimum(x, _LINEAR_FROM))))


@jit
def _sigmoid(x):
    return 1.0 / (1.0 + tl.exp(-x))


@jit
def _blended_log(
    logs, weights, face_index, adjacency, rigid, frame, num_faces, surfel, mask,
    HAS_RIGID: constexpr, LANES: constexpr,
):  # fmt: skip
    """Weighted mean of a face's and its neighbours' rotations."""
    face = tl.load(face_index + surfel, mask=mask, other=0)
    zero = tl.zeros((LANES,), tl.float32)
    log, own = (zero, zero, zero), (zero, zero, zero)
    for k in tl.static_range(4):
        row = frame * num_faces + tl.load(adjacency + 4 * face + k, mask=mask, other=0)
        w = tl.load(weights + 4 * surfel + k, mask=mask, other=0.0)
        neighbour = load_vector(logs, 3 * row, mask)
        log = add3(log, scale3(w, neighbour))
        if k == 0:
            own = neighbour
    if HAS_RIGID:
        is_rigid = tl.load(rigid + surfel, mask=mask, other=0) != 0
        log = (
            tl.where(is_rigid, own[0], log[0]),
            tl.where(is_rigid, own[1], log[1]),
            tl.where(is_rigid, own[2], log[2]),
        )
    return log


@jit
def _view(means, normals, centers, frame, num, surfel, mask):
    """Unit direction from the camera in the world, its inverse length, normal that faces it."""
    row = frame * num + surfel
    center = _load_axis(centers + 3 * frame)
    mean = load_vector(means, 3 * row, mask)
    offset = add3(mean, scale3(-1.0, center))
    inverse = 1.0 / tl.maximum(tl.sqrt(dot3(offset, offset)), _TINY)
    direction = scale3(inverse, offset)
    normal = load_vector(normals, 3 * row, mask)
    side = tl.where(dot3(direction, normal) > 0, -1.0, 1.0)
    return direction, inverse, scale3(side, normal)


@jit
def _mirror(v, n):
    """Cosine, mirrored direction, and what it takes to differentiate that."""
    cosine = -dot3(v, n)
    mirrored = add3(scale3(2.0 * cosine, n), v)
    length = tl.sqrt(dot3(mirrored, mirrored))
    inverse = 1.0 / (length + _LENGTH_EPSILON)
    return cosine, mirrored, length, inverse


@jit
def _rotation(
    turns, weights, face_index, adjacency, rigid, frame, num_chosen, num_faces, index, surfel,
    mask, HAS_BLEND: constexpr, HAS_RIGID: constexpr, LANES: constexpr,
):  # fmt: skip
    """Rotation from rest to pose and its logarithm, which is zero where matrices are given."""
    if HAS_BLEND:
        log = _blended_log(
            turns, weights, face_index, adjacency, rigid, frame, num_faces, surfel, mask,
            HAS_RIGID, LANES,
        )  # fmt: skip
        a, b, _da, _db = exp_factors(dot3(log, log))
        rotation = rotation_exp(log, a, b)
    else:
        zero = tl.zeros((LANES,), tl.float32)
        log = (zero, zero, zero)
        rotation = load_matrix(turns, 9 * (frame * num_chosen + index), mask)
    return rotation, log


@jit
def answer(
    numbers, means, normals, centers, chosen, axes, turns, weights, face_index, adjacency, rigid,
    inputs, num_chosen, num, num_faces,
    NUM_LOBES: constexpr, IS_ISOTROPIC: constexpr, HAS_BLEND: constexpr, HAS_RIGID: constexpr,
    LANES: constexpr,
):  # fmt: skip
    """Write what the network sees of each chosen surfel.

    Args:
        axes: [lobes 9]: D, T and B of each.
        turns: Rotation logarithms of faces with HAS_BLEND, else matrices of chosen surfels.
        inputs: Written; [b m 2 lobes + 16].
    """
    index = tl.program_id(0) * LANES + tl.arange(0, LANES)
    frame = tl.program_id(1).to(tl.int64)
    mask = index < num_chosen
    surfel = tl.load(chosen + index, mask=mask, other=0)
    direction, _inverse, normal = _view(means, normals, centers, frame, num, surfel, mask)
    rotation, _log = _rotation(
        turns, weights, face_index, adjacency, rigid, frame, num_chosen, num_faces, index, surfel,
        mask, HAS_BLEND, HAS_RIGID, LANES,
    )  # fmt: skip
    v, n = apply_transposed3(rotation, direction), apply_transposed3(rotation, normal)
    cosine, mirrored, _length, inverse = _mirror(v, n)
    o = scale3(inverse, mirrored)
    target = inputs + (frame * num_chosen + index) * (2 * NUM_LOBES + _VIEW_INPUTS)
    for lobe in range(NUM_LOBES):
        number = numbers + (index.to(tl.int64) * NUM_LOBES + lobe) * 4
        first = _softplus(tl.load(number + 2, mask=mask, other=0.0) - _SHIFT)
        second = _softplus(tl.load(number + 3, mask=mask, other=0.0) - _SHIFT)
        along = dot3(o, _load_axis(axes + 9 * lobe))
        if IS_ISOTROPIC:
            near = tl.minimum(tl.maximum(along, -1.0), 1.0) - 1.0
            value = second * tl.exp(first * near)
            tl.store(target + 2 * lobe, value, mask=mask)
            tl.store(target + 2 * lobe + 1, value, mask=mask)
        else:
            t = dot3(o, _load_axis(axes + 9 * lobe + 3))
            b = dot3(o, _load_axis(axes + 9 * lobe + 6))
            value = tl.maximum(along, 0.0) * tl.exp(-first * t * t - second * b * b)
            for k in tl.static_range(2):
                amplitude = tl.load(number + k, mask=mask, other=0.0)
                tl.store(target + 2 * lobe + k, amplitude * value, mask=mask)
    rest = target + 2 * NUM_LOBES
    tl.store(rest, cosine, mask=mask)
    for axis in tl.static_range(3):
        tl.store(rest + 1 + axis, v[axis], mask=mask)
        for octave in tl.static_range(2):
            angle = (1 + octave) * v[axis]
            tl.store(rest + 4 + 2 * axis + octave, tl.sin(angle), mask=mask)
            tl.store(rest + 10 + 2 * axis + octave, tl.cos(angle), mask=mask)


@jit
def _view_gradient(rest, v, mask):
    """Gradient of v from its copy and its sines and cosines."""
    g0 = tl.load(rest + 1, mask=mask, other=0.0)
    g1 = tl.load(rest + 2, mask=mask, other=0.0)
    g2 = tl.load(rest + 3, mask=mask, other=0.0)
    g0 += _encoding_gradient(rest + 4, v[0], mask)
    g1 += _encoding_gradient(rest + 6, v[1], mask)
    g2 += _encoding_gradient(rest + 8, v[2], mask)
    return (g0, g1, g2)


@jit
def _encoding_gradient(sines, x, mask):
    total = tl.zeros_like(x)
    for octave in tl.static_range(2):
        frequency = 1 + octave
        total += frequency * tl.load(sines + octave, mask=mask, other=0.0) * tl.cos(frequency * x)
        cosine = tl.load(sines + 6 + octave, mask=mask, other=0.0)
        total -= frequency * cosine * tl.sin(frequency * x)
    return total


@jit
def answer_backward(
    numbers, means, normals, centers, chosen, axes, turns, weights, face_index, adjacency, rigid,
    grad_inputs, grad_numbers, grad_means, grad_weights, num_chosen, num, num_faces, num_frames,
    NUM_LOBES: constexpr, IS_ISOTROPIC: constexpr, HAS_BLEND: constexpr, HAS_RIGID: constexpr,
    LANES: constexpr,
):  # fmt: skip
    """Gradients of the numbers, summed over frames, and of the chosen rows of means and weights.

    Args:
        grad_numbers: Written.
        grad_means: Rows of chosen surfels are written; also of ``grad_weights``, with HAS_BLEND.
    """
    index = tl.program_id(0) * LANES + tl.arange(0, LANES)
    mask = index < num_chosen
    surfel = tl.load(chosen + index, mask=mask, other=0)
    zero = tl.zeros((LANES,), tl.float32)
    w0, w1, w2, w3 = zero, zero, zero, zero
    for frame in range(num_frames):
        direction, inverse_distance, normal = _view(
            means, normals, centers, frame, num, surfel, mask
        )
        rotation, log = _rotation(
            turns, weights, face_index, adjacency, rigid, frame, num_chosen, num_faces, index,
            surfel, mask, HAS_BLEND, HAS_RIGID, LANES,
        )  # fmt: skip
        v, n = apply_transposed3(rotation, direction), apply_transposed3(rotation, normal)
        cosine, mirrored, length, inverse = _mirror(v, n)
        o = scale3(inverse, mirrored)
        row = frame * num_chosen + index.to(tl.int64)
        source = grad_inputs + row * (2 * NUM_LOBES + _VIEW_INPUTS)
        g_o = (zero, zero, zero)
        for lobe in range(NUM_LOBES):
            offset = (index.to(tl.int64) * NUM_LOBES + lobe) * 4
            x = tl.load(numbers + offset + 2, mask=mask, other=0.0) - _SHIFT
            y = tl.load(numbers + offset + 3, mask=mask, other=0.0) - _SHIFT
            first, second = _softplus(x), _softplus(y)
            g_first_answer = tl.load(source + 2 * lobe, mask=mask, other=0.0)
            g_second_answer = tl.load(source + 2 * lobe + 1, mask=mask, other=0.0)
            axis = _load_axis(axes + 9 * lobe)
            along = dot3(o, axis)
            g_a0, g_a1 = zero, zero
            if IS_ISOTROPIC:
                near = tl.minimum(tl.maximum(along, -1.0), 1.0) - 1.0
                falloff = tl.exp(first * near)
                g = (g_first_answer + g_second_answer) * falloff
                g_x, g_y = g * second * near, g
                g_along = tl.where((along >= -1.0) & (along <= 1.0), g * second * first, 0.0)
                g_o = add3(g_o, scale3(g_along, axis))
            else:
                tangent = _load_axis(axes + 9 * lobe + 3)
                bitangent = _load_axis(axes + 9 * lobe + 6)
                t, b = dot3(o, tangent), dot3(o, bitangent)
                falloff = tl.exp(-first * t * t - second * b * b)
                value = tl.maximum(along, 0.0) * falloff
                a0 = tl.load(numbers + offset, mask=mask, other=0.0)
                a1 = tl.load(numbers + offset + 1, mask=mask, other=0.0)
                g_a0, g_a1 = g_first_answer * value, g_second_answer * value
                g = g_first_answer * a0 + g_second_answer * a1
                g_along = tl.where(along > 0.0, g * falloff, 0.0)
                g *= value
                g_x, g_y = -g * t * t, -g * b * b
                g_o = add3(g_o, scale3(g_along, axis))
                g_o = add3(g_o, scale3(-2.0 * g * first * t, tangent))
                g_o = add3(g_o, scale3(-2.0 * g * second * b, bitangent))
            g_x, g_y = g_x * _sigmoid(x), g_y * _sigmoid(y)
            if frame > 0:
                g_a0 += tl.load(grad_numbers + offset, mask=mask, other=0.0)
                g_a1 += tl.load(grad_numbers + offset + 1, mask=mask, other=0.0)
                g_x += tl.load(grad_numbers + offset + 2, mask=mask, other=0.0)
                g_y += tl.load(grad_numbers + offset + 3, mask=mask, other=0.0)
            tl.store(grad_numbers + offset, g_a0, mask=mask)
            tl.store(grad_numbers + offset + 1, g_a1, mask=mask)
            tl.store(grad_numbers + offset + 2, g_x, mask=mask)
            tl.store(grad_numbers + offset + 3, g_y, mask=mask)
        # o = M / (|M| + epsilon), M = 2 c n + v, c = -v n
        radial = tl.where(length > 0.0, dot3(g_o, o) / length, 0.0)
        g_mirrored = add3(scale3(inverse, g_o), scale3(-radial, o))
        rest = source + 2 * NUM_LOBES
        g_cosine = tl.load(rest, mask=mask, other=0.0) + 2.0 * dot3(g_mirrored, n)
        g_v = add3(_view_gradient(rest, v, mask), g_mirrored)
        g_v = add3(g_v, scale3(-g_cosine, n))
        g_direction = apply3(rotation, g_v)
        outward = dot3(direction, g_direction)
        g_mean = scale3(inverse_distance, add3(g_direction, scale3(-outward, direction)))
        store_vector(grad_means, 3 * (frame * num + surfel), g_mean, mask)
        if HAS_BLEND:
            g_n = add3(scale3(2.0 * cosine, g_mirrored), scale3(-g_cosine, v))
            g_rotation = (
                add3(scale3(direction[0], g_v), scale3(normal[0], g_n)),
                add3(scale3(direction[1], g_v), scale3(normal[1], g_n)),
                add3(scale3(direction[2], g_v), scale3(normal[2], g_n)),
            )
            a, b, da, db = exp_factors(dot3(log, log))
            g_log = exp_gradient(log, a, b, da, db, g_rotation)
            is_blended = mask
            if HAS_RIGID:
                is_blended &= tl.load(rigid + surfel, mask=mask, other=0) == 0
            face = tl.load(face_index + surfel, mask=mask, other=0)
            first_row = adjacency + 4 * face
            w0 += _gain(turns, first_row, frame * num_faces, g_log, is_blended)
            w1 += _gain(turns, first_row + 1, frame * num_faces, g_log, is_blended)
            w2 += _gain(turns, first_row + 2, frame * num_faces, g_log, is_blended)
            w3 += _gain(turns, first_row + 3, frame * num_faces, g_log, is_blended)
    if HAS_BLEND:
        tl.store(grad_weights + 4 * surfel, w0, mask=mask)
        tl.store(grad_weights + 4 * surfel + 1, w1, mask=mask)
        tl.store(grad_weights + 4 * surfel + 2, w2, mask=mask)
        tl.store(grad_weights + 4 * surfel + 3, w3, mask=mask)


@jit
def _gain(logs, neighbour, frame_row, g_log, mask):
    """Gradient of one blend weight; zero where masked."""
    row = frame_row + tl.load(neighbour, mask=mask, other=0)
    return dot3(g_log, load_vector(logs, 3 * row, mask))
