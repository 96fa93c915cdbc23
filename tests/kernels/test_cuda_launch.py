"""Launches by CUDA's driver: what it reads, and which kernels are left to Triton's launcher."""

from __future__ import annotations

import ctypes
import threading
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from triton_support import compile_launch, is_interpreting, triton_device
from vultus.kernels import cuda_launch as module
from vultus.kernels.cuda_launch import CudaLaunch, cuda_launch

SIGNATURE = {"source": "*fp32", "count": "i32", "one": "constexpr", "factor": "fp32", "big": "i64"}
NUMBERS = (-5, 1, 0.25, 1 << 40)
PTX = """
.visible .entry _scale(
    .param .u64 .ptr .global .align 1 _scale_param_0,
    .param .u32 _scale_param_1,
    .param .f32 _scale_param_2,
    .param .u64 _scale_param_3,
    .param .u64 .ptr .global .align 1 _scale_param_4,
    .param .u64 .ptr .global .align 1 _scale_param_5
)
{ ld.param.u64 %rd1, [_scale_param_0]; }
"""


class FakeDriver:
    """Reads parameters as the driver does."""

    def __init__(self, *types: Any, result: int = 0) -> None:
        self.types, self.result = types, result
        self.launches: list[tuple[tuple[Any, ...], list[int | float]]] = []

    def __call__(self, *arguments: Any) -> int:
        *what, places, _ = arguments
        values = [kind.from_address(places[k]).value for k, kind in enumerate(self.types)]
        self.launches.append((tuple(what), values))
        return self.result


def compiled_kernel(**changes: Any) -> Any:
    """What Triton has compiled, as far as a launch needs to know it."""
    metadata = {
        "target": SimpleNamespace(backend="cuda", warp_size=32),
        "num_warps": 4,
        "num_ctas": 1,
        "shared": 1024,
        "global_scratch_size": 0,
        "profile_scratch_size": 0,
        "launch_cooperative_grid": False,
        "launch_pdl": False,
    }
    return SimpleNamespace(
        metadata=SimpleNamespace(**{**metadata, **changes}),
        src=SimpleNamespace(signature=SIGNATURE | {"SIZE": "constexpr"}),
        asm={"ptx": PTX},
        function=77,
    )


@pytest.fixture
def driver(monkeypatch: pytest.MonkeyPatch) -> FakeDriver:
    pointer = ctypes.c_uint64
    types = (pointer, ctypes.c_int32, ctypes.c_float, ctypes.c_int64, pointer, pointer)
    fake = FakeDriver(*types)
    functions = {("cuLaunchKernel", *module._LAUNCH): fake}
    monkeypatch.setattr(module, "_driver_function", lambda *what: functions[what])
    return fake


def test_the_driver_reads_addresses_and_numbers(driver):
    launch = cuda_launch(compiled_kernel(), (3, 2, 1), 1, NUMBERS)
    assert launch is not None
    assert launch([1 << 45], 9)
    assert launch([1 << 46], 10)
    what = (77, 3, 2, 1, 128, 1, 1, 1024)
    assert driver.launches == [
        ((*what, 9), [1 << 45, -5, 0.25, 1 << 40, 0, 0]),
        ((*what, 10), [1 << 46, -5, 0.25, 1 << 40, 0, 0]),
    ]


def test_a_launch_that_the_driver_refuses_is_told(driver):
    driver.result = 201
    launch = cuda_launch(compiled_kernel(), (1, 1, 1), 1, NUMBERS)
    assert launch is not None
    assert not launch([16], 0)


def test_a_launch_needs_all_addresses(driver):
    launch = cuda_launch(compiled_kernel(), (1, 1, 1), 1, NUMBERS)
    assert launch is not None
    with pytest.raises(ValueError, match="size"):
        launch([16, 32], 0)
    assert not driver.launches


@pytest.mark.parametrize(
    "change",
    [
        {"num_ctas": 2},
        {"global_scratch_size": 16},
        {"profile_scratch_size": 16},
        {"launch_cooperative_grid": True},
        {"launch_pdl": True},
        {"target": SimpleNamespace(backend="hip", warp_size=64)},
    ],
    ids=str,
)
@pytest.mark.usefixtures("driver")
def test_special_kernels_are_left_to_triton(change):
    assert cuda_launch(compiled_kernel(**change), (1, 1, 1), 1, NUMBERS) is None


@pytest.mark.usefixtures("driver")
def test_kernels_that_do_not_tell_are_left_to_triton():
    """Another version of Triton may call it otherwise."""
    kernel = compiled_kernel()
    del kernel.metadata.launch_pdl
    assert cuda_launch(kernel, (1, 1, 1), 1, NUMBERS) is None


@pytest.mark.parametrize(
    "ptx",
    [
        PTX.replace(".f32", ".b32"),
        PTX.replace(",\n    .param .u64 .ptr .global .align 1 _scale_param_5", ""),
        PTX.replace(".param .u32 _scale_param_1,", ".param .u32 a, .param .u32 b,"),
        "",
    ],
    ids=("type", "one less", "one more", "none"),
)
@pytest.mark.usefixtures("driver")
def test_parameters_of_another_layout_are_left_to_triton(ptx):
    kernel = compiled_kernel()
    kernel.asm["ptx"] = ptx
    assert cuda_launch(kernel, (1, 1, 1), 1, NUMBERS) is None


