"""``vultus train`` for generative methods: learn people from a set of images."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass, make_dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import torch
import tyro

from vultus.cli.avatar_run import check_out_is_not, check_run_folder, open_or_create_run
from vultus.cli.console import console
from vultus.core.config import config_to_data
from vultus.core.devices import find_device
from vultus.core.run_folder import RunFolder
from vultus.core.seeding import exact_on_cpu, make_deterministic, seed_everything
from vultus.data.image_choice import Entries, choose_entries
from vultus.data.image_facts import image_set_facts
from vultus.data.image_feed import Conditions, ImageFeed, StorageChoice
from vultus.data.image_set import ImageSet, open_image_set
from vultus.data.light_labels import read_head_lights
from vultus.engine.adversarial import train_adversarial, write_real_pictures
from vultus.engine.adversarial_checkpoint import start_from
from vultus.engine.generator_metrics import RANDOM_FEATURE_PROTOCOL, random_feature_distances
from vultus.engine.world import World, join_world
from vultus.methods.adversarial import AdversarialConfig, AdversarialSettings
from vultus.methods.head_views import mean_rig
from vultus.methods.registry import build_generator, method_presets, scale_schedule

__all__ = ["GeneratorTrainOptions", "ImageOptions", "generator_run_config", "train_generator"]


@dataclass(frozen=True)
class ImageOptions:
    """Where the images are."""

    data: Path
    """Folder or zip archive of square images with dataset.json, or a folder that holds images as
    img, masks as seg and, for discriminators that judge them, semantic maps as parts (folders or
    archives)."""
    masks: Path | None = None
    """Folder or zip archive of the masks, under the names of the images."""

    def located(self) -> ImageOptions:
        """The same with absolute paths."""
        masks = None if self.masks is None else self.masks.resolve()
        return replace(self, data=self.data.resolve(), masks=masks)


@dataclass(frozen=True)
class GeneratorTrainOptions:
    """Options of every generator's training."""

    images: Annotated[ImageOptions, tyro.conf.arg(name="")]
    out: Path
    """Run folder; made if missing, continued if it holds a run of the same settings."""
    seed: int = 0
    """Seed of everything random; the same seed gives the same generator."""
    resume: bool = True
    """Continue a run that was stopped. With --no-resume an existing run is an error."""
    device: str = "cpu"
    """What trains: cpu, cuda, cuda:N, or auto, which takes a GPU if there is one. Several GPUs, on
    one machine or more: torchrun --nproc-per-node GPUS -m vultus train ... --device cuda."""
    storage: StorageChoice = "auto"
    """resident decodes all images at the start and keeps them on the device; streamed decodes each
    shortly before it is used. By default sets below 4 GiB are resident."""
    start: Path | None = None
    """Run folder whose networks this training begins with, for a second stage with other settings,
    such as larger pictures. Fades begin anew: set them to 0 where they are over. Default: random
    weights."""
    minutes: float | None = None
    """Stop after that time with a checkpoint; the same command continues. Default: no limit."""
    deterministic: bool = False
    """On a GPU, the same bits in every run, or an error where PyTorch has no such way; slower. A
    CPU gives the same bits with as many threads."""
    graph: bool = True
    """On a GPU, replay passes as CUDA graphs. Launching op by op is slower, gives the same numbers
    and shows in a debugger where an error comes from."""
    schedule: float = 1.0
    """Multiply the number of images and the lengths of all fades in the settings below: 0.1 takes
    the same course in a tenth of the time."""
    dry_run: bool = False
    """Check everything, write nothing."""


def generator_run_config(method: str) -> type[Any]:
    """The dataclass that ``config.json`` of a generator's run holds."""
    config_class = type(next(iter(method_presets(method).values())))
    fields = [
        ("method", str),
        ("seed", int),
        ("images", ImageOptions),
        ("start", Path | None),
        ("config", config_class),
    ]
    return make_dataclass("GeneratorRunConfig", fields, frozen=True)


@dataclass(frozen=True)
class _Plan:
    """What is checked and ready to be trained."""

    method: str
    config: AdversarialConfig
    options: GeneratorTrainOptions
    images: ImageSet
    entries: Entries
    facts: dict[str, Any]
    """Of the images, for the run's card."""
    settings: Any
    """What the run folder keeps."""


