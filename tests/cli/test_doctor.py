"""``vultus doctor`` says what works, and its exit code says whether all that is needed does."""

from __future__ import annotations

from pathlib import Path

import pytest

from vultus.cli import doctor
from vultus.cli.doctor import run_checks
from vultus.cli.main import run
from vultus.core.asset_registry import ASSETS


def test_a_good_installation_passes_and_every_part_is_listed(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run(["doctor"]) == 0
    out = capsys.readouterr().out
    for part in ("python", "torch", "numba", "processor", "kernel cache", "ffmpeg", "OpenEXR"):
        assert f"\n{part} " in out
    for name, spec in ASSETS.items():
        assert f"asset {name}" in out
        assert spec.enables in out or "ok" in out
    assert out.endswith("everything that is needed works\n")


def test_something_needed_that_fails_is_named_and_exits_with_1(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail() -> str:
        raise FileNotFoundError("films need ffmpeg")

    monkeypatch.setattr(doctor, "_ffmpeg", fail)
    assert run(["doctor"]) == 1
    out = capsys.readouterr().out
    assert "broken  FileNotFoundError: films need ffmpeg" in out
    assert out.endswith("broken: ffmpeg\n")


def test_a_cache_that_cannot_be_written_is_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path / "file" / "below"))
    (check,) = [check for check in run_checks() if check.name == "kernel cache"]
    assert check.status == "broken"
    assert "set NUMBA_CACHE_DIR" in check.detail


def test_missing_assets_are_absent_not_broken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VULTUS_ASSETS", str(tmp_path))
    checks = {check.name: check for check in run_checks()}
    for name, spec in ASSETS.items():
        assert checks[f"asset {name}"].status == "absent"
        assert spec.enables in checks[f"asset {name}"].detail
