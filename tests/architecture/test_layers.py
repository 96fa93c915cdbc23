"""Imports go downward only, and every package says what it is and offers."""

from __future__ import annotations

import ast
import importlib
from collections.abc import Iterator
from pathlib import Path

import pytest

import vultus

SOURCE = Path(vultus.__file__).parent
LAYERS = {
    **dict.fromkeys(["core"], 0),
    **dict.fromkeys(["geometry"], 1),
    **dict.fromkeys(["kernels"], 2),
    **dict.fromkeys(["render", "heads", "nets", "optim"], 3),
    **dict.fromkeys(["gaussians", "losses", "metrics"], 4),
    **dict.fromkeys(["data"], 5),
    **dict.fromkeys(["methods"], 6),
    **dict.fromkeys(["engine"], 7),
    **dict.fromkeys(["viewer", "export", "bench"], 8),
    **dict.fromkeys(["cli"], 9),
}
NAMELESS_FOLDERS = {"utils", "misc", "helpers", "common"}
METHOD_FOLDERS = {p.name for p in (SOURCE / "methods").iterdir() if (p / "__init__.py").exists()}
FILES = sorted(SOURCE.rglob("*.py"))

Parts = tuple[str, ...]
"""A module's dotted name below ``vultus``."""


def module_parts(path: Path) -> Parts:
    parts = path.relative_to(SOURCE).with_suffix("").parts
    return parts[:-1] if parts[-1] == "__init__" else parts


def imported_modules(tree: ast.AST, path: Path) -> Iterator[tuple[int, Parts]]:
    """Line and target of every import from ``vultus``, at module level or inside functions."""
    package = ("vultus", *path.relative_to(SOURCE).parent.parts)
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            targets = [tuple(alias.name.split(".")) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            module = (*base, *(node.module.split(".") if node.module else ()))
            targets = [(*module, alias.name) for alias in node.names]
        else:
            continue
        yield from ((node.lineno, t[1:]) for t in targets if t[0] == "vultus" and len(t) > 1)


def broken_rule(importer: Parts, target: Parts) -> str | None:
    """Why one import may not be, or None."""
    if not importer or importer[0] not in LAYERS or target[0] not in LAYERS:
        return None  # the package itself, its version, its __main__
    here, there = LAYERS[importer[0]], LAYERS[target[0]]
    if there > here:
        return f"layer {here} ({importer[0]}) imports layer {there} ({target[0]})"
    if there == here and importer[0] != target[0]:
        return f"{importer[0]} and {target[0]} have the same layer"
    if importer[0] == target[0] == "methods" and len(importer) > 1 and len(target) > 1:
        pair = (importer[1], target[1])
        if pair[0] != pair[1] and METHOD_FOLDERS.issuperset(pair):
            return "a method imports another method"
    if importer[0] == "engine" and METHOD_FOLDERS.intersection(target):
        return "engine names a concrete method"
    return None


@pytest.mark.parametrize(
    ("importer", "target", "is_broken"),
    [
        ("geometry.meshes", "core.simd", False),
        ("geometry.meshes", "geometry.cameras", False),
        ("geometry.meshes", "heads.base", True),
        ("heads.flame", "render.output", True),
        ("methods.surfhead.model", "methods.base", False),
        ("methods.surfhead.model", "methods.surfhead.config", False),
        ("engine.fit", "methods.base", False),
        ("engine.fit", "methods.surfhead.config", True),
        ("cli.train", "methods.surfhead", False),
    ],
)
def test_rules_allow_downward_imports_only(importer: str, target: str, is_broken: bool) -> None:
    reason = broken_rule(tuple(importer.split(".")), tuple(target.split(".")))
    assert (reason is not None) == is_broken


def test_no_module_imports_upward_or_sideways() -> None:
    found = []
    for path in FILES:
        importer = module_parts(path)
        for line, target in imported_modules(ast.parse(path.read_text("utf-8")), path):
            reason = broken_rule(importer, target)
            if reason:
                found.append(f"{path.relative_to(SOURCE)}:{line}: {reason}")
    assert not found, "\n".join(found)


def test_every_folder_has_a_layer() -> None:
    folders = {path.parent.name for path in SOURCE.glob("*/__init__.py")}
    assert folders <= LAYERS.keys()


def test_engine_never_names_a_concrete_method() -> None:
    found = []
    for path in sorted((SOURCE / "engine").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            name = getattr(node, "value", None) or getattr(node, "id", None)
            name = getattr(node, "attr", name)
            if isinstance(name, str) and name in METHOD_FOLDERS:
                found.append(f"{path.name}:{getattr(node, 'lineno', '?')}: {name}")
    assert not found, "\n".join(found)


@pytest.mark.parametrize("path", FILES, ids=lambda path: ".".join(module_parts(path)) or "vultus")
def test_every_module_has_a_docstring_and_its_public_names(path: Path) -> None:
    tree = ast.parse(path.read_text("utf-8"))
    assert ast.get_docstring(tree), "no docstring"
    targets = [
        target.id
        for node in tree.body
        if isinstance(node, ast.Assign | ast.AnnAssign)
        for target in (node.targets if isinstance(node, ast.Assign) else [node.target])
        if isinstance(target, ast.Name)
    ]
    assert "__all__" in targets or path.name == "__main__.py", "no __all__"
    assert not NAMELESS_FOLDERS.intersection(module_parts(path))


@pytest.mark.parametrize("folder", sorted(LAYERS))
def test_public_names_of_packages_exist(folder: str) -> None:
    if not (SOURCE / folder / "__init__.py").exists():
        pytest.skip(f"{folder} is not part of this version")
    package = importlib.import_module(f"vultus.{folder}")
    assert [name for name in package.__all__ if not hasattr(package, name)] == []


def test_devices_come_from_the_inputs() -> None:
    found = [
        f"{path.relative_to(SOURCE)}:{node.lineno}"
        for path in FILES
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr == "cuda"
    ]
    assert not found, f".cuda() at {found}"
