"""The entry point: help, exit codes and one line for every error a user can cause."""

from __future__ import annotations

import errno
import subprocess
import sys
import types
from collections.abc import Callable

import pytest
from safetensors import SafetensorError

import vultus
from vultus.cli.main import COMMANDS, run


@pytest.fixture
def fake_command(monkeypatch: pytest.MonkeyPatch) -> Callable[[BaseException | None], None]:
    """Add the command ``fake`` that raises what it is given."""

    def add(error: BaseException | None) -> None:
        module = types.ModuleType("fake_command_module")

        def main(arguments: list[str]) -> None:
            sys.stdout.write(f"arguments: {arguments}\n")
            if error is not None:
                raise error

        module.main = main  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, "fake_command_module", module)
        monkeypatch.setitem(COMMANDS, "fake", ("fake_command_module", "for tests"))

    return add


def test_help_names_every_command_and_needs_no_torch() -> None:
    program = (
        "import sys; from vultus.cli.main import run; code = run(['--help']);"
        "assert 'torch' not in sys.modules, 'torch was imported'; sys.exit(code)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    for name, (_, text) in COMMANDS.items():
        assert f"  {name} " in done.stdout
        assert text in done.stdout


def test_the_module_runs_as_the_command_does() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "vultus", "--version"], capture_output=True, text=True, check=True
    )
    assert done.stdout == f"vultus {vultus.__version__}\n"


def test_no_command_at_all_is_wrong_usage(capsys: pytest.CaptureFixture[str]) -> None:
    assert run([]) == 2
    assert "usage: vultus COMMAND" in capsys.readouterr().out


def test_an_unknown_command_gets_a_suggestion(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["trian"]) == 2
    assert capsys.readouterr().err == "vultus: unknown command 'trian'; did you mean 'train'?\n"
    assert run(["xyzzy"]) == 2
    assert "known: demo, train" in capsys.readouterr().err


def test_arguments_reach_the_command(
    fake_command: Callable[[BaseException | None], None], capsys: pytest.CaptureFixture[str]
) -> None:
    fake_command(None)
    assert run(["fake", "--a", "b"]) == 0
    assert capsys.readouterr().out == "arguments: ['--a', 'b']\n"


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (ValueError("steps must be\n  positive"), "steps must be positive"),
        (FileNotFoundError("a.json does not exist"), "a.json does not exist"),
        (FileNotFoundError(2, "No such file or directory", "x"), "[Errno 2] No such file or"),
        (FileExistsError("r holds a run already"), "r holds a run already"),
        (PermissionError(13, "Permission denied", "/r"), "Permission denied: '/r'"),
        (KeyError("unknown region 'ear'; known: skin"), "unknown region 'ear'; known: skin"),
        (ModuleNotFoundError("viewing needs viser"), "viewing needs viser"),
        # Names from files must neither break the line nor act on the terminal.
        (ValueError("two\r\nlines\x1b[2J\x07.png: grün"), r"two lines\x1b[2J\x07.png: grün"),
        (ValueError("not UTF-8: \udcff.png"), r"not UTF-8: \udcff.png"),
    ],
)
def test_what_users_cause_is_one_line_and_exit_code_2(
    error: Exception,
    message: str,
    fake_command: Callable[[BaseException | None], None],
    capsys: pytest.CaptureFixture[str],
) -> None:
    fake_command(error)
    assert run(["fake"]) == 2
    err = capsys.readouterr().err
    assert err.startswith("vultus: ")
    assert message in err
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("x"),
        KeyError("bare_key"),
        TypeError("y"),
        ModuleNotFoundError("No module named 'vultus.typo'", name="vultus.typo"),
    ],
)
def test_a_bug_keeps_its_traceback_and_exits_with_1(
    error: Exception,
    fake_command: Callable[[BaseException | None], None],
    capsys: pytest.CaptureFixture[str],
) -> None:
    fake_command(error)
    assert run(["fake"]) == 1
    assert "Traceback (most recent call last)" in capsys.readouterr().err


def test_an_interrupt_exits_with_130(
    fake_command: Callable[[BaseException | None], None], capsys: pytest.CaptureFixture[str]
) -> None:
    fake_command(KeyboardInterrupt())
    assert run(["fake"]) == 130
    assert capsys.readouterr().err == "vultus: interrupted\n"


@pytest.mark.parametrize(("code", "expected"), [(None, 0), (0, 0), (3, 3), ("failed", 1)])
def test_exit_codes_of_commands_are_passed_on(
    code: int | str | None,
    expected: int,
    fake_command: Callable[[BaseException | None], None],
) -> None:
    fake_command(SystemExit(code))
    assert run(["fake"]) == expected


def test_a_traceback_of_a_users_error_is_shown_on_request(
    fake_command: Callable[[BaseException | None], None],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("VULTUS_TRACEBACK", "1")
    fake_command(ValueError("wrong"))
    assert run(["fake"]) == 2
    err = capsys.readouterr().err
    assert "Traceback" in err
    assert err.endswith("vultus: wrong\n")


def test_a_reader_that_goes_away_causes_no_traceback() -> None:
    program = (
        "import sys, types; from vultus.cli.main import COMMANDS, run;"
        "module = types.ModuleType('endless');"
        "module.main = lambda arguments: [print('x' * 1000) for _ in range(10000)];"
        "sys.modules['endless'] = module; COMMANDS['endless'] = ('endless', '');"
        "sys.exit(run(['endless']))"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.readline()
    process.stdout.close()
    assert process.stderr.read() == b""
    process.stderr.close()
    assert process.wait() == 1


def test_kernels_that_can_be_kept_nowhere_are_no_bug(
    fake_command: Callable[[BaseException | None], None], capsys: pytest.CaptureFixture[str]
) -> None:
    fake_command(RuntimeError("cannot cache function '_grow': no locator available for file 'x'"))
    assert run(["fake"]) == 2
    error = capsys.readouterr().err
    assert "set NUMBA_CACHE_DIR to a folder that can be written" in error
    assert error.count("\n") == 1


def test_a_full_disk_is_one_line(
    fake_command: Callable[[BaseException | None], None], capsys: pytest.CaptureFixture[str]
) -> None:
    for error in (
        OSError(errno.ENOSPC, "No space left on device", "run/x.bin"),
        OSError(errno.ENAMETOOLONG, "File name too long", "a" * 5),
        SafetensorError("Error while serializing: I/O error:\nNo space left on device"),
    ):
        fake_command(error)
        assert run(["fake"]) == 2
        text = capsys.readouterr().err
        assert text.startswith("vultus: ")
        assert text.count("\n") == 1
