"""People who can be lit: drawn, seen, and shown in many lights at once."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch.nn.functional import interpolate

from relight_heads import TINY, built, matte_ball, visible
from tolerances import assert_close
from vultus.methods.generated_heads import PeopleSampler
from vultus.methods.gsheadrelight.light_sources import LightSettings, LightSource, open_light
from vultus.methods.gsheadrelight.lights import lit_ball
from vultus.methods.gsheadrelight.sampling import (
    RelightableHead,
    RelightableSampler,
    SamplingSettings,
)
from vultus.methods.head_views import ViewRig

RIG = ViewRig()


def sampler(**settings: object) -> RelightableSampler:
    return RelightableSampler(visible(), RIG, SamplingSettings(**settings))  # pyright: ignore[reportArgumentType]


def random_lights(count: int) -> list[LightSource]:
    lights = torch.randn(count, 9, 3, generator=torch.Generator().manual_seed(0))
    return [LightSource(str(index), light) for index, light in enumerate(lights)]


def test_it_is_a_sampler_that_commands_can_use() -> None:
    assert isinstance(sampler(), PeopleSampler)


def test_a_person_does_not_depend_on_who_else_is_generated() -> None:
    source = sampler()
    together, alone = source.people((7, 3)), source.people((3,))
    assert torch.equal(together[1].ws, alone.ws)
    views = [
        source.look(source.head(person), RIG.label(0.2)).rgb for person in (together[1], alone)
    ]
    assert torch.equal(*views)


def test_cameras_of_views_do_not_change_who_is_seen() -> None:
    near = ViewRig(distance=2.0, focal=3.0)
    usual, close = sampler(), RelightableSampler(visible(), near, SamplingSettings(), RIG)
    assert torch.equal(close.people((1,)).ws, usual.people((1,)).ws)
    assert close.depth_bounds != usual.depth_bounds
    conditioned = RelightableSampler(visible(), near, SamplingSettings()).people((1,)).ws
    assert not torch.allclose(conditioned, usual.people((1,)).ws)


def test_the_way_between_people_meets_them() -> None:
    source = sampler(truncation=1.0)
    keys = source.people((1, 2))
    for between in ("w", "z"):
        way = source.way(keys, torch.tensor([0.0, 1.0]), between)
        assert_close(way.ws, keys.ws, looser=10.0, reason="norms are taken apart")


@pytest.mark.parametrize("name", ["front", "left", "above"])
def test_a_matte_ball_looks_as_its_light_says(name: str) -> None:
    light = open_light(name, LightSettings())
    source = RelightableSampler(visible(), RIG, SamplingSettings(light=light.light, size=64))
    seen = source.look(RelightableHead(matte_ball()), RIG.label())
    inside = seen.alpha[0] > 0.99
    rows, columns = inside.nonzero().unbind(dim=1)
    top, left, side = int(rows.min()), int(columns.min()), int(rows.max() - rows.min()) + 1
    found = seen.rgb[:, top : top + side, left : left + side]
    # Without the brightest parts, which the preview cuts off.
    preview = interpolate(lit_ball(light.light)[None], (side, side), mode="area")[0]
    core = torch.linspace(-1, 1, side).square()
    is_core = (core[:, None] + core < 0.6) & (preview[0] < 0.95 * preview.max())
    assert float((found - preview).abs()[:, is_core].max()) < 0.05
    middle = torch.tensor(RIG.distance - 0.25)
    assert_close(seen.depth[0, 32, 32], middle, looser=1e5, reason="Gaussians are thick")


def test_albedo_and_shading_multiply_to_the_picture() -> None:
    source = sampler()
    ball = matte_ball()
    dark = replace(ball, albedo_dc=torch.zeros_like(ball.albedo_dc))
    seen = source.look(RelightableHead(dark), RIG.label())
    assert seen.albedo is not None
    assert seen.shading is not None
    inside = (seen.alpha > 0.999).expand(3, -1, -1)
    assert_close(seen.rgb[inside], 0.5 * seen.shading[inside], looser=100.0, reason="edges")
    flat = sampler(mode="albedo").look(RelightableHead(dark), RIG.label())
    assert_close(flat.rgb, seen.albedo)


def test_many_lights_at_once_are_the_same_as_one_by_one() -> None:
    source, lights = sampler(), random_lights(25)  # More than one pass takes.
    head, label = source.head(source.people((1,))), RIG.label(0.3)
    together = list(source.relit(head, lights, label))
    assert len(together) == 25
    for light, (picture, alpha) in zip(lights[18:24], together[18:24], strict=True):
        ((alone, alone_alpha),) = source.relit(head, [light], label)
        assert_close(picture, alone)
        assert_close(alpha, alone_alpha)


def test_one_of_many_lights_may_be_none() -> None:
    source = sampler()
    head = RelightableHead(matte_ball())
    lights = [open_light(name, LightSettings()) for name in ("left", "albedo")]
    (lit, alpha), (plain, _) = source.relit(head, lights, RIG.label())
    inside = (alpha > 0.999).expand(3, -1, -1)
    assert float(plain[inside].min()) > 0.99
    assert float(lit[inside].min()) < 0.5


def test_backdrop_and_size_are_those_asked_for() -> None:
    source = sampler(backdrop=(0.2, 0.4, 0.6), size=24)
    seen = source.look(RelightableHead(matte_ball(500, 0.05)), RIG.label())
    assert seen.rgb.shape == (3, 24, 24)
    assert_close(seen.rgb[:, 0, 0], torch.tensor([0.2, 0.4, 0.6]))


def test_official_depth_is_a_mean_too() -> None:
    generator = visible(replace(TINY, parity="official"))
    source = RelightableSampler(generator, RIG, SamplingSettings(size=64))
    seen = source.look(RelightableHead(matte_ball()), RIG.label())
    inside = seen.alpha > 0.99
    assert float((seen.depth[inside] - RIG.distance).abs().max()) < 0.3


def test_scenery_is_shown_where_it_is_asked_for() -> None:
    person, thin = sampler().people((0,)), built().eval()
    wide = ViewRig(focal=0.5)
    plain, scenic = (
        RelightableSampler(thin, wide, SamplingSettings(has_scenery=shown))
        for shown in (False, True)
    )
    assert plain.head(person).scenery is None
    without, behind = (s.look(s.head(person), wide.label()).rgb for s in (plain, scenic))
    assert not torch.allclose(without, behind)
    bare = visible(replace(TINY, background_points=0))
    with pytest.raises(ValueError, match="has learned nothing behind heads"):
        RelightableSampler(bare, RIG, SamplingSettings(has_scenery=True))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"size": 0}, "size must be positive, got 0"),
        ({"backdrop": (0.0, 2.0, 0.0)}, r"backdrop must be in \[0, 1\]"),
        ({"truncation": -1.0}, r"truncation must be in \[0, 2\]"),
    ],
)
def test_settings_that_show_nothing_are_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        sampler(**changes)
