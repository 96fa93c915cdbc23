"""Adam over several parameters: the reference against PyTorch, the Triton kernel against that."""

from __future__ import annotations

from typing import Literal

import pytest
import torch
from torch import Tensor
from torch.nn import Parameter

from tolerances import assert_close
from triton_support import compile_launch, is_interpreting, triton_device
from vultus.kernels.fused_adam import AdamTensors, adam_step
from vultus.optim.adam import GpuAdam, append_rows, build_adam, keep_rows, set_learning_rate

RATES = {"means": 0.1, "colors": 0.01, "opacities": 0.5}
triton_test = pytest.mark.triton


@pytest.fixture
def device(monkeypatch: pytest.MonkeyPatch) -> torch.device:
    """Blocks are small in the interpreter, so that small parameters have several."""
    found = triton_device()
    if is_interpreting():
        from vultus.kernels.fused_adam import gpu

        monkeypatch.setattr(gpu, "_BLOCK", 16)
    return found


def make_tensors(dtype: torch.dtype, device: torch.device) -> list[AdamTensors]:
    """State as after a few steps, with a different count each; gradients of very different size."""
    generator = torch.Generator().manual_seed(0)

    def draw(shape: tuple[int, ...], scale: float = 1.0) -> Tensor:
        values = scale * torch.randn(shape, generator=generator, dtype=torch.float64)
        return values.to(dtype).to(device)

    return [
        AdamTensors(
            draw(shape), draw(shape, scale), draw(shape, scale), draw(shape, scale) ** 2,
            torch.tensor(float(taken), dtype=dtype, device=device),
        )
        for shape, scale, taken in (((7, 3), 1.0, 0), ((32,), 1e-6, 1), ((5, 2, 2), 30.0, 20_000))
    ]  # fmt: skip


def test_reference_equals_adam_of_pytorch():
    tensors = make_tensors(torch.float64, torch.device("cpu"))
    rates = torch.tensor([0.1, 0.01, 0.5], dtype=torch.float64)
    groups, copies = [], []
    for each, rate in zip(tensors, rates.tolist(), strict=True):
        copy = Parameter(each.parameter.clone())
        copy.grad = each.gradient.clone()
        groups.append({"params": [copy], "lr": rate})
        copies.append(copy)
    expected = torch.optim.Adam(groups, betas=(0.8, 0.99), eps=1e-9, foreach=False)
    for each, copy in zip(tensors, copies, strict=True):
        expected.state[copy] = {
            "step": torch.tensor(float(each.step)),
            "exp_avg": each.mean.clone(),
            "exp_avg_sq": each.square.clone(),
        }
    for _ in range(3):
        expected.step()
        adam_step(tensors, rates, betas=(0.8, 0.99), epsilon=1e-9, backend="ref")
    for each, copy in zip(tensors, copies, strict=True):
        assert_close(each.parameter, copy.detach())
        assert_close(each.square, expected.state[copy]["exp_avg_sq"])
        assert float(each.step) == float(expected.state[copy]["step"])


@triton_test
def test_gpu_step_equals_the_reference(device):
    """Sizes below, at and above a block; rates and counts that differ."""
    actual, exact = (make_tensors(t, device) for t in (torch.float32, torch.float64))
    before = [each.parameter.double() for each in actual]
    rates = torch.tensor([0.1, 0.01, 0.5], device=device)
    for _ in range(2):
        adam_step(actual, rates, backend="gpu")
        adam_step(exact, rates.double(), backend="ref")
    for mine, theirs, old in zip(actual, exact, before, strict=True):
        change, expected = mine.parameter.double() - old, theirs.parameter - old
        assert float((change - expected).abs().max() / expected.abs().max()) < 1e-5
        for name in ("mean", "square"):
            wanted = getattr(theirs, name)
            assert float((getattr(mine, name) - wanted).abs().max() / wanted.abs().max()) < 1e-6
        assert float(mine.step) == float(theirs.step)


@pytest.mark.parametrize("backend", ["ref", pytest.param("gpu", marks=triton_test)])
def test_a_step_that_is_to_be_skipped_changes_nothing(backend, device):
    """Not even where gradients are not finite."""
    tensors, plain = (make_tensors(torch.float32, device) for _ in range(2))
    rates = torch.ones(3, device=device)
    skip = torch.ones(1, dtype=torch.int32, device=device)
    good = [each.gradient.clone() for each in tensors]
    for each in tensors:
        each.gradient.fill_(torch.nan)
    adam_step(tensors, rates, skip=skip, backend=backend)
    for each, gradient in zip(tensors, good, strict=True):
        each.gradient.copy_(gradient)
    adam_step(tensors, rates, skip=torch.zeros_like(skip), backend=backend)
    adam_step(plain, rates, backend=backend)
    for mine, theirs in zip(tensors, plain, strict=True):
        for name in ("parameter", "mean", "square", "step"):
            assert torch.equal(getattr(mine, name), getattr(theirs, name))


