"""Small generators of heads that can be lit."""

from __future__ import annotations

import math
from pathlib import Path

import torch

from vultus.geometry.spherical_harmonics import COSINE_LOBE, light_sh_basis
from vultus.methods.gsheadrelight.config import GeneratorConfig
from vultus.methods.gsheadrelight.gaussians import HeadGaussians
from vultus.methods.gsheadrelight.generator import Generator
from vultus.methods.gsheadrelight.generator_file import (
    OFFICIAL_RIG,
    SavedGenerator,
    save_generator,
)
from vultus.methods.gsheadrelight.point_generator import PointHeads
from vultus.methods.gsheadrelight.rendering import SH_C0

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


def matte_ball(count: int = 20_000, radius: float = 0.25) -> HeadGaussians:
    """A white matte ball around the origin: transfers are those of its normals."""
    index = torch.arange(count) + 0.5
    up = 1.0 - 2.0 * index / count
    turn = index * math.pi * (3.0 - math.sqrt(5.0))
    ring = (1.0 - up * up).sqrt()
    normals = torch.stack([ring * turn.cos(), up, ring * turn.sin()], dim=1)
    # Right, into the scene and up of a frontal picture are +x, -z and +y of the world.
    basis = light_sh_basis(torch.stack([normals[:, 0], -normals[:, 2], normals[:, 1]], dim=1), 2)
    transfer = basis * torch.tensor(COSINE_LOBE) / SH_C0
    spread = math.log(2.0 * radius * math.sqrt(math.pi / count))
    return HeadGaussians(
        means=radius * normals[None],
        log_scales=torch.full((1, count, 3), spread),
        quats=torch.tensor([1.0, 0.0, 0.0, 0.0]).expand(1, count, 4),
        opacity_logits=torch.full((1, count, 1), 6.0),
        albedo_dc=torch.full((1, count, 3), 0.5 / SH_C0),
        transfer=transfer[None],
    )
