"""Moments of Adam that come from a checkpoint."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

__all__ = ["check_moments"]

_SCALAR, _LIKE_PARAMETER = ("step",), ("exp_avg", "exp_avg_sq")


def check_moments(moments: Mapping[str, Tensor], parameter: Tensor, name: str) -> None:
    """Raise unless moments are those of a parameter.

    Args:
        moments: By the keys that Adam gives them.
        parameter: What they belong to.
        name: Of the parameter, for messages.

    Raises:
        ValueError: If one is missing, or has another shape or type; names it.
    """
    if moments.keys() != {*_SCALAR, *_LIKE_PARAMETER}:
        wanted, found = (", ".join(keys) for keys in (_SCALAR + _LIKE_PARAMETER, sorted(moments)))
        raise ValueError(f"optimiser must have {wanted} of {name!r}, got {found}")
    for key, value in moments.items():
        # Adam counts steps in single precision whatever the parameter has.
        shape, dtype = tuple(parameter.shape), parameter.dtype
        if key in _SCALAR:
            shape, dtype = (), value.dtype if value.is_floating_point() else torch.float32
        if tuple(value.shape) != shape or value.dtype != dtype:
            raise ValueError(
                f"optimiser must have {key} of {name!r} of shape {shape} and type {dtype}, got "
                f"{tuple(value.shape)} and {value.dtype}"
            )
