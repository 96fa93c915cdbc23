"""Help texts from docstrings."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated

import pytest
import tyro

from vultus.cli.option_parser import (
    asks_for_help,
    flow_text,
    parse_arguments,
    subcommand_help,
)


@dataclass(frozen=True)
class Weights:
    """Weights of the terms of ``main``,
    on two lines.

    Raises:
        ValueError: Never.
    """

    first: float = 1.0
    """Of the ``first`` term, which is described on more lines than
    one."""


@dataclass(frozen=True)
class Options:
    """Do
    something."""

    weights: Weights = field(default_factory=Weights)
    limit: int | None = None
    """Most of them; default: as many
    as there are."""
    names: Annotated[tuple[str, ...], tyro.conf.arg(aliases=["-n"])] = ()
    """Whose."""


def page(capsys: pytest.CaptureFixture[str], description: str | None = None) -> str:
    with pytest.raises(SystemExit) as end:
        parse_arguments(Options, ["--help"], "vultus do", description)
    assert end.value.code == 0
    return capsys.readouterr().out


def test_paragraphs_become_one_line_each() -> None:
    assert flow_text("One ``word``\n    and more.\n\n    Another\n    one.") == (
        "One word and more.\n\nAnother one."
    )


def test_lists_and_indented_code_keep_their_lines() -> None:
    text = "Steps:\n- the first, which is\n  long\n- the second\n\n    vultus demo\n    vultus mesh"
    assert flow_text(text) == (
        "Steps:\n- the first, which is long\n- the second\n\n    vultus demo\n    vultus mesh"
    )


def test_help_of_fields_and_groups_flows(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "120")
    text = page(capsys)
    assert "\n Do something.\n" in text
    assert "Weights of the terms of main, on two lines." in text
    assert "Never" not in text
    assert "Of the first term, which is described on more lines than one. (default: 1.0)" in text


def test_unset_options_have_a_default_in_words(capsys: pytest.CaptureFixture[str]) -> None:
    text = " ".join(page(capsys).split())
    assert "Most of them; default: as many as there are. -n" in text
    assert "Whose. (default: none)" in text


def test_descriptions_lose_the_name_of_the_command_and_are_wrapped(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    text = page(capsys, f"``vultus do``: do it {'again and ' * 10}again.")
    above = text.split("options")[0].splitlines()[1:]
    assert above[1].startswith(" Do it again")
    assert max(map(len, above)) <= 40


def test_parsing_gives_the_dataclass() -> None:
    arguments = ["--weights.first", "2", "-n", "a", "b", "--limit", "None"]
    assert parse_arguments(Options, arguments, "vultus do") == Options(
        Weights(2.0), None, ("a", "b")
    )


def test_subcommands_stand_in_one_column(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "20")
    text = subcommand_help("vultus x NAME", "Do it.", {"a": "one line that is long", "bcd": "b"})
    assert text == (
        "usage: vultus x NAME\n\n Do it.\n\n  a    one line that\n       is long\n  bcd  b"
    )


def test_only_the_first_word_asks_for_help_on_the_command() -> None:
    assert asks_for_help(["--help", "x"])
    assert not asks_for_help(["x", "--help"])
    assert not asks_for_help([])
