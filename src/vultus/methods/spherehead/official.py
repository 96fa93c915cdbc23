"""Names of the published checkpoints (spec section 8), and ours.

PanoHead, EG3D and StyleGAN2 itself use the same names. The resampling filters, which are constants,
exist only in published checkpoints.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from torch import Tensor

from vultus.nets.stylegan2.official_filters import FILTER_NAME, binomial_filter, without_filters

__all__ = [
    "PART_NAMES",
    "from_official_name",
    "from_official_weights",
    "to_official_name",
    "to_official_weights",
]

PART_NAMES: dict[str, str] = {
    "ConvA": "sphere_a",
    "ConvB": "sphere_b",
    "bcg_synthesis": "background",
    "t_mapping": "camera_offset",
    "superresolution": "super_resolution",
    "toparsing": "to_parsing",
    "torgb": "to_rgb",
    "fromrgb": "from_rgb",
    "decoder.net.0": "decoder.hidden",
    "decoder.net.2": "decoder.out",
    "b4.conv": "head.conv",
    "b4.fc": "head.fc",
    "b4.out": "head.out",
    "b{}": "blocks.{}",
    "sb{}": "mask_blocks.{}",
    "fc{}": "layers.{}",
    "w_avg": "mean_w",
    "noise_const": "noise",
    "dataset_label_std": "label_std",
}
"""Published part of a name -> ours; ``{}`` is a number. Earlier lines win, all others stay."""

_BLOCK = re.compile(r"(.*\b(?:s?b|block)\d+)\.conv1\.weight")
_IMAGE_LAYERS = ("torgb.weight", "toparsing.weight")


def _rules(pairs: Iterable[tuple[str, str]]) -> list[tuple[re.Pattern[str], str]]:
    rules = []
    for old, new in pairs:
        parts = re.escape(old).replace(r"\{\}", r"(\d+)")
        rules.append((re.compile(rf"(?<![^.]){parts}(?![^.])"), new.replace("{}", r"\1")))
    return rules


_TO_OURS = _rules(PART_NAMES.items())
_TO_OFFICIAL = _rules((ours, official) for official, ours in PART_NAMES.items())


def from_official_name(name: str) -> str:
    """Translate the name of a parameter or buffer."""
    return _translate(name, _TO_OURS)


def to_official_name(name: str) -> str:
    """Undo ``from_official_name``."""
    return _translate(name, _TO_OFFICIAL)


def from_official_weights(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename the weights of a published network, as float32, and leave the filters out.

    Raises:
        ValueError: If a filter is not the binomial one, which is the only one that we have.
    """
    kept = without_filters(weights)
    return {from_official_name(name): tensor.float() for name, tensor in kept.items()}


def to_official_weights(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Undo ``from_official_weights``, filters included."""
    renamed = {to_official_name(name): tensor for name, tensor in weights.items()}
    filters = [
        f"{name.removesuffix('weight')}{FILTER_NAME}"
        for name in renamed
        if _resamples(name, renamed)
    ]
    filters += [f"{block[1]}.{FILTER_NAME}" for block in map(_BLOCK.fullmatch, renamed) if block]
    if "b4.out.weight" in renamed:
        filters.append(FILTER_NAME)  # Discriminators keep one for the images that they resize.
    return renamed | {name: binomial_filter() for name in filters}


def _resamples(name: str, weights: Mapping[str, Tensor]) -> bool:
    """Whether a published layer of this weight holds a filter."""
    is_convolution = name.endswith(".weight") and weights[name].ndim == 4
    return is_convolution and not name.endswith(_IMAGE_LAYERS)


def _translate(name: str, rules: Iterable[tuple[re.Pattern[str], str]]) -> str:
    for pattern, replacement in rules:
        name = pattern.sub(replacement, name)
    return name
