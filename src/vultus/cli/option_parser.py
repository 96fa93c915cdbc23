"""Options of a command from dataclasses, with help that flows to the width of the terminal.

The help of an option is the docstring of its field and stands nowhere else. Docstrings are broken
where source lines end and mark code with double backticks; help pages need neither.
"""

from __future__ import annotations

import dataclasses
import inspect
import re
import shutil
import textwrap
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, TypeVar, get_origin

import tyro
from tyro.constructors import (
    ConstructorRegistry,
    StructConstructorSpec,
    StructFieldSpec,
    StructTypeInfo,
)

__all__ = ["asks_for_help", "flow_text", "parse_arguments", "subcommand_help"]

OptionsT = TypeVar("OptionsT")

_LIST_ITEM = re.compile(r"[-*] |\d+\. ")
_WHOLE_WORDS: dict[str, Any] = {"break_long_words": False, "break_on_hyphens": False}
# Sections of Google docstrings that tell programmers, not users, something.
_SECTION = re.compile(r"^(Args|Attributes|Raises|Returns|Examples?):\s*$", re.MULTILINE)


def parse_arguments(
    options_type: type[OptionsT] | Any,
    arguments: Sequence[str],
    prog: str,
    description: str | None = None,
) -> OptionsT:
    """Parse the arguments of one command.

    Args:
        options_type: Dataclass, whose fields are the options; may be generic, or a union of
            subcommands.
        arguments: Words after the command.
        prog: The command, as usage shows it.
        description: Paragraphs above the options, by default the docstring of the class. The
            command's name before a colon, as docstrings of modules start, is left out.

    Raises:
        SystemExit: With code 0 after help, 2 if the arguments do not fit.
    """
    if description is None:
        description = _class_description(options_type)
    text = re.sub(r"^``vultus [^`]*``: ", "", description.strip())
    return tyro.cli(
        options_type,
        args=arguments,
        prog=prog,
        description=_wrap(text[:1].upper() + text[1:]),
        registry=_flowing_help(),
    )


def asks_for_help(arguments: Sequence[str]) -> bool:
    """Whether the first word asks for help on the command itself, not on a subcommand."""
    return bool(arguments) and arguments[0] in ("-h", "--help")


def subcommand_help(usage: str, description: str, names: Mapping[str, str]) -> str:
    """The help of a command that another word must follow.

    Args:
        usage: Command and what follows it.
        description: One paragraph.
        names: The words that may follow, each with a line about it.
    """
    column = max(map(len, names)) + 2
    rows = [
        textwrap.fill(
            line,
            shutil.get_terminal_size().columns,
            initial_indent=f"  {name.ljust(column)}",
            subsequent_indent=" " * (column + 2),
            **_WHOLE_WORDS,
        )
        for name, line in names.items()
    ]
    return "\n".join([f"usage: {usage}", "", _wrap(description), "", *rows])


def flow_text(text: str) -> str:
    """Join the lines of every paragraph and drop double backticks.

    Blank lines, list items and indented paragraphs (code) stay as they are.
    """
    paragraphs = re.split(r"\n\s*\n", inspect.cleandoc(text))
    return "\n\n".join(map(_flow_paragraph, paragraphs)).replace("``", "")


def _flow_paragraph(paragraph: str) -> str:
    if paragraph[:1].isspace():
        return paragraph
    lines: list[str] = []
    for line in map(str.strip, paragraph.splitlines()):
        if lines and not _LIST_ITEM.match(line):
            lines[-1] += f" {line}"
        else:
            lines.append(line)
    return "\n".join(lines)


def _wrap(description: str) -> str:
    # Tyro wraps options but neither wraps descriptions nor keeps line breaks in them, unless the
    # next line is indented, as the titles of its groups are.
    width = shutil.get_terminal_size().columns
    lines = [line for line in flow_text(description).splitlines() if line]
    indented = [
        textwrap.fill(line, width, initial_indent=" ", subsequent_indent=" ", **_WHOLE_WORDS)
        for line in lines
    ]
    return "\n".join(indented)


def _flowing_help() -> ConstructorRegistry:
    """Rules that read dataclasses as tyro does, but let the help of their fields flow."""
    registry = ConstructorRegistry()
    is_asking = False  # Tyro for its own reading; it then comes here once more.

    @registry.struct_rule
    def read_dataclass(info: StructTypeInfo) -> StructConstructorSpec | None:
        nonlocal is_asking
        if is_asking or not dataclasses.is_dataclass(info.type):
            return None
        is_asking = True
        try:
            spec = ConstructorRegistry.get_struct_spec(info)
        finally:
            is_asking = False
        if not isinstance(spec, StructConstructorSpec):
            return None
        return dataclasses.replace(spec, fields=tuple(map(_with_flowing_help, spec.fields)))

    return registry


def _with_flowing_help(field: StructFieldSpec) -> StructFieldSpec:
    def read_help() -> str | None:
        text = _evaluate(field.helptext)
        if text is None:
            text = _class_description(_without_annotation(field.type))
        return flow_text(text) if text else None

    changed = dataclasses.replace(field, helptext=read_help)
    if field.default is None or field.default == ():
        hint = tyro.conf.arg(help_behavior_hint=lambda _: _hint_of_nothing(read_help()))
        changed = dataclasses.replace(changed, type=Annotated[field.type, hint])
    return changed


def _hint_of_nothing(text: str | None) -> str:
    """What follows the help of an option that is unset: nothing if the help says what then is."""
    return "" if re.search(r"\bdefault\b", text or "", re.IGNORECASE) else "(default: none)"


def _evaluate(text: str | Callable[[], str | None] | None) -> str | None:
    return text() if callable(text) else text


def _without_annotation(annotation: Any) -> Any:
    return annotation.__origin__ if get_origin(annotation) is Annotated else annotation


def _class_description(options_type: Any) -> str:
    """The docstring of a dataclass, or of what a generic one was made from."""
    origin = get_origin(options_type) or options_type
    if not dataclasses.is_dataclass(origin):
        return ""
    return _SECTION.split(inspect.cleandoc(origin.__doc__ or ""))[0].strip()
