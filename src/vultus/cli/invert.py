"""``vultus invert``: find the generated head that looks like a photo."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, make_dataclass
from pathlib import Path
from typing import Annotated, Any, Generic, Literal, TypeVar

import numpy as np
import torch
import tyro
from jaxtyping import Float
from torch import Tensor

from vultus.cli.avatar_run import check_run_folder, open_or_create_run
from vultus.cli.built_in_generators import is_built_in
from vultus.cli.console import console
from vultus.cli.generator_options import method_help, split_method
from vultus.cli.invert_methods import (
    INVERSIONS,
    SEARCHES,
    InversionMethod,
    open_inversion,
)
from vultus.cli.option_parser import parse_arguments
from vultus.core.devices import find_device
from vultus.core.files import write_json
from vultus.core.image_io import write_image
from vultus.core.progress import Progress
from vultus.core.run_folder import Checkpoint, RunFolder
from vultus.core.seeding import seed_everything
from vultus.core.video_io import write_video
from vultus.data.photo import read_label, square_mask, square_photo
from vultus.losses.pyramid import pyramid_distance
from vultus.methods.generator_bundles import SavedGenerator
from vultus.methods.head_views import motion_labels
from vultus.methods.inversion import (
    Distance,
    Inversion,
    InversionConfig,
    InversionState,
    Invertible,
    find_pivot,
    style_statistics,
    tune_generator,
)
from vultus.metrics.image import psnr, psnr_foreground
from vultus.nets.perceptual import LpipsNetwork, imported_lpips, load_lpips

__all__ = ["InvertOptions", "main"]

DistanceName = Literal["auto", "lpips", "pyramid"]
SearchT = TypeVar("SearchT")
"""Options of one method."""
ConfigT = TypeVar("ConfigT", bound=InversionConfig)
"""Options of all methods, with the defaults of one."""
_LPIPS_SIZE = 256
_IN_MASK = 0.5
_DEFAULT_METHOD = "spherehead"
_LOG_EVERY = 10
_EXTRAS = "extras."
"""Prefix of names in checkpoints."""


@dataclass(frozen=True)
class InvertOptions(Generic[SearchT, ConfigT]):
    """Find styles that show a photo, tune the generator there, film the result.

    Writes a run folder: media/ with target, pivot and tuned images, films of both stages and around
    the head before and after the tuning; projected_w.npz with the styles (key w); and
    generator.safetensors, which other commands take with --weights. With GSHeadRelight also
    light.json, the light of the photo, and media/relit.png, the head in it and in others.
    """

    photo: Path
    """Image, aligned as the generator's training images; its middle square is used."""
    label: Path
    """Camera of the photo: dataset.json that lists it, or a JSON list of 25 numbers."""
    search: Annotated[SearchT, tyro.conf.arg(name="")]
    config: Annotated[ConfigT, tyro.conf.arg(name="")]
    out: Path
    """Folder; an inversion that was stopped there after its search goes on with the tuning."""
    mask: Path | None = None
    """Only what is white in this image must look like the photo; default: everything."""
    weights: Path | None = None
    """Run folder of train, or file of convert-checkpoint; default, or demo: the built-in
    generator."""
    distance: DistanceName = "auto"
    """Perceptual distance: lpips (VGG16 weights imported with vultus assets), pyramid (colours and
    edges at several sizes, no weights); auto takes lpips where it is imported. The run's card says
    which it was."""
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
class _Task:
    """A photo with everything that its inversion needs."""

    method: InversionMethod
    target: Float[Tensor, "1 3 s s"]
    label: Float[Tensor, "1 25"]
    mask: Float[Tensor, "1 1 s s"] | None
    distance: Distance
    options: InvertOptions[Any, Any]


def main(arguments: list[str]) -> None:
    """Check, invert, write."""
    if arguments and arguments[0].startswith("-"):
        arguments = [_DEFAULT_METHOD, *arguments]
    method, rest = split_method("invert", arguments, SEARCHES)
    chosen: Any = InvertOptions[SEARCHES[method], INVERSIONS[method]]
    prog, text = f"vultus invert {method}", method_help(__doc__, method, SEARCHES)
    options: InvertOptions[Any, Any] = parse_arguments(chosen, rest, prog=prog, description=text)
    _check(options)
    device = find_device(options.device)
    name, distance = _find_distance(options.distance, device)
    settings = _settings(options, method, name)
    check_run_folder(options.out, settings)
    opened = open_inversion(options.search, options.weights, device)
    size = opened.saved.generator.config.image_size
    task = _Task(
        opened,
        square_photo(options.photo, size).to(device),
        read_label(options.label, options.photo).to(device),
        _read_mask(options, size, device),
        distance,
        options,
    )
    if options.dry_run:
        steps = options.config.steps + options.config.tuning_steps
        console.print(f"would invert {options.photo} in {steps} steps with {name} to {options.out}")
        return
    run = open_or_create_run(options.out, settings)
    run.update_card(distance=name)
    seed_everything(options.seed)
    _invert(task, run)


