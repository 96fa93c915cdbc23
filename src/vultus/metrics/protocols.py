"""Named, versioned evaluation protocols. Every number that is reported carries a protocol's id.

A change of a rule is a new version: results of one id can always be compared.
"""

from __future__ import annotations

import typing
from collections.abc import Mapping
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from vultus.metrics.catalogue import METRICS, Sample, UnavailableError
from vultus.nets.perceptual import LpipsNetwork, LpipsVariant

__all__ = ["PROTOCOLS", "MaskKind", "Measurement", "Protocol", "ReferenceMaps", "RenderedMaps"]

MaskKind = typing.Literal["face", "foreground", "none"]
"""Which mask masked metrics of an image have used. Numbers of different kinds do not compare."""

# Masks are anti-aliased; a pixel belongs to the head if at least half of it does.
_FOREGROUND = 0.5


@typing.runtime_checkable
class RenderedMaps(typing.Protocol):
    """What a protocol reads of a rendering; ``render.output.RenderOutput`` has it."""

    @property
    def image(self) -> Float[Tensor, "1 3 h w"]:
        """Composited over the protocol's background."""
        ...

    @property
    def alpha(self) -> Float[Tensor, "1 1 h w"]:
        """Coverage."""
        ...

    @property
    def normals(self) -> Float[Tensor, "1 3 h w"] | None:
        """World axes, any length."""
        ...

    @property
    def surface_depth(self) -> Float[Tensor, "1 1 h w"] | None:
        """Camera z of the surface in metres, zero where nothing is."""
        ...


@typing.runtime_checkable
class ReferenceMaps(typing.Protocol):
    """What a protocol reads of the truth; ``data.sequence.Frame`` has it."""

    @property
    def rgb(self) -> Float[Tensor, "1 3 h w"]:
        """Composited over the protocol's background."""
        ...

    @property
    def mask(self) -> Float[Tensor, "1 1 h w"] | None:
        """Coverage."""
        ...

    @property
    def face_mask(self) -> Float[Tensor, "1 1 h w"] | None:
        """Coverage of the face alone."""
        ...

    @property
    def normals(self) -> Float[Tensor, "1 3 h w"] | None:
        """World axes, zero where unknown."""
        ...

    @property
    def depth(self) -> Float[Tensor, "1 1 h w"] | None:
        """Camera z in metres, zero where unknown."""
        ...


@dataclass(frozen=True)
class Measurement:
    """The metrics of one image: each has either a value or a reason why not."""

    values: Mapping[str, float]
    unavailable: Mapping[str, str]
    mask: MaskKind = "none"
    """What masked metrics looked at."""


@dataclass(frozen=True)
class Protocol:
    """What is measured on which images, and how images are prepared."""

    id: str
    """Name and version."""
    split_rule: str
    """Which images are held out."""
    mask_policy: str
    """What happens outside the mask."""
    background: tuple[float, float, float]
    """Colour behind both images."""
    metrics: tuple[str, ...]
    """Keys of ``METRICS``, in the order of tables."""
    image_size: tuple[int, int] | None = None
    """Width and height that images must have; ``None``: any."""
    average: str = "mean over images of per-image values; mean over sequences of their means"
    """How one number is made of many."""

    def __post_init__(self) -> None:
        """Reject metrics that do not exist."""
        unknown = [name for name in self.metrics if name not in METRICS]
        if unknown:
            raise ValueError(
                f"protocol {self.id}: unknown metric {unknown[0]!r}; known: {', '.join(METRICS)}"
            )

    def measure(
        self,
        output: RenderedMaps,
        frame: ReferenceMaps,
        networks: Mapping[LpipsVariant, LpipsNetwork] | None = None,
    ) -> Measurement:
        """Compute every metric of one rendered image that can be computed.

        Rendered colours are clamped to [0, 1] first, as writing them to a file would.

        Args:
            output: Rendering of one frame.
            frame: Its image and what else is known.
            networks: Imported LPIPS networks; without one its metric is unavailable.

        Raises:
            ValueError: If image sizes differ from each other or from the protocol's.
        """
        self._check_size(output, frame)
        kind, mask = _evaluation_mask(frame)
        sample = Sample(
            rgb=output.image.clamp(0.0, 1.0),
            target_rgb=frame.rgb,
            foreground=_binary(frame.mask),
            evaluated=_binary(mask),
            alpha=output.alpha,
            normals=output.normals,
            target_normals=frame.normals,
            depth=output.surface_depth,
            target_depth=frame.depth,
            networks=networks or {},
        )
        values, unavailable = {}, {}
        for name in self.metrics:
            try:
                values[name] = METRICS[name].measure(sample)
            except UnavailableError as error:
                unavailable[name] = str(error)
        return Measurement(values, unavailable, kind)

    def _check_size(self, output: RenderedMaps, frame: ReferenceMaps) -> None:
        (height, width), expected = output.image.shape[-2:], frame.rgb.shape[-2:]
        if (height, width) != tuple(expected):
            raise ValueError(
                f"protocol {self.id}: the rendering is {width} x {height}, the image "
                f"{expected[1]} x {expected[0]} pixels"
            )
        if self.image_size is not None and (width, height) != self.image_size:
            wanted = " x ".join(map(str, self.image_size))
            raise ValueError(f"protocol {self.id} measures {wanted} images, got {width} x {height}")


def _evaluation_mask(frame: ReferenceMaps) -> tuple[MaskKind, Tensor | None]:
    """The face where a parser has seen it, else the foreground."""
    if frame.face_mask is not None:
        return "face", frame.face_mask
    return ("none" if frame.mask is None else "foreground"), frame.mask


def _binary(mask: Tensor | None) -> Tensor | None:
    return None if mask is None else mask > _FOREGROUND


_WHITE = (1.0, 1.0, 1.0)

PROTOCOLS: Mapping[str, Protocol] = {
    protocol.id: protocol
    for protocol in (
        Protocol(
            id="demo-v1",
            split_rule="held-out camera of the studio capture (val), held-out times (test)",
            mask_policy="whole image; foreground pixels under their own name",
            background=_WHITE,
            metrics=(
                "psnr",
                "psnr_foreground",
                "ssim",
                "lpips_alex",
                "mask_iou",
                "normal_cosine",
                "normal_angle_deg",
                "depth_error_mm",
            ),
            image_size=(256, 256),
        ),
        Protocol(
            id="held-out-v1",
            split_rule="what the reader holds out, named beside the result",
            mask_policy="whole image; foreground pixels under their own name",
            background=_WHITE,
            metrics=(
                "psnr",
                "psnr_foreground",
                "ssim",
                "lpips_alex",
                "lpips_vgg",
                "mask_iou",
                "normal_cosine",
                "normal_angle_deg",
                "depth_error_mm",
            ),
        ),
        Protocol(
            id="surfhead-v1",
            split_rule="camera 8 (val: novel view), held-out sequence with all cameras (test: "
            "self-reenactment), as GaussianAvatars",
            mask_policy="whole image; 'masked' metrics with both images black outside the face "
            "mask, or the foreground mask where there is none (every result names its mask: the "
            "face masks of the published code were never distributed)",
            background=_WHITE,
            metrics=(
                "psnr",
                "ssim",
                "lpips_alex",
                "lpips_vgg",
                "l1",
                "psnr_masked",
                "psnr_per_channel_masked",
                "ssim_masked",
                "lpips_alex_masked",
                "l1_masked",
                "normal_cosine",
                "normal_angle_deg",
                "depth_error_mm",
            ),
        ),
    )
}
"""Protocols by id."""
