"""How well finished avatars look under lights that nobody trained on, where a capture tells.

Pictures cannot tell bright skin in dim light from dark skin in bright light. One factor per channel
is therefore found under the known training light and kept for all others [7.4]. It multiplies
radiance, highlights included, and the albedo.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import get_args

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from vultus.core.progress import track
from vultus.data.frames import load_frame
from vultus.data.relighting import KnownLight, RelightTruth, load_materials
from vultus.data.sequence import Frame, FrameRecord, HeadSequence
from vultus.data.studio.tone_curve import Film
from vultus.methods.relightable_blendshapes.environment import light_cosines
from vultus.methods.relightable_blendshapes.material_relighting import (
    Relighter,
    Surroundings,
    material_appearance,
)
from vultus.methods.relightable_blendshapes.model import RelightableBlendshapes
from vultus.methods.relightable_blendshapes.shading import Tonemap, to_display
from vultus.metrics.catalogue import METRICS, Sample
from vultus.metrics.image import psnr_foreground
from vultus.metrics.maps import normal_angle
from vultus.nets.perceptual import LpipsNetwork, LpipsVariant, imported_lpips

__all__ = ["MEASURED", "Comparison", "RelightingScores", "evaluate_relighting"]

MEASURED: Mapping[str, str] = {
    "psnr": "psnr_foreground",
    "ssim": "ssim_masked",
    "lpips": "lpips_alex_masked",
}
"""What is measured under every light, and its name in ``metrics.catalogue``."""

_LOG = logging.getLogger(__name__)
_BLACK = (0.0, 0.0, 0.0)
_INSIDE = 0.99
"""Pixels with more of the mask count."""
_BURNT = 254.0 / 255.0
"""Pictures do not tell how bright light is that gives more."""


@dataclass(frozen=True)
class RelightingScores:
    """Means over the frames of a split that show the head."""

    lights: Mapping[str, Mapping[str, float]]
    """By light, the training light first: metrics of ``MEASURED``, raw and ``_aligned``; LPIPS only
    where it is imported."""
    scale: tuple[float, float, float]
    """Factors that align radiance, by channel."""
    surface: Mapping[str, float]
    """PSNR of the aligned albedo, angle of normals in degrees, ``light_cosines`` of the trained
    light; what the capture does not tell is left out."""
    num_occluder_faces: int
    """Faces of the mesh that hid light; 0 if nothing did."""


@dataclass(frozen=True)
class Comparison:
    """Frames of a capture under every known light, known to be comparable."""

    train_light: KnownLight
    records: Sequence[FrameRecord]
    """Under the training light."""
    relit: Mapping[str, Sequence[FrameRecord]]
    """By test light."""

    @staticmethod
    def of(
        tonemap: Tonemap,
        sequence: HeadSequence,
        truth: RelightTruth,
        records: Sequence[FrameRecord],
    ) -> Comparison:
        """Check everything that takes no rendering.

        Args:
            tonemap: Of the avatar.
            sequence: Its capture.
            truth: Lights and pictures.
            records: Frames under the training light.

        Raises:
            ValueError: If the training light is unknown, the avatar's colours are no radiance, or
                frames are missing under some light.
        """
        if truth.train_light is None:
            raise ValueError(f"{sequence.root}: the training light is unknown, nothing is aligned")
        if tonemap not in get_args(Film):
            known = " or ".join(get_args(Film))
            raise ValueError(f"materials.tonemap must be {known} to compare light, got {tonemap}")
        if tonemap != truth.film:
            _LOG.warning(
                "the avatar was trained for %s pictures, the capture's are %s", tonemap, truth.film
            )
        if not records:
            raise ValueError(f"{sequence.root}: there are no frames to compare")
        relit = {name: truth.relit(records, name) for name in truth.test_lights}
        for name, found in relit.items():
            if not found:
                raise ValueError(
                    f"{sequence.root}: no frame of the split was also taken under light {name!r}"
                )
        return Comparison(truth.train_light, records, relit)


def evaluate_relighting(
    avatar: RelightableBlendshapes,
    sequence: HeadSequence,
    truth: RelightTruth,
    records: Sequence[FrameRecord],
    occluder_faces: int | None = None,
) -> RelightingScores:
    """Render the frames under every known light and compare.

    Args:
        avatar: Finished, with materials.
        sequence: Its capture.
        truth: Lights and pictures.
        records: Frames under the training light.
        occluder_faces: See ``Relighter``.

    Raises:
        ValueError: If the frames cannot be compared, see ``Comparison.of``, no pixel of theirs
            shows the head, or the avatar casts no shadows that could be coarser.
    """
    tonemap = material_appearance(avatar).config.tonemap
    frames = Comparison.of(tonemap, sequence, truth, records)
    relighter = Relighter(avatar, occluder_faces=occluder_faces)
    scene = _Scene(avatar, relighter, sequence, truth, imported_lpips())
    train = list(scene.compare(frames.train_light, records))
    scale = _aligning_scale(train, truth)
    lights = {frames.train_light.name: scene.scores(train, scale)}
    for name, light in truth.test_lights.items():
        lights[name] = scene.scores(scene.compare(light, frames.relit[name]), scale)
    r, g, b = scale.tolist()
    surface = scene.surface(frames, scale)
    return RelightingScores(lights, (r, g, b), surface, relighter.num_occluder_faces)


@dataclass(frozen=True)
class _Pair:
    """A frame that shows the head."""

    radiance: Float[Tensor, "3 h w"]
    rgb: Float[Tensor, "3 h w"]
    """True display values."""
    inside: Bool[Tensor, "h w"]


@dataclass(frozen=True)
class _Scene:
    avatar: RelightableBlendshapes
    relighter: Relighter
    sequence: HeadSequence
    truth: RelightTruth
    networks: Mapping[LpipsVariant, LpipsNetwork]

    def compare(self, light: KnownLight, records: Sequence[FrameRecord]) -> Iterator[_Pair]:
        surroundings = Surroundings(light.load(), self.truth.light_space)
        for record, frame, inside in self._frames(records, f"light {light.name}"):
            pose = self.avatar.track[record.timestep]
            picture = self.relighter.picture(pose, record.camera, surroundings, _BLACK)
            yield _Pair(picture.radiance, frame.rgb[0], inside)

    def scores(self, pairs: Iterable[_Pair], scale: Float[Tensor, " 3"]) -> dict[str, float]:
        found: dict[str, list[float]] = {}
        for pair in pairs:
            for suffix, factor in {"": torch.ones(3), "_aligned": scale}.items():
                for name, value in self._measure(pair, factor).items():
                    found.setdefault(name + suffix, []).append(value)
        if not found:
            raise ValueError(f"{self.sequence.root}: no frame under a test light shows the head")
        return {name: _mean(values) for name, values in found.items()}

    def surface(self, frames: Comparison, scale: Tensor) -> dict[str, float]:
        appearance = material_appearance(self.avatar)
        angles, albedos = [], []
        for record, frame, inside in self._frames(frames.records, "surface"):
            picture = self.relighter.picture(
                self.avatar.track[record.timestep],
                record.camera,
                None,
                _BLACK,
                ("normals", "albedo"),
            )
            known = load_materials(record)
            if known is not None:
                aligned = (picture.layers["albedo"] * scale[:, None, None]).clamp(0, 1)
                value = psnr_foreground(aligned[None], known.albedo, inside[None, None])
                albedos.append(float(value))
            if frame.normals is not None:
                pixels = (inside & (frame.normals[0] != 0).any(dim=0))[None, None]
                if bool(pixels.any()):
                    angle = normal_angle(picture.layers["normals"][None], frame.normals, pixels)
                    angles.append(float(torch.rad2deg(angle)))
        found = {"albedo_psnr": albedos, "normal_degrees": angles}
        scores = {name: _mean(values) for name, values in found.items() if values}
        true = Surroundings(frames.train_light.load()).radiance(appearance.config.map_rows)
        return scores | light_cosines(appearance.radiance.detach().cpu(), true)

    def _frames(
        self, records: Sequence[FrameRecord], title: str
    ) -> Iterator[tuple[FrameRecord, Frame, Bool[Tensor, "h w"]]]:
        """Frames that show the head, and where they do."""
        for record in track(records, len(records), title, "frames"):
            frame = load_frame(self.sequence, record)
            inside = _foreground(frame)
            if bool(inside.any()):
                yield record, frame, inside

    def _measure(self, pair: _Pair, scale: Float[Tensor, " 3"]) -> dict[str, float]:
        shown = to_display(pair.radiance * scale[:, None, None], self.truth.film).clamp(0, 1)
        inside = pair.inside[None, None]
        sample = Sample(
            shown[None], pair.rgb[None], inside, evaluated=inside, networks=self.networks
        )
        values = {}
        for name, metric in MEASURED.items():
            if name != "lpips" or "alex" in self.networks:
                values[name] = METRICS[metric].measure(sample)
        return values


def _aligning_scale(pairs: Sequence[_Pair], truth: RelightTruth) -> Float[Tensor, " 3"]:
    """Least squares of true = scale * radiance, by channel, over pixels that are not burnt out."""
    products, squares = torch.zeros(3), torch.zeros(3)
    num_pixels = 0
    for pair in pairs:
        pixels = pair.inside & (pair.rgb < _BURNT).all(dim=0)
        num_pixels += int(pixels.sum())
        found, wanted = pair.radiance[:, pixels], truth.radiance(pair.rgb[:, pixels])
        products += (found * wanted).sum(dim=1)
        squares += found.square().sum(dim=1)
    if num_pixels == 0:
        raise ValueError(
            "the frames must show the head to align brightness, no pixel does, or all are burnt out"
        )
    return products / squares.clamp(min=1e-12)


def _foreground(frame: Frame) -> Bool[Tensor, "h w"]:
    mask = frame.mask
    shape = frame.rgb.shape[2:]
    return torch.ones(shape, dtype=torch.bool) if mask is None else mask[0, 0] > _INSIDE


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
