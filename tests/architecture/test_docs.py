"""What the documentation names exists: modules, files, links, commands with their options."""

from __future__ import annotations

import ast
import dataclasses
import functools
import importlib
import itertools
import re
import shlex
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import tyro

from vultus.cli.main import COMMANDS
from vultus.methods.registry import GENERATORS, METHODS, method_presets

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
FOLDERS = {path.name for path in (ROOT / "src/vultus").iterdir() if path.is_dir()}
TREES = ("src", "tests", "docs", "benchmarks")

_FENCE = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
_SHELLS = ("", "sh", "bash", "console")
_SPAN = re.compile(r"`([^`\n]+)`")
_LINK = re.compile(r"\]\((?!https?://|#)([^)#\s]+)[^)]*\)")
_DOTTED = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)+")
_COMMAND = re.compile(r"(?:\$ )?(?:[A-Z_]+=\S* )*(?:\S*/)?vultus (.*)")
_NEXT_COMMAND = re.compile(r"&&|\|\||[;|]")
_WORD = re.compile(r"[a-z][a-z-]*")
_ROW = re.compile(r"^\| `([\w.]+)` \| ([^|]*) \|", re.MULTILINE)
_DATA_FILE = re.compile(r".*\.(json|jsonl|npz|exr|png|md|safetensors)")


def settings(config: Any) -> Iterator[str]:
    """Dotted names of all fields."""
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if dataclasses.is_dataclass(value):
            yield from (f"{field.name}.{name}" for name in settings(value))
        else:
            yield field.name


SETTINGS = {
    name
    for method in (*METHODS, *GENERATORS)
    for name in settings(next(iter(method_presets(method).values())))
}
"""Of all methods."""

page = pytest.mark.parametrize("page", PAGES, ids=lambda path: path.relative_to(ROOT).as_posix())
"""Run a test on every page."""


class Parsed(Exception):
    """A command line was understood; the command must not go on to its work."""


def spans(text: str) -> list[str]:
    """Code within sentences and tables."""
    return _SPAN.findall(_FENCE.sub("", text))


def blocks(text: str, *languages: str) -> list[str]:
    """Code in paragraphs of its own."""
    return [code for language, code in _FENCE.findall(text) if language in languages]


def resolves(dotted: str) -> bool:
    """Whether a dotted name is a module, or something in one."""
    parts = dotted.split(".")
    for length in range(len(parts), 0, -1):
        try:
            found: Any = importlib.import_module(".".join(parts[:length]))
        except ModuleNotFoundError:
            continue
        return functools.reduce(_member, parts[length:], found) is not None
    return False


def _member(owner: Any, name: str) -> Any:
    """An attribute, or a field of a dataclass that has no default; None if there is neither."""
    if dataclasses.is_dataclass(owner) and name in {f.name for f in dataclasses.fields(owner)}:
        return name
    return getattr(owner, name, None)


def dotted_names(text: str) -> Iterator[str]:
    """Names below ``vultus``, with or without that word; files and settings are others' concern."""
    yield from re.findall(r"\bvultus(?:\.\w+)+", text)
    for span in spans(text):
        is_name = _DOTTED.fullmatch(span) and span.partition(".")[0] in FOLDERS
        if is_name and not _DATA_FILE.fullmatch(span) and span not in SETTINGS:
            yield f"vultus.{span}"


def paths(text: str) -> Iterator[Path]:
    """Files and folders of the repository, named from its root or from the package."""
    for word in (word for span in spans(text) for word in span.split()):
        first, slash, rest = word.partition("/")
        if not slash or "<" in word or "*" in word:
            continue
        if first in TREES:
            yield ROOT / word
        elif first in FOLDERS and rest.endswith((".py", "/")):
            yield ROOT / "src/vultus" / word


def imports(text: str) -> Iterator[str]:
    """What Python code takes out of modules of ours."""
    for block in blocks(text, "python"):
        for node in ast.walk(ast.parse(block)):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("vultus"):
                yield from (f"{node.module}.{alias.name}" for alias in node.names)


def commands(block: str) -> Iterator[list[str]]:
    """Arguments of every ``vultus`` in a block of shell lines."""
    for line in block.replace("\\\n", " ").splitlines():
        for part in _NEXT_COMMAND.split(line.partition(" #")[0]):
            if found := _COMMAND.fullmatch(part.strip()):
                yield shlex.split(found[1])


@page
def test_names_of_the_package_exist(page: Path) -> None:
    text = page.read_text("utf-8")
    names = {*dotted_names(text), *imports(text)}
    assert sorted(name for name in names if not resolves(name)) == []


@page
def test_paths_of_the_repository_exist(page: Path) -> None:
    assert [path for path in paths(page.read_text("utf-8")) if not path.exists()] == []


@page
def test_links_between_pages_lead_somewhere(page: Path) -> None:
    targets = _LINK.findall(page.read_text("utf-8"))
    assert [target for target in targets if not (page.parent / target).exists()] == []


