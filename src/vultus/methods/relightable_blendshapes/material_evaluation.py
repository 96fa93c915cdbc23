"""How well finished avatars look under lights that nobody trained on, where a capture tells.

Pictures cannot tell bright skin in dim light from dark skin in bright light. One factor per channel
is therefore found under the known training light and kept for all others [7.4].
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import cosine_similarity

from vultus.core.progress import track
from vultus.data.frames import load_frame
from vultus.data.relighting import KnownLight, RelightTruth, load_materials
from vultus.data.sequence import Frame, FrameRecord, HeadSequence
from vultus.methods.relightable_blendshapes.material_relighting import (
    Relighter,
    RelitPicture,
    Surroundings,
    material_appearance,
)
from vultus.methods.relightable_blendshapes.model import RelightableBlendshapes
from vultus.methods.relightable_blendshapes.shading import to_display
from vultus.metrics.image import psnr_foreground
from vultus.metrics.maps import normal_angle

__all__ = ["RelightingScores", "evaluate_relighting"]

_BLACK = (0.0, 0.0, 0.0)
_INSIDE = 0.99
"""Pixels with more of the mask count."""


@dataclass(frozen=True)
class RelightingScores:
    """Means over the frames of a split."""

    lights: Mapping[str, Mapping[str, float]]
    """By light, the training light first: PSNR of the foreground, raw and aligned."""
    scale: tuple[float, float, float]
    """Factors that align radiance, by channel."""
    surface: Mapping[str, float]
    """PSNR of the aligned albedo, angle of normals in degrees, cosine of the trained light with the
    true one; what the capture does not tell is left out."""


def evaluate_relighting(
    avatar: RelightableBlendshapes,
    sequence: HeadSequence,
    truth: RelightTruth,
    records: Sequence[FrameRecord],
) -> RelightingScores:
    """Render the frames under every known light and compare.

    Args:
        avatar: Finished, with materials.
        sequence: Its capture.
        truth: Lights and pictures.
        records: Frames under the training light.

    Raises:
        ValueError: If the training light is unknown, or no pixel shows the head.
    """
    if truth.train_light is None:
        raise ValueError(f"{sequence.root}: the training light is unknown, nothing can be aligned")
    relighter = Relighter(avatar)
    scene = _Scene(avatar, relighter, sequence, truth)
    train = scene.compare(truth.train_light, records)
    scale = _aligning_scale([pair.radiance for pair in train], [pair.true for pair in train])
    lights = {truth.train_light.name: scene.scores(train, scale)}
    for name, light in truth.test_lights.items():
        lights[name] = scene.scores(scene.compare(light, truth.relit(records, name)), scale)
    r, g, b = scale.tolist()
    return RelightingScores(lights, (r, g, b), scene.surface(records, scale))


@dataclass(frozen=True)
class _Pair:
    """Foreground pixels of a frame."""

    radiance: Float[Tensor, "3 n"]
    true: Float[Tensor, "3 n"]


@dataclass(frozen=True)
class _Scene:
    avatar: RelightableBlendshapes
    relighter: Relighter
    sequence: HeadSequence
    truth: RelightTruth

    def compare(self, light: KnownLight, records: Sequence[FrameRecord]) -> list[_Pair]:
        surroundings = Surroundings(light.load(), self.truth.light_space)
        pairs = []
        for record in track(records, len(records), f"light {light.name}", "frames"):
            frame, picture = self._draw(record, surroundings)
            inside = _foreground(frame)
            true = self.truth.radiance(frame.rgb[0])
            pairs.append(_Pair(picture.radiance[:, inside], true[:, inside]))
        return pairs

    def scores(self, pairs: Sequence[_Pair], scale: Float[Tensor, " 3"]) -> dict[str, float]:
        factors = {"psnr": torch.ones(3), "psnr_aligned": scale}
        return {
            name: _mean([self._psnr(pair, factor) for pair in pairs])
            for name, factor in factors.items()
        }

    def surface(self, records: Sequence[FrameRecord], scale: Tensor) -> dict[str, float]:
        appearance = material_appearance(self.avatar)
        angles, albedos = [], []
        for record in track(records, len(records), "surface", "frames"):
            picture = self.relighter.picture(
                self.avatar.track[record.timestep],
                record.camera,
                None,
                _BLACK,
                ("normals", "albedo"),
            )
            frame = load_frame(self.sequence, record)
            inside = _foreground(frame)
            known = load_materials(record)
            if known is not None:
                aligned = picture.layers["albedo"] * scale[:, None, None]
                albedos.append(_psnr_of(aligned[:, inside], known.albedo[0][:, inside]))
            if frame.normals is not None:
                pixels = (inside & (frame.normals[0] != 0).any(dim=0))[None, None]
                angle = normal_angle(picture.layers["normals"][None], frame.normals, pixels)
                angles.append(float(torch.rad2deg(angle)))
        found = {"albedo_psnr": albedos, "normal_degrees": angles}
        scores = {name: _mean(values) for name, values in found.items() if values}
        assert self.truth.train_light is not None
        true = Surroundings(self.truth.train_light.load()).radiance(appearance.config.map_rows)
        trained = appearance.radiance.detach().cpu()
        scores["light_cosine"] = float(cosine_similarity(trained.flatten(), true.flatten(), dim=0))
        return scores

    def _draw(self, record: FrameRecord, surroundings: Surroundings) -> tuple[Frame, RelitPicture]:
        pose = self.avatar.track[record.timestep]
        picture = self.relighter.picture(pose, record.camera, surroundings, _BLACK)
        return load_frame(self.sequence, record), picture

    def _psnr(self, pair: _Pair, scale: Float[Tensor, " 3"]) -> float:
        shown = to_display(pair.radiance * scale[:, None], self.truth.film)
        return _psnr_of(shown, to_display(pair.true, self.truth.film))


def _psnr_of(values: Float[Tensor, "3 n"], target: Float[Tensor, "3 n"]) -> float:
    pixels = torch.ones(1, 1, 1, values.shape[1], dtype=torch.bool)
    found = psnr_foreground(values[None, :, None].clamp(0, 1), target[None, :, None], pixels)
    return float(found)


def _aligning_scale(
    radiance: Sequence[Float[Tensor, "3 _"]], true: Sequence[Float[Tensor, "3 _"]]
) -> Float[Tensor, " 3"]:
    """Least squares of true = scale * radiance, by channel."""
    found, wanted = torch.cat(list(radiance), dim=1), torch.cat(list(true), dim=1)
    if found.shape[1] == 0:
        raise ValueError("the frames must show the head to align brightness, no pixel does")
    return (found * wanted).sum(dim=1) / found.square().sum(dim=1).clamp(min=1e-12)


def _foreground(frame: Frame) -> Tensor:
    mask = frame.mask
    shape = frame.rgb.shape[2:]
    return torch.ones(shape, dtype=torch.bool) if mask is None else mask[0, 0] > _INSIDE


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
