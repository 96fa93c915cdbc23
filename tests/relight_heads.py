"""Small generators of heads that can be lit."""

from __future__ import annotations

from pathlib import Path

import torch

from vultus.methods.gsheadrelight.config import GeneratorConfig
from vultus.methods.gsheadrelight.generator import Generator
from vultus.methods.gsheadrelight.generator_file import (
    OFFICIAL_RIG,
    SavedGenerator,
    save_generator,
)
from vultus.methods.gsheadrelight.point_generator import PointHeads

TINY = GeneratorConfig(
    z_dim=8,
    w_dim=16,
    num_points=20,
    channels=(16, 16, 8, 8, 8),
    transformer_layers=1,
    attention_heads=2,
    table_size=8,
    background_points=6,
    background_channels=8,
    image_size=32,
)


def built(config: GeneratorConfig = TINY, seed: int = 0) -> Generator:
    """A generator whose branches all matter, unlike those of an untrained one."""
    random = torch.Generator().manual_seed(seed)
    generator = Generator(config, random)
    with torch.no_grad():
        for parameter in generator.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=random))
    return generator


def visible(config: GeneratorConfig = TINY, seed: int = 0) -> Generator:
    """A generator of heads that can be seen: opaque, and brightest in light from the front."""
    generator = built(config, seed)
    for heads in generator.modules():
        if isinstance(heads, PointHeads):
            # Of Gaussians, which are the second half: size 3 to 5, opacity 10, transfer 14 on.
            bias = heads.bias.data.view(2, -1)[1]
            bias[3:6] += 2.0
            bias[10] += 4.0
            bias[14:16] += torch.tensor([3.0, -2.0])
    return generator.eval().requires_grad_(False)


def write_relightable(path: Path, config: GeneratorConfig = TINY) -> Path:
    """Write a small generator as ``convert-checkpoint`` would."""
    save_generator(path, SavedGenerator(visible(config), OFFICIAL_RIG, {}))
    return path
