"""Published checkpoints of GSHeadRelight as networks of ours, read without running them."""

from __future__ import annotations

import math
import re
from dataclasses import replace
from pathlib import Path

from vultus.methods.gsheadrelight.config import (
    LIGHT_TERMS,
    DiscriminatorConfig,
    GeneratorConfig,
)
from vultus.methods.gsheadrelight.discriminator import Discriminator
from vultus.methods.gsheadrelight.generator import Generator
from vultus.methods.gsheadrelight.generator_file import OFFICIAL_RIG, SavedGenerator
from vultus.methods.gsheadrelight.official import (
    from_official_discriminator,
    from_official_generator,
)
from vultus.methods.official_cameras import official_rig
from vultus.nets.stylegan2.official_pickle import OfficialNetwork, read_official_pickle

__all__ = [
    "discriminator_config",
    "discriminator_from_official",
    "generator_config",
    "generator_from_official",
    "read_official_generator",
]

_HEAD = re.compile(r"point_gen\.out_layers\.xyz\.block_(\d+)\.1\.weight")
_TRANSFORMER_LAYER = re.compile(r"point_gen\.blocks\.block_4\.0\.resblocks\.\d+\.ls_1\.bias")
_MAPPING_LAYER = re.compile(r"mapping_network\.fc\d+\.weight")
_DISCRIMINATOR_BLOCK = re.compile(r"b(\d+)\.conv0\.weight")
_LIGHT_LAYER = "aux_branch_lit.0.weight"
_TRANSFER = "point_gen.dc_rt_init"
_PORT_PREFIX = re.compile(r"jt(?=_xyz(_bg)?$)")
"""Of the starting points, in files of the port to Jittor."""


def read_official_generator(path: Path) -> SavedGenerator:
    """Read the averaged generator of a published checkpoint, or of the port to Jittor.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is damaged, asks for code to be run, or holds no generator of this kind;
            names the file.
    """
    networks = read_official_pickle(path)
    network = networks.get("G_ema", networks.get("G"))
    if network is None:
        raise ValueError(f"{path}: must hold one of G_ema, G, got {', '.join(networks)}")
    weights = {_PORT_PREFIX.sub("", name): each for name, each in network.weights.items()}
    network = replace(network, weights=weights)
    try:
        generator = generator_from_official(network)
        rig = official_rig(network, OFFICIAL_RIG)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    return SavedGenerator(generator.requires_grad_(False), rig, {"pickle": path.name})


def generator_config(network: OfficialNetwork) -> GeneratorConfig:
    """Settings of a published generator, from its weights and attributes; parity is official.

    Raises:
        ValueError: If the weights are those of another kind of generator.
    """
    shapes = {name: tuple(tensor.shape) for name, tensor in network.weights.items()}
    if _TRANSFER not in shapes or "_xyz" not in shapes:
        raise ValueError(
            f"{network.class_name} is no generator of heads that can be lit: it has no {_TRANSFER}"
        )
    rendering = network.rendering
    options = rendering.get("custom_options", {})
    levels = {int(m[1]): shapes[m[0]][1] for m in map(_HEAD.fullmatch, shapes) if m}
    width = 2 * shapes["point_gen.conv_in.learnable_pe.ffm.linear.bias"][0]
    w_dim, label_dim = shapes["mapping_network.embed.weight"]
    image_size = network.arguments.get("img_resolution", rendering.get("image_resolution", 512))
    finest = options.get("scale_end", -math.log(image_size))
    return GeneratorConfig(
        z_dim=shapes["mapping_network.fc0.weight"][1] - w_dim,
        label_dim=label_dim,
        w_dim=w_dim,
        mapping_layers=sum(bool(_MAPPING_LAYER.fullmatch(name)) for name in shapes),
        num_points=shapes["_xyz"][0],
        channels=(width, *(levels[block] for block in sorted(levels))),
        transformer_layers=sum(bool(_TRANSFORMER_LAYER.fullmatch(name)) for name in shapes),
        table_size=shapes["point_gen.conv_in.const_pe.const_pe"][3],
        light_channels=3 if shapes[_TRANSFER][0] == 3 * LIGHT_TERMS else 1,
        background_points=shapes.get("_xyz_bg", (0,))[0],
        background_channels=shapes.get("point_gen_bg.conv_in.ffm.linear.bias", (128,))[0],
        image_size=image_size,
        detail=round(math.exp(-finest)),
        label_scale=rendering.get("c_scale", 1.0),
        is_conditioned=not rendering.get("c_gen_conditioning_zero", False),
        parity="official",
    )


def generator_from_official(network: OfficialNetwork) -> Generator:
    """Build a published generator.

    Raises:
        ValueError: If weights are missing, too many or of other shapes than their names say.
    """
    config = generator_config(network)
    generator = Generator(config)
    generator.load_state_dict(
        from_official_generator(network.weights, generator.state_dict(), config)
    )
    return generator.eval()


def discriminator_config(network: OfficialNetwork) -> DiscriminatorConfig:
    """Settings of a published discriminator, from its weights and arguments.

    Raises:
        ValueError: If the weights are those of another kind of discriminator.
    """
    shapes = {name: tuple(tensor.shape) for name, tensor in network.weights.items()}
    if _LIGHT_LAYER not in shapes:
        raise ValueError(
            f"{network.class_name} is no discriminator that sees light: it has no {_LIGHT_LAYER}"
        )
    blocks = {int(m[1]): shapes[m[0]][0] for m in map(_DISCRIMINATOR_BLOCK.fullmatch, shapes) if m}
    largest = max(blocks)
    epilogue = network.arguments.get("epilogue_kwargs", {})
    return DiscriminatorConfig(
        image_size=largest,
        label_dim=shapes["aux_branch_camera.0.weight"][1],
        light_dim=shapes[_LIGHT_LAYER][1],
        channel_base=network.arguments.get("channel_base", largest * blocks[largest]),
        channel_max=shapes["b4.fc.weight"][0],
        clamp=network.arguments.get("conv_clamp", 256.0),
        group_size=epilogue.get("mbstd_group_size", 4),
        compared_features=shapes["aux_branch_lit.1.weight"][0],
    )


def discriminator_from_official(network: OfficialNetwork) -> Discriminator:
    """Build a published discriminator, to go on with its training.

    Raises:
        ValueError: If weights are missing, too many or of other shapes than their names say.
    """
    discriminator = Discriminator(discriminator_config(network))
    template = discriminator.state_dict()
    discriminator.load_state_dict(from_official_discriminator(network.weights, template))
    return discriminator
