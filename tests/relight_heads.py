"""Small generators of heads that can be lit."""

from __future__ import annotations

import torch

from vultus.methods.gsheadrelight.config import GeneratorConfig
from vultus.methods.gsheadrelight.generator import Generator

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
