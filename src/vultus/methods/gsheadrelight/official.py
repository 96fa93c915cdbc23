"""Published names and shapes of weights (spec section 8), and ours.

Three things differ beside names: the release keeps a head for every attribute of a point where we
have one for all; its layers on edges are convolutions of 1 x 1, ours products; and it holds
constants as buffers.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch
from torch import Tensor

from vultus.methods.gsheadrelight.config import GeneratorConfig
from vultus.methods.gsheadrelight.point_generator import FIRST_OPACITY, HEAD_SIZES
from vultus.methods.gsheadrelight.scenery import SCENERY_LOG_SCALE
from vultus.nets.stylegan2.official_filters import FILTER_NAME, binomial_filter, without_filters

__all__ = [
    "from_official_discriminator",
    "from_official_generator",
    "official_name",
    "to_official_discriminator",
    "to_official_generator",
]

_PREFIXES = {
    "head.start": "_xyz",
    "head.waves.frequencies": "point_gen.conv_in.learnable_pe.ffm.linear.weight",
    "head.waves.phases": "point_gen.conv_in.learnable_pe.ffm.linear.bias",
    "head.tables.tables": "point_gen.conv_in.const_pe.const_pe",
    "unused.encoder": "point_gen.encoder_camera_cond",
    "unused.affine": "point_gen.camera_dep_affine",
    "background.start": "_xyz_bg",
    "background.waves.frequencies": "point_gen_bg.conv_in.ffm.linear.weight",
    "background.waves.phases": "point_gen_bg.conv_in.ffm.linear.bias",
    "background.levels.0.layers": "point_gen_bg.network.block_0",
    "background.levels.1.own": "point_gen_bg.network.block_1.0.subpixel",
    "background.levels.1.layers.0": "point_gen_bg.network.block_1.1",
    "background.levels.1.layers.1": "point_gen_bg.network.block_1.2",
    "mapping.mean_w": "mapping_network.w_avg",
    "mapping": "mapping_network",
    "camera_block": "b8_pose",
    "light_block": "b8_light",
    "judgement": "b4",
    "camera_features": "aux_branch_feat",
    "camera_embedding": "aux_branch_camera",
    "light_features": "aux_branch_feat_lit",
    "light_embedding": "aux_branch_lit",
}
"""Start of our name -> published one; the first that fits."""
_ATTENTION = {"norm": "ln_1", "branch.qkv": "attn.c_qkv", "branch.out": "attn.c_proj"}
_PERCEPTRON = {"branch.widen": "mlp.c_fc", "branch.narrow": "mlp.c_proj"}
_EDGES = {
    "branch.layers.message_in": "conv_x.0",
    "branch.layers.message_out": "conv_x.1",
    "branch.layers.weight_in": "conv_w.0",
    "branch.layers.weight_out": "conv_w.1",
}
_LEVEL_PARTS = {
    **{f"edge.{ours}": f"0.{theirs}" for ours, theirs in _EDGES.items()},
    "edge.norm": "0.norm",
    "edge.scale": "0.ls",
    "refinement.own": "1.subpixel",
    "refinement.skip": "1.res_fc",
    **{f"mlp.{ours}": f"2.{theirs}" for ours, theirs in _PERCEPTRON.items()},
    "mlp.norm": "2.norm",
    "mlp.scale": "2.ls",
}
_ATTRIBUTES = ("xyz", "scale", "rotation", "opacity", "albedo", "dc_rt")
"""Published names of what heads say, in our order."""
_BACKGROUND_ATTRIBUTES = {"move": "xyz", "size": "scale"}

_RESIDUAL = re.compile(r"head\.levels\.0\.residuals\.(\d+)\.(.*)")
_LEVEL = re.compile(r"head\.levels\.(\d+)\.(.*)")
_HEADS = re.compile(r"head\.heads\.(\d+)\.(weight|bias)")
_BACKGROUND_HEAD = re.compile(r"background\.levels\.(\d)\.heads\.(\w+)\.(.*)")
_MAPPING_LAYER = re.compile(r"mapping\.layers\.(\d+)\.(.*)")
_BLOCK = re.compile(r"blocks\.(\d+)\.(.*)")
_CONVOLUTION = re.compile(r"(.*\.(?:conv\w*|skip|fromrgb)(?:\.\d)?)\.weight")
_FIRST_BLOCK = 4
_SAME = 1e-5


def official_name(name: str) -> str:
    """Translate the name of a parameter or buffer, but for those of fused heads."""
    if match := _RESIDUAL.fullmatch(name):
        block, is_mlp = divmod(int(match[1]), 2)
        parts = _PERCEPTRON | {"norm": "ln_2"} if is_mlp else _ATTENTION
        parts = parts | {"scale": "ls_2" if is_mlp else "ls_1"}
        return f"point_gen.blocks.block_4.0.resblocks.{block}.{_renamed(match[2], parts)}"
    if match := _LEVEL.fullmatch(name):
        return f"point_gen.blocks.{_block(match[1])}.{_renamed(match[2], _LEVEL_PARTS)}"
    if match := _BACKGROUND_HEAD.fullmatch(name):
        attribute = _BACKGROUND_ATTRIBUTES.get(match[2], match[2])
        return f"point_gen_bg.out_layers.block_{match[1]}.{attribute}.out_block.{match[3]}"
    if match := _MAPPING_LAYER.fullmatch(name):
        return f"mapping_network.fc{match[1]}.{match[2]}"
    if match := _BLOCK.fullmatch(name):
        return f"b{match[1]}.{match[2]}".replace("from_rgb", "fromrgb")
    return _renamed(name, _PREFIXES).replace("layer_scale", "layerscale")


def to_official_generator(
    weights: Mapping[str, Tensor], config: GeneratorConfig
) -> dict[str, Tensor]:
    """Give a generator's weights their published names and shapes, constants included."""
    official = {}
    for name, tensor in weights.items():
        if match := _HEADS.fullmatch(name):
            official |= _split_heads(match, tensor)
        else:
            official[official_name(name)] = tensor
    official = {name: _published_shape(name, tensor) for name, tensor in official.items()}
    edges = [n for n in official if _CONVOLUTION.fullmatch(n) and official[n].ndim == 4]
    filters = {n.removesuffix("weight") + FILTER_NAME: binomial_filter() for n in edges}
    return official | filters | _constants(config)


