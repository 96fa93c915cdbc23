"""Density control of primitives that are bound to nothing and whose opacities are decoded."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import Parameter

from vultus.gaussians.densify import AdaptiveDensity, DensifyConfig
from vultus.optim.riemannian_adam import build_riemannian_adam

NUM = 6
CONFIG = DensifyConfig(
    start_step=0, stop_step=100, interval=1, opacity_reset_interval=7, prune_opacity=0.1
)


def scene() -> tuple[dict[str, Parameter], torch.optim.Optimizer, AdaptiveDensity]:
    generator = torch.Generator().manual_seed(0)
    values = {
        "means": torch.randn(NUM, 3, generator=generator),
        "log_scales": torch.full((NUM, 3), 0.005).log(),
        "quats": torch.randn(NUM, 4, generator=generator),
        "derivation": torch.nn.functional.normalize(
            torch.randn(NUM, 2, 4, generator=generator), dim=-1
        ),
    }
    parameters = {name: Parameter(value) for name, value in values.items()}
    optimizer = build_riemannian_adam(parameters, dict.fromkeys(parameters, 0.1), {"derivation"})
    for parameter in parameters.values():
        parameter.grad = torch.randn(parameter.shape, generator=generator)
    optimizer.step()
    return parameters, optimizer, AdaptiveDensity(CONFIG, NUM)


def edit(grown: list[int], opacities: Tensor, step: int = 1):
    parameters, optimizer, density = scene()
    screen = torch.zeros(NUM, 2)
    screen[grown] = 1.0
    density.accumulate(screen, torch.ones(NUM, dtype=torch.int32))
    edited = density.edit(
        step,
        parameters,
        {"opacities": opacities},
        optimizer,
        world_scales=parameters["log_scales"].detach().exp(),
        extent=1.0,
        generator=torch.Generator().manual_seed(1),
    )
    assert edited is not None
    return parameters, edited, optimizer


def test_faint_primitives_go_and_clones_inherit_everything() -> None:
    opacities = torch.tensor([0.5, 0.05, 0.5, 0.5, 0.09, 0.6])
    before, edited, optimizer = edit([2], opacities)
    rows = [0, 2, 3, 5, 2]
    assert (edited.num_cloned, edited.num_pruned) == (1, 2)
    for name, parameter in before.items():
        assert torch.equal(edited.parameters[name], parameter[rows]), name
    assert torch.equal(edited.extras["opacities"], opacities[rows])
    moment = optimizer.state[edited.parameters["derivation"]]["exp_avg"]
    assert moment[:4].abs().amax(dim=(1, 2)).min() > 0
    assert not moment[4].any(), "clones start without momentum"


def test_primitives_that_are_all_too_faint_stay_and_may_recover(caplog) -> None:
    """One that is not is enough to let the others go."""
    opacities = torch.full((NUM,), 0.05)
    before, edited, _ = edit([2], opacities)
    assert (edited.num_cloned, edited.num_pruned) == (1, 0)
    rows = [*range(NUM), 2]
    assert torch.equal(edited.parameters["means"], before["means"][rows])
    assert f"step 1: all {NUM + 1} primitives are too faint or too large" in caplog.text
    caplog.clear()
    opacities[4] = 0.5
    _, edited, _ = edit([], opacities)
    assert (len(edited.parameters["means"]), edited.num_pruned) == (1, NUM - 1)
    assert not caplog.text


def test_resets_of_decoded_opacities_are_left_to_the_caller() -> None:
    before, edited, _ = edit([], torch.full((NUM,), 0.5), step=7)
    assert torch.equal(edited.extras["opacities"], torch.full((NUM,), 0.5))
    assert torch.equal(edited.parameters["means"], before["means"])


def test_positions_and_opacities_are_asked_for_by_name() -> None:
    parameters, optimizer, density = scene()
    scales, generator = parameters["log_scales"].detach().exp(), torch.Generator()

    def attempt(parameters: dict[str, Parameter], extras: dict[str, Tensor]) -> None:
        density.edit(
            1,
            parameters,
            extras,
            optimizer,
            world_scales=scales,
            extent=1.0,
            generator=generator,
        )

    with pytest.raises(ValueError, match="density control needs 'opacity_logits'"):
        attempt(parameters, {})
    renamed = {**parameters, "local_means": parameters["means"]}
    del renamed["means"]
    with pytest.raises(ValueError, match="density control needs 'means'"):
        attempt(renamed, {"opacities": torch.ones(NUM)})