def train_generator(method: str, config: Any, options: GeneratorTrainOptions) -> None:
    """Train, and leave pictures, a log and checkpoints in the run folder."""
    plan = _plan(method, scale_schedule(method, config, options.schedule), options)
    with join_world(find_device(options.device)) as (world, device):
        world.shares(plan.config.training.num_passes)
        if not options.dry_run:
            _train(plan, world, device)
        elif world.is_first:
            _describe(plan, world)


def _plan(method: str, config: AdversarialConfig, options: GeneratorTrainOptions) -> _Plan:
    """Check everything that can be checked before networks are built."""
    source = options.images
    images = open_image_set(
        source.data,
        source.masks,
        needs_masks=config.needs_masks,
        alpha=config.alpha,
        needs_parts=config.needs_parts,
    )
    _check_size(images, config.image_size)
    lights = None
    if channels := config.light_channels:
        lights = read_head_lights(images, channels)
    entries = choose_entries(images.labels, config.choice, options.seed, lights)
    facts = image_set_facts(images)
    start = None if options.start is None else options.start.resolve()
    if start is not None and RunFolder(start).latest_checkpoint() is None:
        raise FileNotFoundError(f"--start: {start} holds no checkpoint")
    settings = generator_run_config(method)(method, options.seed, source.located(), start, config)
    check_out_is_not(options.out, source.data, "image set")
    for archive in filter(None, (images.images, images.masks, images.parts)):
        check_out_is_not(options.out, archive.path, "image set", is_walked=True)
    check_run_folder(options.out, settings, resume=options.resume)
    return _Plan(method, config, options, images, entries, facts, settings)


def _train(plan: _Plan, world: World, device: torch.device) -> None:
    options, training = plan.options, plan.config.training
    if options.deterministic:
        make_deterministic()
    seed_everything(options.seed)
    conditions = Conditions(plan.entries.labels, plan.entries.lights)
    learner = build_generator(plan.method, plan.config, conditions, options.seed, device)
    if plan.settings.start is not None:
        start_from(RunFolder(plan.settings.start), learner)
    feed = ImageFeed(
        plan.images, plan.entries, options.seed, device=device, storage=options.storage
    )
    run, evaluate = RunFolder(options.out), None
    if world.is_first:
        open_or_create_run(options.out, plan.settings, resume=options.resume)
        run.update_card(
            data_id=plan.facts["id"],
            data=plan.facts,
            processes=world.size,
            protocol_ids=[RANDOM_FEATURE_PROTOCOL],
            rig=config_to_data(mean_rig(plan.entries.labels), "rig"),
        )
        write_real_pictures(run, learner, feed)
        if count := training.evaluate_images:
            evaluate = random_feature_distances(learner, feed, count, options.seed)
    world.wait()
    limit = None if options.minutes is None else 60.0 * options.minutes
    with run.stage("training") if world.is_first else nullcontext(), exact_on_cpu(device):
        result = train_adversarial(
            learner,
            feed,
            training,
            run,
            options.seed,
            world=world,
            evaluate=evaluate,
            seconds=limit,
            graph=options.graph,
        )
    if world.is_first:
        _report(run, result.last_step, training)


def _report(run: RunFolder, step: int, training: AdversarialSettings) -> None:
    is_finished = step == training.steps
    console.print(
        f"{'finished' if is_finished else 'stopped'} after {step} of {training.steps} steps "
        f"({step * training.batch} images); checkpoint: {run.checkpoint_path(step)}; "
        f"pictures: {run.media_path}"
    )
    if not is_finished:
        console.print("the same command continues")


def _check_size(images: ImageSet, made: int) -> None:
    if images.size != made:
        raise ValueError(
            f"{images.path}: images must have {made} pixels a side, as the settings make them, got "
            f"{images.size}; choose another --preset, or vultus data pack --size {made}"
        )


def _describe(plan: _Plan, world: World) -> None:
    training = plan.config.training
    console.print(
        f"would train {plan.method} for {training.steps} steps of {training.batch} on "
        f"{len(plan.images)} images of {plan.images.path} ({len(plan.entries.rows)} with "
        f"repetitions and mirrored ones) with {world.size} "
        f"{'process' if world.size == 1 else 'processes'} into {plan.options.out}"
    )
