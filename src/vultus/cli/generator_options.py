"""What the commands of generators have in common: weights, seeds, settings, folders."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, replace
from importlib.resources import as_file, files
from pathlib import Path
from typing import Literal, TypeVar

import torch
import tyro

from vultus.core.config import add_new_fields, config_from_data
from vultus.core.devices import find_device
from vultus.core.files import read_json
from vultus.core.run_folder import RunFolder
from vultus.engine.adversarial_checkpoint import restore_average
from vultus.methods.registry import method_presets
from vultus.methods.spherehead.config import with_parity
from vultus.methods.spherehead.generation import neural_size_at
from vultus.methods.spherehead.generator import Generator
from vultus.methods.spherehead.generator_file import SavedGenerator, load_generator
from vultus.methods.spherehead.latents import read_styles
from vultus.methods.spherehead.sampling import (
    CameraOffset,
    HeadSampler,
    People,
    SamplingSettings,
)
from vultus.methods.spherehead.views import ViewRig
from vultus.nets.stylegan2.synthesis import NoiseMode

__all__ = [
    "GeneratorOptions",
    "PeopleOptions",
    "check_output_folder",
    "count_people",
    "describe_generator",
    "open_generator",
    "open_sampler",
    "parse_options",
    "parse_seeds",
    "read_run",
]

OptionsT = TypeVar("OptionsT")

_METHOD = "spherehead"
_BUILT_IN = "spherehead.safetensors"
_SEED_RANGE = re.compile(r"(\d+)(?:-(\d+))?")
_LARGEST_SEED = 2**32 - 1
_MOST_SEEDS = 1_000_000
_PICKLES = (".pkl", ".pickle", ".pt", ".pth")


@dataclass(frozen=True)
class GeneratorOptions:
    """Options of every command that generates people."""

    weights: Path | None = None
    """Run folder of train, whose averaged weights are taken, or file of convert-checkpoint or
    invert; default: the built-in generator."""
    step: int | None = None
    """Checkpoint of a run folder, by its step; default: the last one."""
    truncation: float = 0.7
    """0 gives the mean head, 1 all the variety of the training images (official --trunc)."""
    cutoff: int | None = None
    """Truncate only so many of the first styles; default: all (official --trunc-cutoff)."""
    condition_yaw: float = 0.0
    """Yaw in degrees of the camera that people are conditioned on; 0 is frontal (official
    --pose_cond is 90 more)."""
    camera_offset: CameraOffset = "none"
    """Which learned offset moves cameras: none as in the published images, the mean of many people,
    or each person's own as in training."""
    noise: NoiseMode = "const"
    """Noise of the layers: const is the stored one, random that of each seed, none without."""
    neural_size: int | None = None
    """Side of the rendered feature image; default: that of the training (official --nrr)."""
    sample_factor: float = 1.0
    """Multiply the samples of each ray (official --sample_mult)."""
    parity: Literal["official", "fixed"] | None = None
    """official repeats the slips of the published programs; default: official for their weights,
    fixed for ours."""
    distance: float | None = None
    """Of the cameras from the origin; default: that of the training images, mostly 2.7."""
    focal: float | None = None
    """Focal length in units of the image's side; default: that of the training images, mostly
    4.2647."""
    target: tuple[float, float, float] | None = None
    """World position in the middle of the images; default: that of the training images, mostly the
    origin."""
    device: str = "cpu"
    """What generates: cpu, cuda, cuda:N, or auto, which takes a GPU if there is one."""

    def settings(self) -> SamplingSettings:
        """What the sampler reads."""
        return SamplingSettings(
            truncation=self.truncation,
            cutoff=self.cutoff,
            condition_yaw=math.radians(self.condition_yaw),
            camera_offset=self.camera_offset,
            noise=self.noise,
            neural_size=self.neural_size,
            sample_factor=self.sample_factor,
        )

    def view_rig(self, known: ViewRig) -> ViewRig:
        """Cameras of the generator, as far as no others are chosen."""
        return ViewRig(
            known.distance if self.distance is None else self.distance,
            known.focal if self.focal is None else self.focal,
            known.target if self.target is None else self.target,
        )


@dataclass(frozen=True)
class PeopleOptions:
    """Who is generated."""

    seeds: str | None = None
    """People: numbers and ranges such as 1,4-6. A seed gives the person that it gives in the
    published programs. Default: 0, or nobody beside --styles."""
    styles: tuple[Path, ...] = ()
    """Files with styles, such as projected_w.npz of invert, for more people; they are not
    truncated."""

    def named(self, sampler: HeadSampler) -> list[tuple[str, People]]:
        """People with the names of their files.

        Raises:
            FileNotFoundError: If a file with styles is missing.
            ValueError: If seeds are no seeds, or styles are those of another generator.
        """
        default = () if self.styles else (0,)
        seeds = default if self.seeds is None else parse_seeds(self.seeds)
        found = [(f"seed{seed:04d}", sampler.people((seed,))) for seed in seeds]
        generator = sampler.generator
        wanted = generator.num_ws, generator.config.w_dim
        for path in self.styles:
            ws = read_styles(path)
            if tuple(ws.shape[1:]) != wanted:
                raise ValueError(
                    f"--styles: {path} must hold {wanted[0]} styles of {wanted[1]} numbers, as "
                    f"this generator has them, got {ws.shape[1]} of {ws.shape[2]}"
                )
            people = sampler.people_of_styles(ws)
            first = len(found) - len(seeds)
            found += [(f"styles{first + row:04d}", person) for row, person in enumerate(people)]
        return found


