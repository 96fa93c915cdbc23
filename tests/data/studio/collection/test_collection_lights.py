"""Known lights: what labels say is what surfaces receive."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn.functional import normalize

from vultus.data.camera_labels import labels_to_camera, look_at_labels
from vultus.data.studio.collection import collect as collecting
from vultus.data.studio.collection.config import CollectionConfig
from vultus.data.studio.collection.lights import (
    camera_light_sh,
    draw_light,
    irradiance_on,
    world_light_sh,
)
from vultus.data.studio.tone_curve import inverse_tone_map
from vultus.geometry.spherical_harmonics import light_sh_basis
from vultus.render.lighting.lights import LightList, directional_lights

# Lambert's cosine lobe in spherical harmonics (Ramamoorthi and Hanrahan 2001).
LOBE = torch.tensor([math.pi] + 3 * [2 * math.pi / 3] + 5 * [math.pi / 4])


def white_board(sh: Tensor, normals: Tensor) -> Tensor:
    return (light_sh_basis(normals, 2) * LOBE) @ sh


def camera_to_world(yaw: float, height: float) -> Tensor:
    label = look_at_labels(
        torch.tensor([yaw]), torch.tensor([height]), target=torch.zeros(3), radius=2.7, focal=4.0
    )
    return labels_to_camera(label, 8).camera_to_world[0]


@pytest.mark.parametrize("seed", range(6))
def test_labels_give_the_brightness_of_white_boards(seed: int) -> None:
    light = draw_light(np.random.default_rng(seed), 96, 0.7)
    normals = normalize(torch.randn(200, 3, generator=torch.Generator().manual_seed(1)), dim=1)
    exact = torch.stack(
        [irradiance_on(n, light.positions[:, :3], light.intensity) / math.pi for n in normals]
    )
    # Degree 2 carries all but some per cent of what a matte surface receives.
    error = (white_board(world_light_sh(light), normals) - exact).abs().mean()
    assert float(error) < 0.05 * float(exact.mean())


def test_constant_light_has_a_known_label() -> None:
    index = torch.arange(4000) + 0.5
    height = 1 - 2 * index / 4000
    turn = index * math.pi * (3 - math.sqrt(5))
    ring = (1 - height**2).sqrt()
    directions = torch.stack([ring * turn.cos(), height, ring * turn.sin()], dim=1)
    light = directional_lights(directions, torch.full((4000, 3), 2.0 * 4 * math.pi / 4000))
    sh = world_light_sh(light)
    assert float(sh[0, 0]) == pytest.approx(2.0 * math.sqrt(4 * math.pi) / math.pi, rel=1e-4)
    assert float(sh[1:].abs().max()) < 1e-3


def test_camera_labels_have_the_axes_of_dpr() -> None:
    # Before a frontal camera: X is the world's x, Y its -z, Z its y.
    sh = torch.randn(9, 3, generator=torch.Generator().manual_seed(2))
    turned = camera_light_sh(sh, camera_to_world(0.0, 0.0))
    d = normalize(torch.randn(50, 3, generator=torch.Generator().manual_seed(3)), dim=1)
    seen = torch.stack([d[:, 0], -d[:, 2], d[:, 1]], dim=1)
    assert torch.allclose(light_sh_basis(seen, 2) @ turned, light_sh_basis(d, 2) @ sh, atol=1e-5)
    # Light from behind the camera has a negative second coefficient, whatever the camera.
    for yaw, height in ((0.0, 0.0), (2.0, 0.4), (-1.0, -0.5)):
        pose = camera_to_world(yaw, height)
        lamp = directional_lights(-pose[None, :3, 2], torch.ones(1, 3))
        label = camera_light_sh(world_light_sh(lamp), pose)
        assert float(label[1, 0]) == pytest.approx(-math.sqrt(3 / (4 * math.pi)) / math.pi, 1e-4)
        assert float(label[2:4].abs().max()) < 1e-5


def test_exposure_suits_what_the_camera_sees() -> None:
    for seed, yaw in ((0, 0.0), (1, 2.5), (2, -1.4)):
        light = draw_light(np.random.default_rng(seed), 64, yaw)
        board = torch.tensor([math.sin(yaw), 0.0, math.cos(yaw)])
        seen = irradiance_on(board, light.positions[:, :3], light.intensity).mean() / math.pi
        assert 0.49 < float(seen) < 1.01


def test_all_lights_stand_at_the_same_places() -> None:
    first, second = (draw_light(np.random.default_rng(s), 32, 0.3) for s in (0, 1))
    assert torch.equal(first.positions, second.positions)
    assert not torch.equal(first.intensity, second.intensity)
    assert isinstance(first, LightList)


def test_labels_predict_the_shading_of_pictures() -> None:
    """Pictures show albedo times the label's light on the normal, up to shadows and gloss."""
    config = CollectionConfig(size=32, views=6, samples=1)
    sitting = collecting._prepare(config, (0, 6))
    gains, right, wrong = [], [], []
    taken = collecting._shoot(config, iter([sitting]), 1, torch.device("cpu"))
    for (_, frame), shot in zip(taken, sitting.shots, strict=True):
        is_skin = (frame.alpha[0] == 1) & (frame.albedo.mean(dim=0) > 0.08)
        is_skin &= frame.normals.norm(dim=0) > 0.5
        pose = labels_to_camera(shot.label[None], 1).camera_to_world[0]
        right_, down, forward = pose[:3, :3].unbind(dim=1)
        normals = frame.normals[:, is_skin].T @ torch.stack([right_, forward, -down]).T
        label = camera_light_sh(world_light_sh(shot.light), pose)
        shading = (inverse_tone_map(frame.rgb) / frame.albedo)[:, is_skin].mean(dim=0)
        predicted = white_board(label, normals).mean(dim=1)
        other_axes = white_board(label, normals.roll(1, dims=1)).mean(dim=1)
        albedo = frame.albedo[:, is_skin].mean(dim=0)
        gains.append(float((albedo * shading).sum() / (albedo * predicted).sum()))
        right.append(float(torch.corrcoef(torch.stack([shading, predicted]))[0, 1]))
        wrong.append(float(torch.corrcoef(torch.stack([shading, other_axes]))[0, 1]))
    assert float(np.mean(gains)) == pytest.approx(1.0, abs=0.08)
    assert float(np.mean(right)) > 0.5
    assert float(np.mean(wrong)) < 0.25
