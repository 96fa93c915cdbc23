"""Lights by name, from files, and from maps in several layouts."""

from __future__ import annotations

import json
import math
import re
from dataclasses import replace
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import torch
from torch import Tensor

from tolerances import assert_close
from vultus.core.image_io import write_radiance
from vultus.geometry.spherical_harmonics import light_sh_basis
from vultus.methods.gsheadrelight.light_files import read_light, write_light
from vultus.methods.gsheadrelight.light_sources import (
    LightSettings,
    LightSource,
    MapLight,
    NamedLight,
    exposed,
    named_light,
    open_light,
)
from vultus.methods.gsheadrelight.lights import (
    COSINE_LOBE,
    environment_light,
    head_to_world_light,
)
from vultus.methods.gsheadrelight.official_lights import official_environment_light
from vultus.render.lighting.envmap import EnvironmentMap, envmap_directions

TOWARDS = {
    "front": (0.0, -1.0, 0.0),
    "left": (-1.0, 0.0, 0.0),
    "right": (1.0, 0.0, 0.0),
    "above": (0.0, 0.0, 1.0),
    "below": (0.0, 0.0, -1.0),
}
"""X to the right of the picture, Y into the scene, Z up."""


def brightness(light: Tensor, normal: tuple[float, float, float]) -> Tensor:
    """Of a white matte surface."""
    return (light_sh_basis(torch.tensor(normal), 2) * torch.tensor(COSINE_LOBE)) @ light


def bright_texel(row: int, column: int, height: int = 8) -> Tensor:
    radiance = torch.zeros(3, height, 2 * height)
    radiance[:, row, column] = torch.tensor([3.0, 2.0, 1.0])
    return radiance


@pytest.mark.parametrize("name", TOWARDS)
def test_a_lamp_lights_what_faces_it_and_fills_what_does_not(name: NamedLight) -> None:
    light, (x, y, z) = named_light(name), TOWARDS[name]
    # A cosine lobe lit by another, up to the second degree, misses one percent.
    assert float(brightness(light, (x, y, z))) == pytest.approx(1.0, abs=0.01)
    assert float(brightness(light, (-x, -y, -z))) == pytest.approx(0.25, abs=0.02)


def test_even_light_is_even() -> None:
    for normal in TOWARDS.values():
        assert float(brightness(named_light("even"), normal)) == pytest.approx(1.0, abs=1e-5)


@pytest.mark.parametrize("suffix", [".json", ".txt", ".npz"])
@pytest.mark.parametrize("channels", [1, 3])
def test_files_give_lights_back(tmp_path: Path, suffix: str, channels: int) -> None:
    light = torch.randn(9, channels, generator=torch.Generator().manual_seed(0))
    path = tmp_path / f"light{suffix}"
    write_light(path, light)
    assert torch.equal(read_light(path), light)


def test_lights_in_axes_of_the_world_are_turned(tmp_path: Path) -> None:
    light = torch.randn(9, 3, generator=torch.Generator().manual_seed(0))
    path = tmp_path / "light.json"
    world = head_to_world_light(light).tolist()
    path.write_text(json.dumps({"light": world, "axes": "world"}))
    assert_close(read_light(path), light)


@pytest.mark.parametrize("suffix", [".json", ".npz"])
def test_tables_of_terms_and_colours_are_read_either_way(tmp_path: Path, suffix: str) -> None:
    light, path = torch.arange(27.0).view(9, 3), tmp_path / f"light{suffix}"
    gray = light[:, :1]
    cases = ((light, light), (light.T, light), (light.flatten(), light), (gray[:, 0], gray))
    for stored, wanted in (*cases, (gray, gray)):
        if suffix == ".json":
            path.write_text(json.dumps(stored.tolist()))
        else:
            np.savez(path, light=stored.numpy())
        assert torch.equal(read_light(path), wanted)


def test_a_single_array_is_no_light(tmp_path: Path) -> None:
    with (tmp_path / "light.npz").open("wb") as file:
        np.save(file, np.zeros(9, np.float32))
    with pytest.raises(ValueError, match=r"light\.npz: not a readable .* single array"):
        read_light(tmp_path / "light.npz")


