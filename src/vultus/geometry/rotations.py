"""Rotations as axis-angle vectors, quaternions, matrices and 6D vectors.

Conventions: angles in radians; quaternions wxyz; matrices act on column vectors; a 6D rotation
holds the first two columns of its matrix, one after the other. ``axis_angle_to_matrix`` and
``matrix_to_axis_angle`` are the exponential and logarithm maps of SO(3). Every function is smooth
where the rotation is, with finite gradients at angle zero and near pi.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import normalize

__all__ = [
    "axis_angle_to_matrix",
    "axis_angle_to_quaternion",
    "axis_angle_to_rotation_6d",
    "matrix_to_axis_angle",
    "matrix_to_quaternion",
    "matrix_to_rotation_6d",
    "quaternion_conjugate",
    "quaternion_multiply",
    "quaternion_rotate",
    "quaternion_slerp",
    "quaternion_to_axis_angle",
    "quaternion_to_matrix",
    "quaternion_to_rotation_6d",
    "quaternion_to_xyzw",
    "rotation_6d_to_axis_angle",
    "rotation_6d_to_matrix",
    "rotation_6d_to_quaternion",
    "rotation_between_vectors",
    "skew_matrices",
    "xyzw_to_quaternion",
]

# Below this squared argument the four-term series are exact to float64 rounding, and the closed
# forms would divide by (and differentiate) a square root near zero.
_SERIES_BELOW = 1e-3


def axis_angle_to_matrix(axis_angle: Float[Tensor, "*b 3"]) -> Float[Tensor, "*b 3 3"]:
    """Exponential map: turn axis-angle vectors into matrices by Rodrigues' formula."""
    x, y, z = axis_angle.unbind(-1)
    xx, yy, zz = x * x, y * y, z * z
    squared_angle = xx + yy + zz
    a, b = _rodrigues_factors(squared_angle)
    ax, ay, az = a * x, a * y, a * z
    bxy, bxz, byz = b * x * y, b * x * z, b * y * z
    rows = [
        1 - b * (yy + zz), bxy - az, bxz + ay,
        bxy + az, 1 - b * (xx + zz), byz - ax,
        bxz - ay, byz + ax, 1 - b * (xx + yy),
    ]  # fmt: skip
    return torch.stack(rows, dim=-1).unflatten(-1, (3, 3))


def axis_angle_to_quaternion(axis_angle: Float[Tensor, "*b 3"]) -> Float[Tensor, "*b 4"]:
    """Turn axis-angle vectors into unit quaternions (w >= 0 for angles up to pi)."""
    squared = (0.5 * axis_angle).square().sum(-1, keepdim=True)
    is_small = squared < _SERIES_BELOW
    half = torch.where(is_small, 1.0, squared).sqrt()
    sinc_series = 1 - squared / 6 * (1 - squared / 20 * (1 - squared / 42))
    cos_series = 1 - squared / 2 * (1 - squared / 12 * (1 - squared / 30))
    sinc = torch.where(is_small, sinc_series, half.sin() / half)
    cos = torch.where(is_small, cos_series, half.cos())
    return torch.cat([cos, 0.5 * sinc * axis_angle], dim=-1)


def quaternion_to_axis_angle(quats: Float[Tensor, "*b 4"]) -> Float[Tensor, "*b 3"]:
    """Turn quaternions of any norm but zero into axis-angle vectors with angles in [0, pi]."""
    # q and -q are the same rotation; the one with w >= 0 has the shorter way.
    quats = quats * torch.where(quats[..., :1] < 0, -1.0, 1.0)
    w, xyz = quats[..., :1], quats[..., 1:]
    squared = xyz.square().sum(-1, keepdim=True)
    is_small = squared < _SERIES_BELOW * w.square()
    sine = torch.where(is_small, 1.0, squared).sqrt()
    safe_w = torch.where(is_small, w, 1.0)
    t = squared / safe_w.square()
    series = (1 - t * (1 / 3 - t * (1 / 5 - t * (1 / 7 - t / 9)))) / safe_w
    return 2 * torch.where(is_small, series, torch.atan2(sine, w) / sine) * xyz


