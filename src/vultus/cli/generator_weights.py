"""Where commands find the weights of generators: runs, files, the package."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any, Generic

import torch

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
    "method_of_run",
    "open_saved",
    "read_run",
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
    step: int | None = None
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
    if weights is None:
        return _built_in(family, source.device)
    if weights.is_dir():
        return read_run(family, weights, source.step, source.device)
    if weights.suffix.lower() in _PICKLES and weights.is_file():
        raise ValueError(
            f"--weights: {weights} is a pickle; read it first with "
            f"vultus convert-checkpoint --source {family.sources}"
        )
    if source.step is not None:
        raise ValueError(f"--step needs a run folder, got {weights}")
    return family.file.load(weights, source.device)


def method_of_run(path: Path) -> object:
    """What the config of a run says its method is.

    Raises:
        FileNotFoundError: If the folder holds no run.
    """
    return _stored_config(path).get("method")


def read_run(
    family: GeneratorFamily[NetworkT],
    path: Path,
    step: int | None = None,
    device: torch.device | str = "cpu",
) -> SavedGenerator[NetworkT]:
    """Read the averaged generator of a training, which may be going on.

    Raises:
        FileNotFoundError: If the folder holds no run or no such checkpoint.
        ValueError: If the run is of another method, or its files do not fit; names them.
    """
    run, stored, wanted = RunFolder(path), _stored_config(path), family.file.method
    method = stored.get("method")
    if method != wanted:
        raise ValueError(f"{run.config_path}: method must be {wanted}, got {method!r}")
    # Only the method's settings: where the images are changes nothing.
    default = next(iter(method_presets(wanted).values()))
    data = add_new_fields(stored.get("config"), default)
    config = config_from_data(type(default), data, f"{run.config_path}: config")
    generator = family.file.build(config.generator)
    found = restore_average(run, generator, step)
    images_seen = found * config.training.batch
    generator.config = family.config_at(config, images_seen)
    origin = {"run": str(path.resolve()), "step": found, "images_seen": images_seen}
    return SavedGenerator(
        generator.to(device).eval().requires_grad_(False), _rig_of_run(run), origin
    )


def _rig_of_run(run: RunFolder) -> ViewRig:
    """Cameras of the training images, or the usual ones for runs that do not tell."""
    card = run.read_card() if run.card_path.is_file() else {}
    if "rig" not in card:
        return ViewRig()
    return config_from_data(ViewRig, card["rig"], f"{run.card_path}: rig")


def _stored_config(path: Path) -> dict[str, Any]:
    run = RunFolder(path)
    if not run.config_path.is_file():
        raise FileNotFoundError(f"{path} holds no run: {run.config_path.name} is missing")
    stored = read_json(run.config_path)
    return stored if isinstance(stored, dict) else {}


def _built_in(
    family: GeneratorFamily[NetworkT], device: torch.device | str
) -> SavedGenerator[NetworkT]:
    method = family.file.method
    resource = files("vultus") / "assets" / f"{method}.safetensors"
    if not resource.is_file():
        raise FileNotFoundError(
            "--weights: this version has no built-in generator; give the run folder of vultus "
            f"train {method} or a file of vultus convert-checkpoint"
        )
    with as_file(resource) as path:
        return family.file.load(path, device)
