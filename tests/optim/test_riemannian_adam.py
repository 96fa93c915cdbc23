"""Riemannian Adam: rows stay on their spheres, go where the loss falls, and survive edits."""

from __future__ import annotations

import pytest
import torch
from torch.nn import Parameter
from torch.nn.functional import normalize

from triton_support import triton_device
from vultus.optim.adam import append_rows, build_adam, keep_rows
from vultus.optim.riemannian_adam import (
    RiemannianGpuAdam,
    build_riemannian_adam,
    sphere_adam_step,
)


def unit(*shape: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return normalize(torch.randn(*shape, generator=generator), dim=-1)


def test_quaternions_are_of_unit_length_after_a_thousand_steps() -> None:
    parameters = {"q": Parameter(unit(7, 4, 4))}
    optimizer = build_riemannian_adam(parameters, {"q": 0.05}, {"q"})
    generator = torch.Generator().manual_seed(1)
    for _ in range(1000):
        parameters["q"].grad = torch.randn(7, 4, 4, generator=generator)
        optimizer.step()
    lengths = parameters["q"].detach().norm(dim=-1)
    assert (lengths - 1).abs().max() < 1e-6
    moment = optimizer.state[parameters["q"]]["exp_avg"]
    assert (moment * parameters["q"].detach()).sum(dim=-1).abs().max() < 1e-6


def test_points_find_the_nearest_point_to_a_target() -> None:
    target = 3.0 * unit(5, 4, seed=2)
    parameters = {"q": Parameter(unit(5, 4, seed=3))}
    optimizer = build_riemannian_adam(parameters, {"q": 0.02}, {"q"})
    for _ in range(600):
        optimizer.zero_grad()
        (parameters["q"] - target).square().sum().backward()
        optimizer.step()
    torch.testing.assert_close(parameters["q"].detach(), target / 3, atol=2e-3, rtol=0)


def test_a_radial_gradient_moves_nothing() -> None:
    # In float64 rounding leaves a tangent part far below epsilon.
    start = normalize(unit(6, 4).double(), dim=-1)
    parameters = {"q": Parameter(start.clone())}
    optimizer = build_riemannian_adam(parameters, {"q": 0.1}, {"q"})
    parameters["q"].grad = 5 * start
    optimizer.step()
    torch.testing.assert_close(parameters["q"].detach(), start, atol=1e-7, rtol=0)


@pytest.mark.parametrize("rate", [0.01, 0.3])
def test_steps_are_those_of_geoopt(rate: float) -> None:
    geoopt = pytest.importorskip("geoopt", reason="geoopt is one of the dev dependencies")
    start = unit(6, 4, 4).double()
    theirs = geoopt.ManifoldParameter(start.clone(), manifold=geoopt.Sphere())
    parameters = {"q": Parameter(start.clone())}
    ours = build_riemannian_adam(parameters, {"q": rate}, {"q"})
    group = ours.param_groups[0]
    options = {"betas": group["betas"], "eps": group["sphere_eps"]}
    reference = geoopt.optim.RiemannianAdam([theirs], lr=rate, **options)
    generator = torch.Generator().manual_seed(5)
    for _ in range(20):
        gradient = torch.randn(6, 4, 4, generator=generator, dtype=torch.float64)
        parameters["q"].grad, theirs.grad = gradient.clone(), gradient.clone()
        ours.step()
        reference.step()
        assert (parameters["q"] - theirs).abs().max() < 1e-9


def test_turning_the_sphere_turns_every_step() -> None:
    """The step knows no axes, unlike Adam's."""
    matrix, _ = torch.linalg.qr(torch.randn(4, 4, generator=torch.Generator().manual_seed(4)))
    start, gradients = unit(6, 4), [unit(6, 4, seed=s) for s in range(1, 6)]
    ends = []
    for turn in (torch.eye(4), matrix):
        parameters = {"q": Parameter(start @ turn)}
        optimizer = build_riemannian_adam(parameters, {"q": 0.1}, {"q"})
        for gradient in gradients:
            parameters["q"].grad = gradient @ turn
            optimizer.step()
        ends.append(parameters["q"].detach())
    torch.testing.assert_close(ends[1], ends[0] @ matrix, atol=1e-5, rtol=0)


def test_parameters_beside_the_spheres_step_as_with_adam() -> None:
    values = torch.randn(5, 3, generator=torch.Generator().manual_seed(5))
    gradient = torch.randn(5, 3, generator=torch.Generator().manual_seed(6))
    mixed = {"flat": Parameter(values.clone()), "q": Parameter(unit(2, 4))}
    alone = {"flat": Parameter(values.clone())}
    rates = {"flat": 0.01, "q": 0.01}
    optimizers = [build_riemannian_adam(mixed, rates, {"q"}), build_adam(alone, rates)]
    for _ in range(3):
        for parameters, optimizer in zip((mixed, alone), optimizers, strict=True):
            parameters["flat"].grad = gradient.clone()
            optimizer.step()
    assert torch.equal(mixed["flat"], alone["flat"])
    assert torch.equal(mixed["q"].detach(), unit(2, 4)), "no gradient, no step"


def test_moments_follow_rows_that_are_kept_and_added() -> None:
    parameters = {"q": Parameter(unit(4, 2, 4))}
    optimizer = build_riemannian_adam(parameters, {"q": 0.1}, {"q"})
    parameters["q"].grad = unit(4, 2, 4, seed=7)
    optimizer.step()
    before = optimizer.state[parameters["q"]]["exp_avg"].clone()
    parameters = keep_rows(optimizer, parameters, torch.tensor([True, False, True, True]))
    parameters = append_rows(optimizer, parameters, {"q": unit(1, 2, 4, seed=8)})
    after = optimizer.state[parameters["q"]]["exp_avg"]
    assert torch.equal(after[:3], before[[0, 2, 3]])
    assert not after[3].any()
    parameters["q"].grad = unit(4, 2, 4, seed=9)
    optimizer.step()
    assert (parameters["q"].detach().norm(dim=-1) - 1).abs().max() < 1e-6


@pytest.mark.parametrize("skip", [0, 1])
def test_a_skipped_step_changes_nothing(skip: int) -> None:
    tensors = [unit(3, 4), unit(3, 4, seed=1), torch.zeros(3, 4), torch.zeros(3, 4)]
    points, gradient, mean, square = tensors
    step, flag = torch.zeros(()), torch.tensor([skip])
    sphere_adam_step(points, gradient, mean, square, step, 0.1, skip=flag)
    assert torch.equal(points, unit(3, 4)) == bool(skip)
    assert bool(mean.any()) != bool(skip)
    assert float(step) == 1 - skip


@pytest.mark.triton
def test_the_gpu_optimizer_steps_and_skips_like_that_of_pytorch() -> None:
    device = triton_device()
    ends = []
    for backend, place in (("gpu", device), ("torch", torch.device("cpu"))):
        flat = torch.randn(6, 3, generator=torch.Generator().manual_seed(1))
        parameters = {"flat": Parameter(flat.to(place)), "q": Parameter(unit(5, 2, 4).to(place))}
        rates = {"flat": 0.1, "q": 0.03}
        optimizer = build_riemannian_adam(parameters, rates, {"q"}, backend=backend)
        for seed in range(4):
            if isinstance(optimizer, RiemannianGpuAdam):
                optimizer.skip = torch.tensor([int(seed == 2)], device=place)
            elif seed == 2:
                continue
            parameters["q"].grad = unit(5, 2, 4, seed=10 + seed).to(place)
            parameters["flat"].grad = None if seed == 1 else parameters["flat"].detach().clone()
            optimizer.step()
        states = [optimizer.state[value] for value in parameters.values()]
        ends.append([*(p.detach() for p in parameters.values()), *(s["exp_avg"] for s in states)])
    for found, expected in zip(*ends, strict=True):
        torch.testing.assert_close(found.cpu(), expected)


def test_vectors_of_other_length_and_missing_rates_are_refused() -> None:
    with pytest.raises(ValueError, match="q must hold unit vectors"):
        build_riemannian_adam({"q": Parameter(2 * unit(2, 4))}, {"q": 0.1}, {"q"})
    with pytest.raises(ValueError, match="learning_rates lacks 'q'"):
        build_riemannian_adam({"q": Parameter(unit(2, 4))}, {}, {"q"})
