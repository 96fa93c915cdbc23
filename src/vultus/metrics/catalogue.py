"""Every metric of an image by name: what it means and how it is computed from a sample.

A metric whose inputs are missing raises ``UnavailableError``; it is never computed from others.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from vultus.metrics import image, maps
from vultus.nets.perceptual import LpipsNetwork, LpipsVariant

__all__ = ["METRICS", "Metric", "Sample", "UnavailableError"]

_MILLIMETRES = 1000.0
_OPAQUE = 0.5


class UnavailableError(ValueError):
    """A metric lacks weights or ground truth; the message is the reason that reports print."""


@dataclass(frozen=True)
class Sample:
    """One rendered image with what it is compared with. Tensors have a batch of one.

    ``None`` means not known; metrics that need the field are unavailable.
    """

    rgb: Float[Tensor, "1 3 h w"]
    """Rendered, in [0, 1]."""
    target_rgb: Float[Tensor, "1 3 h w"]
    foreground: Bool[Tensor, "1 1 h w"] | None = None
    """True mask."""
    evaluated: Bool[Tensor, "1 1 h w"] | None = None
    """What masked metrics look at: the face where it is known, else the foreground."""
    alpha: Float[Tensor, "1 1 h w"] | None = None
    """Rendered."""
    normals: Float[Tensor, "1 3 h w"] | None = None
    """Rendered, world axes, any length."""
    target_normals: Float[Tensor, "1 3 h w"] | None = None
    """World axes, zero where unknown."""
    depth: Float[Tensor, "1 1 h w"] | None = None
    """Rendered camera z in metres, zero where nothing is."""
    target_depth: Float[Tensor, "1 1 h w"] | None = None
    """Camera z in metres, zero where unknown."""
    networks: Mapping[LpipsVariant, LpipsNetwork] = field(default_factory=dict)
    """LPIPS networks that are imported."""

    def within(self, pixels: Bool[Tensor, "1 1 h w"]) -> Bool[Tensor, "1 1 h w"]:
        """Some pixels, without those outside the mask if there is one."""
        return pixels if self.foreground is None else pixels & self.foreground


@dataclass(frozen=True)
class Metric:
    """How a metric is computed and shown."""

    label: str
    unit: str
    better: Literal["higher", "lower"]
    function: Callable[[Sample], Tensor]
    decimals: int = 3

    def measure(self, sample: Sample) -> float:
        """Compute the value of one sample.

        Raises:
            UnavailableError: If something that it needs is missing; the message says what.
        """
        value = float(self.function(sample))
        if math.isnan(value):
            raise UnavailableError("no pixel to measure")
        return value


def _known(value: Tensor | None, what: str) -> Tensor:
    if value is None:
        raise UnavailableError(f"no {what}")
    return value


def _foreground(sample: Sample) -> Tensor:
    return _known(sample.foreground, "mask of the frame")


def _masked(function: Callable[[Tensor, Tensor], Tensor]) -> Callable[[Sample], Tensor]:
    """Blacken both images outside the evaluated pixels; all pixels still count."""

    def measure(sample: Sample) -> Tensor:
        evaluated = _known(sample.evaluated, "mask of the frame")
        return function(sample.rgb * evaluated, sample.target_rgb * evaluated).mean()

    return measure


def _whole(function: Callable[[Tensor, Tensor], Tensor]) -> Callable[[Sample], Tensor]:
    return lambda sample: function(sample.rgb, sample.target_rgb).mean()


def _lpips(variant: LpipsVariant, *, is_masked: bool = False) -> Callable[[Sample], Tensor]:
    def measure(sample: Sample) -> Tensor:
        network = sample.networks.get(variant)
        if network is None:
            raise UnavailableError(f"weights of LPIPS ({variant}) are not imported")
        return (_masked if is_masked else _whole)(network)(sample)

    return measure


def _psnr_foreground(sample: Sample) -> Tensor:
    return image.psnr_foreground(sample.rgb, sample.target_rgb, _foreground(sample))


def _mask_iou(sample: Sample) -> Tensor:
    return maps.mask_iou(_known(sample.alpha, "rendered alpha") > _OPAQUE, _foreground(sample))


def _on_normals(function: Callable[[Tensor, Tensor, Tensor], Tensor]) -> Callable[[Sample], Tensor]:
    def measure(sample: Sample) -> Tensor:
        target = _known(sample.target_normals, "true normals")
        pixels = sample.within((target != 0).any(dim=1, keepdim=True))
        return function(_known(sample.normals, "rendered normals"), target, pixels)

    return measure


def _normal_degrees(normals: Tensor, target: Tensor, pixels: Tensor) -> Tensor:
    return torch.rad2deg(maps.normal_angle(normals, target, pixels))


def _depth_millimetres(sample: Sample) -> Tensor:
    target = _known(sample.target_depth, "true depth")
    depth = _known(sample.depth, "rendered depth")
    pixels = sample.within((target > 0) & (depth > 0))
    return _MILLIMETRES * maps.depth_error(depth, target, pixels)


METRICS: Mapping[str, Metric] = {
    "psnr": Metric("PSNR", "dB", "higher", _whole(image.psnr), 2),
    "psnr_per_channel": Metric(
        "PSNR, mean of channels", "dB", "higher", _whole(image.psnr_per_channel), 2
    ),
    "psnr_foreground": Metric("PSNR, foreground pixels", "dB", "higher", _psnr_foreground, 2),
    "psnr_masked": Metric("PSNR, masked images", "dB", "higher", _masked(image.psnr), 2),
    "psnr_per_channel_masked": Metric(
        "PSNR, masked images, mean of channels",
        "dB",
        "higher",
        _masked(image.psnr_per_channel),
        2,
    ),
    "ssim": Metric("SSIM", "", "higher", _whole(image.ssim), 4),
    "ssim_masked": Metric("SSIM, masked images", "", "higher", _masked(image.ssim), 4),
    "l1": Metric("L1", "", "lower", _whole(image.mean_absolute_error), 4),
    "l1_masked": Metric("L1, masked images", "", "lower", _masked(image.mean_absolute_error), 4),
    "lpips_alex": Metric("LPIPS (alex)", "", "lower", _lpips("alex"), 4),
    "lpips_vgg": Metric("LPIPS (vgg)", "", "lower", _lpips("vgg"), 4),
    "lpips_alex_masked": Metric(
        "LPIPS (alex), masked images", "", "lower", _lpips("alex", is_masked=True), 4
    ),
    "mask_iou": Metric("Mask IoU", "", "higher", _mask_iou, 4),
    "normal_cosine": Metric(
        "Normal cosine similarity", "", "higher", _on_normals(maps.normal_cosine), 4
    ),
    "normal_angle_deg": Metric("Normal error", "deg", "lower", _on_normals(_normal_degrees), 2),
    "depth_error_mm": Metric("Depth error", "mm", "lower", _depth_millimetres, 2),
}
"""``masked``: both images are black outside the face mask (or the foreground mask, where there is
none), and all pixels count. ``foreground``: only pixels of the foreground mask count."""
