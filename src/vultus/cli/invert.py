"""``vultus invert``: find the generated head that looks like a photo."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import torch
import tyro
from jaxtyping import Float
from torch import Tensor

from vultus.cli.avatar_run import open_or_create_run
from vultus.cli.console import console
from vultus.cli.generator_options import open_generator
from vultus.core.devices import find_device
from vultus.core.files import write_json
from vultus.core.image_io import write_image
from vultus.core.progress import Progress
from vultus.core.run_folder import Checkpoint, RunFolder
from vultus.core.seeding import seed_everything
from vultus.core.video_io import write_video
from vultus.data.photo import read_label, square_mask, square_photo
from vultus.losses.pyramid import pyramid_distance
from vultus.methods.head_views import motion_labels
from vultus.methods.people import People
from vultus.methods.spherehead.generator_file import SavedGenerator, save_generator
from vultus.methods.spherehead.inversion import (
    Distance,
    Inversion,
    InversionConfig,
    InversionState,
    find_pivot,
    style_statistics,
    tune_generator,
    with_noise,
)
from vultus.methods.spherehead.sampling import HeadSampler, SamplingSettings
from vultus.nets.perceptual import LpipsNetwork, imported_lpips, load_lpips

__all__ = ["InvertOptions", "main"]

DistanceName = Literal["auto", "lpips", "pyramid"]
_LPIPS_SIZE = 256
_LOG_EVERY = 10


@dataclass(frozen=True)
class InvertOptions:
    """Find styles that show a photo, tune the generator there, film the result.

    Writes a run folder: media/ with target, pivot and tuned images, films of both stages and around
    the head before and after the tuning; projected_w.npz with the styles (key w); and
    generator.safetensors, which other commands take with --weights.
    """

    photo: Path
    """Image, aligned as the generator's training images; its middle square is used."""
    label: Path
    """Camera of the photo: dataset.json that lists it, or a JSON list of 25 numbers."""
    out: Path
    """Folder; an inversion that was stopped there after its search goes on with the tuning."""
    mask: Path | None = None
    """Only what is white in this image must look like the photo; default: everything."""
    weights: Path | None = None
    """Run folder of train, or file of convert-checkpoint; default: the built-in generator."""
    distance: DistanceName = "auto"
    """Perceptual distance: lpips (VGG16 weights imported with vultus assets), pyramid (colours and
    edges at several sizes, no weights); auto takes lpips where it is imported. The run's card says
    which it was."""
    config: Annotated[InversionConfig, tyro.conf.arg(name="")] = field(
        default_factory=InversionConfig
    )
    seed: int = 303
    """Of exploration, rays and noise."""
    frames: int = 60
    """Of the films around the head; 0 writes none."""
    film_every: int = 10
    """Steps between the frames of the films of both stages."""
    fps: float = 30.0
    """Frames per second."""
    device: str = "cpu"
    """What computes: cpu, cuda, cuda:N, or auto, which takes a GPU if there is one."""
    dry_run: bool = False
    """Check everything, write nothing."""


@dataclass(frozen=True)
class InversionRun:
    """``config.json`` of an inversion."""

    method: str
    seed: int
    photo: Path
    label: Path
    mask: Path | None
    weights: Path | None
    distance: str
    config: InversionConfig


@dataclass(frozen=True)
class _Task:
    """A photo with everything that its inversion needs."""

    saved: SavedGenerator
    target: Float[Tensor, "1 3 s s"]
    label: Float[Tensor, "1 25"]
    mask: Float[Tensor, "1 1 s s"] | None
    distance: Distance
    options: InvertOptions


def main(arguments: list[str]) -> None:
    """Check, invert, write."""
    options = tyro.cli(InvertOptions, args=arguments, prog="vultus invert", description=__doc__)
    _check(options)
    device = find_device(options.device)
    name, distance = _find_distance(options.distance, device)
    saved = open_generator(options.weights, device=device)
    size = saved.generator.config.image_size
    task = _Task(
        saved,
        square_photo(options.photo, size).to(device),
        read_label(options.label, options.photo).to(device),
        None if options.mask is None else square_mask(options.mask, size, options.photo).to(device),
        distance,
        options,
    )
    if options.dry_run:
        steps = options.config.steps + options.config.tuning_steps
        console.print(f"would invert {options.photo} in {steps} steps with {name} to {options.out}")
        return
    run = open_or_create_run(options.out, _settings(options, name))
    run.update_card(distance=name)
    seed_everything(options.seed)
    _invert(task, run)


def _check(options: InvertOptions) -> None:
    if options.frames < 0 or options.film_every < 1 or not options.fps > 0:
        raise ValueError(
            "--frames must be at least 0, --film-every at least 1 and --fps positive, got "
            f"{options.frames}, {options.film_every} and {options.fps}"
        )


def _settings(options: InvertOptions, distance: str) -> InversionRun:
    return InversionRun(
        "inversion",
        options.seed,
        options.photo.resolve(),
        options.label.resolve(),
        None if options.mask is None else options.mask.resolve(),
        None if options.weights is None else options.weights.resolve(),
        distance,
        options.config,
    )


def _find_distance(name: DistanceName, device: torch.device) -> tuple[str, Distance]:
    """The perceptual distance and what it is called."""
    if name == "lpips" or (name == "auto" and "vgg" in imported_lpips()):
        network = load_lpips("vgg").to(device)
        return "lpips", lambda rgb, target: _lpips(network, rgb, target)
    return "pyramid", pyramid_distance


def _lpips(network: LpipsNetwork, rgb: Tensor, target: Tensor) -> Float[Tensor, ""]:
    """LPIPS at the size of the release."""
    images = [rgb, target]
    if rgb.shape[-1] > _LPIPS_SIZE:
        images = [torch.nn.functional.interpolate(i, _LPIPS_SIZE, mode="area") for i in images]
    return network(*images).mean()


