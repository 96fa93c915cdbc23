"""Lights in the axes of the head, and heads with baked light as splat files."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from torch import Tensor

from vultus.data.camera_labels import labels_to_camera, look_at_labels
from vultus.data.light_labels import camera_to_head_lights
from vultus.data.studio.collection.lights import camera_light_sh, world_light_sh
from vultus.gaussians.splat_files import read_splats, write_splats
from vultus.geometry.rotations import axis_angle_to_matrix
from vultus.geometry.spherical_harmonics import light_sh_basis
from vultus.methods.gsheadrelight.gaussians import HeadGaussians
from vultus.methods.gsheadrelight.light_sources import LightSource, TurnAxis
from vultus.methods.gsheadrelight.lights import (
    environment_light,
    head_to_world_light,
    labels_to_light,
    light_to_labels,
    lit_ball,
    turn_around_up,
    turn_light,
    world_to_head_light,
)
from vultus.methods.gsheadrelight.rendering import SH_C0, render_channels, shade
from vultus.methods.gsheadrelight.splats import lit_splats
from vultus.render.lighting.envmap import EnvironmentMap, envmap_directions
from vultus.render.lighting.lights import LightList


def drawn(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


def lamp(direction: tuple[float, float, float]) -> LightList:
    """One white light at infinity."""
    position = torch.tensor([[*direction, 0.0]])
    return LightList(position, torch.ones(1, 3), torch.zeros(1))


def camera_labels(*yaws: float) -> Tensor:
    yaw = torch.tensor(yaws)
    target = torch.tensor([0.0, 0.0, 0.1])
    return look_at_labels(yaw, 0.4 * yaw.sin(), target=target, radius=2.7, focal=4.0)


def test_labels_of_27_numbers_are_ordered_by_coefficient() -> None:
    labels = torch.arange(54.0).view(2, 27)
    light = labels_to_light(labels)
    assert light[1, 4].tolist() == [39.0, 40.0, 41.0]
    assert torch.equal(light_to_labels(light), labels)
    assert labels_to_light(labels[:, :9]).shape == (2, 9, 1)
    with pytest.raises(ValueError, match="labels must have 9 or 27 numbers, got 8"):
        labels_to_light(labels[:, :8])


@pytest.mark.parametrize(
    ("direction", "axis"),
    [((1.0, 0.0, 0.0), 3), ((0.0, 0.0, -1.0), 1), ((0.0, 1.0, 0.0), 2)],
    ids=["right", "behind", "above"],
)
def test_a_lamp_in_the_world_lies_on_its_axis_of_the_head(
    direction: tuple[float, float, float], axis: int
) -> None:
    light = world_to_head_light(world_light_sh(lamp(direction)))
    linear = light[1:4, 0]
    assert float(linear[axis - 1]) > 0.1
    assert float(linear.abs().sum() - linear[axis - 1]) == pytest.approx(0.0, abs=1e-6)


def test_labels_of_a_collection_become_the_same_light_for_all_cameras() -> None:
    world = drawn(9, 3)
    labels = camera_labels(-1.2, 0.0, 0.3, 2.9)
    cameras = labels_to_camera(labels, 1).camera_to_world
    seen = torch.stack([camera_light_sh(world, camera) for camera in cameras])
    head = labels_to_light(camera_to_head_lights(light_to_labels(seen), labels))
    assert torch.allclose(head, world_to_head_light(world).expand(4, 9, 3), atol=1e-5)
    assert float((seen - seen[1]).abs().max()) > 0.1
    assert torch.allclose(head_to_world_light(head[0]), world, atol=1e-5)


def test_turning_a_light_turns_where_it_comes_from() -> None:
    turn = axis_angle_to_matrix(torch.tensor([0.3, -0.8, 1.1]).double())
    light, direction = drawn(9, 1).double(), torch.tensor([0.6, 0.0, 0.8]).double()
    before = light_sh_basis(direction, 2) @ light
    after = light_sh_basis(turn @ direction, 2) @ turn_light(light, turn)
    assert torch.allclose(before, after)


def test_turns_around_up_are_turns() -> None:
    lights, angles = drawn(3, 9, 3), torch.tensor([0.0, 0.7, -2.5])
    turned = turn_around_up(lights, angles)
    for light, angle, found in zip(lights, angles, turned, strict=True):
        turn = axis_angle_to_matrix(torch.tensor([0.0, 0.0, float(angle)]))
        assert torch.allclose(found, turn_light(light, turn), atol=1e-5)


def test_an_even_environment_lights_as_bright_as_it_is() -> None:
    light = environment_light(EnvironmentMap.constant((0.25, 0.5, 1.0), height=128))
    assert float(light[1:].abs().max()) < 1e-4
    ball = lit_ball(light, 33)
    assert torch.allclose(ball[:, 16, 16], torch.tensor([0.25, 0.5, 1.0]), atol=1e-4)


def test_turned_surroundings_are_turned_lights() -> None:
    directions = envmap_directions(64, 128)
    spot = (8.0 * (directions @ torch.tensor([0.6, 0.0, 0.8]) - 1.0)).exp()
    environment = EnvironmentMap(spot.expand(3, -1, -1).clone())
    angle = 2.0 * math.pi * 5 / 128
    # +y of the world is Z of a light.
    turn = axis_angle_to_matrix(torch.tensor([0.0, 0.0, angle]))
    expected = turn_light(environment_light(environment), turn)
    found = environment_light(environment.rotated(angle))
    assert torch.allclose(found, expected, atol=1e-4)
    assert torch.allclose(environment_light(environment, 2.0)[0], 2.0 * expected[0], atol=1e-4)


def test_a_ball_is_bright_where_its_lamp_is() -> None:
    light = world_to_head_light(world_light_sh(lamp((1.0, 0.0, 0.0))))
    ball = lit_ball(light, 65)[0]
    assert float(ball[32, 60]) > float(ball[32, 32]) > float(ball[32, 4])


def test_large_balls_are_shown_too() -> None:
    light = torch.zeros(9, 3)
    light[0], light[3] = 1.0, 0.3
    ball = lit_ball(light, 2400)  # torch.quantile takes at most 2**24 numbers.
    assert ball.numel() > 2**24
    small = lit_ball(light, 240)
    assert torch.allclose(ball.amax(dim=(1, 2)), small.amax(dim=(1, 2)), atol=2e-3)


def a_head() -> HeadGaussians:
    random = torch.Generator().manual_seed(3)
    means, sizes = (torch.randn(2, 40, 3, generator=random) for _ in range(2))
    quats, opacity, albedo, transfer = (
        torch.randn(2, 40, size, generator=random) for size in (4, 1, 3, 9)
    )
    return HeadGaussians(0.2 * means, 0.3 * sizes - 3.0, quats, opacity, albedo, transfer)


def test_splat_files_hold_the_lit_head(tmp_path: Path) -> None:
    head, light = a_head(), drawn(9, 3)
    path = tmp_path / "head.ply"
    write_splats(path, lit_splats(head, light, index=1))
    read = read_splats(path)
    camera = labels_to_camera(camera_labels(0.4), 48)
    color = (0.5 + SH_C0 * read.sh_dc[None, :, 0]).clamp(min=0.0)
    back = HeadGaussians(
        read.means[None],
        read.log_scales[None],
        read.quats[None],
        read.opacity_logits[None, :, None],
        head.albedo_dc[1:],
        head.transfer[1:],
    )
    one = head.select(1)
    expected = render_channels(one, shade(one, light[None]), camera).image
    assert float(expected.max()) > -0.5
    assert torch.allclose(render_channels(back, color, camera).image, expected, atol=1e-5)


def test_lights_of_a_film_go_around() -> None:
    source = LightSource("", drawn(9, 1))
    light = source.light
    axes: dict[TurnAxis, int] = {"up": 2, "view": 1}
    for around, axis in axes.items():
        turned = torch.stack(
            [source.turned(math.tau * step / 7, around).light for step in range(7)]
        )
        assert torch.allclose(turned[0], light)
        # What lies on the axis stays, all else averages out.
        linear = turned[:, [3, 1, 2], 0]
        assert torch.allclose(linear[:, axis], linear[0, axis].expand(7), atol=1e-5)
        rest = linear[:, [other for other in range(3) if other != axis]]
        assert torch.allclose(rest.mean(dim=0), torch.zeros(2), atol=1e-5)
        assert float((rest - rest[0]).abs().max()) > 0.1


def test_a_light_from_the_right_turns_to_behind_and_to_above() -> None:
    right = world_to_head_light(world_light_sh(lamp((1.0, 0.0, 0.0))))
    behind = world_to_head_light(world_light_sh(lamp((0.0, 0.0, -1.0))))
    above = world_to_head_light(world_light_sh(lamp((0.0, 1.0, 0.0))))
    source = LightSource("right", right)
    assert torch.allclose(source.turned(math.pi / 2).light, behind, atol=1e-5)
    assert torch.allclose(source.turned(math.pi / 2, "view").light, above, atol=1e-5)
