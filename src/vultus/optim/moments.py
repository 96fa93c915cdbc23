"""Moments of Adam in a checkpoint, and back."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import torch
from torch import Tensor

__all__ = ["check_moments", "load_moments", "saved_moments"]

_COUNT, _LIKE_PARAMETER = "step", ("exp_avg", "exp_avg_sq")


def saved_moments(
    optimizer: torch.optim.Optimizer, parameters: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """What Adam knows about parameters, as ``name/key``.

    A parameter that never had a gradient has nothing but its count of steps, which is 0: so one
    whose moments were lost is told from one that has none.
    """
    saved: dict[str, Tensor] = {}
    for name, parameter in parameters.items():
        state = optimizer.state.get(parameter) or {_COUNT: torch.zeros(())}
        saved |= {f"{name}/{key}": torch.as_tensor(value) for key, value in state.items()}
    return saved


def load_moments(
    optimizer: torch.optim.Optimizer,
    parameters: Mapping[str, Tensor],
    moments: Mapping[str, Tensor],
    untouched: Collection[str] = (),
) -> None:
    """Give Adam what ``saved_moments`` returned for the same parameters.

    Args:
        optimizer: A fresh one.
        parameters: All of its parameters by name.
        moments: As ``name/key``.
        untouched: Names of parameters that certainly never had a gradient. They alone may be
            missing altogether, as in files of versions that wrote no count for them.

    Raises:
        ValueError: If other moments are missing, or those of something else; names them.
    """
    saved: dict[str, dict[str, Tensor]] = {name: {} for name in parameters}
    for path, value in moments.items():
        name, _, key = path.rpartition("/")
        if name not in saved:
            raise ValueError(f"optimiser must not have {path!r}, which is of no parameter")
        saved[name][key] = value
    for name, parameter in parameters.items():
        has_none = saved[name].keys() == {_COUNT} and not saved[name][_COUNT].any()
        if has_none or (not saved[name] and name in untouched):
            continue
        check_moments(saved[name], parameter, name)
        state = {key: value.to(parameter.device) for key, value in saved[name].items()}
        if not optimizer.defaults.get("fused"):
            # Such an Adam counts on the CPU, and would wait for the device in every step.
            state[_COUNT] = saved[name][_COUNT].cpu()
        optimizer.state[parameter] = state


def check_moments(moments: Mapping[str, Tensor], parameter: Tensor, name: str) -> None:
    """Raise unless moments are those of a parameter.

    Args:
        moments: By the keys that Adam gives them.
        parameter: What they belong to.
        name: Of the parameter, for messages.

    Raises:
        ValueError: If one is missing, or has another shape or type; names it.
    """
    if moments.keys() != {_COUNT, *_LIKE_PARAMETER}:
        wanted, found = (", ".join(k) for k in ((_COUNT, *_LIKE_PARAMETER), sorted(moments)))
        raise ValueError(f"optimiser must have {wanted} of {name!r}, got {found or 'nothing'}")
    for key, value in moments.items():
        # Adam counts steps in single precision whatever the parameter has.
        shape, dtype = tuple(parameter.shape), parameter.dtype
        if key == _COUNT:
            shape, dtype = (), value.dtype if value.is_floating_point() else torch.float32
        if tuple(value.shape) != shape or value.dtype != dtype:
            raise ValueError(
                f"optimiser must have {key} of {name!r} of shape {shape} and type {dtype}, got "
                f"{tuple(value.shape)} and {value.dtype}"
            )
