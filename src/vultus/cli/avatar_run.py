"""Open the run folder of a trained avatar: what every command after ``train`` starts with."""

from __future__ import annotations

from dataclasses import dataclass, field, make_dataclass, replace
from pathlib import Path
from typing import Any

from jaxtyping import Float
from torch import Tensor

from vultus.core.files import read_json
from vultus.core.run_folder import RunFolder
from vultus.data.readers import read_sequence
from vultus.data.sequence import HeadSequence
from vultus.engine.checkpoint import restore_weights
from vultus.methods.base import ReconstructionMethod
from vultus.methods.registry import build_method, method_presets

__all__ = ["DataOptions", "OpenRun", "open_run", "run_config_class"]


@dataclass(frozen=True)
class DataOptions:
    """Where the capture is and how to read it."""

    data: Path
    """Folder of the capture."""
    format: str = "auto"
    """Reader; auto looks into the folder's manifest files."""
    options: dict[str, str] = field(default_factory=dict)
    """Reader options, for example ``--data.options light kloppenheim_06``."""

    def read(self) -> HeadSequence:
        """Read cameras, rig and file lists (images are decoded when used)."""
        return read_sequence(self.data, self.format, **self.options)


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


def run_config_class(method: str) -> type[Any]:
    """The dataclass that ``config.json`` of a run of this method holds."""
    config_class = type(next(iter(method_presets(method).values())))
    fields = [("method", str), ("seed", int), ("data", DataOptions), ("config", config_class)]
    return make_dataclass("RunConfig", fields, frozen=True)


def open_run(path: Path, data: Path | None = None) -> OpenRun:
    """Rebuild a run's avatar from its config and last checkpoint.

    Args:
        path: Run folder.
        data: Where the capture lies now, if it was moved.

    Raises:
        FileNotFoundError: If the folder holds no run or no complete checkpoint.
        ValueError: If the config is damaged; names file and field.
    """
    folder = RunFolder.open(path)
    stored = read_json(folder.config_path)
    if not isinstance(stored, dict) or "method" not in stored:
        raise ValueError(f"{folder.config_path} must name the method")
    run = folder.read_config(run_config_class(stored["method"]))
    options = run.data if data is None else replace(run.data, data=data)
    sequence = options.read()
    avatar = build_method(run.method, run.config, sequence, run.seed)
    step = restore_weights(folder, avatar)
    return OpenRun(folder, run.method, run.config, run.seed, options, sequence, avatar, step)
