"""The command ``vultus``: finds a command by name, runs it, and turns errors into exit codes."""

from __future__ import annotations

import difflib
import importlib
import os
import sys
import traceback

import vultus
from vultus.cli.console import print_error

__all__ = ["COMMANDS", "main", "run"]

# Only the module of the command that is asked for is imported: help must not wait for torch.
COMMANDS: dict[str, tuple[str, str]] = {
    "demo": ("vultus.cli.demo", "film a built-in head, reconstruct it and write a report"),
    "train": ("vultus.cli.train", "fit an avatar to a capture, or a generator to images"),
    "geometry": ("vultus.cli.geometry", "fit the subject's own mesh to a capture, for relighting"),
    "ablate": ("vultus.cli.ablate", "train several presets with several seeds and compare them"),
    "evaluate": ("vultus.cli.evaluate", "measure an avatar on held-out images"),
    "evaluate-relighting": (
        "vultus.cli.evaluate_relighting",
        "measure an avatar under lights that it was not trained on",
    ),
    "render": ("vultus.cli.render", "film an avatar along a camera path"),
    "relight": ("vultus.cli.relight", "film an avatar with materials in another light"),
    "edit-materials": (
        "vultus.cli.edit_materials",
        "change what hair, skin or lips of an avatar are made of",
    ),
    "reenact": ("vultus.cli.reenact", "drive an avatar with another performance"),
    "mesh": ("vultus.cli.mesh", "extract the surface of an avatar"),
    "export": ("vultus.cli.export", "write an avatar in splat and mesh formats"),
    "generate": ("vultus.cli.generate", "make pictures of people who do not exist"),
    "generate-video": ("vultus.cli.generate_video", "film generated people, and what is between"),
    "generate-relit": ("vultus.cli.generate_relit", "show generated people in changing light"),
    "envmap-light": ("vultus.cli.envmap_light", "turn a map of surroundings into coefficients"),
    "generate-mesh": ("vultus.cli.generate_mesh", "extract surfaces of generated people"),
    "generate-splats": ("vultus.cli.generate_splats", "write generated people as lit splats"),
    "evaluate-generator": ("vultus.cli.evaluate_generator", "measure a generator: FID and others"),
    "invert": ("vultus.cli.invert", "find the generated head that looks like a photo"),
    "mix-styles": ("vultus.cli.mix_styles", "cross the styles of generated people"),
    "convert-checkpoint": ("vultus.cli.convert_checkpoint", "read published models"),
    "data": ("vultus.cli.data", "make and check captures and image sets: studio, collection, ..."),
    "assets": ("vultus.cli.assets", "import files that cannot be shipped: list, import, where"),
    "bench": ("vultus.cli.bench", "time the kernels on this machine"),
    "doctor": ("vultus.cli.doctor", "check the installation"),
}
"""Name -> (module with ``main(arguments)``, one line for ``vultus --help``)."""

EXIT_BUG = 1
EXIT_USAGE = 2
EXIT_INTERRUPTED = 130  # 128 + SIGINT, as shells report it

_TRACEBACK_VARIABLE = "VULTUS_TRACEBACK"
_NO_CACHE = "no locator available"
"""What Numba says, as it loads kernels, where it can write to no folder."""
# What users cause; everything else is a bug of ours and keeps its traceback.
_USER_ERRORS = (
    ValueError,
    FileNotFoundError,
    FileExistsError,
    IsADirectoryError,
    NotADirectoryError,
    PermissionError,
    FloatingPointError,  # A training that diverged: settings or data.
)


def main() -> None:
    """Run the command line and exit."""
    sys.exit(run(sys.argv[1:]))


def run(arguments: list[str]) -> int:
    """Run one command.

    Returns:
        The exit code: 0, 1 for a bug or a failed check, 2 for wrong input, 130 if interrupted.
    """
    if not arguments or arguments[0] in ("-h", "--help"):
        print(_help())
        return 0 if arguments else EXIT_USAGE
    name, *rest = arguments
    if name == "--version":
        print(f"vultus {vultus.__version__}")
        return 0
    if name not in COMMANDS:
        return _fail(_unknown(name))
    try:
        importlib.import_module(COMMANDS[name][0]).main(rest)
        sys.stdout.flush()
    except KeyboardInterrupt:
        print_error("interrupted")
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        # The reader of a pipe is gone (``| head``); Python must not flush into it at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_BUG
    except SystemExit as request:
        return _exit_code(request)
    except Exception as error:  # noqa: BLE001 - the last one; bugs are shown in full
        message = _user_message(error)
        if message is not None:
            return _fail(message)
        traceback.print_exc()
        return EXIT_BUG
    return 0


def _user_message(error: Exception) -> str | None:
    """Return the message of an error that a user can cause, None for a bug."""
    if isinstance(error, ModuleNotFoundError):
        # An optional package may be absent, a module of ours may not.
        return None if (error.name or "").startswith("vultus") else str(error)
    if isinstance(error, KeyError):
        # A message is a sentence; a bare key is a bug.
        message = error.args[0] if error.args else None
        return message if isinstance(message, str) and " " in message else None
    if isinstance(error, RuntimeError) and _NO_CACHE in str(error):
        return (
            "compiled kernels can be kept neither beside the package nor in the home: set "
            "NUMBA_CACHE_DIR to a folder that can be written"
        )
    if isinstance(error, _USER_ERRORS):
        return str(error)
    # A full disk, a quota, a name that is too long; safetensors has its own word for the first.
    is_of_system = isinstance(error, OSError) and error.errno is not None
    is_of_disk = type(error).__name__ == "SafetensorError"
    return " ".join(str(error).split()) if is_of_system or is_of_disk else None


def _help() -> str:
    width = max(map(len, COMMANDS))
    lines = [f"  {name.ljust(width)}  {text}" for name, (_, text) in COMMANDS.items()]
    return "\n".join(
        [
            f"vultus {vultus.__version__}: one toolkit for 3D human heads",
            "",
            "usage: vultus COMMAND [options]",
            "",
            *lines,
            "",
            "vultus COMMAND --help lists the options of a command and their defaults.",
        ]
    )


def _unknown(name: str) -> str:
    close = difflib.get_close_matches(name, COMMANDS, n=1)
    hint = f"did you mean {close[0]!r}?" if close else f"known: {', '.join(COMMANDS)}"
    return f"unknown command {name!r}; {hint}"


def _fail(message: str) -> int:
    if os.environ.get(_TRACEBACK_VARIABLE) and sys.exc_info()[0] is not None:
        traceback.print_exc()
    print_error(message)
    return EXIT_USAGE


def _exit_code(request: SystemExit) -> int:
    if request.code is None or isinstance(request.code, int):
        return request.code or 0
    print_error(str(request.code))
    return EXIT_BUG
