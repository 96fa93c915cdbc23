"""Building blocks of Triton kernels: small vectors, quaternions, spherical harmonics.

Vectors are tuples of three tensors, matrices tuples of three rows.
"""

# ruff: noqa: C901, RUF005 -- tables of terms; Triton unpacks no tuples.
from __future__ import annotations

from vultus.kernels.triton_runtime import constexpr, jit, tl

__all__ = [
    "add3",
    "apply3",
    "apply_transposed3",
    "color_sh_gradient",
    "color_sh_term",
    "cross3",
    "dot3",
    "is_finite",
    "join4",
    "load3",
    "load4",
    "load_floats",
    "multiply",
    "multiply_pairs",
    "quat_gradient",
    "reciprocal",
    "rotation_columns",
    "rotation_gradient",
    "scale3",
    "split4",
    "store4",
    "store_floats",
    "unit_quat",
]


@jit
def dot3(a, b):
    """Scalar product."""
    return a[0] * b[0] + a[1] * b[1] + a[2] * b[2]


@jit
def cross3(a, b):
    """Vector product."""
    return (
        a[1] * b[2] - a[2] * b[1],
        a[2] * b[0] - a[0] * b[2],
        a[0] * b[1] - a[1] * b[0],
    )


@jit
def scale3(s, a):
    """A number times a vector."""
    return (s * a[0], s * a[1], s * a[2])


@jit
def add3(a, b):
    """Sum of two vectors."""
    return (a[0] + b[0], a[1] + b[1], a[2] + b[2])


@jit
def apply3(m, a):
    """Matrix times vector."""
    return (dot3(m[0], a), dot3(m[1], a), dot3(m[2], a))


@jit
def apply_transposed3(m, a):
    """Transposed matrix times vector."""
    return (
        m[0][0] * a[0] + m[1][0] * a[1] + m[2][0] * a[2],
        m[0][1] * a[0] + m[1][1] * a[1] + m[2][1] * a[2],
        m[0][2] * a[0] + m[1][2] * a[1] + m[2][2] * a[2],
    )


@jit
def is_finite(x):
    """Whether a number is neither infinite nor NaN."""
    return x - x == 0.0


@jit
def load3(pointers, mask):
    """Load three neighbours as a vector of doubles."""
    return (
        tl.load(pointers, mask=mask, other=0.0).to(tl.float64),
        tl.load(pointers + 1, mask=mask, other=0.0).to(tl.float64),
        tl.load(pointers + 2, mask=mask, other=0.0).to(tl.float64),
    )


@jit
def load4(pointers, mask):
    """Load four neighbours per pointer as four tensors: one vector instruction where aligned."""
    columns = tl.arange(0, 4)[None, :]
    return split4(tl.load(pointers[:, None] + columns, mask=mask[:, None], other=0.0))


@jit
def split4(block):
    """Columns of [n, 4]: the inverse of ``join4``."""
    even, odd = tl.split(tl.reshape(block, (block.shape[0], 2, 2)))
    a, c = tl.split(even)
    b, d = tl.split(odd)
    return a, b, c, d


@jit
def load_floats(pointers, mask, COUNT: constexpr, IS_ALIGNED: constexpr):
    """Load neighbours as a tuple of tensors, in quadruples where they are aligned to 16 bytes."""
    values = ()
    QUADS: constexpr = COUNT // 4 if IS_ALIGNED else 0
    for quad in tl.static_range(QUADS):
        a, b, c, d = load4(pointers + 4 * quad, mask)
        values = values + (a, b, c, d)
    for k in tl.static_range(4 * QUADS, COUNT):
        values = values + (tl.load(pointers + k, mask=mask, other=0.0),)
    return values


@jit
def store_floats(pointers, values, mask, COUNT: constexpr, IS_ALIGNED: constexpr):
    """Store a tuple of tensors as neighbours, in quadruples where they are aligned to 16 bytes."""
    QUADS: constexpr = COUNT // 4 if IS_ALIGNED else 0
    for q in tl.static_range(QUADS):
        store4(
            pointers + 4 * q, values[4 * q], values[4 * q + 1], values[4 * q + 2],
            values[4 * q + 3], mask,
        )  # fmt: skip
    for k in tl.static_range(4 * QUADS, COUNT):
        tl.store(pointers + k, values[k], mask=mask)


@jit
def join4(a, b, c, d):
    """Four tensors side by side, [n] to [n, 4]; a thread holds the four neighbours."""
    return tl.reshape(tl.join(tl.join(a, c), tl.join(b, d)), (a.shape[0], 4))


@jit
def store4(pointers, a, b, c, d, mask):
    """Store four neighbours per pointer."""
    columns = tl.arange(0, 4)[None, :]
    tl.store(pointers[:, None] + columns, join4(a, b, c, d), mask=mask[:, None])


@jit
def reciprocal(x, IS_FAST: constexpr):
    """1 / x within one unit in the last place; the plain division takes ten instructions."""
    if IS_FAST:
        return tl.inline_asm_elementwise(
            "rcp.approx.ftz.f32 $0, $1;", "=f,f", [x], dtype=tl.float32, is_pure=True, pack=1
        )
    else:
        return 1.0 / x


@jit
def multiply(a, b):
    """For products along an axis."""
    return a * b


@jit
def multiply_pairs(a0, a1, b0, b1):
    """Combine (inclusive, exclusive) products; a scan of (x, 1) yields both products of x."""
    return a0 * b0, a0 * b1


