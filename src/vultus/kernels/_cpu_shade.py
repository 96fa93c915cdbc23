"""Colours of primitives: spherical harmonics and copied features, with their gradients."""

from __future__ import annotations

import math

import numpy as np

from vultus.core.simd import helper, kernel

__all__ = ["shade", "shade_backward"]


@helper
def _basis(degree, x, y, z, out):
    """Real spherical harmonics with the signs of 3DGS."""
    out[0] = 0.28209479177387814
    if degree > 0:
        out[1] = -0.4886025119029199 * y
        out[2] = 0.4886025119029199 * z
        out[3] = -0.4886025119029199 * x
    if degree > 1:
        out[4] = 1.0925484305920792 * x * y
        out[5] = -1.0925484305920792 * y * z
        out[6] = 0.31539156525252005 * (2 * z * z - x * x - y * y)
        out[7] = -1.0925484305920792 * x * z
        out[8] = 0.5462742152960396 * (x * x - y * y)
    if degree > 2:
        out[9] = -0.5900435899266435 * y * (3 * x * x - y * y)
        out[10] = 2.890611442640554 * x * y * z
        out[11] = -0.4570457994644658 * y * (4 * z * z - x * x - y * y)
        out[12] = 0.3731763325901154 * z * (2 * z * z - 3 * x * x - 3 * y * y)
        out[13] = -0.4570457994644658 * x * (4 * z * z - x * x - y * y)
        out[14] = 1.445305721320277 * z * (x * x - y * y)
        out[15] = -0.5900435899266435 * x * (x * x - 3 * y * y)


@helper
def _basis_gradient(degree, x, y, z, weights):
    """Gradient of sum_k weights[k] basis[k] with respect to the direction."""
    gx = gy = gz = 0.0
    if degree > 0:
        a = 0.4886025119029199
        gx -= a * weights[3]
        gy -= a * weights[1]
        gz += a * weights[2]
    if degree > 1:
        a = 1.0925484305920792
        b = 0.6307831305050401
        gx += a * (y * weights[4] - z * weights[7] + x * weights[8]) - b * x * weights[6]
        gy += a * (x * weights[4] - z * weights[5] - y * weights[8]) - b * y * weights[6]
        gz += 2 * b * z * weights[6] - a * (y * weights[5] + x * weights[7])
    if degree > 2:
        c = 0.5900435899266435
        d = 2.890611442640554
        e = 0.4570457994644658
        f = 0.3731763325901154
        g = 1.445305721320277
        xx, yy, zz = x * x, y * y, z * z
        gx += d * y * z * weights[10] - 6 * c * x * y * weights[9] + 2 * e * x * y * weights[11]
        gx += 2 * g * x * z * weights[14] - 6 * f * x * z * weights[12]
        gx -= e * (4 * zz - 3 * xx - yy) * weights[13] + 3 * c * (xx - yy) * weights[15]
        gy += d * x * z * weights[10] - 3 * c * (xx - yy) * weights[9] - 6 * f * y * z * weights[12]
        gy += 2 * y * (e * x * weights[13] - g * z * weights[14] + 3 * c * x * weights[15])
        gy -= e * (4 * zz - xx - 3 * yy) * weights[11]
        gz += d * x * y * weights[10] - 8 * e * z * (y * weights[11] + x * weights[13])
        gz += f * (6 * zz - 3 * xx - 3 * yy) * weights[12] + g * (xx - yy) * weights[14]
    return gx, gy, gz


@kernel()
def shade(start, stop, center, degree, means, sh_coeffs, features, rects, colors, problems):
    """Fill the first channels of ``colors``; ``problems[4:6]`` flags what is not finite.

    Colour is max(0, 0.5 + SH), evaluated in the direction from the camera centre to the primitive.
    """
    basis = np.empty(16, np.float32)
    num_terms = (degree + 1) * (degree + 1)
    offset = 3 if degree >= 0 else 0
    half, zero = np.float32(0.5), np.float32(0.0)
    for i in range(start, stop):
        if rects[i, 1] <= rects[i, 0]:
            continue
        if degree >= 0:
            x = means[i, 0] - center[0]
            y = means[i, 1] - center[1]
            z = means[i, 2] - center[2]
            inverse = 1.0 / math.sqrt(max(x * x + y * y + z * z, 1e-24))
            _basis(degree, x * inverse, y * inverse, z * inverse, basis)
            red = green = blue = half
            for k in range(num_terms):
                red += basis[k] * sh_coeffs[i, k, 0]
                green += basis[k] * sh_coeffs[i, k, 1]
                blue += basis[k] * sh_coeffs[i, k, 2]
            if not math.isfinite(red + green + blue):
                problems[4] = 1
            colors[i, 0] = max(red, zero)
            colors[i, 1] = max(green, zero)
            colors[i, 2] = max(blue, zero)
        for c in range(features.shape[1]):
            value = features[i, c]
            if not math.isfinite(value):
                problems[5] = 1
            colors[i, offset + c] = value


@kernel()
def shade_backward(
    start, stop, center, degree, means, sh_coeffs, rects, colors, totals, first_channel,
    grad_means, grad_sh, grad_features,
):  # fmt: skip
    """Turn the channels' gradients, in ``totals`` from ``first_channel``, into those of the inputs.

    Adds to ``grad_means`` and overwrites the others; arrays of length 0 are not wanted.
    """
    basis = np.empty(16, np.float32)
    weights = np.empty(16, np.float32)
    num_terms = (degree + 1) * (degree + 1)
    offset = 3 if degree >= 0 else 0
    zero = np.float32(0.0)
    has_features = grad_features.shape[0] > 0
    for i in range(start, stop):
        is_visible = rects[i, 1] > rects[i, 0]
        if has_features:
            for c in range(grad_features.shape[1]):
                grad_features[i, c] = totals[i, first_channel + offset + c] if is_visible else zero
        if degree < 0:
            continue
        if not is_visible:
            for k in range(grad_sh.shape[1]):
                for c in range(3):
                    grad_sh[i, k, c] = zero
            continue
        red = totals[i, first_channel] if colors[i, 0] > zero else zero
        green = totals[i, first_channel + 1] if colors[i, 1] > zero else zero
        blue = totals[i, first_channel + 2] if colors[i, 2] > zero else zero
        x = means[i, 0] - center[0]
        y = means[i, 1] - center[1]
        z = means[i, 2] - center[2]
        inverse = 1.0 / math.sqrt(max(x * x + y * y + z * z, 1e-24))
        x, y, z = x * inverse, y * inverse, z * inverse
        _basis(degree, x, y, z, basis)
        for k in range(num_terms):
            weights[k] = (
                red * sh_coeffs[i, k, 0] + green * sh_coeffs[i, k, 1] + blue * sh_coeffs[i, k, 2]
            )
            grad_sh[i, k, 0] = basis[k] * red
            grad_sh[i, k, 1] = basis[k] * green
            grad_sh[i, k, 2] = basis[k] * blue
        for k in range(num_terms, grad_sh.shape[1]):
            for c in range(3):
                grad_sh[i, k, c] = zero
        gx, gy, gz = _basis_gradient(degree, x, y, z, weights)
        radial = gx * x + gy * y + gz * z
        grad_means[i, 0] += (gx - radial * x) * inverse
        grad_means[i, 1] += (gy - radial * y) * inverse
        grad_means[i, 2] += (gz - radial * z) * inverse
