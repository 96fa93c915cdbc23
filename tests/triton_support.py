"""Where tests run Triton kernels: on a GPU, or on the CPU in Triton's interpreter."""

from __future__ import annotations

import re
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

__all__ = [
    "CompiledKernel",
    "compile_launch",
    "is_interpreting",
    "serve_with_kernels",
    "triton_device",
]


@dataclass(frozen=True)
class CompiledKernel:
    """What a kernel needs, and its code."""

    registers: int
    stack: int
    """Bytes per thread; beyond a few, registers are spilled."""
    ptx: str
    ttir: str
    """What Triton has understood, before it is optimised for a GPU."""


def is_interpreting() -> bool:
    """Whether kernels are interpreted: set TRITON_INTERPRET=1 before Python starts."""
    from vultus.kernels.triton_runtime import is_interpreted

    return is_interpreted()


def triton_device() -> torch.device:
    """The device that kernels run on; skips the test where there is none."""
    pytest.importorskip("triton")
    if torch.cuda.is_available():
        return torch.device("cuda")
    if not is_interpreting():
        pytest.skip("needs a GPU, or TRITON_INTERPRET=1 as make test sets it")
    return torch.device("cpu")


def serve_with_kernels(monkeypatch: pytest.MonkeyPatch) -> torch.device:
    """Where tensors must lie to be served by kernels from now on, which so far none on the CPU was.

    That is a GPU; in the interpreter it is the CPU, to which nothing else serves any more.
    """
    from vultus.kernels import dispatch

    device = triton_device()
    if device.type == "cpu":
        monkeypatch.setattr(dispatch, "_serves_cpu", True)
    return device


def compile_launch(launch: Any, capability: int) -> CompiledKernel:
    """Compile a recorded launch for a GPU that need not be there."""
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    names = [parameter.name for parameter in launch.kernel.params]
    signature, constants, attributes = {}, {}, {}
    aligned = [["tt.divisibility", 16]]
    for k, name in enumerate(names):
        if name in launch.constants:
            signature[name], constants[(k,)] = "constexpr", launch.constants[name]
            continue
        value = launch.arguments[k]
        if isinstance(value, tuple):
            signature[name] = tuple(_type_name(item) for item in value)
            attributes |= {(k, i): aligned for i in range(len(value))}
        elif isinstance(value, int) and value == 1:
            signature[name], constants[(k,)] = "constexpr", value
        else:
            signature[name] = _type_name(value)
            if isinstance(value, torch.Tensor) or (isinstance(value, int) and value % 16 == 0):
                attributes[(k,)] = aligned
    compiled = triton.compile(
        ASTSource(launch.kernel, signature, constants, attributes),
        target=GPUTarget("cuda", capability, 32),
        options={"num_warps": launch.num_warps, "enable_fp_fusion": True},
    )
    registers, stack = _resources(compiled.asm["cubin"])
    return CompiledKernel(registers, stack, compiled.asm["ptx"], compiled.asm["ttir"])


def _type_name(value: Any) -> str:
    if isinstance(value, torch.Tensor):
        return {
            torch.bool: "*i1",
            torch.uint8: "*u8",
            torch.float16: "*fp16",
            torch.bfloat16: "*bf16",
            torch.float32: "*fp32",
            torch.float64: "*fp64",
            torch.int32: "*i32",
            torch.int64: "*i64",
        }[value.dtype]
    return "i32" if isinstance(value, int) else "fp32"


def _resources(cubin: bytes) -> tuple[int, int]:
    """Registers and bytes of stack per thread."""
    import triton

    tool = Path(triton.__file__).parent / "backends/nvidia/bin/cuobjdump"
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "kernel.cubin"
        path.write_bytes(cubin)
        command = [str(tool), "--dump-resource-usage", str(path)]
        text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    found = re.search(r"REG:(\d+) STACK:(\d+)", text)
    assert found, text
    return int(found[1]), int(found[2])
