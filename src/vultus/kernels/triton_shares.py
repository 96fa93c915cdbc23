"""Blend weights in Triton: sigmoids of four logits, divided by their sum."""

from __future__ import annotations

from vultus.kernels.triton_runtime import jit, tl

__all__ = ["logits_to_shares", "shares_gradient"]

_SMALLEST_SUM = tl.constexpr(1e-12)
"""As in ``torch.nn.functional.normalize``."""


@jit
def logits_to_shares(logits):
    """Four shares of one.

    Returns:
        The shares, the sigmoids, and the reciprocal of their sum.
    """
    a, b, c, d = logits
    a, b, c, d = tl.sigmoid(a), tl.sigmoid(b), tl.sigmoid(c), tl.sigmoid(d)
    inverse = 1.0 / tl.maximum(a + b + c + d, _SMALLEST_SUM)
    return (a * inverse, b * inverse, c * inverse, d * inverse), (a, b, c, d), inverse


@jit
def shares_gradient(shares, sigmoids, inverse, grad):
    """Gradient of the logits from that of their shares; arguments as from ``logits_to_shares``."""
    a, b, c, d = sigmoids
    mean = grad[0] * shares[0] + grad[1] * shares[1] + grad[2] * shares[2] + grad[3] * shares[3]
    # A sum that is bounded from below is a constant.
    mean = tl.where(a + b + c + d >= _SMALLEST_SUM, mean, 0.0)
    return (
        (grad[0] - mean) * inverse * a * (1.0 - a),
        (grad[1] - mean) * inverse * b * (1.0 - b),
        (grad[2] - mean) * inverse * c * (1.0 - c),
        (grad[3] - mean) * inverse * d * (1.0 - d),
    )
