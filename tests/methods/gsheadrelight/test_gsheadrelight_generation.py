"""Heads generated for training: cameras, lights and swaps; and that training learns."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from relight_heads import TINY, built
from vultus.data.camera_labels import label_angles, look_at_labels
from vultus.methods.gsheadrelight.config import (
    DiscriminatorConfig,
    GSHeadRelightConfig,
    ObjectiveConfig,
    ViewConfig,
)
from vultus.methods.gsheadrelight.discriminator import Discriminator
from vultus.methods.gsheadrelight.generation import (
    GenerationDraws,
    draw_generation,
    generate_batch,
    random_cameras,
)
from vultus.methods.gsheadrelight.generator import Generator
from vultus.methods.gsheadrelight.lights import labels_to_light, light_to_labels, turn_around_up
from vultus.methods.gsheadrelight.objectives import Judge, discriminator_losses, generator_losses

CONFIG = GSHeadRelightConfig(
    generator=TINY,
    discriminator=DiscriminatorConfig(image_size=32, channel_base=256, channel_max=16, clamp=None),
    objective=ObjectiveConfig(compactness_neighbors=8, blur_fade=0),
)


def labels(count: int) -> Tensor:
    yaw = torch.linspace(-0.5, 0.5, count)
    return look_at_labels(yaw, 0.2 * yaw, target=torch.zeros(3), radius=2.7, focal=2.0)


def inputs(count: int = 2) -> tuple[Tensor, Tensor, Tensor]:
    """Latents, cameras, lights."""
    random = torch.Generator().manual_seed(1)
    z = torch.randn(count, TINY.z_dim, generator=random)
    return z, labels(count), torch.randn(count, 9, generator=random)


def draws(**changes: Tensor) -> GenerationDraws:
    """No swap, no random camera, no turn."""
    still = GenerationDraws(*[torch.full((2,), value) for value in (0.99, 0.99, 0.0, 0.5, 0.5)])
    return still._replace(**changes)


@pytest.fixture(scope="module")
def generator() -> Generator:
    return built()


@torch.no_grad()
def test_without_chance_heads_are_seen_and_lit_as_labelled(generator: Generator) -> None:
    z, cameras, lights = inputs()
    made = generate_batch(generator, z, cameras, lights, draws(), CONFIG, 10**9)
    assert torch.equal(made.labels, cameras)
    assert torch.equal(made.lights, lights)
    assert torch.equal(made.ws, generator.map(z, cameras))
    head = generator.gaussians(made.ws)
    expected = generator.render(head, labels_to_light(lights), cameras).image
    assert torch.equal(made.images, expected)
    assert made.anchors.shape == (2, TINY.num_points, 3)


@torch.no_grad()
def test_swaps_condition_on_the_camera_of_another(generator: Generator) -> None:
    z, cameras, lights = inputs()
    swap = draws(pose_swap=torch.tensor([0.4, 0.6]))
    early = generate_batch(generator, z, cameras, lights, swap, CONFIG, 0)
    assert torch.equal(early.ws, generator.map(z, cameras.roll(1, 0)))
    late = generate_batch(generator, z, cameras, lights, swap, CONFIG, 10**9)
    condition = torch.stack([cameras[1], cameras[1]])
    assert torch.equal(late.ws, generator.map(z, condition))
    assert torch.equal(late.labels, cameras)


@torch.no_grad()
def test_turned_lights_come_with_turned_labels(generator: Generator) -> None:
    z, cameras, lights = inputs()
    config = replace(CONFIG, views=ViewConfig(light_turn=180.0))
    turn = draws(light_turn=torch.tensor([0.5, 0.75]))
    made = generate_batch(generator, z, cameras, lights, turn, config, 10**9)
    angles = torch.tensor([0.0, torch.pi / 2])
    expected = light_to_labels(turn_around_up(labels_to_light(lights), angles))
    assert torch.allclose(made.lights, expected, atol=1e-6)


def test_random_cameras_spread_as_configured() -> None:
    drawn = draw_generation(4000, torch.Generator().manual_seed(2))
    views = ViewConfig()
    made = random_cameras(labels(4000), drawn.yaw, drawn.height, views)
    yaw = torch.rad2deg(label_angles(made)[:, 0])
    height = made[:, 7] / views.distance * 90.0
    assert float(yaw.std()) == pytest.approx(views.yaw_deviation, rel=0.05)
    assert float(height.min()) >= views.height_center - views.height_range - 1e-3
    assert float(height.max()) <= views.height_center + views.height_range + 1e-3
    assert float(height.mean()) == pytest.approx(views.height_center, abs=1.0)
    assert torch.equal(made[:, 16:], labels(4000)[:, 16:])


def test_steps_of_both_networks_change_their_losses() -> None:
    generator = built()
    discriminator = Discriminator(CONFIG.discriminator, torch.Generator().manual_seed(3))
    z, cameras, lights = inputs(4)
    chance = draw_generation(4, torch.Generator().manual_seed(4))
    real = torch.rand(4, 3, 32, 32, generator=torch.Generator().manual_seed(5))
    judge = Judge(discriminator, CONFIG.objective, 0)

    def fakes():
        return generate_batch(generator, z, cameras, lights, chance, CONFIG, 0)

    def of_discriminator() -> Tensor:
        made = fakes()
        result = discriminator_losses(
            judge, made.images, made.labels, made.lights, real, cameras, lights
        )
        return torch.stack(list(result.losses.values())).sum()

    def of_generator() -> Tensor:
        made = fakes()
        result = generator_losses(judge, made.images, made.labels, made.lights, made.anchors)
        return torch.stack(list(result.losses.values())).sum()

    for network, loss in ((discriminator, of_discriminator), (generator, of_generator)):
        optimizer = torch.optim.Adam(network.parameters(), 2e-3, betas=(0.0, 0.99))
        first = loss()
        for _ in range(16):
            optimizer.zero_grad()
            loss().backward()
            optimizer.step()
        assert loss().item() < 0.9 * first.item()
