"""Launches that skip Triton's binder once a kernel has been compiled for such arguments."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from triton_support import is_interpreting, triton_device

pytest.importorskip("triton")

from launched_kernels import scale
from vultus.kernels import triton_runtime
from vultus.kernels.parts import Layout
from vultus.kernels.triton_runtime import (
    Launch,
    Launcher,
    fill_with_zeros,
    launch,
    recorded_launches,
    start_copy_of_head,
)


class FakeKernel:
    """Notes how it is launched, in place of a compiler and a GPU."""

    def __init__(self) -> None:
        self.fn = object()
        self.bound: list[tuple[Any, ...]] = []
        self.direct: list[tuple[Any, ...]] = []

    def __getitem__(self, grid: tuple[int, ...]) -> Any:
        def bind(*arguments: Any, **options: Any) -> FakeCompiled:
            self.bound.append((grid, arguments, options))
            return FakeCompiled(self)

        return bind


class FakeCompiled:
    """What Triton returns from a launch: a kernel that takes arguments as they are."""

    metadata = SimpleNamespace(target=SimpleNamespace(backend="fake"))

    def __init__(self, kernel: FakeKernel) -> None:
        self.kernel = kernel

    def __getitem__(self, grid: tuple[int, ...]) -> Any:
        return lambda *values, stream: self.kernel.direct.append((grid, values, stream))


class FakeDriver:
    """Says that the current device is the one of tensors on the CPU."""

    class active:
        device = -1

        @classmethod
        def get_current_device(cls) -> int:
            return cls.device

        @staticmethod
        def get_current_stream(device: int) -> int:
            return 7 + device


@pytest.fixture
def kernel(monkeypatch: pytest.MonkeyPatch) -> FakeKernel:
    monkeypatch.setattr(triton_runtime, "_driver", FakeDriver)
    monkeypatch.setattr(triton_runtime, "_compiled", {})
    monkeypatch.setattr(triton_runtime, "is_interpreted", lambda: False)
    monkeypatch.setattr(FakeDriver.active, "device", -1)
    return FakeKernel()


def test_a_launch_like_an_earlier_one_goes_straight_to_the_compiled_kernel(kernel):
    first, second = torch.zeros(8), torch.zeros(8)
    launch(kernel, (3,), first, 5, 0.5, SIZE=8, num_warps=2)
    launch(kernel, (4, 2), second, 5, 0.25, SIZE=8, num_warps=2)
    (bound,) = kernel.bound
    assert bound[0] == (3,)
    assert bound[1][0] is first
    assert bound[2] == {"SIZE": 8, "num_warps": 2, "enable_fp_fusion": True}
    assert kernel.direct == [((4, 2, 1), (second.data_ptr(), 5, 0.25, 8), 6)]


@pytest.mark.parametrize(
    "change",
    [
        {"number": 6},
        {"number": 5.0},
        {"number": True},
        {"tensor": torch.zeros(8, dtype=torch.float64)},
        {"tensor": torch.zeros(9)[1:]},
        {"tensor": None},
        {"tensor": (torch.zeros(8), torch.zeros(8))},
        {"constant": 16},
        {"num_warps": 4},
    ],
    ids=str,
)
def test_what_triton_compiles_for_is_told_apart(kernel, change):
    usual = {"tensor": torch.zeros(8), "number": 5, "constant": 8, "num_warps": 2}
    for case in (usual, {**usual, **change}, usual, {**usual, **change}):
        launch(
            kernel, (1,), case["tensor"], case["number"], SIZE=case["constant"],
            num_warps=case["num_warps"],
        )  # fmt: skip
    assert (len(kernel.bound), len(kernel.direct)) == (2, 2)


def test_tensors_of_another_device_are_left_to_triton(kernel, monkeypatch):
    """It reports them; their address would mean nothing to the kernel."""
    monkeypatch.setattr(FakeDriver.active, "device", 0)
    for _ in range(2):
        launch(kernel, (1,), torch.zeros(8), SIZE=8)
        launch(kernel, (1,), (torch.zeros(8),), SIZE=8)
    assert (len(kernel.bound), len(kernel.direct)) == (4, 0)


def test_tuples_keep_their_shape(kernel):
    tensors = (torch.zeros(8), torch.zeros(4))
    for _ in range(2):
        launch(kernel, (1,), tensors, SIZE=8)
    addresses = tuple(tensor.data_ptr() for tensor in tensors)
    assert kernel.direct == [((1, 1, 1), (addresses, 8), 6)]


def test_no_more_is_remembered_than_a_limit(kernel, monkeypatch):
    monkeypatch.setattr(triton_runtime, "_MAX_COMPILED", 3)
    for number in range(2, 12):
        launch(kernel, (1,), number)
    assert len(triton_runtime._compiled) <= 3


def test_prepared_launches_differ_in_their_tensors_alone(kernel):
    prepared = Launcher(kernel, (3,), 5, 0.5, SIZE=8, num_warps=2)
    first, second, third = (torch.zeros(8) for _ in range(3))
    for tensor in (first, second, third):
        prepared(tensor)
    (bound,) = kernel.bound
    assert bound[:2] == ((3,), (first, 5, 0.5))
    assert bound[2] == {"SIZE": 8, "num_warps": 2, "enable_fp_fusion": True}
    assert kernel.direct == [((3, 1, 1), (t.data_ptr(), 5, 0.5, 8), 6) for t in (second, third)]


def test_prepared_launches_keep_their_own_grid_and_numbers(kernel):
    """Triton compiles the same code for both."""
    tensor = torch.zeros(8)
    for _ in range(2):
        Launcher(kernel, (3,), 0.5, SIZE=8)(tensor)
        Launcher(kernel, (4,), 0.25, SIZE=8)(tensor)
    assert len(kernel.bound) == 1
    assert [(grid[0], values[1]) for grid, values, _ in kernel.direct] == [
        (4, 0.25), (3, 0.5), (4, 0.25),
    ]  # fmt: skip


def test_prepared_launches_tell_unaligned_tensors_apart(kernel):
    prepared = Launcher(kernel, (1,), SIZE=8)
    aligned, unaligned = torch.zeros(8), torch.zeros(9)[1:]
    for second in (aligned, unaligned) * 3:
        prepared(aligned, second)
    assert len(kernel.bound) == 2
    addresses = [values[1] for _, values, _ in kernel.direct]
    assert addresses == [aligned.data_ptr(), unaligned.data_ptr()] * 2


def test_prepared_launches_on_another_device_are_left_to_triton(kernel, monkeypatch):
    prepared = Launcher(kernel, (1,), SIZE=8)
    for device, bound, direct in ((-1, 1, 0), (-1, 1, 1), (0, 2, 1), (0, 3, 1), (-1, 3, 2)):
        monkeypatch.setattr(FakeDriver.active, "device", device)
        prepared(torch.zeros(8))
        assert (len(kernel.bound), len(kernel.direct)) == (bound, direct)


def test_prepared_launches_name_the_gpu_that_should_be_the_current_one(kernel, monkeypatch):
    class Elsewhere(torch.Tensor):
        def get_device(self) -> int:
            return 1

    monkeypatch.setattr(FakeDriver.active, "device", 0)
    prepared = Launcher(kernel, (1,), SIZE=8)
    with pytest.raises(ValueError, match=r"current GPU, cuda:0, got cuda:1: call torch.cuda.set_"):
        prepared(torch.zeros(8).as_subclass(Elsewhere))
    assert not kernel.bound


def test_prepared_launches_are_recorded_and_those_of_nothing_are_not_run(kernel):
    prepared, tensor = Launcher(kernel, (1,), 5, SIZE=8, num_warps=2), torch.zeros(8)
    prepared(tensor)
    with recorded_launches() as launches:
        prepared(tensor)
    assert launches == [Launch(kernel, (1,), (tensor, 5), {"SIZE": 8}, 2)]
    Launcher(kernel, (1, 0), SIZE=8)(tensor)
    assert (len(kernel.bound), len(kernel.direct)) == (1, 0)


@pytest.mark.triton
def test_repeated_launches_see_new_tensors_numbers_and_constants():
    """Aligned and unaligned, and integers that Triton compiles other code for."""
    device = triton_device()
    for repeat in range(3):
        for start in (0, 1):
            for count, factor, offset in ((1, 2.0, 0), (16, 3.0, 1), (13, 2, 0), (1, 4, 1)):
                source = torch.rand(40, device=device)[start:]
                target = torch.zeros(40, device=device)
                factor += repeat
                launch(scale, (1,), source, target, count, factor, SIZE=32, OFFSET=offset)
                expected = torch.zeros_like(target)
                expected[:count] = source[:count] * factor + offset
                torch.testing.assert_close(target, expected)


@pytest.mark.triton
def test_prepared_launches_see_new_tensors():
    device = triton_device()
    prepared = Launcher(scale, (1,), 13, 3.0, SIZE=32, OFFSET=1)
    for start in (0, 1, 0, 1, 0):
        source = torch.rand(40, device=device)[start:]
        target = torch.zeros(40, device=device)
        prepared(source, target)
        expected = torch.zeros_like(target)
        expected[:13] = source[:13] * 3.0 + 1
        torch.testing.assert_close(target, expected)


@pytest.mark.gpu
def test_a_tensor_that_is_not_on_the_gpu_is_reported_by_any_launch():
    device = triton_device()
    if is_interpreting():
        pytest.skip("needs a GPU")
    source, target = torch.rand(32, device=device), torch.zeros(32, device=device)
    launch(scale, (1,), source, target, 32, 2.0, SIZE=32, OFFSET=0)
    with pytest.raises(ValueError, match="cannot be accessed"):
        launch(scale, (1,), source.cpu(), target, 32, 2.0, SIZE=32, OFFSET=0)


@pytest.mark.parametrize("is_refused", [False, True])
def test_buffers_are_left_to_pytorch_where_the_driver_does_not_serve(monkeypatch, is_refused):
    """On a CPU, and where the driver refuses."""
    if is_refused:
        monkeypatch.setattr(triton_runtime, "_stream_of", lambda _: 7)
        monkeypatch.setattr(triton_runtime, "clear_words", lambda *_: False)
        monkeypatch.setattr(triton_runtime, "copy_words", lambda *_: False)
    layout = Layout(counts=((6,), torch.int32), rest=((4,), torch.int32))
    counts, rest = layout.divide(torch.arange(layout.words, dtype=torch.int32))
    memory = torch.zeros(3, dtype=torch.int32)
    start_copy_of_head(counts, memory)
    assert memory.tolist() == [0, 1, 2]
    before = rest.tensor().clone()
    fill_with_zeros(counts)
    assert not counts.tensor().any()
    assert torch.equal(rest.tensor(), before)
    ones = torch.ones(3, 2)
    fill_with_zeros(ones)
    assert not ones.any()
