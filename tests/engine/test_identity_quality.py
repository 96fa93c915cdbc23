"""People in several lights, and what a network of face recognition would say."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import pytest
import torch
from torch import Tensor

from tiny_image_sets import labels_at, png, write_files
from vultus.core.image_io import to_bytes
from vultus.data.image_choice import ChoiceConfig, choose_entries
from vultus.data.image_feed import Conditions, ImageFeed, RealBatch
from vultus.data.image_set import open_image_set
from vultus.engine.identity_quality import (
    FaceRecognizer,
    IdentityQualityConfig,
    identity_protocol,
    identity_view_protocol,
    identity_yaws,
    measure_identity,
    measure_identity_over_views,
)

SIZE, COUNT = 16, 12
QUICK = IdentityQualityConfig(identity_count=6, identity_lights=3, identity_box=(0.25, 0.5, 0.5))
FRONTAL = labels_at([0.0])


VIEWS = labels_at(torch.rad2deg(identity_yaws(QUICK)).tolist())


@dataclass(frozen=True)
class TurningFaces:
    """The face has the colours of the person, of the camera, or of the light."""

    shows: Literal["person", "camera", "light"]

    def draw_styles(self, condition: Tensor, random: torch.Generator) -> Tensor:
        assert torch.equal(condition, VIEWS[:1].expand(len(condition), -1))
        return torch.rand(len(condition), 1, 3, generator=random)

    def show(self, ws: Tensor, conditions: Conditions) -> Tensor:
        assert conditions.lights is not None
        camera = 0.5 + 0.18 * conditions.labels[:, [3, 7, 11]]
        colors = {"person": ws[:, 0], "camera": camera, "light": conditions.lights[:, 1:4]}
        pictures = torch.zeros(len(ws), 3, SIZE, SIZE)
        pictures[..., 8:16, 4:12] = colors[self.shows][..., None, None]
        return pictures

    def show_real(self, real: RealBatch) -> Tensor:
        return real.pixels.float() / 255.0


@dataclass(frozen=True)
class Faces:
    """The middle of the lower half has the colours of the person or those of the light."""

    shows_light: bool

    def draw_styles(self, condition: Tensor, random: torch.Generator) -> Tensor:
        assert torch.equal(condition, FRONTAL.expand(len(condition), -1))
        return torch.rand(len(condition), 1, 3, generator=random)

    def show(self, ws: Tensor, conditions: Conditions) -> Tensor:
        assert conditions.lights is not None
        assert torch.equal(conditions.labels, FRONTAL.expand(len(ws), -1))
        pictures = conditions.lights[:, 1:4, None, None].expand(-1, 3, SIZE, SIZE).clone()
        colors = conditions.lights[:, 1:4] if self.shows_light else ws[:, 0]
        pictures[..., 8:16, 4:12] = colors[..., None, None]
        return pictures

    def show_real(self, real: RealBatch) -> Tensor:
        return real.pixels.float() / 255.0


RECOGNIZER = FaceRecognizer("face-01234567", lambda faces: 2.0 * faces.mean(dim=(2, 3)) - 1.0)


def lit_feed(folder: Path, lights: Tensor) -> ImageFeed:
    labels = labels_at([0.1 * k for k in range(COUNT)])
    names = [f"{index:03d}.png" for index in range(COUNT)]
    files = {n: png(torch.zeros(3, SIZE, SIZE, dtype=torch.uint8)) for n in names}
    rows = [[n, label.tolist()] for n, label in zip(names, labels, strict=True)]
    files["dataset.json"] = json.dumps({"labels": rows}).encode()
    images = open_image_set(write_files(folder / "set", files))
    entries = choose_entries(images.labels, ChoiceConfig(mirror=False), 0, lights)
    return ImageFeed(images, entries, 0)


@pytest.fixture(scope="module")
def feed(tmp_path_factory: pytest.TempPathFactory) -> ImageFeed:
    lights = torch.rand(COUNT, 9, generator=torch.Generator().manual_seed(0))
    return lit_feed(tmp_path_factory.mktemp("identity"), lights)


def test_people_who_keep_their_colors_are_recognized(feed: ImageFeed) -> None:
    found = measure_identity(Faces(False), feed, FRONTAL, QUICK, RECOGNIZER, 4)
    assert list(found) == ["identity_similarity", "identity_similarity.others"]
    assert found["identity_similarity"] == pytest.approx(1.0, abs=1e-5)
    assert found["identity_similarity.others"] < 0.8
    # The number of people shown at once changes nothing.
    assert found == pytest.approx(
        measure_identity(Faces(False), feed, FRONTAL, QUICK, RECOGNIZER, 6)
    )
    other = measure_identity(Faces(False), feed, FRONTAL, QUICK, RECOGNIZER, 4, seed=1)
    assert other["identity_similarity.others"] != found["identity_similarity.others"]


def test_people_who_are_what_lights_them_are_not(feed: ImageFeed) -> None:
    config = replace(QUICK, identity_count=60)
    found = measure_identity(Faces(True), feed, FRONTAL, config, RECOGNIZER, 60)
    assert found["identity_similarity"] < 0.8
    others = found["identity_similarity.others"]
    assert found["identity_similarity"] == pytest.approx(others, abs=0.2)


def test_compared_pictures_never_share_a_light(tmp_path: Path) -> None:
    """A set of three lights, four views each, the turned labels of which differ by rounding."""
    three = torch.rand(3, 9, generator=torch.Generator().manual_seed(3)).round(decimals=3)
    feed = lit_feed(tmp_path, three.repeat(4, 1) + 1e-7 * torch.arange(COUNT)[:, None])
    found = measure_identity(Faces(True), feed, FRONTAL, QUICK, RECOGNIZER, 4)
    colors = 2.0 * to_bytes(three[:, 1:4, None]).float()[..., 0] / 255.0 - 1.0
    pairs = [(0, 1), (0, 2), (1, 2)]
    cosines = [torch.cosine_similarity(colors[i], colors[j], dim=0) for i, j in pairs]
    assert list(found.values()) == pytest.approx([float(sum(cosines)) / 3] * 2, abs=1e-5)
    more = replace(QUICK, identity_lights=4)
    with pytest.raises(ValueError, match="must be at most 3, which is how many different lights"):
        measure_identity(Faces(True), feed, FRONTAL, more, RECOGNIZER, 4)


def test_people_who_look_the_same_from_all_sides_are_recognized(feed: ImageFeed) -> None:
    arguments = feed, VIEWS, QUICK, RECOGNIZER
    found = measure_identity_over_views(TurningFaces("person"), *arguments, 4)
    assert list(found) == ["identity_over_views", "identity_over_views.others"]
    assert found["identity_over_views"] == pytest.approx(1.0, abs=1e-5)
    assert found["identity_over_views.others"] < 0.9
    # The number of people shown at once changes nothing.
    assert found == pytest.approx(
        measure_identity_over_views(TurningFaces("person"), *arguments, 6)
    )
    other = measure_identity_over_views(TurningFaces("person"), *arguments, 4, seed=1)
    assert other["identity_over_views.others"] != found["identity_over_views.others"]


def test_people_who_are_what_the_camera_makes_them_are_not(feed: ImageFeed) -> None:
    made = TurningFaces("camera")
    found = measure_identity_over_views(made, feed, VIEWS, QUICK, RECOGNIZER, 4)
    colors = to_bytes((0.5 + 0.18 * VIEWS[:, [3, 7, 11]])[..., None]).float()[..., 0]
    colors = 2.0 * colors / 255.0 - 1.0
    pairs = [(0, 1), (0, 2), (1, 2)]
    cosines = [torch.cosine_similarity(colors[i], colors[j], dim=0) for i, j in pairs]
    assert list(found.values()) == pytest.approx([float(sum(cosines)) / 3] * 2, abs=1e-5)
    assert found["identity_over_views"] < 0.9


def test_no_light_tells_views_or_people_apart(feed: ImageFeed) -> None:
    """It is the mean of the set's, whoever is seen from wherever."""
    shown = []

    def describe(faces: Tensor) -> Tensor:
        shown.append(faces.mean(dim=(2, 3)))
        return shown[-1]

    lit = TurningFaces("light")
    measure_identity_over_views(lit, feed, VIEWS, QUICK, FaceRecognizer("face", describe), 6)
    assert feed.conditions.lights is not None
    mean = to_bytes(feed.conditions.lights.mean(dim=0)[None, 1:4, None]).float()[..., 0] / 255.0
    assert torch.allclose(torch.cat(shown), mean.expand(3 * 6, -1), atol=1e-6)


