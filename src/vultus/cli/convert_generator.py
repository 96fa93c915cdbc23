"""Read published generators, and pack those of runs into one file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Literal

from torch import nn

from vultus.cli.avatar_run import output_path
from vultus.cli.console import console, print_table
from vultus.cli.generator_weights import RELIGHTABLE, SPHERE_HEAD, method_of_weights, read_saved
from vultus.methods.gsheadrelight import generator_file as gsheadrelight_file
from vultus.methods.gsheadrelight import official_pickle as gsheadrelight
from vultus.methods.gsheadrelight.config import LIGHT_TERMS
from vultus.methods.gsheadrelight.generator import Generator as RelightableGenerator
from vultus.methods.spherehead.generator_file import SavedGenerator, save_generator
from vultus.methods.spherehead.official_pickle import read_official_generator
from vultus.nets.weights import count_weights

__all__ = ["GeneratorSource", "convert_generator"]

GeneratorSource = Literal["spherehead", "panohead", "eg3d", "gsheadrelight", "generator_run"]

_FAMILIES = {"dual_sphere": "spherehead", "tri_grid": "panohead", "tri_plane": "eg3d"}


def convert_generator(
    model: Path,
    out: Path,
    source: GeneratorSource,
    *,
    step: int | None = None,
    is_half: bool = False,
    about: Mapping[str, str] | None = None,
    is_dry: bool = False,
) -> None:
    """Read a generator, say what was found, write it as one file.

    Args:
        model: Pickle of a published program, run folder, or file of ours.
        out: ``.safetensors``.
        source: What the model is.
        step: Checkpoint of a run.
        is_half: Round weights to float16.
        about: What the file's header says of its origin, beside what the model tells.
        is_dry: Write nothing.

    Raises:
        FileNotFoundError: If there is no such model, or no folder for the file.
        ValueError: If the model is damaged or another one, or a pickle asks for code to be run.
    """
    path = output_path(out, out, [".safetensors"])
    is_run = source == "generator_run"
    if step is not None and (not is_run or model.is_file()):
        what = "generator's file" if is_run else f"pickle of {source}"
        raise ValueError(f"--iteration: a {what} holds one model, got {step}")
    if source == "gsheadrelight" or (is_run and method_of_weights(model) == "gsheadrelight"):
        read = gsheadrelight.read_official_generator
        relightable = read_saved(RELIGHTABLE, model, step) if is_run else read(model)
        relightable = replace(relightable, origin={**relightable.origin, **(about or {})})
        facts = _relightable_facts(relightable.generator)
        save = partial(gsheadrelight_file.save_generator, path, relightable)
    else:
        saved = read_saved(SPHERE_HEAD, model, step) if is_run else _published(model, source)
        saved = replace(saved, origin={**saved.origin, **(about or {})})
        facts, save = _facts(saved), partial(save_generator, path, saved)
    print_table(str(model), ["", ""], [[name, text] for name, text in facts.items()])
    if is_dry:
        console.print(f"would write {path}")
        return
    save(is_half=is_half)
    console.print(f"generator: {path} ({path.stat().st_size / 1e6:.1f} MB)")


def _published(model: Path, source: GeneratorSource) -> SavedGenerator:
    """A generator with feature planes, of the family that it is said to be of."""
    saved = read_official_generator(model)
    found = _FAMILIES[saved.generator.config.volume.representation]
    if found != source:
        raise ValueError(f"{model} holds a generator of {found}, got --source {source}")
    return saved


def _facts(saved: SavedGenerator) -> dict[str, str]:
    config = saved.generator.config
    parts = {
        "background": config.has_background,
        "camera offset": config.has_camera_offset,
        f"parsing of {config.parsing_classes} classes": config.parsing_classes > 0,
    }
    return {
        "features": f"{config.volume.representation}, {config.plane_channels} channels of "
        f"{config.plane_size} x {config.plane_size}",
        "images": f"{config.image_size} pixels, rendered at {config.neural_size}",
        "parts": ", ".join(name for name, is_there in parts.items() if is_there) or "none",
        "weights": _num_weights(saved.generator),
        "cameras": f"{saved.rig.distance:g} from the origin",
    }


def _relightable_facts(generator: RelightableGenerator) -> dict[str, str]:
    config = generator.config
    return {
        "Gaussians": f"{config.num_gaussians} in {config.num_levels} levels, and "
        f"{5 * config.background_points} behind the head",
        "images": f"{config.image_size} pixels",
        "light": f"{config.light_channels} transfer vectors of {LIGHT_TERMS} numbers",
        "weights": _num_weights(generator),
    }


def _num_weights(network: nn.Module) -> str:
    return f"{count_weights(network) / 1e6:.2f} M"