def _read_mask(
    options: InvertOptions[Any, Any], size: int, device: torch.device
) -> Float[Tensor, "1 1 s s"] | None:
    if options.mask is None:
        return None
    mask = square_mask(options.mask, size, options.photo).to(device)
    if not bool((mask > _IN_MASK).any()):
        raise ValueError(f"--mask: {options.mask} must have white pixels in its middle square")
    return mask


def _check(options: InvertOptions[Any, Any]) -> None:
    if options.frames < 0 or options.film_every < 1 or not options.fps > 0:
        raise ValueError(
            "--frames must be at least 0, --film-every at least 1 and --fps positive, got "
            f"{options.frames}, {options.film_every} and {options.fps}"
        )


def _settings(options: InvertOptions[Any, Any], method: str, distance: str) -> Any:
    """What ``config.json`` of an inversion holds."""
    stored = {
        "method": (str, f"inversion of {method}"),
        "seed": (int, options.seed),
        "photo": (Path, options.photo.resolve()),
        "label": (Path, options.label.resolve()),
        "mask": (Path | None, None if options.mask is None else options.mask.resolve()),
        "weights": (Path | None, _located(options.weights)),
        "distance": (str, distance),
        "config": (INVERSIONS[method], options.config),
        "search": (SEARCHES[method], options.search),
    }
    fields = [(name, kind) for name, (kind, _) in stored.items()]
    values = {name: value for name, (_, value) in stored.items()}
    return make_dataclass("InversionRun", fields, frozen=True)(**values)


def _located(weights: Path | None) -> Path | None:
    """Absolute; None for the built-in generator, by whatever name."""
    return None if weights is None or is_built_in(weights) else weights.resolve()


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
    found = found.to(task.label.device)
    np.savez(run.path / "projected_w.npz", w=found.ws.cpu().numpy())
    tuned, states = tune_generator(
        task.method.invertible,
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
    saved = task.method.saved
    origin = {**saved.origin, "photo": str(options.photo), "run": str(run.path.resolve())}
    result = SavedGenerator(tuned.network, saved.rig, origin)
    task.method.file.save(run.path / "generator.safetensors", result)
    task.method.write_extras(run, tuned, found)
    _show(task, run, found, tuned)


def _search(task: _Task, run: RunFolder) -> Inversion:
    """The first stage, which ends with a checkpoint."""
    options, config, generator = task.options, task.options.config, task.method.invertible
    frontal = task.method.saved.rig.label().to(task.label.device)
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
    extras = {f"{_EXTRAS}{name}": each.cpu() for name, each in found.extras.items()}
    weights = {"ws": found.ws.cpu(), "label": found.label.cpu()} | extras
    run.save_checkpoint(Checkpoint(config.steps, weights, {}, {}))
    return found


def _load_pivot(run: RunFolder) -> Inversion | None:
    """What an earlier call has found."""
    if run.latest_checkpoint() is None:
        return None
    checkpoint = run.load_checkpoint()
    run.rewind_metrics(checkpoint.step)
    weights = checkpoint.weights
    extras = {n.removeprefix(_EXTRAS): t for n, t in weights.items() if n.startswith(_EXTRAS)}
    return Inversion(weights["ws"], weights["label"], extras)


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


def _show(task: _Task, run: RunFolder, found: Inversion, tuned: Invertible) -> None:
    """Images, films around the head, and how close both stages came."""
    figures: dict[str, dict[str, float]] = {}
    pivot = task.method.invertible.copy(found.extras)
    for name, generator in (("pivot", pivot), ("tuned", tuned)):
        sampler = task.method.sampler(generator, found)
        head = sampler.head(sampler.people_of_styles(found.ws))
        image = sampler.look(head, found.label).rgb
        write_image(run.media_path / f"{name}.png", image)
        figures[name] = _figures(task, image[None].to(task.target))
        if task.options.frames:
            rig, motion = task.method.saved.rig, task.method.motion
            labels = motion_labels(rig, motion, task.options.frames)
            film = (sampler.look(head, row).rgb for row in labels.split(1))
            out = run.media_path / ("before.mp4" if name == "pivot" else "after.mp4")
            write_video(out, film, task.options.fps)
    write_json(run.path / "results.json", figures)
    run.update_card(results=figures)
    for name, values in figures.items():
        line = ", ".join(f"{key} {value:.4g}" for key, value in values.items())
        console.print(f"{name}: {line}")
    console.print(f"written to {run.path}")


def _figures(task: _Task, image: Float[Tensor, "1 3 s s"]) -> dict[str, float]:
    """Differences to the photo, within the mask."""
    if task.mask is None:
        value = float(psnr(image, task.target))
        return {"psnr": value, "distance": float(task.distance(image, task.target))}
    foreground = psnr_foreground(image, task.target, task.mask > _IN_MASK)
    distance = task.distance(image * task.mask, task.target * task.mask)
    return {"psnr_foreground": float(foreground), "distance": float(distance)}