def test_likeness_over_views_needs_two(feed: ImageFeed) -> None:
    with pytest.raises(ValueError, match="views must be at least two, got 1"):
        measure_identity_over_views(TurningFaces("person"), feed, VIEWS[:1], QUICK, RECOGNIZER, 4)
    degrees = torch.rad2deg(identity_yaws(replace(QUICK, identity_yaw=20.0)))
    assert degrees.tolist() == pytest.approx([0.0, -20.0, 20.0])
    assert len(identity_yaws(replace(QUICK, identity_yaw=0.0))) == 0


@pytest.mark.parametrize("box", [(0.995, 0.0, 0.005), (0.0, 0.995, 0.005)])
def test_a_box_at_the_edge_holds_at_least_a_pixel(
    feed: ImageFeed, box: tuple[float, float, float]
) -> None:
    def describe(faces: Tensor) -> Tensor:
        assert faces.shape[1:] == (3, 1, 1)
        return faces[..., 0, 0]

    config = replace(QUICK, identity_box=box)
    recognizer = FaceRecognizer("face-01234567", describe)
    found = measure_identity(Faces(False), feed, FRONTAL, config, recognizer, 6)
    # There the pictures show the light.
    assert found["identity_similarity"] < 0.99


def test_the_id_tells_what_numbers_depend_on() -> None:
    published = IdentityQualityConfig(identity_count=200)
    assert identity_protocol(published, RECOGNIZER) == "identity-200x4-face-01234567-v2"
    views = identity_view_protocol(published, RECOGNIZER)
    assert views == "identity-views-200x30-face-01234567-v1"
    assert identity_protocol(QUICK, RECOGNIZER) == "identity-6x3-box0.25-0.5-0.5-face-01234567-v2"


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"identity_count": 1}, "identity_count must be 0 or at least 2"),
        ({"identity_lights": 1}, "identity_lights at least 2"),
        ({"identity_yaw": -1.0}, "identity_yaw must be 0 to 90 degrees, got -1.0"),
        ({"identity_yaw": float("nan")}, "identity_yaw must be 0 to 90 degrees"),
        ({"identity_lights": 3}, "identity_lights needs identity_count above 0"),
        ({"identity_yaw": 0.0}, "identity_yaw needs identity_count above 0"),
        ({"identity_box": (0.1, 0.1, 0.5)}, "identity_box needs identity_count above 0"),
        ({"identity_box": (0.5, 0.0, 0.6)}, "identity_box must lie in the picture"),
        ({"identity_box": (-0.1, 0.0, 0.6)}, "identity_box must lie in the picture"),
        ({"identity_box": (0.0, 0.0, float("nan"))}, "identity_box must lie in the picture"),
    ],
)
def test_what_measures_nothing_is_refused(changes: dict[str, object], match: str) -> None:
    with pytest.raises(ValueError, match=match):
        IdentityQualityConfig(**changes)  # pyright: ignore[reportArgumentType]
