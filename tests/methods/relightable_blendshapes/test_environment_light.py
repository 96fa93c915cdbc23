"""The unknown light: parameters, frame, regularisers."""

from __future__ import annotations

import math

import pytest
import torch

from tolerances import assert_close
from vultus.data.relighting import light_to_world
from vultus.geometry.cameras import Camera, look_at
from vultus.methods.relightable_blendshapes.environment import (
    light_cosines,
    light_energy,
    light_variation,
    radiance_to_raw,
    raw_to_radiance,
)
from vultus.render.lighting.texels import TexelGrid


def test_radiance_survives_its_parameters() -> None:
    radiance = torch.tensor([1e-5, 0.1, 1.0, 50.0, 1e4], dtype=torch.float64).expand(3, 2, 5)
    assert_close(raw_to_radiance(radiance_to_raw(radiance)), radiance)
    assert radiance_to_raw(torch.ones(3, 1, 1)).mean().item() == pytest.approx(math.log(math.e - 1))


def test_dark_texels_can_be_lit_again() -> None:
    raw = radiance_to_raw(torch.zeros(3, 1, 2)).requires_grad_()
    raw_to_radiance(raw).sum().backward()
    assert raw.grad is not None
    assert bool((raw.grad > 0).all())


@pytest.mark.parametrize("eye", [(0.0, 0.0, 1.0), (0.7, 0.2, 0.5)])
def test_light_from_behind_the_camera_is_a_quarter_from_the_left_border(eye) -> None:
    eye = torch.tensor([eye])
    camera = Camera(look_at(eye, torch.zeros(3)), torch.eye(3)[None], 8, 8)
    # Between columns 7 and 8 of 32 and rows 7 and 8 of 16.
    directions = TexelGrid.build(16, 32).directions.reshape(16, 32, 3)[7:9, 7:9].mean(dim=(0, 1))
    towards = light_to_world(camera, "camera_opengl")[0] @ directions
    assert_close(towards / towards.norm(), eye[0] / eye.norm())


def test_light_of_the_world_does_not_turn_with_the_camera() -> None:
    camera = Camera(look_at(torch.randn(3, 3), torch.zeros(3)), torch.eye(3).expand(3, 3, 3), 8, 8)
    assert torch.equal(light_to_world(camera, "world"), torch.eye(3).expand(3, 3, 3))


def test_the_frame_of_the_camera_is_a_rotation_with_opengl_axes() -> None:
    camera = Camera(look_at(torch.randn(2, 3), torch.zeros(3)), torch.eye(3).expand(2, 3, 3), 8, 8)
    matrix = light_to_world(camera, "camera_opengl")
    assert_close(torch.linalg.det(matrix), torch.ones(2))
    flip = torch.diag(torch.tensor([1.0, -1.0, -1.0]))
    assert_close(matrix, camera.world_to_camera[:, :3, :3].mT @ flip)


def test_variation_wraps_around_and_does_not_care_for_exposure() -> None:
    radiance = torch.rand(3, 4, 8, generator=torch.Generator().manual_seed(0)) + 0.1
    assert light_variation(torch.full((3, 4, 8), 7.0)).item() == 0.0
    assert_close(light_variation(radiance.roll(3, dims=2)), light_variation(radiance))
    assert_close(light_variation(5 * radiance), light_variation(radiance))
    step = torch.ones(3, 1, 4)
    step[:, :, 0] = math.e
    assert light_variation(step).item() == pytest.approx(2 / 4)


def test_energy_is_the_mean_luminance_over_the_sphere() -> None:
    angles = TexelGrid.build(8, 16).solid_angles
    assert light_energy(torch.ones(3, 8, 16), angles).item() == pytest.approx(0.0, abs=1e-10)
    assert light_energy(torch.full((3, 8, 16), 3.0), angles).item() == pytest.approx(4.0, rel=1e-4)
    upper = torch.ones(3, 8, 16)
    upper[:, 4:] = 0.0
    assert light_energy(upper, angles).item() == pytest.approx(0.25, rel=1e-4)


def test_maps_are_compared_by_direction_over_all_and_over_lit_texels() -> None:
    true = torch.full((3, 2, 4), 0.1)
    true[:, 0, :2] = torch.tensor([1.0, 2.0])
    found = 3.0 * true
    assert light_cosines(found, true) == pytest.approx(
        {"light_cosine": 1.0, "lit_light_cosine": 1.0}
    )
    found[:, 1] = 5.0
    wrong_in_the_dark = light_cosines(found, true)
    assert wrong_in_the_dark["lit_light_cosine"] == pytest.approx(1.0)
    # (3 x 5 + 2 x 0.3 x 0.1 + 4 x 5 x 0.1) over both lengths.
    lengths = math.sqrt(9 * 5 + 2 * 0.09 + 4 * 25) * math.sqrt(5 + 6 * 0.01)
    assert wrong_in_the_dark["light_cosine"] == pytest.approx((15 + 0.06 + 2) / lengths, rel=1e-5)
