"""Scores under known lights: exact for what is exact, and blind to brightness that nobody can know.

A stand-in draws the pictures of the capture, times a colour.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor

from vultus.core.image_io import write_image
from vultus.core.srgb import linear_to_srgb
from vultus.data.relighting import KnownLight, RelightTruth
from vultus.data.sequence import FrameRecord, HeadSequence
from vultus.geometry.cameras import Camera
from vultus.heads.base import HeadPose
from vultus.heads.registry import load_head
from vultus.methods.relightable_blendshapes import material_evaluation
from vultus.methods.relightable_blendshapes.material_evaluation import evaluate_relighting
from vultus.methods.relightable_blendshapes.material_relighting import Relighter, RelitPicture
from vultus.methods.relightable_blendshapes.model import RelightableBlendshapes
from vultus.render.lighting.envmap import EnvironmentMap

SIZE = 8
GLINT = (3, 4)
TINT = torch.tensor([0.5, 2.0, 0.8])


def radiance_under(level: float) -> Tensor:
    pattern = torch.linspace(0.1, 0.6, SIZE * SIZE).reshape(1, SIZE, SIZE)
    return level * pattern.expand(3, -1, -1)


class StandIn(RelightableBlendshapes):
    """Has a track and nothing else."""

    def __init__(self) -> None:
        self.track = HeadPose(translation=torch.zeros(1, 3))


class PaintedRelighter(Relighter):
    """Knows every picture but for its colour and one highlight."""

    glint = 1.0

    def __init__(self, avatar: RelightableBlendshapes, occluder_faces: int | None = None) -> None:
        pass

    @property
    def num_occluder_faces(self) -> int:
        return 12

    def picture(self, pose, camera, surroundings=None, background=None, layers=()) -> RelitPicture:
        level = 0.4 if surroundings is None else float(surroundings.environment.radiance.mean())
        shown = radiance_under(level) / TINT[:, None, None]
        shown[:, GLINT[0], GLINT[1]] *= self.glint
        maps = {"albedo": shown, "normals": torch.zeros(3, SIZE, SIZE)}
        return RelitPicture(shown, shown, torch.ones(1, SIZE, SIZE), {n: maps[n] for n in layers})


def even_light(avatar: object, tonemap: str = "srgb") -> SimpleNamespace:
    config = SimpleNamespace(map_rows=2, tonemap=tonemap)
    return SimpleNamespace(radiance=torch.full((3, 2, 4), 3.0), config=config)


def light(name: str, level: float) -> KnownLight:
    return KnownLight(name, lambda: EnvironmentMap.constant((level, level, level), 4))


@pytest.fixture
def capture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[HeadSequence, RelightTruth]:
    monkeypatch.setattr(material_evaluation, "Relighter", PaintedRelighter)
    monkeypatch.setattr(material_evaluation, "material_appearance", even_light)
    levels = {"train": 0.4, "bright": 1.2}
    paths = {name: tmp_path / f"{name}.png" for name in levels}
    for name, level in levels.items():
        write_image(paths[name], linear_to_srgb(radiance_under(level)))
    camera = Camera(torch.eye(4)[None], torch.eye(3)[None], SIZE, SIZE)
    record = FrameRecord(0, 0, camera, paths["train"])
    sequence = HeadSequence(
        root=tmp_path, frames=(record,), splits={"test": torch.tensor([0])},
        head=load_head("procedural"), pose=StandIn().track,
    )  # fmt: skip
    truth = RelightTruth(
        light("train", 0.4), {"bright": light("bright", 1.2)}, "world", "srgb",
        {"bright": {paths["train"]: paths["bright"]}},
    )  # fmt: skip
    return sequence, truth


def test_colour_that_lights_share_is_taken_out(capture) -> None:
    sequence, truth = capture
    scores = evaluate_relighting(StandIn(), sequence, truth, sequence.split("test"))
    assert list(scores.lights) == ["train", "bright"]
    torch.testing.assert_close(torch.tensor(scores.scale), TINT, rtol=0.01, atol=0.0)
    for values in scores.lights.values():
        # Bytes of the files are all that is left.
        assert values["psnr_aligned"] > 48
        assert values["psnr"] < 25
        assert values["ssim"] < values["ssim_aligned"] <= 1
    assert scores.surface["light_cosine"] == pytest.approx(1.0)
    assert scores.surface["lit_light_cosine"] == pytest.approx(1.0)
    assert "albedo_psnr" not in scores.surface


def test_what_is_burnt_out_does_not_decide_the_alignment(capture, monkeypatch) -> None:
    sequence, truth = capture
    burnt = radiance_under(0.4).clone()
    burnt[:, GLINT[0], GLINT[1]] = 1.0
    (record,) = sequence.split("test")
    write_image(record.image_path, linear_to_srgb(burnt))
    monkeypatch.setattr(PaintedRelighter, "glint", 100.0)
    scores = evaluate_relighting(StandIn(), sequence, truth, [record])
    torch.testing.assert_close(torch.tensor(scores.scale), TINT, rtol=0.01, atol=0.0)


def test_frames_that_do_not_show_the_head_do_not_count(capture, tmp_path) -> None:
    sequence, truth = capture
    (record,) = sequence.split("test")
    write_image(tmp_path / "mask.png", torch.zeros(1, SIZE, SIZE))
    empty = replace(record, mask_path=tmp_path / "mask.png")
    alone, both = (
        evaluate_relighting(StandIn(), sequence, truth, records)
        for records in ([record], [record, empty])
    )
    assert alone == both
    with pytest.raises(ValueError, match="must show the head"):
        evaluate_relighting(StandIn(), sequence, truth, [empty])


def test_what_cannot_be_compared_is_refused_before_rendering(capture, monkeypatch) -> None:
    sequence, truth = capture
    monkeypatch.setattr(PaintedRelighter, "picture", None)
    (record,) = sequence.split("test")
    moved = replace(record, image_path=record.image_path.with_name("other.png"))
    with pytest.raises(ValueError, match="no frame of the split was also taken under light 'bri"):
        evaluate_relighting(StandIn(), sequence, truth, [moved])
    with pytest.raises(ValueError, match="there are no frames"):
        evaluate_relighting(StandIn(), sequence, truth, [])
    monkeypatch.setattr(
        material_evaluation, "material_appearance", partial(even_light, tonemap="gaussian")
    )
    with pytest.raises(ValueError, match=r"must be srgb or studio .* got gaussian"):
        evaluate_relighting(StandIn(), sequence, truth, [record])


def test_another_film_than_that_of_the_training_is_told(capture, monkeypatch, caplog) -> None:
    sequence, truth = capture
    monkeypatch.setattr(
        material_evaluation, "material_appearance", partial(even_light, tonemap="studio")
    )
    evaluate_relighting(StandIn(), sequence, truth, sequence.split("test"))
    assert "trained for studio pictures, the capture's are srgb" in caplog.text


def test_a_capture_without_its_light_cannot_be_aligned(capture) -> None:
    sequence, truth = capture
    unknown = RelightTruth(None, {}, truth.light_space, truth.film, {})
    with pytest.raises(ValueError, match="training light is unknown"):
        evaluate_relighting(StandIn(), sequence, unknown, sequence.split("test"))
