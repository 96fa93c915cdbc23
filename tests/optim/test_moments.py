"""Moments of a checkpoint must be those of the parameter, and none may be missing."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from vultus.optim.moments import check_moments, load_moments, saved_moments


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


def half_trained() -> tuple[torch.optim.Adam, dict[str, Tensor]]:
    """Two parameters of which one has made a step."""
    parameters = {name: torch.nn.Parameter(torch.ones(2)) for name in ("moved", "unused")}
    optimizer = torch.optim.Adam(parameters.values())
    parameters["moved"].sum().backward()
    optimizer.step()
    return optimizer, dict(parameters)


def test_moments_come_back_and_a_parameter_without_any_has_none_again() -> None:
    optimizer, parameters = half_trained()
    saved = saved_moments(optimizer, parameters)
    keys = ["moved/step", "moved/exp_avg", "moved/exp_avg_sq", "unused/step"]
    assert list(saved) == keys
    assert float(saved["unused/step"]) == 0.0
    other = torch.optim.Adam(parameters.values())
    load_moments(other, parameters, saved)
    assert list(other.state) == [parameters["moved"]]
    again = saved_moments(other, parameters)
    assert list(again) == keys
    assert all(torch.equal(again[key], saved[key]) for key in keys)


@pytest.mark.parametrize("lost", ["moved", "unused"])
def test_a_parameter_whose_moments_are_missing_does_not_begin_anew(lost: str) -> None:
    optimizer, parameters = half_trained()
    saved = saved_moments(optimizer, parameters)
    rest = {key: value for key, value in saved.items() if not key.startswith(lost)}
    message = f"^optimiser must have step, exp_avg, exp_avg_sq of '{lost}', got nothing$"
    with pytest.raises(ValueError, match=message):
        load_moments(torch.optim.Adam(parameters.values()), parameters, rest)


def test_a_parameter_that_never_had_a_gradient_may_be_missing_if_it_is_said_so() -> None:
    optimizer, parameters = half_trained()
    saved = saved_moments(optimizer, parameters)
    kept = {key: value for key, value in saved.items() if not key.startswith("unused")}
    other = torch.optim.Adam(parameters.values())
    load_moments(other, parameters, kept, {"unused"})
    assert list(other.state) == [parameters["moved"]]
    with pytest.raises(ValueError, match="exp_avg_sq of 'moved', got nothing"):
        load_moments(other, parameters, {"unused/step": torch.zeros(())}, {"unused"})
    partial = {**kept, "unused/exp_avg": torch.zeros(2)}
    with pytest.raises(ValueError, match=r"exp_avg_sq of 'unused', got exp_avg$"):
        load_moments(other, parameters, partial, {"unused"})


def test_a_count_of_steps_alone_is_enough_only_before_the_first() -> None:
    _, parameters = half_trained()
    moments = {"moved/step": torch.tensor(3.0), "unused/step": torch.zeros(())}
    with pytest.raises(ValueError, match=r"exp_avg_sq of 'moved', got step$"):
        load_moments(torch.optim.Adam(parameters.values()), parameters, moments)


def test_only_a_fused_adam_counts_on_the_device() -> None:
    moments, _ = moments_of_adam()
    on_device = torch.nn.Parameter(torch.ones(4, 3, device="meta"))
    saved = {f"means/{key}": value for key, value in moments.items()}
    for is_fused, expected in ((False, "cpu"), (True, "meta")):
        optimizer = torch.optim.Adam([on_device])
        optimizer.defaults["fused"] = is_fused
        load_moments(optimizer, {"means": on_device}, saved)
        state = optimizer.state[on_device]
        assert (state["step"].device.type, state["exp_avg"].device.type) == (expected, "meta")


def test_moments_of_parameters_that_are_not_there_are_refused() -> None:
    optimizer, parameters = half_trained()
    saved = {**saved_moments(optimizer, parameters), "old/step": torch.zeros(())}
    with pytest.raises(ValueError, match="must not have 'old/step', which is of no parameter"):
        load_moments(torch.optim.Adam(parameters.values()), parameters, saved)