@pytest.mark.parametrize("count", [9, 27])
def test_texts_hold_terms_one_after_the_other(tmp_path: Path, count: int) -> None:
    path = tmp_path / "light.txt"
    path.write_text("\n".join(str(number) for number in range(count)))
    assert read_light(path).flatten().tolist() == list(range(count))


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        (
            "light.json",
            '{"light": [1, 2]}',
            "a light must have 9 or 27 numbers, or 9 for each of 3 colours, got shape (2,)",
        ),
        ("light.json", '{"light": "x"}', "must hold the numbers of a light"),
        ("light.json", '{"light": [], "axes": "camera"}', "axes must be head or world, got 'cam"),
        ("light.txt", "1 2 3", "must hold 9 or 27 numbers, got 3"),
        ("light.txt", "1 " * 26, "must hold 9 or 27 numbers, got 26"),
        ("light.txt", "1 " * 28, "must hold 9 or 27 numbers, got 28"),
        ("light.json", "[[1, 2, 3, 4, 5, 6, 7, 8, 9]]", "colours, got shape (1, 9)"),
        ("light.txt", "1 2 x", "must hold the numbers of a light"),
        ("light.txt", "1e39 " * 9, "must hold finite numbers"),
        ("light.json", "[1e39, 2, 3, 4, 5, 6, 7, 8, 9]", "the light must be finite"),
        ("light.json", "[NaN, 2, 3, 4, 5, 6, 7, 8, 9]", "the light must be finite"),
        ("light.json", "[[1], [1, 2]]", "must hold the numbers of a light"),
        ("light.txt", "nan " * 9, "must hold finite numbers"),
        ("light.npz", "no archive", "not a readable .npz file"),
        ("light.csv", "", "a light must end in .json, .txt, .npz"),
    ],
)
def test_files_without_lights_are_refused_by_name(
    tmp_path: Path, name: str, text: str, message: str
) -> None:
    path = tmp_path / name
    path.write_text(text)
    with pytest.raises(ValueError, match=re.escape(message)) as caught:
        read_light(path)
    assert str(path) in str(caught.value)


def test_maps_of_all_layouts_light_the_same_side(tmp_path: Path) -> None:
    """The centre of a front-centred map, and a quarter before the end of the release's, face us."""
    columns = {"world": (3, 4), "front_centered": (7, 8), "mirrored": (11, 12)}
    lights = []
    for layout, (first, second) in columns.items():
        path = tmp_path / f"{layout}.hdr"
        write_radiance(path, bright_texel(3, first) + bright_texel(4, second))
        settings = LightSettings(map_layout=layout)  # pyright: ignore[reportArgumentType]
        source = open_light(str(path), settings)
        lights.append(source.light)
        front, back = (brightness(source.light, (0.0, y, 0.0)) for y in (-1.0, 1.0))
        assert bool((front > 0.3).all())
        assert bool((back < 0.2 * front).all())
    assert_close(lights[0], lights[1])
    # Mirrored: the texels lie on the other diagonal.
    path = tmp_path / "mirrored.hdr"
    write_radiance(path, bright_texel(3, 12) + bright_texel(4, 11))
    mirrored = open_light(str(path), LightSettings(map_layout="mirrored")).light
    assert_close(mirrored, lights[0])
    assert not torch.allclose(lights[2], lights[0])


def test_a_map_is_as_bright_as_published_unless_told() -> None:
    environment = EnvironmentMap(bright_texel(2, 5))
    assert float(environment_light(exposed(environment)).max()) == pytest.approx(0.7)
    assert_close(exposed(environment, 2.0).radiance, 2.0 * environment.radiance)
    with pytest.raises(ValueError, match="exposure must be given for a map that is black"):
        exposed(EnvironmentMap(torch.zeros(3, 4, 8)))