def from_official_generator(
    weights: Mapping[str, Tensor], template: Mapping[str, Tensor], config: GeneratorConfig
) -> dict[str, Tensor]:
    """Undo ``to_official_generator``; weights become float32.

    Args:
        weights: Published ones.
        template: Weights of a generator of the configuration, for names and shapes.
        config: What the constants must agree with.

    Raises:
        ValueError: If a name is missing, unknown, or of another shape; or a constant differs.
    """
    _check_shapes(weights, to_official_generator(template, config))
    for name, value in _constants(config).items():
        if not torch.allclose(weights[name].cpu().float(), value.float(), atol=_SAME):
            found = weights[name].flatten().tolist()
            raise ValueError(f"{name} must be {value.flatten().tolist()}, got {found}")
    learned = without_filters(weights)
    ours = {}
    for name, like in template.items():
        match = _HEADS.fullmatch(name)
        names = _split_heads(match, like) if match else [official_name(name)]
        ours[name] = torch.cat([learned[part] for part in names]).reshape(like.shape).float()
    return ours


def to_official_discriminator(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Give a discriminator's weights their published names, filters included."""
    official = {official_name(name): tensor for name, tensor in weights.items()}
    layers = [match[1] for match in map(_CONVOLUTION.fullmatch, official) if match]
    blocks = [name.rpartition(".")[0] for name in layers if name.endswith(".skip")]
    filters = {f"{owner}.{FILTER_NAME}": binomial_filter() for owner in (*layers, *blocks)}
    return official | filters


def from_official_discriminator(
    weights: Mapping[str, Tensor], template: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """Undo ``to_official_discriminator``; see ``from_official_generator``.

    Raises:
        ValueError: If a name is missing, unknown, or of another shape.
    """
    _check_shapes(weights, to_official_discriminator(template))
    learned = without_filters(weights)
    return {name: learned[official_name(name)].float() for name in template}


def _renamed(name: str, parts: Mapping[str, str]) -> str:
    """Replace the longest known start of a name."""
    for old in sorted(parts, key=len, reverse=True):
        if name == old or name.startswith(f"{old}."):
            return parts[old] + name.removeprefix(old)
    return name


def _block(level: str) -> str:
    return f"block_{_FIRST_BLOCK << int(level)}"


def _split_heads(match: re.Match[str], tensor: Tensor) -> dict[str, Tensor]:
    """Published heads of a level, in the order of our rows."""
    sizes = list(HEAD_SIZES.values())
    sizes.append(len(tensor) // 2 - sum(sizes))
    block, kind = _block(match[1]), match[2]
    names = [
        f"point_gen.out_layers.{attribute}.{block}.{use}.{kind}"
        for use in (0, 1)
        for attribute in _ATTRIBUTES
    ]
    return dict(zip(names, tensor.split(2 * sizes), strict=True))


def _published_shape(name: str, tensor: Tensor) -> Tensor:
    if _CONVOLUTION.fullmatch(name):
        return tensor[..., None, None]
    if name.endswith("const_pe"):
        return tensor[:, :, None]
    return tensor[None, None] if name.endswith("layerscale") else tensor


def _constants(config: GeneratorConfig) -> dict[str, Tensor]:
    """Starting values that the release keeps among its weights."""
    rotation = torch.tensor([1, 0, 0, 0])
    opacity = torch.tensor([FIRST_OPACITY]).logit()
    scale = torch.full((3,), config.coarsest_log_scale)
    head = {
        "scale_init": scale,
        "scale_threshold": scale,
        "rotation_init": rotation,
        "albedo_init": torch.zeros(3),
        "opacity_init": opacity,
        "dc_rt_init": torch.zeros(config.transfer_dim),
    }
    found = {f"point_gen.{name}": value for name, value in head.items()}
    if not config.background_points:
        return found
    scale = torch.full((1, 3), SCENERY_LOG_SCALE)
    scenery = {
        "scale_init": scale,
        "scale_threshold": scale,
        "rotation_init": rotation[None],
        "color_init": torch.zeros(1, 3),
        "opacity_init": opacity[None],
    }
    return found | {f"point_gen_bg.{name}": value for name, value in scenery.items()}


def _check_shapes(weights: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> None:
    """Raise on the first published weight that is missing, unknown or of another shape."""
    shapes = [{n: tuple(t.shape) for n, t in group.items()} for group in (wanted, weights)]
    for name in {**shapes[0], **shapes[1]}:
        expected, found = (group.get(name) for group in shapes)
        if expected != found:
            raise ValueError(f"{name} must have the shape {expected}, got {found}")
