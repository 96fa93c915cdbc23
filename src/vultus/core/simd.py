"""Explicit SIMD vectors inside Numba, and workers that run kernels on all cores."""

import operator
import os
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache

import llvmlite.ir as ir
import numpy as np
from numba import types
from numba.core import cgutils
from numba.core.typing.templates import AbstractTemplate, infer_global, signature
from numba.extending import intrinsic, lower_builtin, models, register_model

# ---- 1 vectors ----------------------------------------------------------------------------------------------------------
W = 16  # lanes; LLVM splits the vectors on machines with narrower registers
F32, I32 = ir.FloatType(), ir.IntType(32)
VF, VI, VM = ir.VectorType(F32, W), ir.VectorType(I32, W), ir.VectorType(ir.IntType(1), W)
FLAGS = ("contract", "nsz")


class _Vec(types.Type):
    def __init__(self):
        super().__init__(name=f"f32x{W}")


class _Mask(types.Type):
    def __init__(self):
        super().__init__(name=f"i1x{W}")


vec, mask = _Vec(), _Mask()


@register_model(_Vec)
class _VecModel(models.PrimitiveModel):
    def __init__(self, dmm, fe):
        super().__init__(dmm, fe, VF)


@register_model(_Mask)
class _MaskModel(models.PrimitiveModel):
    def __init__(self, dmm, fe):
        super().__init__(dmm, fe, VM)


def _const(x):
    return ir.Constant(VF, [float(x)] * W)


def _consti(x):
    return ir.Constant(VI, [int(x)] * W)


def _splat(b, s):
    v = b.insert_element(ir.Constant(VF, ir.Undefined), s, ir.Constant(I32, 0))
    return b.shuffle_vector(v, ir.Constant(VF, ir.Undefined), ir.Constant(VI, [0] * W))


def _to_vec(b, ty, x):
    if isinstance(ty, _Vec):
        return x
    if isinstance(ty, types.Float):
        if ty.bitwidth == 64:
            x = b.fptrunc(x, F32)
    elif ty.signed:
        x = b.sitofp(x, F32)
    else:
        x = b.uitofp(x, F32)
    return _splat(b, x)


def _binop(op, method):
    @infer_global(op)
    class T(AbstractTemplate):
        def generic(self, args, kws):
            if (
                len(args) == 2
                and any(isinstance(a, _Vec) for a in args)
                and all(isinstance(a, (_Vec, types.Float, types.Integer)) for a in args)
            ):
                return signature(vec, *args)

    def impl(context, builder, sig, args):
        a, c = (_to_vec(builder, t, x) for t, x in zip(sig.args, args))
        return getattr(builder, method)(a, c, flags=FLAGS)

    for ta, tb in (
        (_Vec, _Vec),
        (_Vec, types.Float),
        (types.Float, _Vec),
        (_Vec, types.Integer),
        (types.Integer, _Vec),
    ):
        lower_builtin(op, ta, tb)(impl)


for _o, _m in (
    (operator.add, "fadd"),
    (operator.sub, "fsub"),
    (operator.mul, "fmul"),
    (operator.truediv, "fdiv"),
    (operator.iadd, "fadd"),
    (operator.isub, "fsub"),
    (operator.imul, "fmul"),
):
    _binop(_o, _m)


def _cmp(op, sym):
    @infer_global(op)
    class T(AbstractTemplate):
        def generic(self, args, kws):
            if len(args) == 2 and any(isinstance(a, _Vec) for a in args):
                return signature(mask, *args)

    def impl(context, builder, sig, args):
        a, c = (_to_vec(builder, t, x) for t, x in zip(sig.args, args))
        return builder.fcmp_ordered(sym, a, c)

    for ta, tb in ((_Vec, _Vec), (_Vec, types.Float), (types.Float, _Vec)):
        lower_builtin(op, ta, tb)(impl)


for _o, _m in ((operator.lt, "<"), (operator.le, "<="), (operator.gt, ">"), (operator.ge, ">=")):
    _cmp(_o, _m)


@infer_global(operator.and_)
class _AndT(AbstractTemplate):
    def generic(self, args, kws):
        if len(args) == 2 and all(isinstance(a, _Mask) for a in args):
            return signature(mask, *args)


@lower_builtin(operator.and_, _Mask, _Mask)
def _and(context, builder, sig, args):
    return builder.and_(*args)


def _ptr(context, b, ty, arr, idx, ity):
    a = context.make_array(ty)(context, b, arr)
    if ity.bitwidth < 64:
        idx = b.sext(idx, ir.IntType(64))
    return b.gep(a.data, [idx])


@intrinsic
def vload(tc, arr, i):
    def gen(context, b, sig, args):
        p = _ptr(context, b, sig.args[0], args[0], args[1], sig.args[1])
        return b.load(b.bitcast(p, VF.as_pointer()), align=4)

    return vec(arr, i), gen


@intrinsic
def vstore(tc, arr, i, v):
    def gen(context, b, sig, args):
        p = _ptr(context, b, sig.args[0], args[0], args[1], sig.args[1])
        b.store(args[2], b.bitcast(p, VF.as_pointer()), align=4)
        return context.get_dummy_value()

    return types.void(arr, i, v), gen


