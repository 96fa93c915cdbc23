from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from vultus.cli.main import run
from vultus.data.readers import read_sequence

STUDIO = ["--frames", "2", "--cameras", "2", "--size", "32", "--texture-size", "128"]
STUDIO += ["--samples", "1", "--num-lights", "16", "--test-share", "0"]


def test_union_joins_filmed_sequences_of_one_head(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], refuses: Callable[..., str]
) -> None:
    folders = []
    for track in ("turns", "expressions"):
        folders.append(str(tmp_path / track))
        assert run(["data", "studio", "--out", folders[-1], "--track", track, *STUDIO]) == 0
    out = tmp_path / "union"
    command = ["data", "union", *folders, "--out", str(out)]
    refuses([*command, "--test", "talking"], "must be of turns, expressions, got 'talking'")
    assert run([*command, "--dry-run"]) == 0
    assert capsys.readouterr().out.startswith("would write ")
    assert not out.exists()
    assert run([*command, "--test", "expressions", "--val-cameras", "0"]) == 0
    assert "2 sequences (2 train, 2 val, 4 test frames)" in capsys.readouterr().out
    sequence = read_sequence(out)
    assert sequence.head.name == "procedural"
    assert {record.timestep for record in sequence.split("test")} == {2, 3}
    assert run(["data", "check", str(out), "--dry-run"]) == 0
    assert "no errors" in capsys.readouterr().out
