"""Moments of a checkpoint must be those of the parameter."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from vultus.optim.moments import check_moments


def moments_of_adam(dtype: torch.dtype = torch.float32) -> tuple[dict[str, Tensor], Tensor]:
    """What a step leaves behind."""
    parameter = torch.nn.Parameter(torch.ones(4, 3, dtype=dtype))
    optimizer = torch.optim.Adam([parameter])
    parameter.sum().backward()
    optimizer.step()
    return dict(optimizer.state[parameter]), parameter


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_moments_of_adam_fit(dtype: torch.dtype) -> None:
    moments, parameter = moments_of_adam(dtype)
    check_moments(moments, parameter, "means")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda m: m.pop("step"), "step, exp_avg, exp_avg_sq of 'means', got exp_avg, exp_avg_sq"),
        (lambda m: m.update(other=torch.zeros(1)), "got exp_avg, exp_avg_sq, other, step"),
        (lambda m: m.update(step=torch.zeros(1)), r"step of 'means' of shape \(\) .* \(1,\)"),
        (lambda m: m.update(step=torch.zeros((), dtype=torch.int64)), "float32, got .*int64"),
        (lambda m: m.update(exp_avg=torch.zeros(5, 3)), r"exp_avg of 'means' of shape \(4, 3\)"),
        (lambda m: m.update(exp_avg_sq=torch.zeros(4, 3).double()), "exp_avg_sq .*float64"),
    ],
)
def test_moments_of_something_else_are_named(
    damage: Callable[[dict[str, Tensor]], object], message: str
) -> None:
    moments, parameter = moments_of_adam()
    damage(moments)
    with pytest.raises(ValueError, match=f"^optimiser must have .*{message}"):
        check_moments(moments, parameter, "means")
