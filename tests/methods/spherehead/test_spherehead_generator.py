"""Generators, discriminators and losses on small configurations."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from vultus.data.camera_labels import look_at_labels
from vultus.kernels.triplane_volume import VolumeSettings
from vultus.methods.spherehead.config import (
    DiscriminatorConfig,
    DiscriminatorKind,
    GeneratorConfig,
    ObjectiveConfig,
    with_parity,
)
from vultus.methods.spherehead.discriminator import Discriminator
from vultus.methods.spherehead.generation import GenerationDraws, generate_batch
from vultus.methods.spherehead.generator import Generator
from vultus.methods.spherehead.images import HeadImages
from vultus.methods.spherehead.judging import Judge, real_images
from vultus.methods.spherehead.objectives import (
    discriminator_losses,
    generator_losses,
    gradient_penalties,
    mismatched_labels,
    turned_away_labels,
)

SMALL = GeneratorConfig(
    z_dim=8,
    w_dim=16,
    channel_base=128,
    channel_max=8,
    plane_size=16,
    plane_channels=8,
    sphere_channels=(12, 10),
    decoder_width=16,
    volume=VolumeSettings(coarse_samples=6, fine_samples=4),
    neural_size=8,
    parsing_classes=3,
    super_resolution="2x",
    camera_offset_scale=0.1,
)
JUDGE = DiscriminatorConfig(
    image_size=128, mask_size=16, parsing_classes=3, channel_base=256, channel_max=4, group_size=2
)
QUIET = ObjectiveConfig(blur_sigma=0.0, noise_fade=0)
REPRESENTATIONS = {
    "spheres": SMALL,
    "planes": replace(
        SMALL,
        volume=replace(SMALL.volume, representation="tri_plane"),
        decoder_activation="sigmoid",
        has_background=False,
        has_camera_offset=False,
        has_to_rgb=False,
    ),
    "grids": replace(
        SMALL,
        volume=replace(SMALL.volume, representation="tri_grid", grid_depth=3),
        decoder_activation="lrelu",
    ),
}


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def labels_at(*yaws: float) -> Tensor:
    yaw = torch.tensor(yaws)
    return look_at_labels(
        yaw, torch.full_like(yaw, 0.1), target=torch.zeros(3), radius=2.7, focal=4.2647
    )


def generate(generator: Generator, seed: int = 0) -> tuple[HeadImages, Tensor]:
    z, labels = torch.randn(2, 8, generator=seeded(seed)), labels_at(0.3, -2.0)
    ws = generator.map(z, labels)
    shifted, offsets = generator.offset_labels(z, labels)
    draws = generator.draw(2, seeded(seed))
    return generator.render(generator.planes(ws), ws, shifted, draws), offsets


@pytest.mark.parametrize("config", REPRESENTATIONS.values(), ids=list(REPRESENTATIONS))
def test_heads_are_a_function_of_seeds_and_reach_every_parameter(config: GeneratorConfig) -> None:
    first, second = Generator(config, seeded()), Generator(config, seeded())
    images, offsets = generate(first)
    assert images.image.shape == (2, 3, 128, 128)
    assert torch.equal(images.image, generate(second)[0].image)
    assert not torch.allclose(images.image, generate(first, seed=1)[0].image, atol=1e-2)
    parts = images.image, images.raw_image, images.mask, images.parsing, images.depth
    weights = [torch.randn(p.shape, generator=seeded(9)) for p in parts if p is not None]
    values = [p for p in parts if p is not None]
    total = torch.stack([(w * v).sum() for w, v in zip(weights, values, strict=True)]).sum()
    (total + offsets.sum()).backward()
    missing = [name for name, p in first.named_parameters() if p.grad is None]
    # No layer uses noise in super-resolution, whose noise mode is "none" by default.
    assert all("super_resolution" in n and n.endswith("noise_strength") for n in missing)


def test_a_head_does_not_depend_on_its_batch() -> None:
    generator = Generator(SMALL, seeded())
    z, labels = torch.randn(2, 8), labels_at(0.3, -2.0)
    draws = generator.draw(2, seeded())
    both_ws = generator.map(z, labels)
    both = generator.render(generator.planes(both_ws), both_ws, labels, draws)
    ws = generator.map(z[1:], labels[1:])
    one = draws._replace(jitter=draws.jitter[1:], uniforms=draws.uniforms[1:])
    alone = generator.render(generator.planes(ws), ws, labels[1:], one)
    assert torch.allclose(both.image[1:], alone.image, atol=1e-4)
    assert both.parsing is not None
    assert torch.allclose(both.parsing.sum(dim=1), torch.ones(2, 8, 8), atol=1e-5)


def test_a_background_of_another_shows_where_there_is_no_head() -> None:
    generator = Generator(SMALL, seeded())
    z, labels = torch.randn(2, 8), labels_at(0.0, 0.0)
    ws, draws = generator.map(z, labels), generator.draw(2, seeded())
    planes = generator.planes(ws)
    same = generator.render(planes, ws, labels, draws)
    other = generator.render(planes, ws, labels, draws, background_ws=ws.roll(1, 0))
    assert same.mask is not None
    assert other.mask is not None
    assert torch.equal(same.mask, other.mask)
    assert not torch.allclose(same.image, other.image, atol=1e-3)


def test_without_conditioning_the_official_offset_camera_loses_its_rotation() -> None:
    config = replace(SMALL, is_conditioned=False)
    z, labels = torch.randn(2, 8), labels_at(0.3, -2.0)
    shifted = {}
    for parity in ("official", "fixed"):
        generator = Generator(with_parity(config, parity), seeded())
        shifted[parity], offset = generator.offset_labels(z, labels)
        assert float(offset.detach().abs().max()) > 0.0
    assert float(shifted["official"][:, :3].detach().abs().max()) == 0.0
    assert torch.equal(shifted["fixed"][:, :3], labels[:, :3])


def test_points_are_cropped_as_rays_unless_parity_is_official() -> None:
    point = torch.tensor([[[0.45, 0.0, 0.0]]])
    found = {}
    for parity in ("official", "fixed"):
        generator = Generator(with_parity(SMALL, parity), seeded())
        ws = generator.map(torch.ones(1, 8), labels_at(0.0))
        _, found[parity] = generator.query(generator.planes(ws), point)
    assert float(found["fixed"].detach()) == -1000.0
    assert float(found["official"].detach()) > -100.0


def test_parities_of_parts_must_agree() -> None:
    with pytest.raises(ValueError, match="parity must be the same for generator and volume"):
        replace(SMALL, parity="official")


def real_batch() -> HeadImages:
    image, mask = torch.randn(2, 3, 128, 128), torch.rand(2, 1, 128, 128)
    images = real_images(image, mask, QUIET, 0, neural_size=8)
    return replace(images, parsing=torch.rand(2, 3, 8, 8))


@pytest.mark.parametrize("kind", ["mask", "mask_branch", "dual", "single", "parsing"])
def test_every_discriminator_sees_what_its_kind_says(kind: DiscriminatorKind) -> None:
    judge = Discriminator(replace(JUDGE, kind=kind), seeded())
    real, labels = real_batch(), labels_at(0.1, 2.0)
    logits = judge(real, labels)
    changes = {
        "raw_image": kind != "single",
        "mask": kind in ("mask", "mask_branch", "parsing"),
        "parsing": kind == "parsing",
    }
    for name, is_seen in changes.items():
        other = judge(replace(real, **{name: -getattr(real, name)}), labels)
        assert torch.equal(logits, other) != is_seen
    assert not torch.equal(logits, judge(real, labels.roll(1, 0)))


def test_label_noise_leaves_the_labels_alone() -> None:
    judge = Discriminator(replace(JUDGE, label_noise=1.0), seeded())
    real, labels = real_batch(), labels_at(0.1, 2.0)
    kept = labels.clone()
    noisy = judge(real, labels, torch.ones(2, 25))
    assert torch.equal(labels, kept)
    assert not torch.equal(noisy, judge(real, labels, torch.zeros(2, 25)))
    with pytest.raises(ValueError, match="label_noise is needed"):
        judge(real, labels)


def test_discriminators_refuse_missing_and_wrong_images() -> None:
    judge, labels = Discriminator(JUDGE, seeded()), labels_at(0.1, 2.0)
    with pytest.raises(ValueError, match="mask is needed by a 'mask' discriminator"):
        judge(replace(real_batch(), mask=None), labels)
    single = Discriminator(replace(JUDGE, kind="single"), seeded())
    with pytest.raises(ValueError, match=r"images must have the shape \(3, 128, 128\)"):
        single(HeadImages(torch.zeros(2, 3, 64, 64)), labels)


def test_losses_reach_both_networks_and_wrong_labels_only_count_with_weight() -> None:
    generator, judge = Generator(SMALL, seeded()), Discriminator(JUDGE, seeded())
    z, labels = torch.randn(2, 8), labels_at(0.3, -2.0)
    draws = GenerationDraws(torch.rand(2), torch.rand(2), generator.draw(2, seeded()))
    images, offsets, _ = generate_batch(generator, z, labels, draws, QUIET, 0, 8)
    losses = generator_losses(Judge(judge, QUIET, 0), images, offsets, labels).losses
    torch.stack(list(losses.values())).sum().backward()
    gradient = generator.backbone.mapping.layers[0].weight.grad
    assert isinstance(gradient, Tensor)
    assert float(gradient.abs().max()) > 0.0
    fake = replace(images, image=images.image.detach())
    wrong = mismatched_labels(labels, seeded())
    real = real_batch()
    for weight in (0.0, 1.0):
        config = replace(QUIET, mismatch_weight=weight)
        seen = Judge(judge, config, 0)
        terms = discriminator_losses(seen, fake, labels, real, labels, wrong)
        assert ("mismatch" in terms.losses) == (weight > 0.0)
        assert float(terms.records["logit.real"]) == pytest.approx(
            float(judge(real, labels).detach().mean()), abs=1e-5
        )


def test_wrong_labels_are_never_the_own_ones() -> None:
    labels = labels_at(0.0, 1.0, 2.0, 3.0)
    for seed in range(8):
        wrong = mismatched_labels(labels, seeded(seed))
        assert bool((wrong != labels).any(dim=1).all())
    with pytest.raises(ValueError, match="at least 2 cameras"):
        mismatched_labels(labels[:1], seeded())


def test_wrong_labels_look_from_elsewhere_where_an_angle_is_asked_for() -> None:
    labels = labels_at(0.0, 1.0)
    candidates = torch.stack([labels_at(0.3, 0.9, -2.0), labels_at(1.1, 0.9, 1.3)])
    chosen = turned_away_labels(labels, candidates, 40.0)
    # The first candidate beyond 40 degrees; where there is none, the farthest.
    assert torch.equal(chosen, torch.stack([candidates[0, 1], candidates[1, 2]]))


def test_penalties_of_images_that_are_not_seen_are_zero() -> None:
    judge = Discriminator(replace(JUDGE, kind="dual"), seeded())
    penalties = gradient_penalties(Judge(judge, QUIET, 0), real_batch(), labels_at(0.1, 2.0))
    assert float(penalties["r1_mask"].detach()) == 0.0
    assert float(penalties["r1_image"].detach()) > 0.0
