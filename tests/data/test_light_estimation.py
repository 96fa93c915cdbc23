"""The light of pictures whose normals and albedo are known."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn.functional import normalize

from tiny_image_sets import labels_at
from vultus.core.srgb import linear_to_srgb
from vultus.data.light_estimation import decode_normals, estimate_light
from vultus.data.light_labels import label_axes
from vultus.data.studio.collection import collect
from vultus.data.studio.collection.config import CollectionConfig
from vultus.data.studio.collection.lights import camera_light_sh, world_light_sh
from vultus.geometry.spherical_harmonics import COSINE_LOBE, light_sh_basis
from vultus.metrics.light_probe import light_distance

SIZE = 48


def ball() -> tuple[Tensor, Tensor]:
    """Normals of a ball in axes of light labels, and its mask."""
    x = (torch.arange(SIZE) + 0.5) / SIZE * 2.0 - 1.0
    up, right = torch.meshgrid(-x, x, indexing="ij")
    square = right.square() + up.square()
    normals = torch.stack([right, -(1.0 - square).clamp(min=0.0).sqrt(), up])
    mask = (square < 1.0)[None].float()
    return normals * mask, mask


def picture(normals: Tensor, light: Tensor, albedo: Tensor) -> Tensor:
    terms = light_sh_basis(normals.permute(1, 2, 0), 2) * torch.tensor(COSINE_LOBE)
    return linear_to_srgb((albedo * (terms @ light).permute(2, 0, 1)).clamp(0.0, 1.0))


def a_light() -> Tensor:
    light = 0.05 * torch.randn(9, 3, generator=torch.Generator().manual_seed(0))
    light[0] += 0.5
    return light


def test_the_light_of_a_ball_is_found() -> None:
    normals, mask = ball()
    albedo = 0.3 + 0.4 * torch.rand(3, SIZE, SIZE, generator=torch.Generator().manual_seed(1))
    light = a_light()
    found = estimate_light(picture(normals, light, albedo), normals, mask, albedo)
    # Half of the sphere is not seen: what changes little there is held back a little.
    assert float(light_distance(found.light.T, light.T).max()) < 0.15
    assert found.explained > 0.99


def test_albedo_that_is_not_known_is_taken_for_light() -> None:
    normals, mask = ball()
    albedo = torch.tensor([0.8, 0.4, 0.2])[:, None, None].expand(3, SIZE, SIZE)
    light = a_light()
    found = estimate_light(picture(normals, light, albedo), normals, mask)
    tinted = light * torch.tensor([0.8, 0.4, 0.2])
    assert float(light_distance(found.light.T, tinted.T).max()) < 0.15
    assert torch.allclose(found.light[0], tinted[0], rtol=0.2)


def test_shadows_and_gloss_are_outvoted() -> None:
    normals, mask = ball()
    albedo, light = torch.full((3, SIZE, SIZE), 0.6), a_light()
    spoiled = picture(normals, light, albedo)
    spoiled[:, :, 8:14] = 0.0
    spoiled[:, 30:33] = 0.95
    found = estimate_light(spoiled, normals, mask, albedo)
    assert float(light_distance(found.light.T, light.T).max()) < 0.15
    assert found.explained < 0.9


def test_normals_of_cameras_and_of_the_world_say_the_same() -> None:
    label = labels_at([0.6])[0]
    world = normalize(torch.randn(3, 4, 4, generator=torch.Generator().manual_seed(2)), dim=0)
    axes = label_axes(label[None])[0].float()
    expected = torch.einsum("ij,jhw->ihw", axes, world)
    assert torch.allclose(decode_normals(0.5 + 0.5 * world, "world", label), expected, atol=1e-5)
    right, into, up = expected
    camera = torch.stack([right, up, -into])
    assert torch.allclose(decode_normals(0.5 + 0.5 * camera, "camera", label), expected, atol=1e-5)


def test_pictures_that_say_too_little_are_refused() -> None:
    normals, mask = ball()
    with pytest.raises(ValueError, match=r"50 pixels must be covered, .* got 0"):
        estimate_light(torch.ones(3, SIZE, SIZE), normals, mask)


def test_the_light_of_people_in_the_studio_is_found() -> None:
    config = CollectionConfig(size=64, yaw_range=0.9, backdrop="transparent", views=6)
    cpu = torch.device("cpu")
    found, wanted = [], []
    for number in range(2):
        sitting = collect._prepare(config, (number, 6))
        frames = collect._shoot(config, iter([sitting]), 1, cpu)
        cameras = collect._cameras(config, sitting.shots).camera_to_world
        for shot, camera, (_, frame) in zip(sitting.shots, cameras, frames, strict=True):
            axes = label_axes(shot.label[None])[0].float()
            normals = torch.einsum("ij,jhw->ihw", axes, frame.normals)
            light = estimate_light(frame.rgb, normals, frame.alpha, frame.albedo).light
            found.append(light.mean(dim=1))
            wanted.append(camera_light_sh(world_light_sh(shot.light), camera).mean(dim=1))
    lights = torch.stack(wanted)
    error = light_distance(torch.stack(found), lights).mean()
    blind = light_distance(lights.mean(dim=0).expand_as(lights), lights).mean()
    assert float(error) < 0.75 * float(blind)
