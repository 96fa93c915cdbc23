"""Explicit SIMD vectors inside Numba, and workers that run kernels on all cores.

Numba's auto-vectoriser is fragile: one double literal or a 64-bit index makes a loop scalar without
a warning. Here a vector is a type of its own (LLVM's ``<16 x float>``), so that a mistake is a slow
instruction at worst. Inside a kernel:

- ``+ - * /`` between vectors and scalars give vectors; scalars of any type are rounded to float32;
- ``< <= > >=`` give masks, ``&`` combines masks, ``vsel(mask, a, b)`` selects, ``bits(mask)`` turns
  a mask into an integer whose set bits ``cttz`` visits;
- ``vload`` and ``vstore`` move 16 contiguous floats at a flat index that must not be negative.

LLVM splits the vectors on machines with narrower registers: 16 lanes were the fastest choice on
AVX-512, on AVX2 and on SSE2.
"""

from __future__ import annotations

import inspect
import itertools
import math
import operator
import os
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from pathlib import Path
from typing import Any

import llvmlite.ir as ir
import numpy as np
from numba import njit, types
from numba.core import cgutils
from numba.core.typing.templates import AbstractTemplate, infer_global, signature
from numba.extending import intrinsic, lower_builtin, models, register_model

from vultus.core.compiling import pause_collector_while_compiling

__all__ = [
    "KERNEL_OPTIONS",
    "LANES",
    "OPT",
    "SIMD_VERSION",
    "aligned_floats",
    "bits",
    "cttz",
    "fetch_add",
    "helper",
    "hsum",
    "hsum16",
    "iota",
    "kernel",
    "run_chunks",
    "run_workers",
    "source_version",
    "splat",
    "vexp2",
    "vfloor",
    "vload",
    "vload_u8",
    "vlog2",
    "vmax",
    "vmin",
    "vsel",
    "vsqrt",
    "vstore",
]

LANES = 16

# No "nnan" and no "ninf": slab tests and the stop rule of the rasterizers rely on infinities.
KERNEL_OPTIONS: dict[str, Any] = {
    "cache": True,
    "nogil": True,
    "error_model": "numpy",
    "fastmath": {"contract", "nsz", "arcp"},
}
OPT = KERNEL_OPTIONS

_FLAGS = ("contract", "nsz")
_FLOAT, _INT = ir.FloatType(), ir.IntType(32)
_FLOATS, _INTS = ir.VectorType(_FLOAT, LANES), ir.VectorType(_INT, LANES)
_BITS = ir.VectorType(ir.IntType(1), LANES)


def source_version(*files: str) -> int:
    """Hash source files into an integer that changes whenever one of them does."""
    version = 0
    for file in files:
        version = zlib.crc32(Path(file).read_bytes(), version)
    return version


SIMD_VERSION = source_version(__file__)
"""Changes with this file. Kernels that capture it are compiled anew when a helper changes."""


def kernel(*watched: str) -> Callable[[Callable[..., Any]], Any]:
    """Compile with ``KERNEL_OPTIONS`` and a disk cache that also watches this and other files.

    Numba's own cache looks at the file of the cached function only, so that a changed helper or
    constant in another file would leave stale machine code behind. Decorators that check types at
    run time are removed: Numba cannot see through them.

    Args:
        watched: Further files whose functions or constants the kernel uses (their ``__file__``).
    """
    version = source_version(__file__, *watched)
    pause_collector_while_compiling()

    def decorate(function: Callable[..., Any]) -> Any:
        dispatcher: Any = njit(**KERNEL_OPTIONS)(inspect.unwrap(function))
        index = dispatcher._cache._cache_file
        index._source_stamp = (*index._source_stamp, version)
        return dispatcher

    return decorate


def _intrinsic(function: Callable[..., Any]) -> Any:
    """Numba's ``intrinsic``; inside kernels the typing context is not passed, so hide its type."""
    return intrinsic(function)


