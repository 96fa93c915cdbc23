"""Environment maps from files and by name, and backgrounds that show them."""

from __future__ import annotations

from typing import get_args

import pytest
import torch

from tolerances import assert_close
from vultus.core.image_io import write_radiance
from vultus.geometry.cameras import Camera, look_at
from vultus.render.lighting.environments import (
    EnvironmentName,
    made_environment,
    read_environment,
    see_surroundings,
)
from vultus.render.lighting.envmap import envmap_directions, to_front_centered


def facing(eye: tuple[float, float, float]) -> Camera:
    """Looks at the origin, with 90 degrees across."""
    intrinsics = torch.tensor([[[4.5, 0.0, 4.5], [0.0, 4.5, 4.5], [0.0, 0.0, 1.0]]])
    return Camera(look_at(torch.tensor([eye]), torch.zeros(3)), intrinsics, 9, 9)


@pytest.mark.parametrize("suffix", [".exr", ".hdr"])
def test_files_come_back_in_all_layouts(tmp_path, suffix) -> None:
    radiance = made_environment("three_point", 8).radiance
    write_radiance(tmp_path / f"world{suffix}", radiance)
    write_radiance(tmp_path / f"centered{suffix}", to_front_centered(radiance[None])[0])
    world = read_environment(tmp_path / f"world{suffix}")
    torch.testing.assert_close(world.radiance, radiance, rtol=0.02, atol=0.02)
    centered = read_environment(tmp_path / f"centered{suffix}", "front_centered")
    assert torch.equal(centered.radiance, world.radiance)
    write_radiance(tmp_path / f"mirrored{suffix}", radiance.flip(2))
    mirrored = read_environment(tmp_path / f"mirrored{suffix}", "mirrored")
    assert torch.equal(mirrored.radiance, world.radiance)


def test_files_of_another_shape_are_refused(tmp_path) -> None:
    write_radiance(tmp_path / "square.exr", torch.ones(3, 8, 8))
    with pytest.raises(ValueError, match=r"square.exr: must be twice as wide as high, got 8 x 8"):
        read_environment(tmp_path / "square.exr")
    write_radiance(tmp_path / "dark.exr", -torch.ones(3, 8, 16))
    with pytest.raises(ValueError, match=r"dark.exr: radiance .* must not be negative"):
        read_environment(tmp_path / "dark.exr")
    with pytest.raises(FileNotFoundError, match=r"none\.hdr"):
        read_environment(tmp_path / "none.hdr")


@pytest.mark.parametrize("name", get_args(EnvironmentName))
def test_made_maps_hold_the_same_light_at_every_size(name) -> None:
    coarse, fine = made_environment(name, 32), made_environment(name, 100)
    torch.testing.assert_close(coarse.mean(), fine.mean(), rtol=1e-4, atol=0.0)


def test_the_key_lamp_stands_to_the_subjects_left_and_above() -> None:
    radiance = made_environment("three_point", 64).radiance.sum(dim=0)
    brightest = envmap_directions(64, 128).reshape(-1, 3)[int(radiance.argmax())]
    assert bool((brightest > 0.3).all())


def test_a_camera_sees_the_light_where_it_stands() -> None:
    towards = torch.nn.functional.normalize(torch.tensor([0.3, 0.2, -0.9]), dim=0)
    glow = (30 * (envmap_directions(32, 64) @ towards - 1)).exp().expand(3, -1, -1)
    camera = facing((0.0, 0.0, 2.0))
    picture = see_surroundings(glow, camera, torch.eye(3)[None])[0, 0]
    row, column = divmod(int(picture.argmax()), 9)
    # The light is to the right of and above the centre: pixels of 9 per 90 degrees.
    assert (row, column) == (3, 6)


def test_surroundings_that_turn_with_the_camera_always_look_the_same() -> None:
    radiance = torch.rand(3, 16, 32, generator=torch.Generator().manual_seed(0))
    flip = torch.diag(torch.tensor([1.0, -1.0, -1.0]))
    pictures = []
    for eye in ((0.0, 0.0, 2.0), (1.0, 0.6, -0.4)):
        camera = facing(eye)
        turn = camera.world_to_camera[:, :3, :3].mT @ flip
        pictures.append(see_surroundings(radiance, camera, turn))
    assert_close(pictures[0], pictures[1], looser=10.0, reason="angles near texel borders")