def quaternion_to_matrix(quats: Float[Tensor, "*b 4"]) -> Float[Tensor, "*b 3 3"]:
    """Turn quaternions of any norm but zero into matrices."""
    w, x, y, z = normalize(quats, dim=-1).unbind(-1)
    xx, yy, zz = 2 * x * x, 2 * y * y, 2 * z * z
    xy, xz, yz = 2 * x * y, 2 * x * z, 2 * y * z
    wx, wy, wz = 2 * w * x, 2 * w * y, 2 * w * z
    rows = [
        1 - yy - zz, xy - wz, xz + wy,
        xy + wz, 1 - xx - zz, yz - wx,
        xz - wy, yz + wx, 1 - xx - yy,
    ]  # fmt: skip
    return torch.stack(rows, dim=-1).unflatten(-1, (3, 3))


def matrix_to_quaternion(matrices: Float[Tensor, "*b 3 3"]) -> Float[Tensor, "*b 4"]:
    """Turn rotation matrices into unit quaternions with w >= 0.

    Row i of the symmetric matrix below is 4 q_i q. The one with the largest q_i, normalised, is the
    quaternion without a square root near zero (Shepperd 1978).
    """
    m00, m01, m02, m10, m11, m12, m20, m21, m22 = matrices.flatten(-2).unbind(-1)
    wx, wy, wz = m21 - m12, m02 - m20, m10 - m01
    xy, xz, yz = m01 + m10, m02 + m20, m12 + m21
    ww, xx = 1 + m00 + m11 + m22, 1 + m00 - m11 - m22
    yy, zz = 1 - m00 + m11 - m22, 1 - m00 - m11 + m22
    products = torch.stack(
        [ww, wx, wy, wz, wx, xx, xy, xz, wy, xy, yy, yz, wz, xz, yz, zz], dim=-1
    ).unflatten(-1, (4, 4))
    best = products.diagonal(dim1=-2, dim2=-1).argmax(-1)
    row = products.gather(-2, best[..., None, None].expand(*best.shape, 1, 4))[..., 0, :]
    return normalize(row * torch.where(row[..., :1] < 0, -1.0, 1.0), dim=-1)


def matrix_to_axis_angle(matrices: Float[Tensor, "*b 3 3"]) -> Float[Tensor, "*b 3"]:
    """Logarithm map: turn rotation matrices into axis-angle vectors with angles in [0, pi].

    At angle pi the axis has two signs; one of them is returned.
    """
    return quaternion_to_axis_angle(matrix_to_quaternion(matrices))


def matrix_to_rotation_6d(matrices: Float[Tensor, "*b 3 3"]) -> Float[Tensor, "*b 6"]:
    """Take the first two columns.

    Reference: Zhou et al., On the Continuity of Rotation Representations, CVPR 2019.
    """
    return matrices[..., :2].transpose(-1, -2).flatten(-2)


def rotation_6d_to_matrix(rotation_6d: Float[Tensor, "*b 6"]) -> Float[Tensor, "*b 3 3"]:
    """Orthonormalise two columns by Gram-Schmidt and complete them (Zhou et al. 2019, eq. 15)."""
    first = normalize(rotation_6d[..., :3], dim=-1)
    second = rotation_6d[..., 3:]
    second = normalize(second - (first * second).sum(-1, keepdim=True) * first, dim=-1)
    return torch.stack([first, second, torch.linalg.cross(first, second)], dim=-1)


def rotation_6d_to_quaternion(rotation_6d: Float[Tensor, "*b 6"]) -> Float[Tensor, "*b 4"]:
    """Turn 6D rotations into unit quaternions with w >= 0."""
    return matrix_to_quaternion(rotation_6d_to_matrix(rotation_6d))


def rotation_6d_to_axis_angle(rotation_6d: Float[Tensor, "*b 6"]) -> Float[Tensor, "*b 3"]:
    """Turn 6D rotations into axis-angle vectors with angles in [0, pi]."""
    return matrix_to_axis_angle(rotation_6d_to_matrix(rotation_6d))


def axis_angle_to_rotation_6d(axis_angle: Float[Tensor, "*b 3"]) -> Float[Tensor, "*b 6"]:
    """Turn axis-angle vectors into 6D rotations."""
    return matrix_to_rotation_6d(axis_angle_to_matrix(axis_angle))


def quaternion_to_rotation_6d(quats: Float[Tensor, "*b 4"]) -> Float[Tensor, "*b 6"]:
    """Turn quaternions of any norm but zero into 6D rotations."""
    return matrix_to_rotation_6d(quaternion_to_matrix(quats))


def quaternion_to_xyzw(quats: Float[Tensor, "*b 4"]) -> Float[Tensor, "*b 4"]:
    """Move w last, as SciPy and glTF want it."""
    return quats.roll(-1, dims=-1)