def helper(function: Callable[..., Any]) -> Any:
    """Compile a function that becomes part of every kernel that calls it.

    It cannot be called from Python: the wrapper for that would take a quarter of the compile time
    of all kernels. Numba compiles a helper anew for every literal argument; NumPy integers are
    none.
    """
    options = {name: KERNEL_OPTIONS[name] for name in ("error_model", "fastmath")}
    wrappers = {"no_cpython_wrapper": True, "no_cfunc_wrapper": True}
    return njit(forceinline=True, **wrappers, **options)(inspect.unwrap(function))


@helper
def aligned_floats(size):
    """Allocate float32 on a cache line: vectors that straddle two lines cost a quarter more."""
    buffer = np.empty(size + LANES, np.float32)
    start = -(buffer.ctypes.data // 4) % LANES
    return buffer[start : start + size]


# ---- types ---------------------------------------------------------------------------------------


class _Vector(types.Type):
    def __init__(self) -> None:
        super().__init__(name=f"f32x{LANES}")


class _Mask(types.Type):
    def __init__(self) -> None:
        super().__init__(name=f"i1x{LANES}")


_vector, _mask = _Vector(), _Mask()


@register_model(_Vector)
class _VectorModel(models.PrimitiveModel):
    def __init__(self, manager: Any, numba_type: Any) -> None:
        super().__init__(manager, numba_type, _FLOATS)


@register_model(_Mask)
class _MaskModel(models.PrimitiveModel):
    def __init__(self, manager: Any, numba_type: Any) -> None:
        super().__init__(manager, numba_type, _BITS)


def _constant(value: float) -> ir.Constant:
    return ir.Constant(_FLOATS, [float(value)] * LANES)


def _constant_int(value: int) -> ir.Constant:
    return ir.Constant(_INTS, [int(value)] * LANES)


def _broadcast(builder: Any, scalar: Any) -> Any:
    undefined = ir.Constant(_FLOATS, ir.Undefined)
    vector = builder.insert_element(undefined, scalar, ir.Constant(_INT, 0))
    return builder.shuffle_vector(vector, undefined, ir.Constant(_INTS, [0] * LANES))


def _to_vector(builder: Any, numba_type: Any, value: Any) -> Any:
    """Broadcast a scalar of any numeric type; vectors pass through."""
    if isinstance(numba_type, _Vector):
        return value
    if isinstance(numba_type, types.Float):
        if numba_type.bitwidth == 64:
            value = builder.fptrunc(value, _FLOAT)
    elif numba_type.signed:
        value = builder.sitofp(value, _FLOAT)
    else:
        value = builder.uitofp(value, _FLOAT)
    return _broadcast(builder, value)


def _call(builder: Any, name: str, result: Any, arguments: list[Any], **options: Any) -> Any:
    """Call an LLVM intrinsic such as ``llvm.sqrt``."""
    function_type = ir.FunctionType(result, [argument.type for argument in arguments])
    function = cgutils.get_or_insert_function(builder.module, function_type, name)
    return builder.call(function, arguments, **options)


# ---- operators -----------------------------------------------------------------------------------

_SCALARS = (types.Float, types.Integer)


def _register_arithmetic(python_operator: Any, builder_method: str) -> None:
    @infer_global(python_operator)  # pyright: ignore[reportOptionalCall]
    class Template(AbstractTemplate):
        def generic(self, args: Any, kws: Any) -> Any:
            known = all(isinstance(a, (_Vector, *_SCALARS)) for a in args)
            if len(args) == 2 and known and any(isinstance(a, _Vector) for a in args):
                return signature(_vector, *args)
            return None

    def lower(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        left, right = (_to_vector(builder, t, x) for t, x in zip(sig.args, args, strict=True))
        return getattr(builder, builder_method)(left, right, flags=_FLAGS)

    lower_builtin(python_operator, _Vector, _Vector)(lower)
    for scalar in _SCALARS:
        lower_builtin(python_operator, _Vector, scalar)(lower)
        lower_builtin(python_operator, scalar, _Vector)(lower)


def _register_comparison(python_operator: Any, symbol: str) -> None:
    @infer_global(python_operator)  # pyright: ignore[reportOptionalCall]
    class Template(AbstractTemplate):
        def generic(self, args: Any, kws: Any) -> Any:
            if len(args) == 2 and any(isinstance(a, _Vector) for a in args):
                return signature(_mask, *args)
            return None

    def lower(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        left, right = (_to_vector(builder, t, x) for t, x in zip(sig.args, args, strict=True))
        return builder.fcmp_ordered(symbol, left, right)

    lower_builtin(python_operator, _Vector, _Vector)(lower)
    for scalar in _SCALARS:
        lower_builtin(python_operator, _Vector, scalar)(lower)
        lower_builtin(python_operator, scalar, _Vector)(lower)


for _operator, _method in (
    (operator.add, "fadd"),
    (operator.sub, "fsub"),
    (operator.mul, "fmul"),
    (operator.truediv, "fdiv"),
    (operator.iadd, "fadd"),
    (operator.isub, "fsub"),
    (operator.imul, "fmul"),
):
    _register_arithmetic(_operator, _method)

for _operator, _symbol in (
    (operator.lt, "<"),
    (operator.le, "<="),
    (operator.gt, ">"),
    (operator.ge, ">="),
):
    _register_comparison(_operator, _symbol)


@infer_global(operator.and_)  # pyright: ignore[reportOptionalCall]
class _AndTemplate(AbstractTemplate):
    def generic(self, args: Any, kws: Any) -> Any:
        if len(args) == 2 and all(isinstance(a, _Mask) for a in args):
            return signature(_mask, *args)
        return None


@lower_builtin(operator.and_, _Mask, _Mask)
def _lower_and(context: Any, builder: Any, sig: Any, args: Any) -> Any:
    return builder.and_(*args)


# ---- memory --------------------------------------------------------------------------------------


def _pointer(context: Any, builder: Any, sig: Any, args: Any) -> Any:
    """Address of element ``args[1]`` of the contiguous array ``args[0]``; no wrap-around."""
    array = context.make_array(sig.args[0])(context, builder, args[0])
    index = args[1]
    if sig.args[1].bitwidth < 64:
        index = builder.sext(index, ir.IntType(64))
    return builder.gep(array.data, [index])


@_intrinsic
def vload(typing_context, array, index):
    """Load 16 floats."""

    def lower(context, builder, sig, args):
        pointer = _pointer(context, builder, sig, args)
        return builder.load(builder.bitcast(pointer, _FLOATS.as_pointer()), align=4)

    return _vector(array, index), lower


@_intrinsic
def vload_u8(typing_context, array, index):
    """Load 16 bytes as floats 0 to 255."""

    def lower(context, builder, sig, args):
        pointer = _pointer(context, builder, sig, args)
        byte_vector = ir.VectorType(ir.IntType(8), LANES)
        loaded = builder.load(builder.bitcast(pointer, byte_vector.as_pointer()), align=1)
        return builder.uitofp(loaded, _FLOATS)

    return _vector(array, index), lower


@_intrinsic
def vstore(typing_context, array, index, value):
    """Store 16 floats."""

    def lower(context, builder, sig, args):
        pointer = _pointer(context, builder, sig, args)
        builder.store(args[2], builder.bitcast(pointer, _FLOATS.as_pointer()), align=4)
        return context.get_dummy_value()

    return types.void(array, index, value), lower


@_intrinsic
def fetch_add(typing_context, array, index, value):
    """Add to an int64 atomically and return what was there before."""

    def lower(context, builder, sig, args):
        return builder.atomic_rmw(
            "add", _pointer(context, builder, sig, args), args[2], "monotonic"
        )

    return types.int64(array, types.int64, types.int64), lower


# ---- lanes ---------------------------------------------------------------------------------------


@_intrinsic
def splat(typing_context, scalar):
    """Broadcast a scalar."""

    def lower(context, builder, sig, args):
        return _to_vector(builder, sig.args[0], args[0])

    return _vector(scalar), lower


@_intrinsic
def iota(typing_context):
    """The vector 0, 1, ... 15."""

    def lower(context, builder, sig, args):
        return ir.Constant(_FLOATS, [float(i) for i in range(LANES)])

    return _vector(), lower


@_intrinsic
def vsel(typing_context, condition, x, y):
    """``x`` where the mask is set, ``y`` elsewhere."""

    def lower(context, builder, sig, args):
        values = (_to_vector(builder, t, v) for t, v in zip(sig.args[1:], args[1:], strict=True))
        return builder.select(args[0], *values)

    return _vector(condition, x, y), lower


def _lower_extremum(symbol: str) -> Callable[..., Any]:
    def lower(context, builder, sig, args):
        x, y = (_to_vector(builder, t, v) for t, v in zip(sig.args, args, strict=True))
        return builder.select(builder.fcmp_ordered(symbol, x, y), x, y)

    return lower


@_intrinsic
def vmin(typing_context, x, y):
    """Lanewise minimum; ``y`` where a lane of ``x`` is not a number."""
    return _vector(x, y), _lower_extremum("<")


@_intrinsic
def vmax(typing_context, x, y):
    """Lanewise maximum; ``y`` where a lane of ``x`` is not a number."""
    return _vector(x, y), _lower_extremum(">")


@_intrinsic
def bits(typing_context, condition):
    """Turn a mask into an integer; bit i is lane i."""

    def lower(context, builder, sig, args):
        return builder.zext(builder.bitcast(args[0], ir.IntType(LANES)), ir.IntType(64))

    return types.int64(condition), lower


@_intrinsic
def cttz(typing_context, x):
    """Position of the lowest set bit of a non-zero integer."""

    def lower(context, builder, sig, args):
        return builder.cttz(args[0], ir.Constant(ir.IntType(1), 1))

    return types.int64(types.int64), lower


@_intrinsic
def hsum(typing_context, v):
    """Sum of the lanes, always in the same order on one machine."""

    def lower(context, builder, sig, args):
        name = f"llvm.vector.reduce.fadd.v{LANES}f32"
        start = ir.Constant(_FLOAT, 0.0)
        return _call(builder, name, _FLOAT, [start, args[0]], fastmath=("reassoc",))

    return types.float32(v), lower


@_intrinsic
def vsqrt(typing_context, v):
    """Lanewise square root."""

    def lower(context, builder, sig, args):
        return _call(builder, f"llvm.sqrt.v{LANES}f32", _FLOATS, [args[0]])

    return _vector(v), lower


@_intrinsic
def vfloor(typing_context, v):
    """Lanewise largest whole number that is not larger."""

    def lower(context, builder, sig, args):
        return _call(builder, f"llvm.floor.v{LANES}f32", _FLOATS, [args[0]])

    return _vector(v), lower


@_intrinsic
def hsum16(typing_context, vectors):
    """Sums of the lanes of a tuple of 16 vectors as one vector: much less work than 16 ``hsum``."""

    def lower(context, builder, sig, args):
        values = cgutils.unpack_tuple(builder, args[0])
        block = 1
        while len(values) > 1:
            low = [i for start in range(0, LANES, 2 * block) for i in _turns(start, block)]
            masks = [ir.Constant(_INTS, mask) for mask in (low, [i + block for i in low])]
            values = [
                builder.fadd(
                    builder.shuffle_vector(a, b, masks[0]),
                    builder.shuffle_vector(a, b, masks[1]),
                    flags=_FLAGS,
                )
                for a, b in zip(values[0::2], values[1::2], strict=True)
            ]
            block *= 2
        return values[0]

    return _vector(vectors), lower


def _turns(start: int, block: int) -> list[int]:
    """Lanes of one block of the first vector, then of the same block of the second."""
    first = list(range(start, start + block))
    return first + [lane + LANES for lane in first]


# 2^x on [-1/2, 1/2]: degree 5 through Chebyshev nodes; relative error 2e-7.
_NODES = np.cos((np.arange(6) + 0.5) * np.pi / 6) * 0.5
_EXP2 = [float(np.float32(c)) for c in np.polyfit(_NODES, 2.0**_NODES, 5)]


@_intrinsic
def vexp2(typing_context, v):
    """Lanewise 2^x for x below 128; arguments below -126 give the smallest normal number."""

    def lower(context, builder, sig, args):
        lowest = _constant(-126.0)
        x = builder.select(builder.fcmp_ordered(">", args[0], lowest), args[0], lowest)
        whole = _call(builder, f"llvm.rint.v{LANES}f32", _FLOATS, [x])
        rest = builder.fsub(x, whole, flags=_FLAGS)
        power = _constant(_EXP2[0])
        for c in _EXP2[1:]:
            power = builder.fmul(power, rest, flags=_FLAGS)
            power = builder.fadd(power, _constant(c), flags=_FLAGS)
        exponent = builder.shl(builder.fptosi(whole, _INTS), _constant_int(23))
        return builder.bitcast(builder.add(builder.bitcast(power, _INTS), exponent), _FLOATS)

    return _vector(v), lower


_MANTISSA = 0x007FFFFF
# The bits of sqrt(1/2): mantissas are taken from [sqrt(1/2), sqrt(2)), around 1.
_ROOT_HALF = int(np.array(math.sqrt(0.5), np.float32).view(np.int32))


@_intrinsic
def vlog2(typing_context, v):
    """Lanewise log2 of positive normal numbers, within 2e-7 of the larger of 1 and the result."""

    def lower(context, builder, sig, args):
        bits_ = builder.bitcast(args[0], _INTS)
        shifted = builder.sub(bits_, _constant_int(_ROOT_HALF))
        exponent = builder.ashr(shifted, _constant_int(23))
        mantissa = builder.add(
            builder.and_(shifted, _constant_int(_MANTISSA)), _constant_int(_ROOT_HALF)
        )
        m = builder.bitcast(mantissa, _FLOATS)
        # log m = 2 artanh s with s = (m - 1) / (m + 1), |s| < 0.172.
        s = builder.fdiv(
            builder.fsub(m, _constant(1.0), flags=_FLAGS),
            builder.fadd(m, _constant(1.0), flags=_FLAGS),
            flags=_FLAGS,
        )
        square = builder.fmul(s, s, flags=_FLAGS)
        series = _constant(2 / (9 * math.log(2)))
        for j in (7, 5, 3, 1):
            series = builder.fmul(series, square, flags=_FLAGS)
            series = builder.fadd(series, _constant(2 / (j * math.log(2))), flags=_FLAGS)
        whole = builder.sitofp(exponent, _FLOATS)
        return builder.fadd(builder.fmul(series, s, flags=_FLAGS), whole, flags=_FLAGS)

    return _vector(v), lower


# ---- workers -------------------------------------------------------------------------------------
# Kernels release the interpreter lock and a plain thread pool runs them: half the compile time of
# ``parallel=True``, no threading layer, and calls from several threads at once are safe.


@lru_cache(None)
def _pool(workers: int, process_id: int) -> ThreadPoolExecutor:
    """One pool per process: a forked child must not wait for its parent's threads."""
    return ThreadPoolExecutor(workers)


def _run(calls: list[tuple[Callable[..., Any], tuple[Any, ...]]]) -> None:
    """Run the first call here and the others on the pool."""
    pool = _pool(len(calls), os.getpid()) if len(calls) > 1 else None
    futures = [pool.submit(function, *args) for function, args in calls[1:]] if pool else []
    function, args = calls[0]
    function(*args)
    for future in futures:
        future.result()


def run_workers(num_workers: int, function: Callable[..., Any], *args: Any) -> None:
    """Run ``function(*args)`` on every worker; a ``fetch_add`` counter deals out the work."""
    _run([(function, args)] * num_workers)


def run_chunks(num_workers: int, function: Callable[..., Any], size: int, *args: Any) -> None:
    """Run ``function(start, stop, *args)`` on equal ranges of ``range(size)``, one per worker."""
    edges = [size * j // num_workers for j in range(num_workers + 1)]
    _run([(function, (start, stop, *args)) for start, stop in itertools.pairwise(edges)])
