"""Losses of GSHeadRelight, and one step of both networks."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from vultus.data.camera_labels import look_at_labels
from vultus.methods.gsheadrelight.config import DiscriminatorConfig, ObjectiveConfig
from vultus.methods.gsheadrelight.discriminator import Discriminator
from vultus.methods.gsheadrelight.objectives import (
    Judge,
    center_loss,
    compactness_loss,
    contrastive_loss,
    darkness_loss,
    discriminator_losses,
    generator_losses,
    gradient_penalties,
    real_pictures,
)
from vultus.methods.gsheadrelight.presets import PRESETS

TINY = DiscriminatorConfig(image_size=16, channel_base=128, channel_max=16, clamp=None)
CONFIG = ObjectiveConfig(blur_sigma=1.0, compactness_neighbors=3)


def judge(config: ObjectiveConfig = CONFIG, images_seen: int = 10**9) -> Judge:
    discriminator = Discriminator(TINY, torch.Generator().manual_seed(0))
    return Judge(discriminator, config, images_seen)


def batch() -> tuple[Tensor, Tensor, Tensor]:
    """Pictures, cameras and lights."""
    random = torch.Generator().manual_seed(1)
    images = torch.rand(4, 3, 16, 16, generator=random) * 2.0 - 1.0
    yaw = torch.linspace(-0.5, 0.5, 4)
    labels = look_at_labels(yaw, 0.2 * yaw, target=torch.zeros(3), radius=2.7, focal=4.0)
    return images, labels, torch.randn(4, 9, generator=random)


def test_comparisons_are_best_when_all_find_their_own() -> None:
    own = torch.eye(5)
    assert float(contrastive_loss(own, own, 0.1)) < 1e-3
    assert float(contrastive_loss(own, own.roll(1, 0), 0.1)) > 5.0
    same = torch.ones(5, 5)
    assert float(contrastive_loss(same, own, 0.1)) == pytest.approx(math.log(5.0))


def test_passes_of_a_step_compare_with_the_labels_of_all() -> None:
    random = torch.Generator().manual_seed(6)
    images, labels = (torch.randn(6, 5, generator=random, requires_grad=True) for _ in range(2))
    whole = contrastive_loss(images, labels, 0.1)
    parts = [contrastive_loss(images[k : k + 2], labels, 0.1, first=k) for k in (0, 2, 4)]
    assert torch.allclose(torch.stack(parts).mean(), whole)
    expected = torch.autograd.grad(whole, [images, labels])
    found = torch.autograd.grad(torch.stack(parts).mean(), [images, labels])
    for one, other in zip(found, expected, strict=True):
        assert torch.allclose(one, other, atol=1e-6)


def test_only_what_is_below_black_is_dark() -> None:
    shading = torch.tensor([[[0.5, -2.0, 0.0], [1.0, -1.0, 3.0]]])
    assert float(darkness_loss(shading)) == pytest.approx(5.0 / 6.0)


def test_anchors_are_centered_and_near_each_other() -> None:
    corners = torch.tensor([[[1.0, 1, 1], [-1, -1, 1], [-1, 1, -1], [1, -1, -1]]])
    assert float(center_loss(corners)) == 0.0
    assert float(center_loss(corners + 0.5)) == pytest.approx(0.25)
    # Corners of a tetrahedron differ by 2 in two of three coordinates.
    assert float(compactness_loss(corners, 3)) == pytest.approx(8.0 / 3.0)
    with pytest.raises(ValueError, match="count must be below the number of points 4, got 4"):
        compactness_loss(corners, 4)


def test_transparent_pixels_are_black_or_a_chosen_color() -> None:
    rgb = torch.rand(2, 3, 4, 4, generator=torch.Generator().manual_seed(2))
    clear, solid = torch.zeros(2, 1, 4, 4), torch.ones(2, 1, 4, 4)
    assert torch.equal(real_pictures(rgb, clear), torch.full_like(rgb, -1.0))
    assert torch.allclose(real_pictures(rgb, solid), 2.0 * rgb - 1.0)
    over = real_pictures(rgb, clear, torch.tensor([1.0, 0.5, 0.0]))
    assert over[0, :, 0, 0].tolist() == [1.0, 0.0, -1.0]


def test_official_compositing_inverts_what_is_transparent() -> None:
    rgb = torch.rand(1, 3, 4, 4, generator=torch.Generator().manual_seed(2))
    clear = torch.zeros(1, 1, 4, 4)
    assert torch.allclose(real_pictures(rgb, clear, parity="official"), 1.0 - 2.0 * rgb)
    with pytest.raises(ValueError, match="background must be None with official parity"):
        real_pictures(rgb, clear, torch.zeros(3), "official")


def test_the_blur_fades() -> None:
    images, labels, lights = batch()
    early, late = (judge(images_seen=seen)(images, labels, lights) for seen in (0, 10**9))
    plain = judge().discriminator(images, labels, lights)
    assert torch.equal(late.logits, plain.logits)
    assert not torch.allclose(early.logits, plain.logits)


def test_the_discriminator_compares_only_real_pictures() -> None:
    images, labels, lights = batch()
    result = discriminator_losses(judge(), images, labels, lights, images.flip(3), labels, lights)
    other = discriminator_losses(
        judge(), images, labels, lights.flip(0), images.flip(3), labels, lights
    )
    assert result.losses.keys() == {"fake", "real", "camera", "light"}
    assert all(torch.equal(result.losses[name], other.losses[name]) for name in result.losses)
    changed = discriminator_losses(
        judge(), images, labels, lights, images.flip(3), labels, lights.flip(0)
    )
    assert torch.equal(result.losses["camera"], changed.losses["camera"])
    assert not torch.equal(result.losses["light"], changed.losses["light"])


def test_gradients_of_the_generator_flow_from_all_terms() -> None:
    images, labels, lights = batch()
    anchors = torch.randn(4, 8, 3, generator=torch.Generator().manual_seed(3)).requires_grad_()
    images.requires_grad_()
    losses = generator_losses(judge(), images, labels, lights, anchors).losses
    for name in ("adversarial", "camera", "light"):
        (gradient,) = torch.autograd.grad(losses[name], images, retain_graph=True)
        assert bool(gradient.any()), name
    for name in ("center", "compactness"):
        (gradient,) = torch.autograd.grad(losses[name], anchors, retain_graph=True)
        assert bool(gradient.any()), name


def test_penalties_reach_the_weights_and_may_compare() -> None:
    images, labels, lights = batch()
    watched = judge()
    losses = gradient_penalties(watched, images, labels, lights)
    assert losses.keys() == {"r1", "camera", "light"}
    losses["r1"].backward()
    assert bool(watched.discriminator.judgement.out.weight.grad.any())  # pyright: ignore[reportOptionalMemberAccess]
    quiet = judge(replace(CONFIG, penalty_compares=False))
    assert gradient_penalties(quiet, images, labels, lights).keys() == {"r1"}


def test_light_is_learned_from_pictures_that_show_it() -> None:
    random = torch.Generator().manual_seed(4)
    lights = torch.randn(16, 9, generator=random)
    tint = lights[:, :3, None, None].tanh()
    images = tint.expand(-1, 3, 16, 16) + 0.1 * torch.randn(16, 3, 16, 16, generator=random)
    labels = batch()[1][:1].expand(16, -1)
    watched = judge()
    optimizer = torch.optim.Adam(watched.discriminator.parameters(), 2e-3, betas=(0.0, 0.99))
    history = []
    for _ in range(40):
        loss = watched.comparisons(watched(images, labels, lights))["light"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        history.append(loss.item())
    assert history[-1] < 0.5 * history[0]


def test_presets_are_consistent() -> None:
    assert list(PRESETS) == ["ffhq512", "afhq512", "small", "demo", "toy"]
    with pytest.raises(ValueError, match="background must be 'black' with official parity"):
        ObjectiveConfig(parity="official", background="random")
    toy = PRESETS["toy"]
    for changes, message in (
        ({"objective": replace(toy.objective, background="scenery")}, "background_points"),
        ({"objective": replace(toy.objective, compactness_neighbors=32)}, "below generator.num"),
        ({"training": replace(toy.training, batch=18, pass_size=6)}, "pass_size must be"),
    ):
        with pytest.raises(ValueError, match=message):
            replace(toy, **changes)
    with pytest.raises(ValueError, match="temperature must be positive, got 0"):
        ObjectiveConfig(temperature=0.0)
    with pytest.raises(ValueError, match="image_size must be at least 16, got 8"):
        DiscriminatorConfig(image_size=8)
    with pytest.raises(ValueError, match="images must have 16 pixels a side, got 8"):
        judge().discriminator(torch.zeros(2, 3, 8, 8), torch.zeros(2, 25), torch.zeros(2, 9))