@pytest.mark.usefixtures("driver")
def test_numbers_of_unknown_types_are_left_to_triton():
    kernel = compiled_kernel()
    kernel.src.signature = {**SIGNATURE, "big": "i1"}
    assert cuda_launch(kernel, (1, 1, 1), 1, NUMBERS) is None


def test_without_a_driver_triton_reports_what_is_missing(monkeypatch):
    monkeypatch.setattr(module, "_driver_function", lambda *_: None)
    assert cuda_launch(compiled_kernel(), (1, 1, 1), 1, NUMBERS) is None


def test_threads_do_not_mix_their_addresses():
    seen: list[int] = []

    def launch_kernel(*arguments: Any) -> int:
        *_, stream, places, _ = arguments
        values = {ctypes.c_uint64.from_address(places[k]).value for k in range(8)}
        seen.append(len(values))
        assert values == {stream}
        return 0

    launch = CudaLaunch(
        1, (1, 1, 1), threads=32, shared_memory=0, num_tensors=8, numbers=[],
        launch_kernel=launch_kernel,
    )  # fmt: skip

    def work(value: int) -> None:
        for _ in range(500):
            launch([value] * 8, value)

    workers = [threading.Thread(target=work, args=(k,)) for k in range(1, 5)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert seen == [1] * 2000


@pytest.mark.parametrize(
    ("call", "name", "arguments"),
    [
        (lambda: module.clear_words(1 << 45, 1000, 9), "cuMemsetD32Async", (1 << 45, 0, 1000, 9)),
        (
            lambda: module.copy_words(32, 1 << 45, 6, 9),
            "cuMemcpyDtoHAsync_v2",
            (32, 1 << 45, 24, 9),
        ),
    ],
    ids=("words to clear", "bytes to copy"),
)
def test_memory_is_left_to_the_driver_unless_it_refuses(monkeypatch, call, name, arguments):
    seen: list[Any] = []
    result = 0

    def driver_function(*what: Any) -> Any:
        assert what[0] == name
        assert len(what) == 1 + len(arguments)

        def function(*values: Any) -> int:
            seen.append(values)
            return result

        return function

    monkeypatch.setattr(module, "_driver_function", driver_function)
    assert call()
    result = 1
    assert not call()
    assert seen == [arguments] * 2
    monkeypatch.setattr(module, "_driver_function", lambda *_: None)
    assert not call()


def test_nothing_to_clear_needs_no_driver(monkeypatch):
    monkeypatch.setattr(module, "_driver_function", lambda *_: None)
    assert module.clear_words(0, 0, 0)


@pytest.mark.parametrize("capability", [80, 90])
def test_the_layout_is_that_of_compiled_kernels(capability):
    """Also with an integer of one, which Triton takes out of the parameters."""
    pytest.importorskip("triton")
    if is_interpreting():
        pytest.skip("interpreted functions cannot be compiled")
    from launched_kernels import SCALE_CONSTANTS, scale
    from vultus.kernels.triton_runtime import launch, recorded_launches

    tensors = torch.zeros(8), torch.zeros(8)
    for count, declared in ((5, ["u32"]), (1, [])):
        with recorded_launches() as launches:
            launch(scale, (1,), *tensors, count, 0.5, **SCALE_CONSTANTS)
        ptx = compile_launch(launches[0], capability).ptx
        kernel = SimpleNamespace(asm={"ptx": ptx})
        assert module._declared_parameters(kernel) == [
            "u64", "u64", *declared, "f32", "u64", "u64",
        ]  # fmt: skip


@pytest.mark.gpu
def test_prepared_launches_skip_the_launcher_of_triton():
    device = triton_device()
    if is_interpreting():
        pytest.skip("needs a GPU")
    from launched_kernels import SCALE_CONSTANTS, scale
    from vultus.kernels.triton_runtime import Launcher

    for count in (1, 5):
        prepared = Launcher(scale, (1,), count, 0.5, **SCALE_CONSTANTS)
        prepared(torch.rand(8, device=device), torch.rand(8, device=device))
        prepared._runners.clear()
        source, target = torch.rand(8, device=device), torch.zeros(8, device=device)
        prepared(source, target)
        assert not prepared._runners
        torch.testing.assert_close(target[:count], source[:count] * 0.5 + 1)
        assert not target[count:].any()


@pytest.mark.gpu
def test_a_thread_that_has_not_used_cuda_launches():
    device = triton_device()
    if is_interpreting():
        pytest.skip("needs a GPU")
    from launched_kernels import SCALE_CONSTANTS, scale
    from vultus.kernels.triton_runtime import Launcher

    prepared = Launcher(scale, (1,), 8, 0.5, **SCALE_CONSTANTS)
    source, target = torch.rand(8, device=device), torch.zeros(8, device=device)
    prepared(source, target.clone())
    torch.cuda.synchronize()
    worker = threading.Thread(target=prepared, args=(source, target))
    worker.start()
    worker.join()
    torch.testing.assert_close(target, source * 0.5 + 1)


@pytest.mark.gpu
def test_a_thread_that_has_not_used_cuda_clears_memory():
    device = triton_device()
    if is_interpreting():
        pytest.skip("needs a GPU")
    from vultus.kernels.triton_runtime import fill_with_zeros

    target = torch.ones(1000, device=device)
    torch.cuda.synchronize()
    worker = threading.Thread(target=fill_with_zeros, args=(target,))
    worker.start()
    worker.join()
    torch.cuda.synchronize()
    assert not target.any()