@jit
def unit_quat(w, x, y, z):
    """Unit quaternion and the inverse norm."""
    inverse = 1.0 / tl.sqrt(tl.maximum(w * w + x * x + y * y + z * z, 1e-24))
    return w * inverse, x * inverse, y * inverse, z * inverse, inverse


@jit
def rotation_columns(w, x, y, z):
    """Columns of the rotation matrix of a unit quaternion."""
    return (
        (1 - 2 * (y * y + z * z), 2 * (x * y + w * z), 2 * (x * z - w * y)),
        (2 * (x * y - w * z), 1 - 2 * (x * x + z * z), 2 * (y * z + w * x)),
        (2 * (x * z + w * y), 2 * (y * z - w * x), 1 - 2 * (x * x + y * y)),
    )


@jit
def rotation_gradient(w, x, y, z, g0, g1, g2):
    """Gradient of the four numbers from those of the columns of ``rotation_columns``."""
    gw = 2 * (z * (g0[1] - g1[0]) + y * (g2[0] - g0[2]) + x * (g1[2] - g2[1]))
    gx = 2 * (y * (g1[0] + g0[1]) + z * (g2[0] + g0[2]) + w * (g1[2] - g2[1]))
    gx -= 4 * x * (g1[1] + g2[2])
    gy = 2 * (x * (g1[0] + g0[1]) + z * (g2[1] + g1[2]) + w * (g2[0] - g0[2]))
    gy -= 4 * y * (g0[0] + g2[2])
    gz = 2 * (x * (g2[0] + g0[2]) + y * (g2[1] + g1[2]) + w * (g0[1] - g1[0]))
    gz -= 4 * z * (g0[0] + g1[1])
    return gw, gx, gy, gz


@jit
def quat_gradient(w, x, y, z, inverse, g0, g1, g2):
    """Gradient of the unnormalised quaternion from those of the rotation's columns."""
    gw, gx, gy, gz = rotation_gradient(w, x, y, z, g0, g1, g2)
    radial = gw * w + gx * x + gy * y + gz * z
    return (
        (gw - radial * w) * inverse,
        (gx - radial * x) * inverse,
        (gy - radial * y) * inverse,
        (gz - radial * z) * inverse,
    )


@jit
def color_sh_term(TERM: constexpr, x, y, z):
    """One term of ``geometry.spherical_harmonics.color_sh_basis``, up to degree 3."""
    if TERM == 0:
        return x * 0.0 + 0.28209479177387814
    elif TERM == 1:
        return y * -0.4886025119029199
    elif TERM == 2:
        return z * 0.4886025119029199
    elif TERM == 3:
        return x * -0.4886025119029199
    elif TERM == 4:
        return x * y * 1.0925484305920792
    elif TERM == 5:
        return y * z * -1.0925484305920792
    elif TERM == 6:
        return (2 * z * z - x * x - y * y) * 0.31539156525252005
    elif TERM == 7:
        return x * z * -1.0925484305920792
    elif TERM == 8:
        return (x * x - y * y) * 0.5462742152960396
    elif TERM == 9:
        return y * (3 * x * x - y * y) * -0.5900435899266435
    elif TERM == 10:
        return x * y * z * 2.890611442640554
    elif TERM == 11:
        return y * (4 * z * z - x * x - y * y) * -0.4570457994644658
    elif TERM == 12:
        return z * (2 * z * z - 3 * x * x - 3 * y * y) * 0.3731763325901154
    elif TERM == 13:
        return x * (4 * z * z - x * x - y * y) * -0.4570457994644658
    elif TERM == 14:
        return z * (x * x - y * y) * 1.445305721320277
    else:
        return x * (x * x - 3 * y * y) * -0.5900435899266435


@jit
def color_sh_gradient(TERM: constexpr, x, y, z):
    """Derivatives of ``color_sh_term`` with respect to x, y, z."""
    zero = x * 0.0
    if TERM == 0:
        return (zero, zero, zero)
    elif TERM == 1:
        return (zero, zero - 0.4886025119029199, zero)
    elif TERM == 2:
        return (zero, zero, zero + 0.4886025119029199)
    elif TERM == 3:
        return (zero - 0.4886025119029199, zero, zero)
    elif TERM == 4:
        return scale3(1.0925484305920792, (y, x, zero))
    elif TERM == 5:
        return scale3(-1.0925484305920792, (zero, z, y))
    elif TERM == 6:
        return scale3(0.6307831305050401, (-x, -y, 2 * z))
    elif TERM == 7:
        return scale3(-1.0925484305920792, (z, zero, x))
    elif TERM == 8:
        return scale3(1.0925484305920792, (x, -y, zero))
    elif TERM == 9:
        return scale3(-1.7701307697799304, (2 * x * y, x * x - y * y, zero))
    elif TERM == 10:
        return scale3(2.890611442640554, (y * z, x * z, x * y))
    elif TERM == 11:
        return scale3(-0.4570457994644658, (-2 * x * y, 4 * z * z - x * x - 3 * y * y, 8 * y * z))
    elif TERM == 12:
        return scale3(1.1195289977703462, (-2 * x * z, -2 * y * z, 2 * z * z - x * x - y * y))
    elif TERM == 13:
        return scale3(-0.4570457994644658, (4 * z * z - 3 * x * x - y * y, -2 * x * y, 8 * x * z))
    elif TERM == 14:
        return scale3(1.445305721320277, (2 * x * z, -2 * y * z, x * x - y * y))
    else:
        return scale3(-1.7701307697799304, (x * x - y * y, -2 * x * y, zero))
