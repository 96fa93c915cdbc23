"""The network in whose features FID, KID and the inception score are measured.

Inception v3 as TensorFlow's model of 2015-12-05 has it; its weights are not ours to ship: users
import them, converted to PyTorch, as the asset ``inception``.

Reference: Szegedy et al., Rethinking the Inception Architecture for Computer Vision, 2016; Heusel
et al., GANs Trained by a Two Time-Scale Update Rule, 2017, for its use. Modules have the names of
the published weights.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool2d, avg_pool2d, interpolate, max_pool2d, relu

from vultus.core.asset_registry import find_asset
from vultus.core.torch_pickle import load_state_dict_file
from vultus.nets.weights import load_published_weights

__all__ = ["Inception", "InceptionOutput", "imported_inception", "inception_from_published"]

_ASSET = "inception"
_SIZE = 299
_BATCH_NORM_EPSILON = 1e-3
_NUM_FEATURES, _NUM_CLASSES = 2048, 1008

Pool = Literal["average", "max"]


class InceptionOutput(NamedTuple):
    """What the network says of images."""

    features: Float[Tensor, "b 2048"]
    """Of the last pooling."""
    probabilities: Float[Tensor, "b 1008"]
    """Of the classes, without the last layer's bias, as the inception score is measured."""


class _Conv(nn.Module):
    """Convolution without bias, batch normalisation, ReLU."""

    def __init__(
        self,
        before: int,
        after: int,
        kernel: int | tuple[int, int],
        stride: int = 1,
        pad: bool = True,
    ) -> None:
        super().__init__()
        sides = (kernel, kernel) if isinstance(kernel, int) else kernel
        padding = (sides[0] // 2, sides[1] // 2) if pad else (0, 0)
        self.conv = nn.Conv2d(before, after, sides, stride, padding, bias=False)
        self.bn = nn.BatchNorm2d(after, eps=_BATCH_NORM_EPSILON)

    def forward(self, x: Tensor) -> Tensor:
        return relu(self.bn(self.conv(x)))


def _pooled(x: Tensor, pool: Pool) -> Tensor:
    """Average of the neighbours inside of the image, or their maximum."""
    if pool == "max":
        return max_pool2d(x, 3, stride=1, padding=1)
    return avg_pool2d(x, 3, stride=1, padding=1, count_include_pad=False)


class _BlockA(nn.Module):
    """At 35 x 35: 1 x 1, 5 x 5, twice 3 x 3, pooling."""

    def __init__(self, before: int, pooled: int) -> None:
        super().__init__()
        self.branch1x1 = _Conv(before, 64, 1)
        self.branch5x5_1, self.branch5x5_2 = _Conv(before, 48, 1), _Conv(48, 64, 5)
        self.branch3x3dbl_1 = _Conv(before, 64, 1)
        self.branch3x3dbl_2, self.branch3x3dbl_3 = _Conv(64, 96, 3), _Conv(96, 96, 3)
        self.branch_pool = _Conv(before, pooled, 1)

    def forward(self, x: Tensor) -> Tensor:
        double = self.branch3x3dbl_3(self.branch3x3dbl_2(self.branch3x3dbl_1(x)))
        branches = [self.branch1x1(x), self.branch5x5_2(self.branch5x5_1(x)), double]
        return torch.cat([*branches, self.branch_pool(_pooled(x, "average"))], dim=1)


class _BlockB(nn.Module):
    """From 35 x 35 to 17 x 17."""

    def __init__(self, before: int) -> None:
        super().__init__()
        self.branch3x3 = _Conv(before, 384, 3, stride=2, pad=False)
        self.branch3x3dbl_1, self.branch3x3dbl_2 = _Conv(before, 64, 1), _Conv(64, 96, 3)
        self.branch3x3dbl_3 = _Conv(96, 96, 3, stride=2, pad=False)

    def forward(self, x: Tensor) -> Tensor:
        double = self.branch3x3dbl_3(self.branch3x3dbl_2(self.branch3x3dbl_1(x)))
        return torch.cat([self.branch3x3(x), double, max_pool2d(x, 3, stride=2)], dim=1)


class _BlockC(nn.Module):
    """At 17 x 17: 1 x 1, once and twice 7 x 7 in two steps, pooling."""

    def __init__(self, before: int, between: int) -> None:
        super().__init__()
        self.branch1x1 = _Conv(before, 192, 1)
        self.branch7x7_1 = _Conv(before, between, 1)
        self.branch7x7_2, self.branch7x7_3 = (
            _Conv(between, between, (1, 7)),
            _Conv(between, 192, (7, 1)),
        )
        self.branch7x7dbl_1 = _Conv(before, between, 1)
        self.branch7x7dbl_2 = _Conv(between, between, (7, 1))
        self.branch7x7dbl_3 = _Conv(between, between, (1, 7))
        self.branch7x7dbl_4 = _Conv(between, between, (7, 1))
        self.branch7x7dbl_5 = _Conv(between, 192, (1, 7))
        self.branch_pool = _Conv(before, 192, 1)

    def forward(self, x: Tensor) -> Tensor:
        single = self.branch7x7_3(self.branch7x7_2(self.branch7x7_1(x)))
        double = self.branch7x7dbl_3(self.branch7x7dbl_2(self.branch7x7dbl_1(x)))
        double = self.branch7x7dbl_5(self.branch7x7dbl_4(double))
        branches = [self.branch1x1(x), single, double, self.branch_pool(_pooled(x, "average"))]
        return torch.cat(branches, dim=1)


class _BlockD(nn.Module):
    """From 17 x 17 to 8 x 8."""

    def __init__(self, before: int) -> None:
        super().__init__()
        self.branch3x3_1 = _Conv(before, 192, 1)
        self.branch3x3_2 = _Conv(192, 320, 3, stride=2, pad=False)
        self.branch7x7x3_1 = _Conv(before, 192, 1)
        self.branch7x7x3_2, self.branch7x7x3_3 = _Conv(192, 192, (1, 7)), _Conv(192, 192, (7, 1))
        self.branch7x7x3_4 = _Conv(192, 192, 3, stride=2, pad=False)

    def forward(self, x: Tensor) -> Tensor:
        large = self.branch7x7x3_3(self.branch7x7x3_2(self.branch7x7x3_1(x)))
        branches = [self.branch3x3_2(self.branch3x3_1(x)), self.branch7x7x3_4(large)]
        return torch.cat([*branches, max_pool2d(x, 3, stride=2)], dim=1)


class _BlockE(nn.Module):
    """At 8 x 8; the last one pools by the maximum, a slip of the model that is kept."""

    def __init__(self, before: int, pool: Pool) -> None:
        super().__init__()
        self._pool: Pool = pool
        self.branch1x1 = _Conv(before, 320, 1)
        self.branch3x3_1 = _Conv(before, 384, 1)
        self.branch3x3_2a, self.branch3x3_2b = _Conv(384, 384, (1, 3)), _Conv(384, 384, (3, 1))
        self.branch3x3dbl_1, self.branch3x3dbl_2 = _Conv(before, 448, 1), _Conv(448, 384, 3)
        self.branch3x3dbl_3a = _Conv(384, 384, (1, 3))
        self.branch3x3dbl_3b = _Conv(384, 384, (3, 1))
        self.branch_pool = _Conv(before, 192, 1)

    def forward(self, x: Tensor) -> Tensor:
        single = self.branch3x3_1(x)
        double = self.branch3x3dbl_2(self.branch3x3dbl_1(x))
        branches = [
            self.branch1x1(x),
            self.branch3x3_2a(single),
            self.branch3x3_2b(single),
            self.branch3x3dbl_3a(double),
            self.branch3x3dbl_3b(double),
            self.branch_pool(_pooled(x, self._pool)),
        ]
        return torch.cat(branches, dim=1)


class Inception(nn.Module):
    """Inception v3 with frozen weights, which mean nothing before a state dict is loaded."""

    def __init__(self) -> None:
        """Build the layers."""
        super().__init__()
        self.Conv2d_1a_3x3 = _Conv(3, 32, 3, stride=2, pad=False)
        self.Conv2d_2a_3x3 = _Conv(32, 32, 3, pad=False)
        self.Conv2d_2b_3x3 = _Conv(32, 64, 3)
        self.Conv2d_3b_1x1 = _Conv(64, 80, 1)
        self.Conv2d_4a_3x3 = _Conv(80, 192, 3, pad=False)
        self.Mixed_5b, self.Mixed_5c, self.Mixed_5d = (
            _BlockA(192, 32),
            _BlockA(256, 64),
            _BlockA(288, 64),
        )
        self.Mixed_6a = _BlockB(288)
        self.Mixed_6b, self.Mixed_6c = _BlockC(768, 128), _BlockC(768, 160)
        self.Mixed_6d, self.Mixed_6e = _BlockC(768, 160), _BlockC(768, 192)
        self.Mixed_7a = _BlockD(768)
        self.Mixed_7b, self.Mixed_7c = _BlockE(1280, "average"), _BlockE(_NUM_FEATURES, "max")
        self.fc = nn.Linear(_NUM_FEATURES, _NUM_CLASSES)
        self.eval().requires_grad_(False)

    def train(self, mode: bool = True) -> Inception:
        """Batch statistics are never used."""
        del mode
        return super().train(False)

    def forward(self, images: Float[Tensor, "b 3 _h _w"]) -> InceptionOutput:
        """Describe images in [0, 1] of any size; they are resized to 299 x 299."""
        x = interpolate(images, (_SIZE, _SIZE), mode="bilinear", align_corners=False)
        x = self.Conv2d_2b_3x3(self.Conv2d_2a_3x3(self.Conv2d_1a_3x3(2.0 * x - 1.0)))
        x = self.Conv2d_4a_3x3(self.Conv2d_3b_1x1(max_pool2d(x, 3, stride=2)))
        x = self.Mixed_5d(self.Mixed_5c(self.Mixed_5b(max_pool2d(x, 3, stride=2))))
        x = self.Mixed_6e(self.Mixed_6d(self.Mixed_6c(self.Mixed_6b(self.Mixed_6a(x)))))
        x = self.Mixed_7c(self.Mixed_7b(self.Mixed_7a(x)))
        features = adaptive_avg_pool2d(x, 1).flatten(1)
        return InceptionOutput(features, (features @ self.fc.weight.T).softmax(dim=1))


def imported_inception() -> Inception:
    """Build the network from the imported asset.

    Raises:
        FileNotFoundError: If it is not imported; says how to import it.
        ValueError: If the file lacks a tensor.
    """
    return inception_from_published(load_state_dict_file(find_asset(_ASSET)))


def inception_from_published(weights: Mapping[str, Tensor]) -> Inception:
    """Build the network from the published state dict.

    Raises:
        ValueError: If a tensor is missing or has another shape.
    """
    network = Inception()
    load_published_weights(network, weights, "Inception's weights")
    return network
