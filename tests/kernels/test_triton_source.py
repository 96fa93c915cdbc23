"""What older releases of Triton cannot read in a kernel, found without compiling."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import vultus

SOURCES = sorted(Path(vultus.__file__).parent.rglob("*.py"))
WITH_KERNELS = [path for path in SOURCES if "@jit" in path.read_text()]


def kernels(source: str) -> Iterator[ast.FunctionDef]:
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef):
            # With options a decorator is a call.
            made = [
                each.func if isinstance(each, ast.Call) else each for each in node.decorator_list
            ]
            if "jit" in {each.id for each in made if isinstance(each, ast.Name)}:
                yield node


def nested_targets(function: ast.FunctionDef) -> list[int]:
    """Lines such as ``a, (b, c) = ...``, which Triton 3.6 fails at."""
    return [
        node.lineno
        for node in ast.walk(function)
        if isinstance(node, ast.Assign)
        for target in node.targets
        if isinstance(target, ast.Tuple)
        if any(isinstance(part, ast.Tuple | ast.List | ast.Starred) for part in target.elts)
    ]


@pytest.mark.parametrize("decorator", ["@jit", "@jit(do_not_specialize=SIZES)"])
def test_the_check_finds_a_nested_target(decorator):
    (function,) = kernels(f"{decorator}\ndef f(x):\n    a, b = x\n    c, (d, e) = x\n")
    assert nested_targets(function) == [4]


@pytest.mark.parametrize("path", WITH_KERNELS, ids=lambda path: path.stem)
def test_kernels_unpack_no_nested_tuples(path):
    functions = list(kernels(path.read_text()))
    assert functions
    assert {f.name: lines for f in functions if (lines := nested_targets(f))} == {}