@pytest.mark.parametrize("map_light", ["official", "official_ldr"])
def test_published_lights_are_those_of_maps_as_the_release_reads_them(
    tmp_path: Path, map_light: MapLight
) -> None:
    raw = 3.0 * torch.rand(3, 16, 32, generator=torch.Generator().manual_seed(1))
    raw[:, :6, 20:26] += torch.tensor([6.0, 4.0, 2.0])[:, None, None]
    lights = []
    for layout, stored in (("mirrored", raw), ("world", raw.flip(2))):
        path = tmp_path / f"{layout}.exr"
        write_radiance(path, stored)
        settings = LightSettings(map_layout=layout, map_light=map_light)  # pyright: ignore[reportArgumentType]
        lights.append(open_light(str(path), settings))
        wanted = official_environment_light(raw, is_low_range=map_light == "official_ldr")
        assert_close(lights[-1].light, wanted, looser=1e3, reason="files have half floats")
        assert float(lights[-1].light.max()) == pytest.approx(0.7)
        shown = lights[-1].environment
        assert shown is not None
        # As bright as the light, though not of the same colours after the blur.
        assert float(environment_light(shown)[0].mean()) == pytest.approx(
            float(lights[-1].light[0].mean()), rel=1e-5
        )
        brighter = open_light(str(path), replace(settings, exposure=2.0))
        assert_close(brighter.light, 2.0 * lights[-1].light)
        turned = open_light(str(path), replace(settings, yaw=40.0))
        assert_close(turned.light, lights[-1].turned(math.radians(40.0)).light)
    assert_close(lights[0].light, lights[1].light)
    whole = open_light(str(tmp_path / "mirrored.exr"), LightSettings(map_layout="mirrored"))
    assert not torch.allclose(whole.light, lights[0].light, atol=1e-2)


def test_dim_maps_keep_their_published_brightness(tmp_path: Path) -> None:
    path = tmp_path / "dim.exr"
    write_radiance(path, torch.full((3, 8, 16), 0.0625))
    source = open_light(str(path), LightSettings(map_light="official"))
    # The release does not divide by pi.
    assert_close(source.light[0], torch.full((3,), 0.0625 * math.sqrt(4.0 * math.pi)))
    write_radiance(path, torch.zeros(3, 8, 16))
    with pytest.raises(ValueError, match=r"dim\.exr: a map that is black has no light"):
        open_light(str(path), LightSettings(map_light="official"))


def test_light_and_surroundings_turn_together(tmp_path: Path) -> None:
    path = tmp_path / "map.exr"
    write_radiance(path, bright_texel(3, 4))
    source = open_light(str(path), LightSettings())
    turned = source.turned(2.0 * math.pi * 3 / 16)
    assert turned.environment is not None
    assert_close(turned.light, environment_light(turned.environment), looser=10.0, reason="sums")
    same = open_light(str(path), LightSettings(yaw=67.5))
    assert_close(same.light, turned.light)


def test_light_from_the_front_turns_to_the_right_of_the_picture() -> None:
    turned = open_light("front", LightSettings(yaw=90.0)).light
    assert_close(turned, named_light("right"))


def test_light_and_surroundings_turn_around_the_view_together() -> None:
    directions = envmap_directions(32, 64)
    lamp = (directions @ torch.tensor([0.8, 0.0, 0.6])).clamp(min=0.0)
    environment = EnvironmentMap(lamp.expand(3, -1, -1).contiguous())
    source = LightSource("lamp", environment_light(environment), environment)
    turned = source.turned(math.pi / 2, "view")
    assert turned.environment is not None
    wanted = (directions @ torch.tensor([0.0, 0.8, 0.6])).clamp(min=0.0)
    assert float((turned.environment.radiance[0] - wanted).abs().max()) < 0.01
    found = environment_light(turned.environment)
    assert_close(turned.light, found, looser=1e4, reason="texels are interpolated")
    right = LightSource("right", named_light("right")).turned(math.pi / 2, "view")
    assert_close(right.light, named_light("above"))


def test_exposure_multiplies_coefficients() -> None:
    assert_close(open_light("left", LightSettings(exposure=0.8)).light, 0.8 * named_light("left"))


def test_gray_light_has_the_luminance() -> None:
    light = torch.eye(9)[:, :3]
    gray = LightSource("light", light).gray().light
    assert_close(gray[:3, 0], torch.tensor([0.2126, 0.7152, 0.0722]))
    assert LightSource("light", gray).gray().light is gray


def test_no_light_shows_albedo() -> None:
    assert open_light("albedo", LightSettings()).mode == "albedo"
    assert {open_light(name, LightSettings()).mode for name in get_args(NamedLight)} == {"lit"}


def test_maps_and_settings_that_are_none_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "map.exr"
    write_radiance(path, torch.zeros(3, 4, 8))
    with pytest.raises(ValueError, match=r"map\.exr: exposure must be given"):
        open_light(str(path), LightSettings())
    with pytest.raises(ValueError, match=r"a light must be one of front, left, .*, got 'sun'"):
        open_light("sun", LightSettings())
    for changes in ({"exposure": 0.0}, {"yaw": math.inf}):
        with pytest.raises(ValueError, match=f"{next(iter(changes))} must be"):
            replace(LightSettings(), **changes)
