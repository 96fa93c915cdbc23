"""Distance of images in the features of VGG16, as a training loss.

The weights are not ours to ship: users import torchvision's classifier as the asset ``vgg16``.

Reference: Johnson et al., Perceptual Losses for Real-Time Style Transfer, 2016; the four blocks and
the resizing are those of the published GaussianHead.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import interpolate, max_pool2d

from vultus.core.asset_registry import find_asset, has_asset, import_command
from vultus.core.torch_pickle import load_state_dict_file

__all__ = ["VggDistance", "imported_vgg_distance", "vgg_distance_from_published"]

_LOG = logging.getLogger(__name__)
_ASSET = "vgg16"
_MEAN = (0.485, 0.456, 0.406)
_STD = (0.229, 0.224, 0.225)
_SIZE = 224
# (place in torchvision's ``features``, inputs, outputs) of the convolutions of every block.
_BLOCKS = (
    ((0, 3, 64), (2, 64, 64)),
    ((5, 64, 128), (7, 128, 128)),
    ((10, 128, 256), (12, 256, 256), (14, 256, 256)),
    ((17, 256, 512), (19, 512, 512), (21, 512, 512)),
)


class VggDistance(nn.Module):
    """Sum over four blocks of the mean absolute difference, with frozen weights."""

    mean: Tensor
    std: Tensor

    def __init__(self) -> None:
        """Build the layers; their weights mean nothing before a state dict is loaded."""
        super().__init__()
        self.blocks = nn.ModuleList(
            nn.ModuleList(nn.Conv2d(inputs, outputs, 3, padding=1) for _, inputs, outputs in block)
            for block in _BLOCKS
        )
        self.register_buffer("mean", torch.tensor(_MEAN).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(_STD).view(3, 1, 1), persistent=False)
        self.requires_grad_(False)

    def forward(
        self, rgb: Float[Tensor, "b 3 h w"], target: Float[Tensor, "b 3 h w"]
    ) -> Float[Tensor, ""]:
        """Compare images in [0, 1], both resized to 224 x 224."""
        a, b = self._prepared(rgb), self._prepared(target)
        distances = []
        for number, block in enumerate(self.blocks):
            if number > 0:
                a, b = max_pool2d(a, 2), max_pool2d(b, 2)
            assert isinstance(block, nn.ModuleList)
            for conv in block:
                a, b = conv(a).relu(), conv(b).relu()
            distances.append((a - b).abs().mean())
        return torch.stack(distances).sum()

    def _prepared(self, rgb: Tensor) -> Tensor:
        scaled = (rgb - self.mean) / self.std
        return interpolate(scaled, (_SIZE, _SIZE), mode="bilinear", align_corners=False)


def imported_vgg_distance() -> VggDistance | None:
    """Build the loss from the imported asset; without it there is none, and the log says so.

    Raises:
        ValueError: If the file lacks a tensor.
    """
    if not has_asset(_ASSET):
        _LOG.warning(
            "training goes without the VGG loss: its weights are not imported (%s)",
            import_command(_ASSET),
        )
        return None
    return vgg_distance_from_published(load_state_dict_file(find_asset(_ASSET)))


def vgg_distance_from_published(weights: Mapping[str, Tensor]) -> VggDistance:
    """Build the loss from the state dict of torchvision's ``vgg16``.

    Raises:
        ValueError: If a tensor is missing or has another shape.
    """
    network = VggDistance()
    expected, converted = network.state_dict(), {}
    for number, block in enumerate(_BLOCKS):
        for place, (index, _, _) in enumerate(block):
            for part in ("weight", "bias"):
                ours, theirs = f"blocks.{number}.{place}.{part}", f"features.{index}.{part}"
                if theirs not in weights or weights[theirs].shape != expected[ours].shape:
                    raise ValueError(
                        f"VGG16's weights must have {theirs!r} of shape "
                        f"{tuple(expected[ours].shape)}"
                    )
                converted[ours] = weights[theirs].detach().float()
    network.load_state_dict(converted)
    return network
