"""LPIPS: perceptual distance of images on features of AlexNet or VGG16.

The network is written here; its weights are not ours to ship. Users import the classifier of
torchvision and the linear layers of the LPIPS authors as assets; ``load_lpips`` joins the two.

Reference: Zhang et al., The Unreasonable Effectiveness of Deep Features as a Perceptual Metric,
2018, eq. 1, version 0.1 of the authors' weights.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import normalize

from vultus.core.asset_registry import find_asset, has_asset
from vultus.core.torch_pickle import load_state_dict_file

__all__ = ["LpipsNetwork", "LpipsVariant", "imported_lpips", "load_lpips", "lpips_from_published"]

LpipsVariant = Literal["alex", "vgg"]

# ImageNet's statistics, for images in [-1, 1], as the LPIPS authors use them.
_MEAN = (-0.030, -0.088, -0.188)
_STD = (0.458, 0.448, 0.450)
_EPSILON = 1e-10


@dataclass(frozen=True)
class _Conv:
    """One convolution with ReLU."""

    index: int
    """Its place in torchvision's ``features``."""
    inputs: int
    outputs: int
    kernel: int = 3
    stride: int = 1
    padding: int = 1


@dataclass(frozen=True)
class _Backbone:
    """Stages of convolutions; features are taken at the end of each."""

    asset: str
    """Torchvision's weights."""
    stages: tuple[tuple[_Conv, ...], ...]
    pool: int
    """Window of the max pooling (stride 2) before a stage of ``pooled_stages``."""
    pooled_stages: tuple[int, ...]
    min_size: int
    """Smallest image side that reaches the last stage."""


_BACKBONES: dict[LpipsVariant, _Backbone] = {
    "alex": _Backbone(
        asset="alexnet",
        stages=(
            (_Conv(0, 3, 64, 11, 4, 2),),
            (_Conv(3, 64, 192, 5, 1, 2),),
            (_Conv(6, 192, 384),),
            (_Conv(8, 384, 256),),
            (_Conv(10, 256, 256),),
        ),
        pool=3,
        pooled_stages=(1, 2),
        min_size=31,
    ),
    "vgg": _Backbone(
        asset="vgg16",
        stages=(
            (_Conv(0, 3, 64), _Conv(2, 64, 64)),
            (_Conv(5, 64, 128), _Conv(7, 128, 128)),
            (_Conv(10, 128, 256), _Conv(12, 256, 256), _Conv(14, 256, 256)),
            (_Conv(17, 256, 512), _Conv(19, 512, 512), _Conv(21, 512, 512)),
            (_Conv(24, 512, 512), _Conv(26, 512, 512), _Conv(28, 512, 512)),
        ),
        pool=2,
        pooled_stages=(1, 2, 3, 4),
        min_size=16,
    ),
}


class LpipsNetwork(nn.Module):
    """Perceptual distance with frozen weights, which start at random: load a state dict."""

    mean: Tensor
    std: Tensor

    def __init__(self, variant: LpipsVariant) -> None:
        """Build the layers of a variant."""
        super().__init__()
        self._backbone = _BACKBONES[variant]
        self.stages = nn.ModuleList(_stage(convs) for convs in self._backbone.stages)
        widths = [convs[-1].outputs for convs in self._backbone.stages]
        self.weights = nn.ParameterList(nn.Parameter(torch.ones(width)) for width in widths)
        self.register_buffer("mean", torch.tensor(_MEAN).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(_STD).view(3, 1, 1), persistent=False)
        self.requires_grad_(False)

    def forward(
        self, rgb: Float[Tensor, "b 3 h w"], target: Float[Tensor, "b 3 h w"]
    ) -> Float[Tensor, " b"]:
        """Compare images in [0, 1]; 0 for equal ones.

        Raises:
            ValueError: If the images are too small for the network.
        """
        if min(rgb.shape[-2:]) < self._backbone.min_size:
            raise ValueError(
                f"LPIPS needs images of at least {self._backbone.min_size} pixels, got "
                f"{rgb.shape[-1]} x {rgb.shape[-2]}"
            )
        distances = [
            (weight[:, None, None] * (a - b).square()).sum(dim=1).mean(dim=(1, 2))
            for weight, a, b in zip(
                self.weights, self._features(rgb), self._features(target), strict=True
            )
        ]
        return torch.stack(distances).sum(dim=0)

    def _features(self, rgb: Tensor) -> list[Tensor]:
        """Unit feature vectors at the end of every stage."""
        x = (2.0 * rgb - 1.0 - self.mean) / self.std
        features = []
        for number, stage in enumerate(self.stages):
            if number in self._backbone.pooled_stages:
                x = nn.functional.max_pool2d(x, self._backbone.pool, stride=2)
            x = stage(x)
            features.append(normalize(x, dim=1, eps=_EPSILON))
        return features


def load_lpips(variant: LpipsVariant) -> LpipsNetwork:
    """Build the network from imported assets.

    Raises:
        FileNotFoundError: If an asset is not imported; says how to import it.
        ValueError: If a file lacks a tensor.
    """
    paths = [find_asset(name) for name in _assets(variant)]
    backbone, linear = (load_state_dict_file(path) for path in paths)
    return lpips_from_published(variant, backbone, linear)


def imported_lpips() -> dict[LpipsVariant, LpipsNetwork]:
    """Load the networks whose assets are all imported."""
    return {v: load_lpips(v) for v in _BACKBONES if all(has_asset(name) for name in _assets(v))}


def lpips_from_published(
    variant: LpipsVariant, backbone: Mapping[str, Tensor], linear: Mapping[str, Tensor]
) -> LpipsNetwork:
    """Build the network from published state dicts.

    Args:
        variant: Which classifier.
        backbone: State dict of torchvision's ``alexnet`` or ``vgg16``.
        linear: State dict of the linear layers, ``lin0.model.1.weight`` to ``lin4.model.1.weight``.

    Raises:
        ValueError: If a tensor is missing or has another shape.
    """
    network = LpipsNetwork(variant)
    converted: dict[str, Tensor] = {}
    expected = network.state_dict()
    for stage, convs in enumerate(_BACKBONES[variant].stages):
        for number, conv in enumerate(convs):
            for part in ("weight", "bias"):
                ours = f"stages.{stage}.{2 * number}.{part}"
                theirs = f"features.{conv.index}.{part}"
                converted[ours] = _taken(backbone, theirs, expected[ours])
        ours = f"weights.{stage}"
        converted[ours] = _taken(linear, f"lin{stage}.model.1.weight", expected[ours])
    network.load_state_dict(converted)
    return network


def _assets(variant: LpipsVariant) -> tuple[str, str]:
    return _BACKBONES[variant].asset, f"lpips_{variant}"


def _stage(convs: tuple[_Conv, ...]) -> nn.Sequential:
    layers: list[nn.Module] = []
    for conv in convs:
        size = (conv.kernel, conv.stride, conv.padding)
        layers += [nn.Conv2d(conv.inputs, conv.outputs, *size), nn.ReLU()]
    return nn.Sequential(*layers)


def _taken(tensors: Mapping[str, Tensor], name: str, like: Tensor) -> Tensor:
    if name not in tensors:
        raise ValueError(f"LPIPS weights lack {name!r}; the file has {len(tensors)} tensors")
    if tensors[name].numel() != like.numel():
        raise ValueError(
            f"LPIPS weight {name!r} must have shape {tuple(like.shape)}, got "
            f"{tuple(tensors[name].shape)}"
        )
    return tensors[name].detach().float().reshape(like.shape)