def _invert(task: _Task, run: RunFolder) -> None:
    """Both stages, then pictures and files."""
    options, config = task.options, task.options.config
    write_image(run.media_path / "target.png", task.target[0].cpu())
    found = _load_pivot(run)
    if found is None:
        found = _search(task, run)
    else:
        console.print(f"search: found in {run.latest_checkpoint()}")
    found = Inversion(
        found.ws.to(task.label.device),
        found.label.to(task.label.device),
        {name: each.to(task.label.device) for name, each in found.noise.items()},
    )
    np.savez(run.path / "projected_w.npz", w=found.ws.cpu().numpy())
    tuned, states = tune_generator(
        task.saved.generator,
        found,
        task.target,
        config,
        task.distance,
        mask=task.mask,
        seed=options.seed,
    )
    with run.stage("tuning"):
        frames = _watch(task, run, states, config.tuning_steps, "tuning", config.steps)
        if config.tuning_steps:
            write_video(run.media_path / "tuning.mp4", frames, options.fps)
    origin = {**task.saved.origin, "photo": str(options.photo), "run": str(run.path.resolve())}
    result = SavedGenerator(tuned, task.saved.rig, origin)
    save_generator(run.path / "generator.safetensors", result)
    _show(task, run, found, result)


def _search(task: _Task, run: RunFolder) -> Inversion:
    """The first stage, which ends with a checkpoint."""
    options, config, generator = task.options, task.options.config, task.saved.generator
    frontal = task.saved.rig.label().to(task.label.device)
    with run.stage("search"):
        statistics = style_statistics(generator, frontal, config.mean_samples)
        states = find_pivot(
            generator,
            task.target,
            task.label,
            statistics,
            config,
            task.distance,
            mask=task.mask,
            seed=options.seed,
        )
        kept: list[InversionState] = []
        frames = _watch(task, run, states, config.steps, "search", 0, kept)
        write_video(run.media_path / "search.mp4", frames, options.fps)
    found = kept[-1].found
    noise = {f"noise.{name}": each.cpu() for name, each in found.noise.items()}
    weights = {"ws": found.ws.cpu(), "label": found.label.cpu()} | noise
    run.save_checkpoint(Checkpoint(config.steps, weights, {}, {}))
    return found


def _load_pivot(run: RunFolder) -> Inversion | None:
    """What an earlier call has found."""
    if run.latest_checkpoint() is None:
        return None
    checkpoint = run.load_checkpoint()
    run.rewind_metrics(checkpoint.step)
    weights = checkpoint.weights
    prefix = "noise."
    noise = {n.removeprefix(prefix): t for n, t in weights.items() if n.startswith(prefix)}
    return Inversion(weights["ws"], weights["label"], noise)


def _watch(
    task: _Task,
    run: RunFolder,
    states: Iterator[InversionState],
    total: int,
    name: str,
    first: int,
    last: list[InversionState] | None = None,
) -> Iterator[Float[Tensor, "3 h w"]]:
    """Log the steps of a stage and yield its frames: the photo beside the head."""
    target = task.target[0].cpu()
    with Progress(name, total, "steps") as progress:
        for state in states:
            value = sum(state.losses.values())
            progress.advance(note=f"loss {value:.4f}")
            is_last = state.step == total
            if is_last or state.step % _LOG_EVERY == 0:
                run.log_metrics(first + state.step, {**state.losses, "total": value})
            if last is not None and is_last:
                last.append(state)
            if is_last or state.step % task.options.film_every == 0 or state.step == 1:
                image = state.image[0].clamp(0.0, 1.0).cpu()
                yield torch.cat([target, image], dim=2)


def _show(task: _Task, run: RunFolder, found: Inversion, result: SavedGenerator) -> None:
    """Images, films around the head, and how close both stages came."""
    figures: dict[str, dict[str, float]] = {}
    pivot = with_noise(task.saved.generator, found)
    for name, generator in (("pivot", pivot), ("tuned", result.generator)):
        sampler = HeadSampler(generator, task.saved.rig, SamplingSettings(truncation=1.0))
        person = People(found.ws, found.ws.new_zeros(1, 3), (task.options.seed,))
        head = sampler.head(person)
        image = _in_range(sampler.view(head, found.label).image)
        write_image(run.media_path / f"{name}.png", image[0].cpu())
        figures[name] = _figures(task, image)
        if task.options.frames:
            labels = motion_labels(task.saved.rig, "orbit", task.options.frames)
            film = (_in_range(sampler.view(head, row).image)[0].cpu() for row in labels.split(1))
            out = run.media_path / ("before.mp4" if name == "pivot" else "after.mp4")
            write_video(out, film, task.options.fps)
    write_json(run.path / "results.json", figures)
    run.update_card(results=figures)
    for name, values in figures.items():
        line = ", ".join(f"{key} {value:.4g}" for key, value in values.items())
        console.print(f"{name}: {line}")
    console.print(f"written to {run.path}")


def _in_range(image: Tensor) -> Tensor:
    return (0.5 * image + 0.5).clamp(0.0, 1.0)


def _figures(task: _Task, image: Tensor) -> dict[str, float]:
    """Differences to the photo, within the mask."""
    mask = torch.ones_like(image[:, :1]) if task.mask is None else task.mask
    squared = ((image - task.target) * mask).square().sum() / (3.0 * mask.sum()).clamp(min=1.0)
    distance = task.distance(image * mask, task.target * mask)
    return {
        "psnr": float(-10.0 * squared.clamp(min=1e-10).log10()),
        "distance": float(distance),
    }