def xyzw_to_quaternion(xyzw: Float[Tensor, "*b 4"]) -> Float[Tensor, "*b 4"]:
    """Move w first."""
    return xyzw.roll(1, dims=-1)


def quaternion_conjugate(quats: Float[Tensor, "*b 4"]) -> Float[Tensor, "*b 4"]:
    """Flip the vector part: the inverse of a unit quaternion."""
    return torch.cat([quats[..., :1], -quats[..., 1:]], dim=-1)


def quaternion_multiply(
    left: Float[Tensor, "*#b 4"], right: Float[Tensor, "*#b 4"]
) -> Float[Tensor, "*#b 4"]:
    """Multiply quaternions (Hamilton): the product rotates by ``right`` first."""
    a, b, c, d = left.unbind(-1)
    w, x, y, z = right.unbind(-1)
    product = [
        a * w - b * x - c * y - d * z,
        a * x + b * w + c * z - d * y,
        a * y - b * z + c * w + d * x,
        a * z + b * y - c * x + d * w,
    ]
    return torch.stack(product, dim=-1)


def quaternion_rotate(
    unit_quats: Float[Tensor, "*#b 4"], vectors: Float[Tensor, "*#b 3"]
) -> Float[Tensor, "*#b 3"]:
    """Rotate vectors by unit quaternions."""
    w, xyz = unit_quats[..., :1], unit_quats[..., 1:]
    xyz, vectors = torch.broadcast_tensors(xyz, vectors)
    twice = 2 * torch.linalg.cross(xyz, vectors)
    return vectors + w * twice + torch.linalg.cross(xyz, twice)


def quaternion_slerp(
    start: Float[Tensor, "*#b 4"], end: Float[Tensor, "*#b 4"], fraction: Float[Tensor, "*#b"]
) -> Float[Tensor, "*#b 4"]:
    """Interpolate along the shorter great arc, at constant speed.

    Args:
        start: Quaternions of any norm but zero, reached at fraction 0.
        end: The same, reached at fraction 1 (up to sign: the sign nearer to ``start``).
        fraction: Positions; values outside [0, 1] extrapolate.
    """
    start, end = normalize(start, dim=-1), normalize(end, dim=-1)
    relative = quaternion_to_axis_angle(quaternion_multiply(quaternion_conjugate(start), end))
    return quaternion_multiply(start, axis_angle_to_quaternion(fraction[..., None] * relative))


def rotation_between_vectors(
    source: Float[Tensor, "*b 3"], target: Float[Tensor, "*b 3"]
) -> Float[Tensor, "*b 4"]:
    """Find the smallest rotation that turns one direction into another, as unit quaternions.

    Opposite directions have no unique one: the half turn about some perpendicular axis is returned.
    """
    source, target = normalize(source, dim=-1), normalize(target, dim=-1)
    dot = (source * target).sum(-1, keepdim=True)
    quats = torch.cat([1 + dot, torch.linalg.cross(source, target)], dim=-1)
    # Crossing with the axis of the smallest component never gives a short vector.
    axis = torch.nn.functional.one_hot(source.abs().argmin(-1), 3).to(source)
    perpendicular = torch.linalg.cross(source, axis)
    half_turns = torch.cat([torch.zeros_like(dot), perpendicular], dim=-1)
    is_opposite = 1 + dot < 4 * torch.finfo(source.dtype).eps
    return normalize(torch.where(is_opposite, half_turns, quats), dim=-1)


def skew_matrices(vectors: Float[Tensor, "*b 3"]) -> Float[Tensor, "*b 3 3"]:
    """Build the matrices [v] for which [v] w is the cross product of v and w."""
    x, y, z = vectors.unbind(-1)
    zero = torch.zeros_like(x)
    return torch.stack([zero, -z, y, z, zero, -x, -y, x, zero], dim=-1).unflatten(-1, (3, 3))


def _rodrigues_factors(squared_angle: Tensor) -> tuple[Tensor, Tensor]:
    """sin(a) / a and (1 - cos(a)) / a² from a²."""
    is_small = squared_angle < _SERIES_BELOW
    angle = torch.where(is_small, 1.0, squared_angle).sqrt()
    t = squared_angle
    sine = torch.where(is_small, 1 - t / 6 * (1 - t / 20 * (1 - t / 42)), angle.sin() / angle)
    # 1 - cos(a) = 2 sin²(a / 2) without cancellation.
    cosine = 2 * ((0.5 * angle).sin() / angle).square()
    series = 0.5 - t / 24 * (1 - t / 30 * (1 - t / 56))
    return sine, torch.where(is_small, series, cosine)