def parse_options(
    options_class: type[OptionsT], command: str, arguments: list[str], description: str | None
) -> OptionsT:
    """Parse ``METHOD options``; there is one method yet.

    Raises:
        ValueError: If the method is missing or unknown.
    """
    if not arguments or arguments[0].startswith("-"):
        if not set(arguments) & {"-h", "--help"}:
            raise ValueError(f"the method comes first: vultus {command} METHOD; known: {_METHOD}")
        arguments = [_METHOD, "--help"]
    method, *rest = arguments
    if method != _METHOD:
        raise ValueError(f"method must be one of {_METHOD}, got {method!r}")
    prog = f"vultus {command} {method}"
    return tyro.cli(options_class, args=rest, prog=prog, description=description)


def parse_seeds(text: str, flag: str = "--seeds") -> tuple[int, ...]:
    """Read seeds such as ``1,4-6``.

    Raises:
        ValueError: If the text is no list of numbers and rising ranges; names the flag.
    """
    seeds: list[int] = []
    for part in text.split(","):
        match = _SEED_RANGE.fullmatch(part.strip())
        if match is None:
            raise ValueError(f"{flag} must be numbers and ranges such as 1,4-6, got {text!r}")
        first, last = int(match[1]), int(match[2] or match[1])
        if not first <= last <= _LARGEST_SEED or last - first >= _MOST_SEEDS:
            raise ValueError(
                f"{flag}: a range must rise, hold at most {_MOST_SEEDS} seeds and none above "
                f"{_LARGEST_SEED}, got {part.strip()!r}"
            )
        seeds += range(first, last + 1)
    return tuple(seeds)


def open_sampler(options: GeneratorOptions) -> HeadSampler:
    """Check the options, read the weights and put both together.

    Raises:
        FileNotFoundError: As ``open_generator``.
        ValueError: If an option or the weights do not fit.
    """
    settings, device = options.settings(), find_device(options.device)
    saved = open_generator(options.weights, options.step, device)
    if options.parity is not None:
        saved.generator.config = with_parity(saved.generator.config, options.parity)
    num_ws = saved.generator.num_ws
    if settings.cutoff is not None and settings.cutoff > num_ws:
        raise ValueError(f"--cutoff must be 0 to {num_ws}, got {settings.cutoff}")
    if settings.camera_offset != "none" and saved.generator.camera_offset is None:
        raise ValueError(
            f"--camera-offset {settings.camera_offset}: this generator has learned no offset"
        )
    return HeadSampler(saved.generator, options.view_rig(saved.rig), settings)


def open_generator(
    weights: Path | None, step: int | None = None, device: torch.device | str = "cpu"
) -> SavedGenerator:
    """Read a generator from a run folder, a file, or the package.

    Raises:
        FileNotFoundError: If it is not there.
        ValueError: If it is of another method or configuration; names the file.
    """
    if weights is None:
        return _built_in(device)
    if weights.is_dir():
        return read_run(weights, step, device)
    if weights.suffix.lower() in _PICKLES and weights.is_file():
        raise ValueError(
            f"--weights: {weights} is a pickle; read it first with "
            f"vultus convert-checkpoint --source spherehead (or panohead, eg3d)"
        )
    if step is not None:
        raise ValueError(f"--step needs a run folder, got {weights}")
    return load_generator(weights, device)


def read_run(
    path: Path, step: int | None = None, device: torch.device | str = "cpu"
) -> SavedGenerator:
    """Read the averaged generator of a training, which may be going on.

    Raises:
        FileNotFoundError: If the folder holds no run or no such checkpoint.
        ValueError: If the run is of another method, or its files do not fit; names them.
    """
    run = RunFolder(path)
    if not run.config_path.is_file():
        raise FileNotFoundError(f"{path} holds no run: {run.config_path.name} is missing")
    stored = read_json(run.config_path)
    method = stored.get("method") if isinstance(stored, dict) else None
    if method != _METHOD:
        raise ValueError(f"{run.config_path}: method must be {_METHOD}, got {method!r}")
    # Only the method's settings: where the images are changes nothing.
    default = next(iter(method_presets(method).values()))
    data = add_new_fields(stored.get("config"), default)
    config = config_from_data(type(default), data, f"{run.config_path}: config")
    generator = Generator(config.generator)
    found = restore_average(run, generator, step)
    images_seen = found * config.training.batch
    size = neural_size_at(config.generator.neural_size, config.objective, images_seen)
    generator.config = replace(config.generator, neural_size=size)
    origin = {"run": str(path.resolve()), "step": found, "images_seen": images_seen}
    return SavedGenerator(generator.to(device).eval().requires_grad_(False), ViewRig(), origin)


def check_output_folder(path: Path) -> None:
    """Check the folder that pictures go into, before the work.

    Raises:
        NotADirectoryError: If there is a file of that name.
        FileNotFoundError: If the folder that would hold it does not exist.
    """
    if path.exists() and not path.is_dir():
        raise NotADirectoryError(f"--out: {path} must be a folder")
    if not path.absolute().parent.is_dir():
        raise FileNotFoundError(f"--out: the folder {path.absolute().parent} does not exist")


def count_people(count: int) -> str:
    """A number of people in words."""
    return f"{count} {'person' if count == 1 else 'people'}"


def describe_generator(sampler: HeadSampler) -> str:
    """Say in a few words what generates."""
    config = sampler.generator.config
    count = sum(parameter.numel() for parameter in sampler.generator.parameters())
    return (
        f"{config.volume.representation} generator of {config.image_size} pixels with "
        f"{count / 1e6:.1f} M weights"
    )


def _built_in(device: torch.device | str) -> SavedGenerator:
    resource = files("vultus") / "assets" / _BUILT_IN
    if not resource.is_file():
        raise FileNotFoundError(
            "--weights: this version has no built-in generator; give the run folder of vultus "
            "train spherehead or a file of vultus convert-checkpoint"
        )
    with as_file(resource) as path:
        return load_generator(path, device)