@page
def test_command_lines_are_understood(page: Path, parse: Callable[[list[str]], str | None]) -> None:
    shell = blocks(page.read_text("utf-8"), *_SHELLS)
    lines = [line for block in shell for line in commands(block)]
    faults = [(" ".join(line), fault) for line in lines if (fault := parse(line)) is not None]
    assert faults == []


@page
def test_commands_within_sentences_exist(
    page: Path,
    parse: Callable[[list[str]], str | None],
    capsys: pytest.CaptureFixture[str],
) -> None:
    faults = []
    for span in spans(page.read_text("utf-8")):
        program, *words = span.split()
        if program != "vultus":
            continue
        name = list(itertools.takewhile(_WORD.fullmatch, words))
        fault = parse([*name, "--help"])
        text = capsys.readouterr().out
        options = {word for word in words if word.startswith("--")} - {"--help", "--version"}
        unknown = [option for option in options if option not in text]
        faults += [(span, fault or unknown)] if fault or unknown else []
    assert faults == []


@pytest.mark.parametrize("method", [*METHODS, *GENERATORS])
def test_the_page_of_a_method_lists_every_setting_with_its_default(method: str) -> None:
    config = next(iter(method_presets(method).values()))
    listed = dict(_ROW.findall((ROOT / f"docs/methods/{method}.md").read_text("utf-8")))
    values = {name: functools.reduce(getattr, name.split("."), config) for name in settings(config)}
    assert [name for name, value in values.items() if not shows(listed.get(name), value)] == []


@pytest.mark.parametrize("method", [*METHODS, *GENERATORS])
def test_the_page_of_a_method_names_no_setting_that_is_gone(method: str) -> None:
    config = next(iter(method_presets(method).values()))
    groups = {name.partition(".")[0] for name in settings(config) if "." in name} - FOLDERS
    text = (ROOT / f"docs/methods/{method}.md").read_text("utf-8")
    named = {s for s in spans(text) if _DOTTED.fullmatch(s) and s.partition(".")[0] in groups}
    assert named <= SETTINGS


def shows(text: str | None, value: bool | int | float | str | tuple | None) -> bool:
    """Whether a cell of a table shows a value; those of a tuple stand side by side."""
    if text is None:
        return False
    if isinstance(value, tuple):
        words = text.split()
        return len(words) == len(value) and all(map(shows, words, value))
    if isinstance(value, int | float) and not isinstance(value, bool):
        return float(text.replace(" ", "")) == value
    words = {True: "on", False: "off", None: "none"}
    return text == (value if isinstance(value, str) else words[value])


@pytest.fixture
def parse(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[[list[str]], str | None]:
    """Give a command its arguments without letting it work; returns what it complains about."""
    parse_for_real = tyro.cli

    def parse_only(*arguments: Any, **options: Any) -> None:
        parse_for_real(*arguments, **options)
        raise Parsed

    monkeypatch.setattr(tyro, "cli", parse_only)

    def complaint(arguments: list[str]) -> str | None:
        name, *rest = arguments
        if name.startswith("-"):
            return None if name in ("--help", "--version") else f"unknown option {name}"
        if name not in COMMANDS:
            return f"unknown command {name}"
        try:
            importlib.import_module(COMMANDS[name][0]).main(rest)
        except Parsed:
            return None
        except SystemExit as end:
            return None if end.code in (None, 0) else capsys.readouterr().err
        except ValueError as error:
            return str(error)
        return "it did not parse its arguments"

    return complaint


@pytest.mark.parametrize(
    ("line", "is_understood"),
    [
        ("vultus mesh --run RUN --compare.scan head.ply", True),
        ("vultus mesh --run RUN --scan head.ply", False),
        ("vultus render --run RUN --path circle", False),
        ("vultus render --path arc", False),
        ("$ VULTUS_ASSETS=here vultus assets list  # what is there", True),
        ("vultus train surfhead --preset small --data DIR --out RUN --model.rig jacobian", True),
        ("vultus train surfhead --preset large --data DIR --out RUN", False),
        ("  cd DIR && vultus data studio --out head | tee log.txt", True),
        ("vultus data film --out DIR", False),
        ("vultus films", False),
    ],
)
def test_the_check_of_commands_can_fail(
    line: str, is_understood: bool, parse: Callable[[list[str]], str | None]
) -> None:
    (arguments,) = commands(line)
    assert (parse(arguments) is None) == is_understood


@pytest.mark.parametrize(
    ("name", "exists"),
    [
        ("vultus.methods.surfhead.config.ModelConfig.rig", True),
        ("vultus.data.sequence.FrameRecord.timestep", True),
        ("vultus.engine.fit.fit", True),
        ("vultus.engine.fit.train", False),
        ("vultus.motors", False),
    ],
)
def test_the_check_of_names_can_fail(name: str, exists: bool) -> None:
    assert resolves(name) == exists
