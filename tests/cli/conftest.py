"""A capture and a run, made once by the commands themselves; tests that damage them take copies."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from vultus.cli.main import run

Refuses = Callable[..., str]

STUDIO = ["--frames", "5", "--cameras", "3", "--size", "40", "--texture-size", "128"]
STUDIO += ["--samples", "1", "--num-lights", "16", "--test-share", "0.2"]
TRAIN = ["--preset", "demo", "--steps", "6", "--checkpoint-every", "4", "--log-every", "2"]


@pytest.fixture(scope="session")
def capture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five moments from three cameras; camera 1 and moment 4 are held out."""
    out = tmp_path_factory.mktemp("command") / "capture"
    assert run(["data", "studio", "--out", str(out), *STUDIO]) == 0
    return out


@pytest.fixture(scope="session")
def trained(capture: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run folder of six steps."""
    out = tmp_path_factory.mktemp("command") / "run"
    assert run(["train", "surfhead", *TRAIN, "--data", str(capture), "--out", str(out)]) == 0
    return out


@pytest.fixture
def own_capture(capture: Path, tmp_path: Path) -> Path:
    """A copy that a test may damage."""
    return shutil.copytree(capture, tmp_path / "own_capture")


@pytest.fixture
def own_run(trained: Path, tmp_path: Path) -> Path:
    """A copy that a test may damage."""
    return shutil.copytree(trained, tmp_path / "own_run")


@pytest.fixture
def refuses(capsys: pytest.CaptureFixture[str]) -> Refuses:
    """Check that a command exits with 2 and one line on stderr, which holds all ``parts``."""

    def check(arguments: list[str], *parts: str) -> str:
        capsys.readouterr()
        assert run(arguments) == 2
        captured = capsys.readouterr()
        assert captured.out == ""
        assert captured.err.startswith("vultus: ")
        assert captured.err.count("\n") == 1
        for part in parts:
            assert part in captured.err
        return captured.err

    return check


def snapshot(folder: Path) -> dict[str, tuple[int, int]]:
    """Size and time of change of every file below a folder."""
    return {
        str(path.relative_to(folder)): (path.stat().st_size, path.stat().st_mtime_ns)
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.fixture
def files_of() -> Callable[[Path], dict[str, tuple[int, int]]]:
    """``snapshot``, for tests of what a command must leave alone."""
    return snapshot
