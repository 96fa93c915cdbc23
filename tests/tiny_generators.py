"""A generator of a few channels that makes images of 64 pixels, with random weights."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch

from tiny_image_sets import labels_at
from vultus.cli.train_generator import ImageOptions, generator_run_config
from vultus.core.run_folder import RunFolder
from vultus.data.image_feed import Conditions
from vultus.engine.adversarial_checkpoint import take_training_checkpoint
from vultus.kernels.triplane_volume import VolumeSettings
from vultus.methods.adversarial import AdversarialSettings
from vultus.methods.head_views import ViewRig
from vultus.methods.spherehead.config import (
    DiscriminatorConfig,
    GeneratorConfig,
    ObjectiveConfig,
    SphereHeadConfig,
)
from vultus.methods.spherehead.generator import Generator
from vultus.methods.spherehead.generator_file import SavedGenerator, save_generator
from vultus.methods.spherehead.model import SphereHead

TINY = GeneratorConfig(
    z_dim=8,
    w_dim=8,
    channel_base=128,
    channel_max=8,
    plane_size=16,
    plane_channels=6,
    sphere_channels=(8, 6),
    decoder_width=8,
    volume=VolumeSettings(coarse_samples=8, fine_samples=4),
    neural_size=16,
    super_resolution="2x_64",
    super_resolution_clamp=None,
    camera_offset_scale=0.02,
)


def tiny_generator(config: GeneratorConfig = TINY, seed: int = 0) -> Generator:
    """Solid in some places and empty in others; its mean style is not zero."""
    random = torch.Generator().manual_seed(seed)
    generator = Generator(config, random)
    generator.decoder.out.weight.data[0] *= 40.0
    generator.decoder.out.bias.data[0] -= 40.0
    z = torch.randn(64, config.z_dim, generator=random)
    generator.backbone.mapping.mean_w += (
        generator.backbone.mapping(z, torch.zeros(64, config.label_dim)).mean(dim=0).detach()
    )
    return generator.eval().requires_grad_(False)


def write_tiny_generator(path: Path, config: GeneratorConfig = TINY) -> Path:
    """Write it as ``convert-checkpoint`` would."""
    save_generator(path, SavedGenerator(tiny_generator(config), ViewRig(), {}))
    return path


def write_tiny_run(path: Path) -> Path:
    """Write a run folder with the checkpoints of steps 2 and 4, in which nothing was learned.

    The side of feature images falls from 16 to 12 in the course of it.
    """
    config = SphereHeadConfig(
        generator=replace(TINY, has_camera_offset=False),
        discriminator=DiscriminatorConfig(image_size=64, channel_base=64, channel_max=8),
        objective=ObjectiveConfig(neural_size_final=12, neural_size_fade=16),
        training=AdversarialSettings(images=16, batch=4, pass_size=4),
    )
    settings = generator_run_config("spherehead")(
        method="spherehead", seed=0, images=ImageOptions(path), start=None, config=config
    )
    run = RunFolder.create(path, settings, seed=0)
    for step in (2, 4):
        learner = SphereHead(config, Conditions(labels_at([0.0])), step, torch.device("cpu"))
        run.save_checkpoint(take_training_checkpoint(learner, {}, step))
    return path
