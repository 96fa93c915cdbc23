"""Tolerances of comparisons, by dtype: the one place where they are chosen."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["RELATIVE_TOLERANCES", "assert_close", "tolerances"]

RELATIVE_TOLERANCES = {torch.float16: 2e-3, torch.float32: 2e-5, torch.float64: 1e-10}
"""About a hundred rounding errors: enough for a chain of matrix products."""


def tolerances(dtype: torch.dtype, looser: float = 1.0) -> dict[str, float]:
    """``rtol`` and ``atol`` for values of order one; exact for integers and booleans."""
    tolerance = RELATIVE_TOLERANCES.get(dtype, 0.0) * looser
    return {"rtol": tolerance, "atol": tolerance}


def assert_close(
    actual: Tensor, expected: Tensor, *, looser: float = 1.0, reason: str = ""
) -> None:
    """Compare with the tolerance of the less precise dtype; broadcasting is an error.

    Args:
        actual: What the code under test gave.
        expected: What it should be.
        looser: Factor on the tolerance; a factor above 1 wants a ``reason``.
        reason: Why the tolerance is looser; shown when the comparison fails.
    """
    if looser > 1.0 and not reason:
        raise ValueError("a looser tolerance needs a reason")
    dtypes = [actual.dtype, expected.dtype]
    known = [dtype for dtype in dtypes if dtype in RELATIVE_TOLERANCES]
    dtype = max(known, key=RELATIVE_TOLERANCES.__getitem__, default=actual.dtype)

    def message(text: str) -> str:
        return f"{text}\n(tolerance x{looser:g}: {reason})" if reason else text

    limit = tolerances(dtype, looser)
    torch.testing.assert_close(
        actual, expected, rtol=limit["rtol"], atol=limit["atol"], check_dtype=False, msg=message
    )