def parameters(num: int, device: torch.device) -> dict[str, Parameter]:
    generator = torch.Generator().manual_seed(num)
    shapes = {"means": (num, 3), "colors": (num, 2, 3), "opacities": (num,)}
    return {
        name: Parameter(torch.randn(shape, generator=generator).to(device))
        for name, shape in shapes.items()
    }


def train_and_edit(backend: Literal["torch", "gpu"], device: torch.device) -> dict[str, Tensor]:
    """Steps, rows that come and go, a new rate, and a step in which one parameter rests."""
    values = parameters(9, device)
    optimizer = build_adam(values, RATES, backend=backend)
    assert isinstance(optimizer, GpuAdam) == (backend == "gpu")

    def step(names: tuple[str, ...] = tuple(RATES)) -> None:
        optimizer.zero_grad()
        for name in names:
            (values[name] ** 2).sum().backward()
        optimizer.step()

    step()
    mask = torch.arange(9, device=device) % 3 > 0
    values = keep_rows(optimizer, values, mask)
    values = append_rows(optimizer, values, {n: torch.ones_like(v[:2]) for n, v in values.items()})
    set_learning_rate(optimizer, "colors", 0.2)
    step(("means", "opacities"))
    step()
    state = {name: optimizer.state[value] for name, value in values.items()}
    return {
        **values,
        **{f"{name}/{key}": value for name, s in state.items() for key, value in s.items()},
    }


@triton_test
def test_gpu_optimizer_trains_and_edits_like_that_of_pytorch(device):
    actual = train_and_edit("gpu", device)
    expected = train_and_edit("torch", torch.device("cpu"))
    assert actual.keys() == expected.keys()
    assert float(actual["colors/step"]) == 2
    for name, value in actual.items():
        assert_close(value.detach().cpu(), expected[name].detach())


@triton_test
def test_gpu_optimizer_goes_on_from_a_state_that_was_saved(device):
    results = []
    for is_saved in (False, True):
        values = parameters(4, device)
        optimizer = build_adam(values, RATES, backend="gpu")
        for step in range(2):
            if is_saved and step == 1:
                saved = {n: dict(optimizer.state[v]) for n, v in values.items()}
                optimizer = build_adam(values, RATES, backend="gpu")
                for name, state in saved.items():
                    optimizer.state[values[name]] = {k: v.cpu() for k, v in state.items()}
            for value in values.values():
                value.grad = 2 * value.detach()
            optimizer.step()
        results.append(values)
    assert all(torch.equal(results[0][name], results[1][name]) for name in RATES)


@triton_test
def test_gpu_step_refuses_what_it_cannot_update(device):
    tensors = make_tensors(torch.float64, device)
    with pytest.raises(TypeError, match=r"tensors 0: .* float32 parameter .* got torch\.float64"):
        adam_step(tensors, torch.ones(3, device=device), backend="gpu")


def test_rates_and_shapes_must_fit():
    tensors = make_tensors(torch.float32, torch.device("cpu"))
    with pytest.raises(ValueError, match="rates must hold 3 values, got 2"):
        adam_step(tensors, torch.ones(2))
    each = tensors[0]
    broken = AdamTensors(each.parameter, each.gradient[:2], each.mean, each.square, each.step)
    with pytest.raises(ValueError, match="tensors 0 must have one shape"):
        adam_step([broken], torch.ones(1))


@pytest.mark.parametrize("capability", [80, 90])
def test_adam_compiles_to_vector_loads_without_spilling(capability):
    pytest.importorskip("triton")
    if is_interpreting():
        pytest.skip("interpreted functions cannot be compiled")
    from vultus.kernels.triton_runtime import recorded_launches

    with recorded_launches() as launches:
        adam_step(make_tensors(torch.float32, torch.device("cpu")), torch.ones(3), backend="gpu")
    (launch,) = launches
    kernel = compile_launch(launch, capability)
    assert kernel.stack == 0
    assert kernel.ptx.count("ld.global.v4") >= 4, "a block inside a parameter needs no mask"


@pytest.mark.gpu
def test_a_captured_graph_counts_steps_and_reads_new_rates(device):
    values = [parameters(1000, device) for _ in range(2)]
    captured, eager = (build_adam(v, RATES) for v in values)
    assert isinstance(captured, GpuAdam)
    for group in values:
        for value in group.values():
            value.grad = torch.ones_like(value)
    captured.step()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured.step()
    for rate in (0.1, 0.3):
        set_learning_rate(captured, "means", rate)
        captured.upload_rates()
        graph.replay()
    for rate in (0.1, 0.1, 0.3):
        set_learning_rate(eager, "means", rate)
        eager.step()
    for name in RATES:
        assert torch.equal(values[0][name], values[1][name])
        assert float(captured.state[values[0][name]]["step"]) == 3
