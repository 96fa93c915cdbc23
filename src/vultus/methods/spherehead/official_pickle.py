"""Published checkpoints of SphereHead, PanoHead and EG3D as generators of ours."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vultus.kernels.triplane_volume import VolumeSettings
from vultus.methods.head_views import ViewRig
from vultus.methods.official_cameras import official_rig
from vultus.methods.spherehead.config import (
    SUPER_RESOLUTION,
    GeneratorConfig,
    SuperResolutionKind,
)
from vultus.methods.spherehead.generator import Generator
from vultus.methods.spherehead.generator_file import SavedGenerator
from vultus.methods.spherehead.official import from_official_weights
from vultus.nets.stylegan2.official_pickle import OfficialNetwork, read_official_pickle

__all__ = [
    "generator_config",
    "generator_from_official",
    "read_official_generator",
    "view_rig",
]

_CONDITIONED_BLOCK = re.compile(r"backbone\.synthesis\.b(\d+)\.torgb\.weight")
_MAPPING_LAYER = re.compile(r"backbone\.mapping\.fc\d+\.weight")
_HALF_PRECISION_CLAMP = 256.0
_LABEL_STATISTICS = "label_std"


def read_official_generator(path: Path) -> SavedGenerator:
    """Read the averaged generator of a published checkpoint.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: As ``read_official_pickle``, or if the weights are those of no generator that we
            know; names the file.
    """
    networks = read_official_pickle(path)
    network = networks.get("G_ema", networks.get("G"))
    if network is None:
        raise ValueError(f"{path}: must hold one of G_ema, G, got {', '.join(networks)}")
    try:
        generator, rig = generator_from_official(network), view_rig(network)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    return SavedGenerator(generator.requires_grad_(False), rig, {"pickle": path.name})


def view_rig(network: OfficialNetwork) -> ViewRig:
    """Where cameras stood in the training.

    The published films of EG3D look at the pivot of its training, those of its successors at the
    origin.
    """
    has_pivot = "t_mapping.fc0.weight" not in network.weights
    return official_rig(network, ViewRig(), has_pivot=has_pivot)


def generator_config(network: OfficialNetwork) -> GeneratorConfig:
    """Settings of a published generator, from its weights and attributes; parity is official.

    EG3D's rays are not cropped.

    Raises:
        ValueError: If the weights are those of no generator that we know.
    """
    weights, rendering = network.weights, network.rendering
    shapes = {name: tuple(tensor.shape) for name, tensor in weights.items()}
    sizes = [int(match[1]) for match in map(_CONDITIONED_BLOCK.fullmatch, shapes) if match]
    if not sizes or "decoder.net.0.weight" not in shapes:
        raise ValueError(f"{network.class_name} is no generator of heads: it has no planes")
    w_dim, label_dim = shapes["backbone.mapping.embed.weight"]
    width, channels = shapes["decoder.net.0.weight"]
    uses_half = network.arguments.get("sr_num_fp16_res", 0) > 0
    return GeneratorConfig(
        z_dim=shapes["backbone.mapping.fc0.weight"][1] - w_dim,
        label_dim=label_dim,
        w_dim=w_dim,
        mapping_layers=sum(bool(_MAPPING_LAYER.fullmatch(name)) for name in shapes),
        channel_base=network.arguments.get("channel_base", 32768),
        channel_max=network.arguments.get("channel_max", 512),
        clamp=network.arguments.get("conv_clamp"),
        plane_size=max(sizes),
        plane_channels=channels,
        decoder_width=width,
        decoder_activation=rendering.get("decoder_activation", "sigmoid"),
        decoder_lr_multiplier=rendering.get("decoder_lr_mul", 1.0),
        volume=_volume(shapes, channels, rendering),
        neural_size=network.attributes.get("neural_rendering_resolution", 64),
        has_to_rgb="torgb.weight" in shapes,
        has_background="bcg_synthesis.b4.const" in shapes,
        has_camera_offset="t_mapping.fc0.weight" in shapes,
        parsing_classes=shapes.get("toparsing.bias", (0,))[0],
        super_resolution=_super_resolution(shapes),
        super_resolution_clamp=_HALF_PRECISION_CLAMP if uses_half else None,
        super_resolution_noise=rendering.get("superresolution_noise_mode", "none"),
        label_scale=rendering.get("c_scale", 0.0),
        is_conditioned=not rendering.get("c_gen_conditioning_zero", False),
        parity="official",
    )


def generator_from_official(network: OfficialNetwork) -> Generator:
    """Build a published generator; the statistics of its training labels are left out.

    Raises:
        ValueError: If weights are missing, too many or of other shapes than their names say.
    """
    weights = from_official_weights(network.weights)
    weights.pop(_LABEL_STATISTICS, None)
    generator = Generator(generator_config(network))
    try:
        generator.load_state_dict(weights)
    except RuntimeError as error:
        reason = " ".join(str(error).split())
        raise ValueError(f"weights of {network.class_name} do not fit: {reason}") from error
    return generator.eval()


def _volume(
    shapes: Mapping[str, tuple[int, ...]], channels: int, rendering: Mapping[str, Any]
) -> VolumeSettings:
    backbone_channels = shapes["backbone.synthesis.b4.torgb.bias"][0]
    is_sphere = "ConvA.0.weight" in shapes
    is_panohead = not is_sphere and "t_mapping.fc0.weight" in shapes
    limits = rendering.get("ray_start", 2.25), rendering.get("ray_end", 3.3)
    return VolumeSettings(
        representation="dual_sphere" if is_sphere else "tri_grid" if is_panohead else "tri_plane",
        grid_depth=backbone_channels // (3 * channels) if is_panohead else 1,
        box_size=float(rendering.get("box_warp", 1.0)),
        limits="box" if "auto" in limits else limits,
        is_in_disparity=rendering.get("disparity_space_sampling", False),
        coarse_samples=rendering.get("depth_resolution", 48),
        fine_samples=rendering.get("depth_resolution_importance", 48),
        density_noise=rendering.get("density_noise", 0.0),
        crop_margin=0.1 if is_sphere or is_panohead else None,
        is_white_behind=rendering.get("white_back", False),
        parity="official",
    )


def _super_resolution(shapes: Mapping[str, tuple[int, ...]]) -> SuperResolutionKind:
    """Find the variant by the channels and the size of its blocks."""
    found = [shapes.get(f"superresolution.block{n}.conv1.weight", (0,))[0] for n in (0, 1)]
    size = shapes.get("superresolution.block1.conv1.noise_const", (0,))[0]
    for kind, plan in SUPER_RESOLUTION.items():
        if plan.channels == tuple(found) and plan.output_size == size:
            return kind
    raise ValueError(f"super-resolution of {found} channels to {size} pixels is unknown")
