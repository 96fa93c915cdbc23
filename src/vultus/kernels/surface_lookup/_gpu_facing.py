"""Triton kernels of normals and directions to the camera. A lane works on a Gaussian."""

# ruff: noqa: D417 -- sizes and flags explain themselves.
from __future__ import annotations

from vultus.kernels.triton_math import add3, dot3, scale3
from vultus.kernels.triton_matrices import load_vector, store_vector, subtract3
from vultus.kernels.triton_runtime import constexpr, jit, tl

__all__ = ["face", "face_backward"]

_MIN_NORM = tl.constexpr(1e-12)


@jit
def _unit(a):
    """Unit vector, and the norm, which counts as at least 1e-12."""
    norm = tl.maximum(tl.sqrt(dot3(a, a)), _MIN_NORM)
    return (a[0] / norm, a[1] / norm, a[2] / norm), norm


@jit
def _unit_gradient(unit, norm, grad):
    """Gradient of the vector from that of its unit vector."""
    along = tl.where(norm > _MIN_NORM, dot3(unit, grad), 0.0)
    return scale3(1.0 / norm, subtract3(grad, scale3(along, unit)))


@jit
def _load_normals(vertex_normals, corners, row, mask):
    """Those of the three corners of each row's face."""
    a = tl.load(corners + 3 * row, mask=mask, other=0)
    b = tl.load(corners + 3 * row + 1, mask=mask, other=0)
    c = tl.load(corners + 3 * row + 2, mask=mask, other=0)
    return (
        load_vector(vertex_normals, 3 * a, mask),
        load_vector(vertex_normals, 3 * b, mask),
        load_vector(vertex_normals, 3 * c, mask),
    )


@jit
def _mix(share, vectors):
    mixed = add3(scale3(share[0], vectors[0]), scale3(share[1], vectors[1]))
    return add3(mixed, scale3(share[2], vectors[2]))


@jit
def _to_camera(centers, means, frame, row, mask):
    center = (
        tl.load(centers + 3 * frame),
        tl.load(centers + 3 * frame + 1),
        tl.load(centers + 3 * frame + 2),
    )
    return _unit(subtract3(center, load_vector(means, 3 * row, mask)))


@jit
def face(
    barycentrics, corners, vertex_normals, means, centers, normals, views, num, num_vertices,
    LANES: constexpr,
):  # fmt: skip
    """Gaussians of one frame.

    Args:
        barycentrics: [n 3]; also ``corners``.
        vertex_normals: [b v 3].
        means: [b n 3].
        centers: [b 3].
        normals: Written, [b n 3]; also ``views``.
    """
    index = (tl.program_id(0) * LANES + tl.arange(0, LANES)).to(tl.int64)
    frame = tl.program_id(1).to(tl.int64)
    mask, row = index < num, frame * num + index
    around = _load_normals(vertex_normals + 3 * frame * num_vertices, corners, index, mask)
    normal, _norm = _unit(_mix(load_vector(barycentrics, 3 * index, mask), around))
    store_vector(normals, 3 * row, normal, mask)
    view, _distance = _to_camera(centers, means, frame, row, mask)
    store_vector(views, 3 * row, view, mask)


@jit
def face_backward(
    barycentrics, corners, vertex_normals, means, centers, grad_normals, grad_views,
    grad_barycentrics, grad_means, num, num_vertices, num_frames, LANES: constexpr,
):  # fmt: skip
    """Gradients of some Gaussians in all frames.

    Args:
        grad_barycentrics: Written, [n 3]; summed over frames in their order.
        grad_means: Written, [b n 3].
    """
    index = (tl.program_id(0) * LANES + tl.arange(0, LANES)).to(tl.int64)
    mask = index < num
    share = load_vector(barycentrics, 3 * index, mask)
    zero = tl.zeros((LANES,), tl.float32)
    total_a, total_b, total_c = zero, zero, zero
    for k in range(num_frames):
        frame = tl.full([], 1, tl.int64) * k
        row = frame * num + index
        around = _load_normals(vertex_normals + 3 * frame * num_vertices, corners, index, mask)
        normal, norm = _unit(_mix(share, around))
        grad = _unit_gradient(normal, norm, load_vector(grad_normals, 3 * row, mask))
        total_a += dot3(grad, around[0])
        total_b += dot3(grad, around[1])
        total_c += dot3(grad, around[2])
        view, distance = _to_camera(centers, means, frame, row, mask)
        grad = _unit_gradient(view, distance, load_vector(grad_views, 3 * row, mask))
        store_vector(grad_means, 3 * row, scale3(-1.0, grad), mask)
    store_vector(grad_barycentrics, 3 * index, (total_a, total_b, total_c), mask)
