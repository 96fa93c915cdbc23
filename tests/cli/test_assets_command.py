"""``vultus assets`` from the command line, on a terminal and in a pipe."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from vultus.cli import console as console_module
from vultus.cli.console import print_table
from vultus.cli.main import run
from vultus.core.asset_registry import ASSETS


@pytest.fixture(autouse=True)
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("VULTUS_ASSETS", str(tmp_path / "store"))
    return tmp_path / "store"


def _packed_head(path: Path) -> Path:
    names = ("neutral", "faces", "uv", "expression", "identity")
    arrays: dict[str, Any] = {name: np.ones(2) for name in names}
    np.savez(path, **arrays)
    return path


def test_an_imported_asset_is_listed_and_found(
    tmp_path: Path, store: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = _packed_head(tmp_path / "head.npz")
    stored = store / "ict_light" / "ict_face_light.npz"
    assert run(["assets", "import", "ict_light", str(source)]) == 0
    assert capsys.readouterr().out == f"imported: {stored}\n"
    assert run(["assets", "where", "ict_light"]) == 0
    assert capsys.readouterr().out == f"{stored}\n"
    assert run(["assets", "list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    here = {line.split()[0]: line.split()[1] for line in lines[1 : 1 + len(ASSETS)]}
    assert here == {name: "yes" if name == "ict_light" else "no" for name in ASSETS}
    assert lines[-1] == f"store: {store}"


def test_a_missing_asset_and_a_bad_file_are_one_line_and_exit_code_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["assets", "where", "flame2023"]) == 2
    err = capsys.readouterr().err
    assert err.startswith("vultus: asset flame2023")
    assert "vultus assets import flame2023 FILE" in err
    (tmp_path / "a.npz").write_bytes(b"nothing")
    assert run(["assets", "import", "ict_full", str(tmp_path / "a.npz")]) == 2
    assert "a.npz: not a readable .npz file" in capsys.readouterr().err


def test_a_missing_subcommand_is_wrong_usage(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["assets"]) == 2
    assert "Missing subcommand" in capsys.readouterr().err


def test_a_table_in_a_pipe_is_aligned_and_never_wrapped(
    capsys: pytest.CaptureFixture[str],
) -> None:
    long = "x" * 300 + " [bold]not markup[/bold]"
    print_table("title", ["name", "psnr"], [["a", 31.23456], ["long name", None]], note=long)
    assert capsys.readouterr().out.splitlines() == [
        "title",
        "name        psnr",
        "a          31.23",
        "long name      -",
        long,
    ]


def test_a_table_on_a_terminal_has_the_same_cells(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(
        console_module, "console", Console(force_terminal=True, width=60, markup=False)
    )
    print_table("title", ["name", "psnr"], [["[a]", 31.23456]])
    out = capsys.readouterr().out
    for part in ("title", "name", "[a]", "31.23"):
        assert part in out


def test_a_row_of_the_wrong_length_is_refused() -> None:
    with pytest.raises(ValueError, match="a row must have 2 cells"):
        print_table("", ["a", "b"], [["1"]])
