"""Films and sheets of people in changing light."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from relight_heads import matte_ball, visible
from tolerances import assert_close
from vultus.core.srgb import linear_to_srgb
from vultus.data.camera_labels import labels_to_camera
from vultus.export.relit_people import (
    RelitFilm,
    film_relit,
    light_picture,
    measured_lights_sheet,
    relit_sheet,
)
from vultus.geometry.cameras import pixel_directions
from vultus.geometry.spherical_harmonics import COSINE_LOBE, light_sh_basis
from vultus.methods.gsheadrelight.light_sources import LightSettings, LightSource, open_light
from vultus.methods.gsheadrelight.lights import environment_light
from vultus.methods.gsheadrelight.sampling import (
    RelightableHead,
    RelightableSampler,
    SamplingSettings,
)
from vultus.methods.head_views import ViewRig, motion_labels
from vultus.render.lighting.envmap import EnvironmentMap, envmap_directions

RIG = ViewRig()
SIZE = 32
FILM = RelitFilm(frames=4)


@pytest.fixture(scope="module")
def sampler() -> RelightableSampler:
    return RelightableSampler(visible(), RIG, SamplingSettings(size=SIZE))


@pytest.fixture
def of_balls(sampler: RelightableSampler, monkeypatch: pytest.MonkeyPatch) -> RelightableSampler:
    """Everybody is a matte ball, whose picture tells the light."""
    ball = RelightableHead(matte_ball(2000))
    monkeypatch.setattr(RelightableSampler, "head", lambda *_: ball)
    return sampler


@pytest.fixture(scope="module")
def surroundings() -> LightSource:
    """Dark but for a smooth light before the face; red above."""
    directions = envmap_directions(16, 32)
    front = directions[..., 2].clamp(min=0.0)
    environment = EnvironmentMap(torch.stack([0.5 + 0.5 * directions[..., 1], front, front]))
    return LightSource("map", environment_light(environment), environment)


def frames(
    sampler: RelightableSampler, lights: list[LightSource], film: RelitFilm, people: int = 1
) -> list[Tensor]:
    return list(film_relit(sampler, sampler.people(tuple(range(people))), lights, film))


def test_light_goes_around_people(of_balls: RelightableSampler) -> None:
    turned = frames(of_balls, [open_light("front", LightSettings())], FILM)
    sides = [
        (
            float(frame[:, 16, 8].mean()),
            float(frame[:, 16, 16].mean()),
            float(frame[:, 16, 23].mean()),
        )
        for frame in turned
    ]
    assert sides[0][1] > max(sides[0][0], sides[0][2])
    assert sides[1][2] > sides[1][1] > sides[1][0]
    assert sides[2][1] < 0.5
    assert sides[3][0] > sides[3][1] > sides[3][2]
    back = replace(FILM, turns=-1.0)
    other = frames(of_balls, [open_light("front", LightSettings())], back)
    assert_close(other[1], turned[3])


def test_light_goes_around_the_view(of_balls: RelightableSampler) -> None:
    film = replace(FILM, axis="view")
    turned = frames(of_balls, [open_light("right", LightSettings())], film)
    above = frames(of_balls, [open_light("above", LightSettings())], replace(FILM, turns=0.0))
    assert_close(turned[1], above[0])


def test_people_stand_in_rows_and_lights_in_columns(sampler: RelightableSampler) -> None:
    lights = [open_light(name, LightSettings()) for name in ("left", "right", "above")]
    grid = frames(sampler, lights, FILM, people=2)
    assert [tuple(frame.shape) for frame in grid] == [(3, 2 * SIZE, 3 * SIZE)] * 4
    head = sampler.head(sampler.people((1,)))
    ((alone, _),) = sampler.relit(head, [lights[2]], motion_labels(RIG, "front", 4)[:1])
    assert_close(grid[0][:, SIZE:, 2 * SIZE :], alone)


def test_lights_follow_each_other_in_a_sequence(sampler: RelightableSampler) -> None:
    lights = [open_light(name, LightSettings()) for name in ("left", "albedo")]
    film = replace(FILM, is_sequence=True, motion="face")
    shown = frames(sampler, lights, film)
    assert len(shown) == film.num_frames(2) == 8
    beside = frames(sampler, lights, replace(film, is_sequence=False))
    for index in range(4):
        assert_close(shown[index], beside[index][:, :, :SIZE])
        assert_close(shown[4 + index], beside[index][:, :, SIZE:])


def test_what_is_behind_people_is_what_the_camera_sees(
    of_balls: RelightableSampler, surroundings: LightSource
) -> None:
    film = RelitFilm(frames=4, motion="orbit", surroundings="background")
    shown = frames(of_balls, [surroundings], film)
    labels = motion_labels(RIG, "orbit", 4)
    # Seen from behind the head, without turning: what is before the face.
    still = frames(of_balls, [surroundings], replace(film, turns=0.0))
    camera = labels_to_camera(labels[2:3], SIZE)
    directions = pixel_directions(camera)[0] @ camera.camera_to_world[0, :3, :3].T
    unit = torch.nn.functional.normalize(directions, dim=-1)
    wanted = linear_to_srgb(unit[..., 2].clamp(min=0.0))
    corner = (slice(0, 4), slice(0, 4))
    assert_close(still[2][1][corner], wanted[corner], looser=3e3, reason="16 rows of texels")
    # Turned by half a turn, it stands behind the head.
    assert float(shown[2][1][corner].max()) < 0.1


def test_insets_show_ball_and_map(sampler: RelightableSampler, surroundings: LightSource) -> None:
    lights = [surroundings, open_light("even", LightSettings())]
    film = replace(FILM, surroundings="inset", frames=1)
    plain, (shown,) = (
        frames(sampler, lights, replace(FILM, frames=1))[0],
        frames(sampler, lights, film),
    )
    changed = (plain != shown).any(dim=0)
    assert not changed[: SIZE - 8].any()
    assert changed[SIZE - 8 :, :24].any()
    assert not changed[:, 24:SIZE].any()
    assert_close(shown[:, SIZE - 4, SIZE + 4], torch.ones(3))


def test_a_sheet_shows_the_lights_above_the_people(
    sampler: RelightableSampler, surroundings: LightSource
) -> None:
    lights = [surroundings, open_light("left", LightSettings())]
    people = sampler.people((0, 1, 2))
    sheet = relit_sheet(sampler, people, lights, RIG.label())
    assert sheet.shape == (3, 4 * SIZE + 12, 2 * SIZE + 4)
    assert_close(sheet[:, :SIZE, :SIZE], light_picture(surroundings, SIZE))
    # The map's middle, under the ball, is what is before the face.
    assert float(sheet[1, SIZE // 2 + 8, SIZE // 2]) > 0.9
    assert float(sheet[1, SIZE // 2 + 8, 1]) < 0.2


@pytest.mark.parametrize(
    ("changes", "message"),
    [({"frames": 0}, "frames must be positive"), ({"turns": math.nan}, "turns must be finite")],
)
def test_films_that_show_nothing_are_refused(changes: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(FILM, **changes)


@pytest.mark.parametrize("colors", [1, 3])
def test_measured_lights_stand_under_those_that_were_asked_for(colors: int) -> None:
    random = torch.Generator().manual_seed(0)
    pictures = torch.rand(2, 3, SIZE, SIZE, generator=random)
    wanted, found = torch.randn(2, 2, 9 * colors, generator=random)
    sheet = measured_lights_sheet(pictures, wanted, found)
    assert sheet.shape == (3, 3 * SIZE + 8, 2 * SIZE + 4)
    assert torch.equal(sheet[:, :SIZE, -SIZE:], pictures[1])
    # Directions are compared: strengths make no difference.
    assert_close(measured_lights_sheet(pictures, 5.0 * wanted, 0.1 * found), sheet)
    swapped = measured_lights_sheet(pictures, found, wanted)
    assert torch.equal(swapped[:, -SIZE:], sheet[:, SIZE + 4 : -SIZE - 4])


def test_no_measured_light_is_brighter_than_white() -> None:
    # The light that is brightest at a point of the ball, from the front: its terms there.
    front = torch.tensor([[0.0, -1.0, 0.0]])
    light = light_sh_basis(front, 2) * torch.tensor(COSINE_LOBE)
    sheet = measured_lights_sheet(torch.zeros(1, 3, SIZE, SIZE), 100.0 * light, -light)
    # The brightest twentieth of a picture is cut off; next to it there is nearly white.
    assert 0.9 < float(sheet[:, SIZE + 4 : 2 * SIZE + 4].max()) < 1.0
