"""Where commands find the weights of generators: runs, files, the package."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Generic

import torch

from vultus.cli.built_in_generators import is_built_in, open_built_in
from vultus.cli.run_config import note_defaults
from vultus.core.bundles import load_bundle
from vultus.core.config import add_new_fields, config_from_data
from vultus.core.files import read_json
from vultus.core.run_folder import RunFolder
from vultus.engine.adversarial_checkpoint import restore_average
from vultus.methods.generator_bundles import GeneratorFile, NetworkT, SavedGenerator
from vultus.methods.gsheadrelight import generator_file as gsheadrelight
from vultus.methods.gsheadrelight.generator import Generator as RelightableGenerator
from vultus.methods.head_views import ViewRig
from vultus.methods.registry import method_presets
from vultus.methods.spherehead import generator_file as spherehead
from vultus.methods.spherehead.config import SphereHeadConfig
from vultus.methods.spherehead.generation import neural_size_at
from vultus.methods.spherehead.generator import Generator as SphereGenerator

__all__ = [
    "RELIGHTABLE",
    "SPHERE_HEAD",
    "GeneratorFamily",
    "SavedSource",
    "method_of_weights",
    "open_saved",
    "read_saved",
]

_PICKLES = (".pkl", ".pickle", ".pt", ".pth")


@dataclass(frozen=True)
class GeneratorFamily(Generic[NetworkT]):
    """Generators of one method."""

    file: GeneratorFile[NetworkT]
    sources: str
    """What ``convert-checkpoint --source`` calls their pickles."""
    config_at: Callable[[Any, int], Any]
    """The generator's config at a moment of the training of a method's config."""


@dataclass(frozen=True)
class SavedSource:
    """Where the weights of a command are."""

    weights: Path | None = None
    """Run folder or file; None, or ``demo``, is the built-in generator."""
    step: int | None = None
    """Checkpoint of a run folder; None is the last one."""
    device: torch.device | str = "cpu"


def _sphere_config_at(config: SphereHeadConfig, images_seen: int) -> Any:
    size = neural_size_at(config.generator.neural_size, config.objective, images_seen)
    return replace(config.generator, neural_size=size)


SPHERE_HEAD: GeneratorFamily[SphereGenerator] = GeneratorFamily(
    spherehead.FILE, "spherehead (or panohead, eg3d)", _sphere_config_at
)
RELIGHTABLE: GeneratorFamily[RelightableGenerator] = GeneratorFamily(
    gsheadrelight.FILE, "gsheadrelight", lambda config, _: config.generator
)


def open_saved(family: GeneratorFamily[NetworkT], source: SavedSource) -> SavedGenerator[NetworkT]:
    """Read a generator from a run folder, a file, or the package.

    Raises:
        FileNotFoundError: If it is not there.
        ValueError: If it is of another method or configuration; names the file.
    """
    weights = source.weights
    if weights is None or is_built_in(weights):
        if source.step is not None:
            raise ValueError("--step needs a run folder, got the built-in generator")
        return open_built_in(family.file, source.device)
    if weights.suffix.lower() in _PICKLES and weights.is_file():
        raise ValueError(
            f"--weights: {weights} is a pickle; read it first with "
            f"vultus convert-checkpoint --source {family.sources}"
        )
    if source.step is not None and not weights.is_dir():
        raise ValueError(f"--step needs a run folder, got {weights}")
    return read_saved(family, weights, source.step, source.device)


def method_of_weights(path: Path) -> object:
    """What a run folder, or a file of ours, says its method is.

    Raises:
        FileNotFoundError: If there is no such file, or the folder holds no run.
        ValueError: If the file is damaged, or a pickle of a published program.
    """
    if path.is_file():
        if path.suffix.lower() in _PICKLES:
            raise ValueError(f"{path} is a pickle: --source must be the program that wrote it")
        return load_bundle(path).metadata.get("method")
    return _stored_config(path).get("method")


def read_saved(
    family: GeneratorFamily[NetworkT],
    path: Path,
    step: int | None = None,
    device: torch.device | str = "cpu",
) -> SavedGenerator[NetworkT]:
    """Read a generator of a file, or the averaged one of a training, which may be going on.

    Args:
        family: Of the method that it must be of.
        path: File, or run folder.
        step: Checkpoint of a run folder; None is the last one.
        device: Where it goes.

    Raises:
        FileNotFoundError: If the folder holds no run or no such checkpoint.
        ValueError: If the run is of another method, or its files do not fit; names them.
    """
    if not path.is_dir():
        return family.file.load(path, device)
    run, stored, wanted = RunFolder(path), _stored_config(path), family.file.method
    method = stored.get("method")
    if method != wanted:
        raise ValueError(f"{run.config_path}: method must be {wanted}, got {method!r}")
    # Only the method's settings: where the images are changes nothing.
    default = next(iter(method_presets(wanted).values()))
    note_defaults(run.config_path, stored, {"config": default})
    data = add_new_fields(stored.get("config"), default)
    config = config_from_data(type(default), data, f"{run.config_path}: config")
    generator = family.file.build(config.generator)
    found = restore_average(run, generator, step)
    images_seen = found * config.training.batch
    generator.config = family.config_at(config, images_seen)
    card = run.read_card() if run.card_path.is_file() else {}
    origin = {"run": path.resolve().name, "step": found, "images_seen": images_seen}
    return SavedGenerator(
        generator.to(device).eval().requires_grad_(False),
        _rig_of_run(run, card),
        origin | _training_facts(run, stored, card),
    )


def _training_facts(
    run: RunFolder, stored: Mapping[str, Any], card: Mapping[str, Any]
) -> dict[str, Any]:
    """How a generator was trained, for the header of its file; no paths, as files travel."""
    start, config = stored.get("start"), stored.get("config", {})
    if not isinstance(start, str | None):
        raise ValueError(f"{run.config_path}: start must be a path or null, got {start!r:.80}")
    versions, hardware, timings = (
        _card_part(run, card, name) for name in ("versions", "hardware", "timings")
    )
    facts = {
        "vultus": versions.get("vultus"),
        "code_revision": card.get("code_revision"),
        "hardware": hardware.get("gpus") or hardware.get("cpu"),
        "seconds": timings.get("training"),
        "seed": stored.get("seed"),
        "start": None if start is None else Path(start).name,
        "data": card.get("data"),
        "data_id": card.get("data_id"),
        "training": {name: part for name, part in config.items() if name != "generator"},
    }
    return {name: value for name, value in facts.items() if value is not None}


def _card_part(run: RunFolder, card: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    part = card.get(name, {})
    if not isinstance(part, dict):
        raise ValueError(f"{run.card_path}: {name} must be an object, got {part!r:.80}")
    return part


def _rig_of_run(run: RunFolder, card: Mapping[str, Any]) -> ViewRig:
    """Cameras of the training images, or the usual ones for runs that do not tell."""
    if "rig" not in card:
        return ViewRig()
    return config_from_data(ViewRig, card["rig"], f"{run.card_path}: rig")


def _stored_config(path: Path) -> dict[str, Any]:
    run = RunFolder(path)
    if not run.config_path.is_file():
        raise FileNotFoundError(f"{path} holds no run: {run.config_path.name} is missing")
    stored = read_json(run.config_path)
    return stored if isinstance(stored, dict) else {}
