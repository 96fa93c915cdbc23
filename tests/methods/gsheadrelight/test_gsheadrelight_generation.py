"""Heads generated for training: cameras, lights and swaps; and that training learns."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from relight_heads import TINY, built
from vultus.data.camera_labels import label_angles, labels_to_camera, look_at_labels
from vultus.geometry.cameras import look_at
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
    vary_conditions,
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


STILL = torch.full((2,), 0.99)
"""Swaps nothing."""


def draws(**changes: Tensor) -> GenerationDraws:
    """No swap, no random camera, no turn, no tint."""
    still = GenerationDraws(
        *[torch.full((2,), value) for value in (0.99, 0.99, 0.0, 0.5, 0.5, 0.0)], torch.zeros(2, 3)
    )
    return still._replace(**changes)


@pytest.fixture(scope="module")
def generator() -> Generator:
    return built()


@torch.no_grad()
def test_without_chance_heads_are_seen_and_lit_as_labelled(generator: Generator) -> None:
    z, cameras, lights = inputs()
    kept = vary_conditions(cameras, lights, draws(), ViewConfig())
    assert torch.equal(kept[0], cameras)
    assert torch.equal(kept[1], lights)
    made = generate_batch(generator, z, cameras, lights, STILL, CONFIG.objective, 10**9)
    assert torch.equal(made.ws, generator.map(z, cameras))
    head = generator.gaussians(made.ws)
    expected = generator.render(head, labels_to_light(lights), cameras).image
    assert torch.equal(made.images, expected)
    assert made.anchors.shape == (2, TINY.num_points, 3)


@torch.no_grad()
def test_swaps_condition_on_the_camera_of_another(generator: Generator) -> None:
    z, cameras, lights = inputs()
    swaps = torch.tensor([0.4, 0.6])
    early = generate_batch(generator, z, cameras, lights, swaps, CONFIG.objective, 0)
    assert torch.equal(early.ws, generator.map(z, cameras.roll(1, 0)))
    late = generate_batch(generator, z, cameras, lights, swaps, CONFIG.objective, 10**9)
    condition = torch.stack([cameras[1], cameras[1]])
    assert torch.equal(late.ws, generator.map(z, condition))


@torch.no_grad()
def test_scenery_is_behind_heads_from_its_start_on(generator: Generator) -> None:
    z, cameras, lights = inputs()
    objective = replace(CONFIG.objective, background="scenery", scenery_start=100)
    made = [
        generate_batch(generator, z, cameras, lights, STILL, objective, seen).images
        for seen in (99, 100)
    ]
    plain = generate_batch(generator, z, cameras, lights, STILL, CONFIG.objective, 100).images
    assert torch.equal(made[0], plain)
    assert not torch.equal(made[1], plain)


def test_turned_lights_are_those_of_turned_surroundings() -> None:
    _, cameras, lights = inputs()
    turn = draws(light_turn=torch.tensor([0.5, 0.75]))
    _, turned = vary_conditions(cameras, lights, turn, ViewConfig(light_turn=180.0))
    angles = torch.tensor([0.0, torch.pi / 2])
    expected = light_to_labels(turn_around_up(labels_to_light(lights), angles))
    assert torch.allclose(turned, expected, atol=1e-6)


def test_lights_become_stronger_and_weaker_with_their_labels() -> None:
    _, cameras, lights = inputs()
    change = draws(light_gain=torch.tensor([1.0, -2.0]))
    _, changed = vary_conditions(cameras, lights, change, ViewConfig(light_gain=0.5))
    factors = torch.tensor([0.5, -1.0]).exp()[:, None]
    assert torch.allclose(changed, lights * factors)


def test_tinted_lights_keep_their_directions_and_brightness() -> None:
    """Every colour has one factor for all its terms, and factors have no part in common."""
    _, cameras, _ = inputs()
    lights = torch.randn(2, 27, generator=torch.Generator().manual_seed(6))
    tint = draws(light_tint=torch.tensor([[1.0, 1.0, 1.0], [3.0, 0.0, 0.0]]))
    _, tinted = vary_conditions(cameras, lights, tint, ViewConfig(light_tint=0.5))
    factors = (labels_to_light(tinted) / labels_to_light(lights)).log()
    assert torch.allclose(factors, factors[:, :1].expand(-1, 9, -1), atol=1e-5)
    expected = torch.tensor([[0.0, 0.0, 0.0], [1.0, -0.5, -0.5]])
    assert torch.allclose(factors[:, 0], expected, atol=1e-5)
    _, same = vary_conditions(cameras, lights, tint, ViewConfig())
    assert torch.equal(same, lights)


def test_tints_spread_as_configured() -> None:
    drawn = draw_generation(4000, torch.Generator().manual_seed(7))
    _, tinted = vary_conditions(
        labels(4000), torch.ones(4000, 27), drawn, ViewConfig(light_tint=0.3)
    )
    logs = labels_to_light(tinted)[:, 0].log()
    # Of three, one is spent on their mean.
    assert float(logs.std()) == pytest.approx(0.3 * (2 / 3) ** 0.5, rel=0.05)
    assert float(logs.sum(dim=1).abs().max()) < 1e-5


def test_lights_without_colors_take_no_tint() -> None:
    _, cameras, lights = inputs()
    with pytest.raises(ValueError, match="lights must have 27 numbers to be tinted, got 9"):
        vary_conditions(cameras, lights, draws(), ViewConfig(light_tint=0.5))
    with pytest.raises(ValueError, match=r"views.light_tint needs generator.light_channels 3"):
        replace(CONFIG, views=ViewConfig(light_tint=0.5))
    colored = replace(
        CONFIG,
        generator=replace(CONFIG.generator, light_channels=3),
        discriminator=replace(CONFIG.discriminator, light_dim=27),
        views=ViewConfig(light_tint=0.5),
    )
    assert colored.views.light_tint == 0.5


def test_some_cameras_are_replaced_by_random_ones() -> None:
    _, cameras, lights = inputs()
    chance = draws(camera=torch.tensor([0.2, 0.7]), yaw=torch.ones(2))
    made, _ = vary_conditions(cameras, lights, chance, ViewConfig(random_share=0.5))
    assert torch.equal(made[1], cameras[1])
    expected = random_cameras(cameras, chance.yaw, chance.height, ViewConfig())
    assert torch.equal(made[0], expected[0])


def test_random_cameras_spread_as_configured() -> None:
    drawn = draw_generation(4000, torch.Generator().manual_seed(2))
    views = ViewConfig()
    made = random_cameras(labels(4000), drawn.yaw, drawn.height, views)
    seen_from = labels_to_camera(made, 1).camera_to_world[:, :3, 3]
    expected = look_at(seen_from, torch.zeros(3))
    assert torch.allclose(labels_to_camera(made, 1).world_to_camera, expected, atol=1e-5)
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

    seen_as, lit_by = vary_conditions(cameras, lights, chance, CONFIG.views)

    def fakes():
        swaps = chance.pose_swap
        return generate_batch(generator, z, seen_as, lit_by, swaps, CONFIG.objective, 0)

    def of_discriminator() -> Tensor:
        result = discriminator_losses(judge, fakes().images, seen_as, lit_by, real, cameras, lights)
        return torch.stack(list(result.losses.values())).sum()

    def of_generator() -> Tensor:
        made = fakes()
        result = generator_losses(judge, made.images, seen_as, lit_by, made.anchors)
        return torch.stack(list(result.losses.values())).sum()

    for network, loss in ((discriminator, of_discriminator), (generator, of_generator)):
        optimizer = torch.optim.Adam(network.parameters(), 2e-3, betas=(0.0, 0.99))
        first = loss()
        for _ in range(16):
            optimizer.zero_grad()
            loss().backward()
            optimizer.step()
        assert loss().item() < 0.9 * first.item()
