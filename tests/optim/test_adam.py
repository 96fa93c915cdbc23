from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import Parameter

from vultus.optim.adam import (
    append_rows,
    build_adam,
    keep_rows,
    replace_values,
    set_learning_rate,
)

RATES = {"means": 0.1, "colors": 0.01, "rig": 1.0}


def parameters(num: int = 5) -> dict[str, Parameter]:
    generator = torch.Generator().manual_seed(num)
    return {
        "means": Parameter(torch.randn(num, 3, generator=generator)),
        "colors": Parameter(torch.randn(num, 2, 3, generator=generator)),
    }


def step(optimizer: torch.optim.Optimizer, values: dict[str, Parameter], target: float) -> None:
    optimizer.zero_grad()
    torch.stack([((value - target) ** 2).sum() for value in values.values()]).sum().backward()
    optimizer.step()


def moments(optimizer: torch.optim.Optimizer, parameter: Parameter) -> tuple[Tensor, Tensor]:
    state = optimizer.state[parameter]
    return state["exp_avg"], state["exp_avg_sq"]


def test_every_parameter_gets_a_group_of_its_name_and_rate() -> None:
    values = parameters()
    optimizer = build_adam(values, RATES)
    assert {g["name"]: g["lr"] for g in optimizer.param_groups} == {"means": 0.1, "colors": 0.01}
    assert all(g["params"] == [values[g["name"]]] for g in optimizer.param_groups)


def test_a_step_equals_the_formula_of_adam() -> None:
    values = {"means": Parameter(torch.tensor([1.0, -2.0]))}
    optimizer = build_adam(values, RATES)
    step(optimizer, values, 0.0)
    # With bias correction the first step has the length of the rate, towards lower loss.
    torch.testing.assert_close(values["means"].detach(), torch.tensor([0.9, -1.9]))


def test_kept_rows_go_on_as_if_the_others_had_never_existed() -> None:
    mask = torch.tensor([True, False, True, True, False])
    values = parameters()
    small = {name: Parameter(value.detach()[mask].clone()) for name, value in values.items()}
    optimizer, small_optimizer = build_adam(values, RATES), build_adam(small, RATES)
    for target in (1.0, -0.5):
        step(optimizer, values, target)
        step(small_optimizer, small, target)
    values = keep_rows(optimizer, values, mask)
    step(optimizer, values, 0.3)
    step(small_optimizer, small, 0.3)
    for name in values:
        assert torch.equal(values[name], small[name])


def test_appended_rows_start_with_zero_moments_and_leave_the_others_alone() -> None:
    values = parameters()
    optimizer = build_adam(values, RATES)
    step(optimizer, values, 1.0)
    before = {name: [m.clone() for m in moments(optimizer, p)] for name, p in values.items()}
    rows = {name: torch.ones_like(value[:2]) for name, value in values.items()}
    grown = append_rows(optimizer, values, rows)
    for name, value in grown.items():
        assert torch.equal(value[:5], values[name])
        assert torch.equal(value[5:], rows[name])
        for now, old in zip(moments(optimizer, value), before[name], strict=True):
            assert torch.equal(now[:5], old)
            assert (now[5:] == 0).all()


def test_state_of_replaced_parameters_does_not_leak() -> None:
    values = parameters()
    optimizer = build_adam(values, RATES)
    step(optimizer, values, 1.0)
    grown = append_rows(optimizer, values, {name: v.detach() for name, v in values.items()})
    assert set(optimizer.state) == set(grown.values())
    step(optimizer, grown, 1.0)
    assert float(optimizer.state[grown["means"]]["step"]) == 2.0


def test_edits_find_groups_by_name_where_lengths_coincide() -> None:
    rig = Parameter(torch.zeros(5, 3))
    values = parameters()
    optimizer = build_adam({**values, "rig": rig}, RATES)
    step(optimizer, {**values, "rig": rig}, 1.0)
    keep_rows(optimizer, values, torch.tensor([True, False, False, True, True]))
    sizes = {g["name"]: g["params"][0].shape[0] for g in optimizer.param_groups}
    assert sizes == {"means": 3, "colors": 3, "rig": 5}
    assert moments(optimizer, rig)[0].shape == (5, 3)


@pytest.mark.parametrize("reset", [True, False])
def test_replaced_values_reset_their_moments_on_demand(reset: bool) -> None:
    values = parameters()
    optimizer = build_adam(values, RATES)
    step(optimizer, values, 1.0)
    old = moments(optimizer, values["means"])[0].clone()
    other = moments(optimizer, values["colors"])[0].clone()
    new = torch.full((5, 3), 7.0)
    edited = replace_values(optimizer, values, "means", new, reset_moments=reset)
    assert torch.equal(edited["means"].detach(), new)
    expected = torch.zeros_like(old) if reset else old
    assert torch.equal(moments(optimizer, edited["means"])[0], expected)
    assert edited["colors"] is values["colors"]
    assert torch.equal(moments(optimizer, edited["colors"])[0], other)


def test_edits_before_the_first_step_work_without_moments() -> None:
    values = parameters()
    optimizer = build_adam(values, RATES)
    values = keep_rows(optimizer, values, torch.tensor([True] * 3 + [False] * 2))
    step(optimizer, values, 1.0)
    assert moments(optimizer, values["means"])[0].shape == (3, 3)


def test_learning_rate_of_one_group_changes() -> None:
    optimizer = build_adam(parameters(), RATES)
    set_learning_rate(optimizer, "colors", 0.5)
    assert [g["lr"] for g in optimizer.param_groups] == [0.1, 0.5]


def test_errors_name_what_is_missing() -> None:
    values = parameters()
    with pytest.raises(ValueError, match="learning_rates lacks 'colors'"):
        build_adam(values, {"means": 0.1})
    optimizer = build_adam(values, RATES)
    with pytest.raises(ValueError, match="no group 'quats'; it has means, colors"):
        set_learning_rate(optimizer, "quats", 0.1)
    with pytest.raises(ValueError, match="must name the same parameters: means, colors; got means"):
        append_rows(optimizer, values, {"means": torch.zeros(1, 3)})
    with pytest.raises(ValueError, match=r"means must keep shape \(5, 3\), got \(4, 3\)"):
        replace_values(optimizer, values, "means", torch.zeros(4, 3))