@intrinsic
def splat(tc, s):
    def gen(context, b, sig, args):
        return _to_vec(b, sig.args[0], args[0])

    return vec(s), gen


@intrinsic
def iota(tc):
    def gen(context, b, sig, args):
        return ir.Constant(VF, [float(i) for i in range(W)])

    return vec(), gen


@intrinsic
def vsel(tc, m, x, y):
    def gen(context, b, sig, args):
        return b.select(args[0], _to_vec(b, sig.args[1], args[1]), _to_vec(b, sig.args[2], args[2]))

    return vec(m, x, y), gen


@intrinsic
def vmin(tc, x, y):
    def gen(context, b, sig, args):
        x, y = (_to_vec(b, t, v) for t, v in zip(sig.args, args))
        return b.select(b.fcmp_ordered("<", x, y), x, y)

    return vec(x, y), gen


@intrinsic
def vmax(tc, x, y):
    def gen(context, b, sig, args):
        x, y = (_to_vec(b, t, v) for t, v in zip(sig.args, args))
        return b.select(b.fcmp_ordered(">", x, y), x, y)

    return vec(x, y), gen


@intrinsic
def bits(tc, m):
    def gen(context, b, sig, args):
        return b.zext(b.bitcast(args[0], ir.IntType(W)), ir.IntType(64))

    return types.int64(m), gen


@intrinsic
def hsum(tc, v):
    def gen(context, b, sig, args):
        f = cgutils.get_or_insert_function(
            b.module, ir.FunctionType(F32, [F32, VF]), f"llvm.vector.reduce.fadd.v{W}f32"
        )
        return b.call(f, [ir.Constant(F32, 0.0), args[0]], fastmath=("reassoc",))

    return types.float32(v), gen


# exp2 on [-0.5, 0.5]: interpolation at Chebyshev nodes, degree 5
_n = np.cos((np.arange(6) + 0.5) * np.pi / 6) * 0.5
EXP2 = [float(np.float32(c)) for c in np.polyfit(_n, 2.0**_n, 5)]


@intrinsic
def vexp2(tc, v):
    def gen(context, b, sig, args):
        x = args[0]
        lo = _const(-126.0)
        x = b.select(b.fcmp_ordered(">", x, lo), x, lo)
        f = cgutils.get_or_insert_function(
            b.module, ir.FunctionType(VF, [VF]), f"llvm.rint.v{W}f32"
        )
        n = b.call(f, [x])
        r = b.fsub(x, n, flags=FLAGS)
        p = _const(EXP2[0])
        for c in EXP2[1:]:
            p = b.fadd(b.fmul(p, r, flags=FLAGS), _const(c), flags=FLAGS)
        e = b.shl(b.fptosi(n, VI), _consti(23))
        return b.bitcast(b.add(b.bitcast(p, VI), e), VF)

    return vec(v), gen


@intrinsic
def cttz(tc, x):
    def gen(context, b, sig, args):
        return b.cttz(args[0], ir.Constant(ir.IntType(1), 1))

    return types.int64(types.int64), gen


@intrinsic
def fetch_add(tc, arr, i, v):
    def gen(context, b, sig, args):
        p = _ptr(context, b, sig.args[0], args[0], args[1], sig.args[1])
        return b.atomic_rmw("add", p, args[2], "monotonic")

    return types.int64(arr, types.int64, types.int64), gen


@intrinsic
def vload_u8(tc, arr, i):
    """16 bytes as floats 0..255."""

    def gen(context, b, sig, args):
        p = _ptr(context, b, sig.args[0], args[0], args[1], sig.args[1])
        return b.uitofp(
            b.load(b.bitcast(p, ir.VectorType(ir.IntType(8), W).as_pointer()), align=1), VF
        )

    return vec(arr, i), gen


@intrinsic
def vsqrt(tc, v):
    def gen(context, b, sig, args):
        return b.call(
            cgutils.get_or_insert_function(
                b.module, ir.FunctionType(VF, [VF]), f"llvm.sqrt.v{W}f32"
            ),
            [args[0]],
        )

    return vec(v), gen


# ---- threads: kernels release the GIL, a plain thread pool runs them (half the compile time of parallel=True, no threading layer) --
@lru_cache(None)
def _pool(n, pid):
    return ThreadPoolExecutor(n)


def run_workers(nt, fn, *args):
    """nt workers run fn(*args); they share out the work through an atomic counter inside args."""
    fs = [_pool(nt, os.getpid()).submit(fn, *args) for _ in range(nt - 1)]
    fn(*args)
    for f in fs:
        f.result()


def run_chunks(nt, fn, n, *args):
    fs = [
        _pool(nt, os.getpid()).submit(fn, n * j // nt, n * (j + 1) // nt, *args)
        for j in range(1, nt)
    ]
    fn(0, n // nt, *args)
    for f in fs:
        f.result()


OPT = dict(cache=True, nogil=True, error_model="numpy", fastmath={"contract", "nsz", "arcp"})
