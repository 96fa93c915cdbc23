"""Open the run folder of a trained avatar: what every command after ``train`` starts with."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field, make_dataclass, replace
from pathlib import Path
from typing import Any

from jaxtyping import Float
from torch import Tensor

from vultus.cli.console import print_note
from vultus.cli.run_config import (
    complete_run_config,
    default_settings,
    first_difference,
    note_defaults,
)
from vultus.core.config import config_from_data, config_to_data, with_absolute_paths
from vultus.core.devices import find_device
from vultus.core.files import read_json
from vultus.core.run_folder import RunFolder
from vultus.data.readers import absolute_options, read_sequence
from vultus.data.sequence import HeadSequence
from vultus.engine.checkpoint import restore_weights
from vultus.geometry.cameras import Camera
from vultus.heads.base import HeadPose
from vultus.methods.base import ReconstructionMethod
from vultus.methods.registry import METHODS, build_method, method_presets
from vultus.methods.relightable_blendshapes.model import RelightableBlendshapes
from vultus.methods.relightable_blendshapes.rig_motion import moving_expressions

__all__ = [
    "DataOptions",
    "OpenRun",
    "check_new_run",
    "check_out_is_not",
    "check_run_folder",
    "create_run",
    "open_or_create_run",
    "open_run",
    "output_path",
    "run_settings",
]


@dataclass(frozen=True)
class DataOptions:
    """Where the capture is and how to read it."""

    data: Path
    """Folder of the capture."""
    format: str = "auto"
    """Reader of the capture; auto looks into the folder's manifest files. `vultus data check
    --help` lists all."""
    options: dict[str, str] = field(default_factory=dict)
    """Reader options, for example ``--options light kloppenheim_06``."""

    def read(self) -> HeadSequence:
        """Read cameras, rig and file lists (images are decoded when used)."""
        return read_sequence(self.data, self.format, **self.options)

    def located(self) -> DataOptions:
        """The same with absolute paths, so that commands may be called from any folder."""
        options = absolute_options(self.data, self.format, self.options)
        return replace(self, data=self.data.resolve(), options=options)


@dataclass(frozen=True)
class OpenRun:
    """A trained avatar with the sequence it was trained on."""

    folder: RunFolder
    method_name: str
    config: Any
    seed: int
    data: DataOptions
    sequence: HeadSequence
    avatar: ReconstructionMethod
    step: int

    def head_vertices(self) -> Float[Tensor, "v 3"]:
        """The head at the first timestep."""
        return self.sequence.head.vertices(self.avatar.track[0])[0]

    def pose(self, timestep: int) -> HeadPose:
        """The pose of one moment of the capture.

        Raises:
            ValueError: If the capture has no such moment.
        """
        last = len(self.avatar.track) - 1
        if not 0 <= timestep <= last:
            raise ValueError(f"--timestep must be 0 to {last}, got {timestep}")
        return self.avatar.track[timestep]

    def moving_expressions(self) -> list[int] | None:
        """Columns of the expressions that move the avatar, where not all of the head's do."""
        if not isinstance(self.avatar, RelightableBlendshapes):
            return None
        limit = self.avatar.config.model.num_expressions
        return moving_expressions(self.avatar.head, self.pose(0), limit)

    def camera(self, index: int | None) -> Camera:
        """A camera of the capture as it first stands there, by default the first training camera.

        Raises:
            ValueError: If the capture has no such camera.
        """
        if index is None:
            return self.sequence.split("train")[0].camera
        records = [record for record in self.sequence.frames if record.camera_index == index]
        if not records:
            indices = sorted({record.camera_index for record in self.sequence.frames})
            known = ", ".join(map(str, indices))
            raise ValueError(f"--camera must be one of {known}, got {index}")
        return min(records, key=lambda record: record.timestep).camera


def run_settings(method: str, seed: int, data: DataOptions, config: Any) -> Any:
    """What ``config.json`` of a run holds, with absolute paths.

    The commands after ``train`` may be called from any folder.
    """
    return _run_config_class(method)(method, seed, data.located(), with_absolute_paths(config))


def open_or_create_run(path: Path, settings: Any, *, resume: bool = True) -> RunFolder:
    """Open the run of these settings, or start it.

    Raises:
        NotADirectoryError: As ``check_run_folder``.
        ValueError: Likewise.
    """
    if check_run_folder(path, settings, resume=resume):
        folder = RunFolder.resume(path)
        note_defaults(folder.config_path, read_json(folder.config_path), default_settings(settings))
        if steps := folder.checkpoint_steps():
            print_note(f"{path} continues after step {steps[-1]}")
        return folder
    return RunFolder.create(path, settings, seed=settings.seed, method=settings.method)


def check_out_is_not(out: Path, data: Path, what: str, *, is_walked: bool = False) -> None:
    """Refuse a run folder that is the folder of the data.

    Args:
        out: The run folder.
        data: What it learns from.
        what: Name of the data.
        is_walked: Whether the data's folders are looked through for files, so that a run in one of
            them would become data.

    Raises:
        ValueError: If the run would be there.
    """
    folder, data = out.resolve(), data.resolve()
    if folder == data or (is_walked and data in folder.parents):
        relation = "is" if folder == data else "is in"
        raise ValueError(f"--out: {out} {relation} the {what}; give the run a folder of its own")


def check_run_folder(path: Path, settings: Any, *, resume: bool = True) -> bool:
    """Say whether a folder holds a run that these settings continue; writes nothing.

    Raises:
        NotADirectoryError: If there is a file of that name.
        ValueError: If the folder holds a run that must not be continued, or of other settings.
    """
    if path.exists() and not path.is_dir():
        raise NotADirectoryError(f"--out: {path} must be a folder")
    folder = RunFolder(path)
    if not folder.config_path.exists():
        return False
    if not resume:
        raise ValueError(f"--out: {path} already holds a run")
    stored, defaults = read_json(folder.config_path), default_settings(settings)
    if changed := first_difference(stored, config_to_data(settings), defaults):
        raise ValueError(f"--out: {path} holds a run with other settings ({changed})")
    return True


def check_new_run(path: Path, settings: Any) -> None:
    """Refuse a folder that holds a run, but for one of these settings without any checkpoint.

    Commands that write a run at once leave such a folder only where they are killed; calling them
    again is no loss.

    Raises:
        NotADirectoryError: As ``check_run_folder``.
        ValueError: Likewise.
    """
    is_unfinished = not RunFolder(path).checkpoint_steps()
    check_run_folder(path, settings, resume=is_unfinished)


def create_run(path: Path, settings: Any) -> RunFolder:
    """Start a run that is written at once; see ``check_new_run``.

    Raises:
        NotADirectoryError: As ``check_run_folder``.
        ValueError: Likewise.
    """
    check_new_run(path, settings)
    RunFolder(path).config_path.unlink(missing_ok=True)
    return RunFolder.create(path, settings, seed=settings.seed, method=settings.method)


def output_path(chosen: Path | None, default: Path, suffixes: Collection[str]) -> Path:
    """Where a command writes; checked before the work, not after it.

    Raises:
        ValueError: If the ending is none of ``suffixes``.
        FileNotFoundError: If the folder does not exist.
    """
    path = default if chosen is None else chosen
    if path.suffix.lower() not in suffixes:
        raise ValueError(f"--out must end in {', '.join(suffixes)}, got {path}")
    if not path.parent.is_dir():
        raise FileNotFoundError(f"--out: the folder {path.parent} does not exist")
    return path


def open_run(
    path: Path, data: Path | None = None, device: str = "cpu", step: int | None = None
) -> OpenRun:
    """Rebuild a run's avatar from its config and a checkpoint.

    Settings that are newer than the run have their defaults, which a line on stderr tells.

    Args:
        path: Run folder.
        data: Where the capture lies now, if it was moved.
        device: Where the avatar goes; see ``core.devices.find_device``.
        step: Which checkpoint, by default the last one.

    Raises:
        FileNotFoundError: If the folder holds no run or no such checkpoint.
        ValueError: If the config is damaged; names file and field.
    """
    folder = RunFolder.open(path)
    stored = read_json(folder.config_path)
    method = stored.get("method") if isinstance(stored, dict) else None
    if not isinstance(method, str) or method not in METHODS:
        known = ", ".join(METHODS)
        raise ValueError(f"{folder.config_path}: method must be one of {known}, got {method!r}")
    defaults: dict[str, object] = {"config": _config_class(method)()}
    completed = complete_run_config(stored, defaults)
    where = f"{folder.config_path}: config"
    run: Any = config_from_data(_run_config_class(method), completed, where)
    note_defaults(folder.config_path, stored, defaults)
    options = run.data if data is None else replace(run.data, data=data)
    if not options.data.is_dir():
        hint = "; if it was moved, say where with --data" if data is None else ""
        raise FileNotFoundError(f"{options.data}: the capture is not there{hint}")
    sequence = options.read()
    avatar = build_method(run.method, run.config, sequence, run.seed, find_device(device))
    loaded = restore_weights(folder, avatar, step)
    return OpenRun(folder, run.method, run.config, run.seed, options, sequence, avatar, loaded)


def _run_config_class(method: str) -> type[Any]:
    """The dataclass that ``config.json`` of a run of this method holds."""
    parts = {"method": str, "seed": int, "data": DataOptions, "config": _config_class(method)}
    return make_dataclass("RunConfig", parts.items(), frozen=True)


def _config_class(method: str) -> type[Any]:
    return type(next(iter(method_presets(method).values())))
