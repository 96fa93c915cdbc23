"""Features of VGG16's second hidden layer, in which precision and recall are measured.

The weights are not ours to ship: users import torchvision's classifier as the asset ``vgg16``.

Reference: Simonyan and Zisserman, Very Deep Convolutional Networks, 2015; Kynkäänniemi et al.,
Improved Precision and Recall Metric, 2019, for the layer.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import interpolate

from vultus.core.asset_registry import find_asset
from vultus.core.torch_pickle import load_state_dict_file
from vultus.nets.weights import load_published_weights

__all__ = ["VggFeatures", "imported_vgg_features", "vgg_features_from_published"]

_ASSET = "vgg16"
_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_SIZE = 224
_WIDTHS = (64, 64, 0, 128, 128, 0, 256, 256, 256, 0, 512, 512, 512, 0, 512, 512, 512, 0)
"""Channels of the convolutions; 0 is a max pooling."""
_HIDDEN = 4096


class VggFeatures(nn.Module):
    """VGG16 up to its second hidden layer, with frozen weights and torchvision's names."""

    mean: Tensor
    std: Tensor

    def __init__(self) -> None:
        """Build the layers; their weights mean nothing before a state dict is loaded."""
        super().__init__()
        layers: list[nn.Module] = []
        before = 3
        for width in _WIDTHS:
            if width == 0:
                layers.append(nn.MaxPool2d(2))
                continue
            layers += [nn.Conv2d(before, width, 3, padding=1), nn.ReLU()]
            before = width
        self.features = nn.Sequential(*layers)
        side = _SIZE // 2 ** _WIDTHS.count(0)
        # Torchvision's classifier has a dropout, which does nothing here, at index 2.
        self.classifier = nn.Sequential(
            nn.Linear(before * side * side, _HIDDEN),
            nn.ReLU(),
            nn.Identity(),
            nn.Linear(_HIDDEN, _HIDDEN),
            nn.ReLU(),
        )
        self.register_buffer("mean", torch.tensor(_MEAN).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(_STD).view(3, 1, 1), persistent=False)
        self.eval().requires_grad_(False)

    def forward(self, images: Float[Tensor, "b 3 _h _w"]) -> Float[Tensor, "b d"]:
        """Describe images in [0, 1] of any size; they are resized to 224 x 224."""
        resized = interpolate(images, (_SIZE, _SIZE), mode="bilinear", antialias=True)
        return self.classifier(self.features((resized - self.mean) / self.std).flatten(1))


def imported_vgg_features() -> VggFeatures:
    """Build the network from the imported asset.

    Raises:
        FileNotFoundError: If it is not imported; says how to import it.
        ValueError: If the file lacks a tensor.
    """
    return vgg_features_from_published(load_state_dict_file(find_asset(_ASSET)))


def vgg_features_from_published(weights: Mapping[str, Tensor]) -> VggFeatures:
    """Build the network from the state dict of torchvision's ``vgg16``.

    Raises:
        ValueError: If a tensor is missing or has another shape.
    """
    network = VggFeatures()
    load_published_weights(network, weights, "VGG16's weights")
    return network
