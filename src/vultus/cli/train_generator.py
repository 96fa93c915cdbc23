"""``vultus train`` for generative methods: learn people from a set of images."""

from __future__ import annotations

from dataclasses import dataclass, make_dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import tyro

from vultus.cli.avatar_run import check_run_folder, open_or_create_run
from vultus.cli.console import console
from vultus.core.devices import find_device
from vultus.core.run_folder import RunFolder
from vultus.core.seeding import make_deterministic, seed_everything
from vultus.data.image_choice import Entries, choose_entries
from vultus.data.image_feed import ImageFeed, StorageChoice
from vultus.data.image_set import ImageSet, open_image_set
from vultus.engine.adversarial import train_adversarial, write_real_pictures
from vultus.engine.generator_metrics import RANDOM_FEATURE_PROTOCOL, random_feature_distances
from vultus.engine.world import World, join_world
from vultus.methods.registry import build_generator, method_presets, scale_schedule

__all__ = ["GeneratorTrainOptions", "ImageOptions", "generator_run_config", "train_generator"]


@dataclass(frozen=True)
class ImageOptions:
    """Where the images are."""

    data: Path
    """Folder or zip archive of square images with dataset.json, or a folder that holds images as
    img and masks as seg (folders or archives)."""
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
    """Of everything random; the same seed gives the same generator."""
    resume: bool = True
    """Continue a run that was stopped. With --no-resume an existing run is an error."""
    device: str = "cpu"
    """What trains: cpu, cuda, cuda:N, or auto, which takes a GPU if there is one. Several GPUs, on
    one machine or more: torchrun --nproc-per-node GPUS -m vultus train ... --device cuda."""
    storage: StorageChoice = "auto"
    """resident decodes all images at the start and keeps them on the device; streamed decodes each
    shortly before it is used. By default sets below 4 GiB are resident."""
    minutes: float | None = None
    """Stop after that time with a checkpoint; the same command continues. Default: no limit."""
    deterministic: bool = False
    """On a GPU, the same bits in every run, or an error where PyTorch has no such way; slower. The
    CPU always gives the same bits."""
    schedule: float = 1.0
    """Multiply the number of images and the lengths of all fades in the settings below: 0.1 takes
    the same course in a tenth of the time."""
    dry_run: bool = False
    """Check everything, write nothing."""


def generator_run_config(method: str) -> type[Any]:
    """The dataclass that ``config.json`` of a generator's run holds."""
    config_class = type(next(iter(method_presets(method).values())))
    fields = [("method", str), ("seed", int), ("images", ImageOptions), ("config", config_class)]
    return make_dataclass("GeneratorRunConfig", fields, frozen=True)


def train_generator(method: str, config: Any, options: GeneratorTrainOptions) -> None:
    """Train, and leave pictures, a log and checkpoints in the run folder."""
    config = scale_schedule(method, config, options.schedule)
    device = find_device(options.device)
    images = open_image_set(
        options.images.data, options.images.masks, needs_masks=config.discriminator.sees_masks
    )
    _check_size(images, config)
    entries = choose_entries(images.labels, config.choice, options.seed)
    settings = generator_run_config(method)(method, options.seed, options.images.located(), config)
    check_run_folder(options.out, settings, resume=options.resume)
    with join_world(device) as (world, own_device):
        world.shares(config.training.num_passes)
        if options.dry_run:
            if world.is_first:
                _describe(method, config, options, images, entries, world)
            return
        if world.is_first:
            run = open_or_create_run(options.out, settings, resume=options.resume)
            run.update_card(
                data_id=images.fingerprint(),
                processes=world.size,
                protocol_ids=[RANDOM_FEATURE_PROTOCOL],
            )
        world.wait()
        run = RunFolder(options.out)
        if options.deterministic:
            make_deterministic()
        seed_everything(options.seed)
        learner = build_generator(method, config, entries.labels, options.seed, own_device)
        feed = ImageFeed(images, entries, options.seed, device=own_device, storage=options.storage)
        if world.is_first:
            write_real_pictures(run, feed)
        limit = None if options.minutes is None else 60.0 * options.minutes
        evaluate = None
        if world.is_first and config.training.evaluate_images:
            count = config.training.evaluate_images
            evaluate = random_feature_distances(learner, feed, count, options.seed)
        result = train_adversarial(
            learner,
            feed,
            config.training,
            run,
            options.seed,
            world=world,
            evaluate=evaluate,
            seconds=limit,
        )
        if not world.is_first:
            return
        done, steps = result.last_step, config.training.steps
        console.print(
            f"{'finished' if done == steps else 'stopped'} after {done} of {steps} steps "
            f"({done * config.training.batch} images); checkpoint: {run.checkpoint_path(done)}; "
            f"pictures: {run.media_path}"
        )
        if done < steps:
            console.print("the same command continues")


def _check_size(images: ImageSet, config: Any) -> None:
    made = config.generator.image_size
    if images.size != made:
        raise ValueError(
            f"{images.path}: images must have {made} pixels a side, as the settings make them, got "
            f"{images.size}; choose another --preset or --generator.super-resolution"
        )


def _describe(
    method: str,
    config: Any,
    options: GeneratorTrainOptions,
    images: ImageSet,
    entries: Entries,
    world: World,
) -> None:
    training = config.training
    console.print(
        f"would train {method} for {training.steps} steps of {training.batch} on {len(images)} "
        f"images of {images.path} ({len(entries.rows)} with repetitions and mirrored ones) with "
        f"{world.size} {'process' if world.size == 1 else 'processes'} into {options.out}"
    )
