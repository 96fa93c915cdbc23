"""SphereHead in the adversarial loop, on networks of a few channels."""

from __future__ import annotations

import itertools
import json
import math
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch
from torch import Tensor

from generator_checks import (
    as_older_versions_wrote_it,
    assert_captured_passes_equal_launched_ones,
    assert_goes_on_and_is_read_on_the_cpu,
)
from tiny_image_sets import labels_at, png, write_files
from vultus.core.run_folder import RunFolder
from vultus.data.image_choice import ChoiceConfig, choose_entries
from vultus.data.image_feed import Conditions, ImageFeed, StorageChoice
from vultus.data.image_set import open_image_set
from vultus.data.semantics import class_shares
from vultus.engine.adversarial import train_adversarial, write_real_pictures
from vultus.engine.adversarial_checkpoint import restore_average
from vultus.kernels.triplane_volume import VolumeSettings
from vultus.methods.adversarial import AdversarialSettings, Pass
from vultus.methods.registry import GENERATORS, build_generator, method_presets, scale_schedule
from vultus.methods.spherehead.config import (
    DiscriminatorConfig,
    DiscriminatorKind,
    GeneratorConfig,
    ObjectiveConfig,
    SphereHeadConfig,
)
from vultus.methods.spherehead.discriminator import Discriminator
from vultus.methods.spherehead.generation import neural_size_at, noisy_volume
from vultus.methods.spherehead.generator import Generator
from vultus.methods.spherehead.images import HeadImages
from vultus.methods.spherehead.judging import Judge, real_images, transform_heads
from vultus.methods.spherehead.model import SphereHead
from vultus.methods.spherehead.objectives import discriminator_losses, mismatched_labels
from vultus.nets.augmentation.control import AugmentationConfig, AugmentationControl
from vultus.nets.augmentation.draws import TransformConfig
from waits import refusing_to_wait

TINY = SphereHeadConfig(
    generator=GeneratorConfig(
        z_dim=8,
        w_dim=8,
        channel_base=64,
        channel_max=8,
        plane_size=8,
        plane_channels=4,
        sphere_channels=(8, 4),
        decoder_width=8,
        volume=VolumeSettings(coarse_samples=4, fine_samples=2),
        neural_size=8,
        super_resolution="2x_64",
        camera_offset_scale=0.1,
    ),
    discriminator=DiscriminatorConfig(
        image_size=64, channel_base=128, channel_max=8, group_size=2, label_noise=0.1
    ),
    objective=ObjectiveConfig(
        pose_swap_fade=16,
        blur_sigma=1.25,
        blur_fade=16,
        noise_fade=16,
        neural_size_final=12,
        neural_size_fade=16,
        density_weight=0.25,
        density_every=2,
        density_kind="monotonic",
        r1_every=2,
    ),
    augmentation=AugmentationConfig(mode="adaptive", speed=32, update_every=2, target=-0.5),
    training=AdversarialSettings(
        images=24,
        batch=4,
        pass_size=2,
        log_every=1,
        checkpoint_every=3,
        picture_every=0,
        keep_checkpoints=0,
    ),
)
PARTS = replace(
    TINY,
    generator=replace(TINY.generator, parsing_classes=20),
    discriminator=replace(TINY.discriminator, kind="parsing"),
)
"""With the branch of semantic maps."""
LABELS = labels_at([0.0, 1.25, 2.5, -2.5, -1.25])

pytestmark = pytest.mark.usefixtures("one_thread")


def heads(size: int = 64) -> Tensor:
    """A disc on a ground, whose colours tell from where it is seen."""
    place = (torch.arange(size) + 0.5) / size - 0.5
    disc = (place[:, None].square() + place.square() < 0.1).float()
    yaw = torch.atan2(LABELS[:, 3], LABELS[:, 11])
    color = torch.stack([yaw.cos(), yaw.sin(), torch.zeros_like(yaw)], dim=1) * 100.0 + 128.0
    images = disc * color[:, :, None, None] + (1.0 - disc) * 30.0
    masks = (255.0 * disc).expand(len(LABELS), 1, size, size)
    return torch.cat([images, masks], dim=1).to(torch.uint8)


@pytest.fixture(scope="module")
def head_set(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pictures and masks; all of a head is skin in the semantic maps."""
    names = [f"{index}.png" for index in range(len(LABELS))]
    entries = [[name, label.tolist()] for name, label in zip(names, LABELS, strict=True)]
    pictures = heads()
    files = {f"img/{n}": png(p[:3]) for n, p in zip(names, pictures, strict=True)}
    files |= {f"seg/{n}": png(p[3:]) for n, p in zip(names, pictures, strict=True)}
    files |= {f"parts/{n}": png((p[3:] > 0).byte()) for n, p in zip(names, pictures, strict=True)}
    files["img/dataset.json"] = json.dumps({"labels": entries}).encode()
    return write_files(tmp_path_factory.mktemp("spherehead") / "set", files)


def make_feed(root: Path, *, needs_parts: bool = False) -> ImageFeed:
    images = open_image_set(root, needs_parts=needs_parts)
    return ImageFeed(images, choose_entries(images.labels, ChoiceConfig(), 0), 0)


@pytest.fixture(scope="module")
def feed(head_set: Path) -> ImageFeed:
    return make_feed(head_set)


@pytest.fixture(scope="module")
def parts_feed(head_set: Path) -> ImageFeed:
    return make_feed(head_set, needs_parts=True)


def build(feed: ImageFeed, config: SphereHeadConfig = TINY) -> SphereHead:
    return SphereHead(config, feed.conditions, 0, feed.device)


def train(
    feed: ImageFeed, folder: Path, config: SphereHeadConfig = TINY, images: int = 24
) -> SphereHead:
    method = build(feed, config)
    run = RunFolder(folder)
    if not run.config_path.exists():
        RunFolder.create(folder, config, seed=0)
    settings = replace(config.training, images=images)
    train_adversarial(method, feed, settings, run, 0)
    return method


@pytest.fixture(scope="module")
def whole(feed: ImageFeed, tmp_path_factory: pytest.TempPathFactory) -> tuple[SphereHead, Path]:
    """A training that nothing interrupted."""
    folder = tmp_path_factory.mktemp("spherehead") / "whole"
    return train(feed, folder), folder


def test_a_resumed_training_equals_an_uninterrupted_one(
    feed: ImageFeed, whole: tuple[SphereHead, Path], tmp_path: Path
) -> None:
    method, folder = whole
    train(feed, tmp_path / "parts", images=12)
    resumed = train(feed, tmp_path / "parts")
    folders = [folder, tmp_path / "parts"]
    states = [RunFolder(folder).load_checkpoint() for folder in folders]
    for name, tensor in {**states[0].weights, **states[0].optimizer}.items():
        assert torch.equal(tensor, {**states[1].weights, **states[1].optimizer}[name]), name
    rows = [RunFolder(folder).read_metrics() for folder in folders]
    for mine, other in zip(*rows, strict=True):
        assert {k: v for k, v in mine.items() if k != "images_per_second"} == {
            k: v for k, v in other.items() if k != "images_per_second"
        }
    for name, picture in method.preview().items():
        assert torch.equal(picture, resumed.preview()[name])
    loaded = Generator(TINY.generator)
    assert restore_average(RunFolder(folder), loaded) == 6
    assert torch.equal(loaded.backbone.mapping.mean_w, method.generator.backbone.mapping.mean_w)
    assert float(loaded.backbone.mapping.mean_w.abs().max()) > 0.0


def test_a_run_of_an_older_version_goes_on_with_the_same_bits(
    feed: ImageFeed, whole: tuple[SphereHead, Path], tmp_path: Path
) -> None:
    train(feed, tmp_path / "older", images=12)
    names = as_older_versions_wrote_it(tmp_path / "older")
    assert names
    assert all("super_resolution" in n and n.endswith("noise_strength") for n in names)
    train(feed, tmp_path / "older")
    states = [RunFolder(folder).load_checkpoint() for folder in (whole[1], tmp_path / "older")]
    for name, tensor in {**states[0].weights, **states[0].optimizer}.items():
        assert torch.equal(tensor, {**states[1].weights, **states[1].optimizer}[name]), name


def test_schedules_run_from_their_start_to_their_end(whole: tuple[SphereHead, Path]) -> None:
    rows = RunFolder(whole[1]).read_metrics()
    # The side grows from 8 to 12 within 16 images of 4 a step.
    assert [row["neural_size"] for row in rows] == [9, 10, 11, 12, 12, 12]
    # The probability changes every second step by 4 * 2 of 32 images.
    changes = [row["augmentation"] for row in rows]
    assert changes[0] == 0.0
    assert all(abs(b - a) in (0.0, 0.25) for a, b in itertools.pairwise(changes))
    assert {"loss.density.monotonic", "loss.density.smooth_density"} < rows[0].keys()
    assert {"loss.penalty.r1_mask", "logit.mismatch", "sign.real"} < rows[0].keys()
    assert "loss.penalty.r1_image" not in rows[1]
    objective = TINY.objective
    assert neural_size_at(8, replace(objective, neural_size_final=None), 8) == 8
    noises = [noisy_volume(VolumeSettings(), objective, n).density_noise for n in (0, 4, 16, 99)]
    assert noises == [1.0, 0.75, 0.0, 0.0]


def run_all_phases(method: SphereHead, feed: ImageFeed) -> None:
    """Leave the gradients of every loss in the networks."""
    real = next(feed.batches([(0, 4)]))
    for phase in method.phases:
        of_pass, of_step = (torch.Generator(feed.device).manual_seed(seed) for seed in (1, 2))
        work = Pass(real, 0, feed.conditions_at(0, 4), 0, of_pass, of_step)
        result = method.losses(phase, work)
        torch.stack(list(result.losses.values())).sum().backward()


@pytest.mark.parametrize("config", [TINY, PARTS], ids=["plain", "parts"])
def test_gradients_of_all_phases_reach_every_parameter(
    feed: ImageFeed, parts_feed: ImageFeed, config: SphereHeadConfig
) -> None:
    seen = parts_feed if config.needs_parts else feed
    method = build(seen, config)
    run_all_phases(method, seen)
    # Strengths of noise in super-resolution are not used, as its noise mode is "none".
    missing = [n for n, p in method.generator.named_parameters() if p.grad is None]
    assert all("super_resolution" in n and n.endswith("noise_strength") for n in missing)
    assert [n for n, p in method.discriminator.named_parameters() if p.grad is None] == []


def test_semantic_maps_are_trained_and_shown(parts_feed: ImageFeed, tmp_path: Path) -> None:
    method = train(parts_feed, tmp_path / "run", PARTS, images=8)
    first = build(parts_feed, PARTS).generator.to_parsing
    last = method.generator.to_parsing
    assert first is not None
    assert last is not None
    assert not torch.equal(first.weight, last.weight)
    rows = RunFolder(tmp_path / "run").read_metrics()
    assert rows[0]["loss.penalty.r1_parsing"] > 0.0
    # Eight people from four sides.
    assert method.preview()["fakes_parts"].shape == (32, 3, method.neural_size, method.neural_size)
    write_real_pictures(RunFolder(tmp_path / "run"), method, parts_feed)
    assert (tmp_path / "run/media/parts.png").is_file()


def wrong_map_ranking(kind: DiscriminatorKind) -> float:
    """Share of heads that a trained judge puts above themselves with a map of other classes."""
    config = ObjectiveConfig(mismatch_weight=0.0, blur_sigma=0.0)
    judged = DiscriminatorConfig(kind, image_size=16, channel_max=16, group_size=5)
    network = Discriminator(judged, torch.Generator().manual_seed(0))
    judge = Judge(network, config, 0)
    optimizer = torch.optim.Adam(network.parameters(), 0.01, (0.0, 0.99))
    pixels = heads(16).float() / 255.0
    skin = class_shares((pixels[:, 3] > 0.5).byte(), 20)
    image, mask = 2.0 * pixels[:, :3] - 1.0, pixels[:, 3:]
    real, fake = (real_images(image, mask, config, 0, 8, p) for p in (skin, skin.roll(3, 1)))
    for _ in range(40):
        result = discriminator_losses(judge, fake, LABELS, real, LABELS, None)
        optimizer.zero_grad()
        torch.stack(list(result.losses.values())).sum().backward()
        optimizer.step()
    with torch.no_grad():
        return float((judge(real, LABELS) > judge(fake, LABELS)).float().mean())


def test_only_a_discriminator_of_semantic_maps_sees_them() -> None:
    assert wrong_map_ranking("parsing") == 1.0
    assert wrong_map_ranking("mask") == 0.0


def test_real_semantic_maps_have_the_size_of_generated_ones(parts_feed: ImageFeed) -> None:
    method = build(parts_feed, PARTS)
    seen = method._real_images(next(parts_feed.batches([(0, 5)])), 0)
    assert seen.parsing is not None
    assert seen.mask is not None
    assert seen.parsing.shape == (5, 20, 8, 8)
    assert torch.allclose(seen.parsing[:, 1:2], seen.mask, atol=1e-6)
    assert torch.allclose(seen.parsing[:, :1], 1.0 - seen.mask, atol=1e-6)
    assert float(seen.parsing[:, 2:].abs().max()) == 0.0


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
@pytest.mark.parametrize(("config", "mismatch_angle"), [(TINY, 0.0), (TINY, 30.0), (PARTS, 0.0)])
@pytest.mark.parametrize("storage", ["resident", "streamed"])
def test_losses_do_not_wait_for_a_gpu(
    feed: ImageFeed,
    parts_feed: ImageFeed,
    device: str,
    config: SphereHeadConfig,
    mismatch_angle: float,
    storage: StorageChoice,
) -> None:
    seen = parts_feed if config.needs_parts else feed
    moved = ImageFeed(seen.images, seen.entries, 0, device=device, storage=storage)
    objective = replace(TINY.objective, mismatch_weight=1.0, mismatch_angle=mismatch_angle)
    method = build(moved, replace(config, objective=objective))
    # The first passes compile kernels, and keep what they read from lists.
    for around in (nullcontext(), refusing_to_wait(moved.device)):
        with around:
            run_all_phases(method, moved)


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def test_a_training_on_any_device_goes_on_and_is_read_on_the_cpu(
    feed: ImageFeed, tmp_path: Path, device: str
) -> None:
    assert_goes_on_and_is_read_on_the_cpu(build, feed, TINY, tmp_path, device)


def test_a_moment_is_another_one_while_any_fade_moves(feed: ImageFeed) -> None:
    fades = {"pose_swap_fade": 16, "blur_fade": 24, "noise_fade": 32, "neural_size_fade": 40}
    for name, end in fades.items():
        others = {other: 8 for other in fades if other != name}
        objective = replace(TINY.objective, **others, **{name: end}, neural_size_final=12)
        config = replace(TINY, objective=objective)
        method = build(feed, config)
        assert method.moment(end - 1) != method.moment(end), name
        assert method.moment(end) == method.moment(end + 1), name


@pytest.mark.gpu
@pytest.mark.parametrize("config", [TINY, PARTS], ids=["plain", "parts"])
def test_captured_passes_give_the_numbers_of_launched_ones(
    feed: ImageFeed,
    parts_feed: ImageFeed,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    config: SphereHeadConfig,
) -> None:
    seen, make = parts_feed if config.needs_parts else feed, partial(build, config=config)
    assert_captured_passes_equal_launched_ones(make, seen, config, tmp_path, monkeypatch)


def test_the_discriminator_learns_to_tell_real_from_generated(
    feed: ImageFeed, tmp_path: Path
) -> None:
    config = replace(
        TINY,
        objective=replace(TINY.objective, mismatch_weight=0.0, density_weight=0.0),
        augmentation=AugmentationConfig(),
        training=replace(TINY.training, generator_rate=1e-5, discriminator_rate=0.01),
    )
    train(feed, tmp_path / "run", config, images=48)
    rows = RunFolder(tmp_path / "run").read_metrics()
    gaps = [row["logit.real"] - row["logit.fake"] for row in rows]
    assert sum(gaps[-3:]) / 3 > 1.0 + gaps[0]


def view_ranking(weight: float) -> float:
    """Share of pairs in which a trained judge puts the right camera above a wrong one."""
    config = ObjectiveConfig(mismatch_weight=weight, blur_sigma=0.0)
    judged = DiscriminatorConfig(image_size=16, channel_max=16, group_size=5)
    network = Discriminator(judged, torch.Generator().manual_seed(0))
    judge = Judge(network, config, 0)
    optimizer = torch.optim.Adam(network.parameters(), 0.01, (0.0, 0.99))
    pixels = heads(16).float() / 255.0
    real = real_images(2.0 * pixels[:, :3] - 1.0, pixels[:, 3:], config, 0, 8)
    generator = torch.Generator().manual_seed(1)
    for _ in range(150):
        noise = torch.randn(real.image.shape, generator=generator)
        fake = real_images(noise, pixels[:, 3:], config, 0, 8)
        wrong = mismatched_labels(LABELS, generator)
        result = discriminator_losses(judge, fake, LABELS, real, LABELS, wrong)
        optimizer.zero_grad()
        torch.stack(list(result.losses.values())).sum().backward()
        optimizer.step()
    with torch.no_grad():
        right = judge(real, LABELS)
        others = torch.stack([judge(real, LABELS.roll(k, 0)) for k in (1, 2, 3, 4)])
    return float((right > others).float().mean())


def test_wrong_views_are_found_out_only_with_the_consistency_loss() -> None:
    assert view_ranking(1.0) > 0.9
    assert view_ranking(0.0) < 0.9


def test_augmentation_moves_images_and_masks_alike() -> None:
    neutral = dict.fromkeys(vars(TransformConfig()), 0.0)
    shifts = TransformConfig(**{**neutral, "shift": 1.0, "rotation": 1.0})
    config = AugmentationConfig(mode="fixed", probability=1.0, transforms=shifts)
    mask = heads()[:, 3:].float() / 255.0
    small = torch.nn.functional.avg_pool2d(mask, 2)
    whole = HeadImages(mask.expand(-1, 3, -1, -1), small.expand(-1, 3, -1, -1), small, small)
    moved = transform_heads(whole, AugmentationControl(config), torch.Generator().manual_seed(0))
    assert moved.raw_image is not None
    assert moved.mask is not None
    assert moved.parsing is not None
    assert torch.equal(moved.mask, moved.parsing)
    # Near the border pictures are reflected, and masks are not.
    middle = slice(8, 24), slice(8, 24)
    averaged = torch.nn.functional.avg_pool2d(moved.image, 2)
    for picture in (moved.raw_image, averaged):
        gap = (picture[:, :1] - moved.mask)[..., *middle]
        assert float(gap.abs().mean()) < 0.02
    assert float((moved.mask - small).abs().mean()) > 0.05


def test_presets_fit_together_and_scale() -> None:
    presets = method_presets("spherehead")
    assert (PARTS.needs_parts, TINY.needs_parts) == (True, False)
    assert list(presets) == ["official", "small", "gpu-small", "demo"]
    official = presets["official"]
    assert (official.training.images, official.training.batch) == (25_000_000, 32)
    assert official.generator.image_size == 512
    half = scale_schedule("spherehead", official, 0.5)
    assert half.training.images == 12_500_000
    assert half.objective.blur_fade == 100_000
    for wrong in (
        {"discriminator": replace(TINY.discriminator, image_size=128)},
        {"discriminator": replace(TINY.discriminator, kind="parsing")},
        {"generator": PARTS.generator},
        {
            "generator": replace(TINY.generator, parsing_classes=18),
            "discriminator": replace(PARTS.discriminator, parsing_classes=18),
        },
        {
            "discriminator": replace(TINY.discriminator, group_size=3),
            "training": replace(TINY.training, batch=4, pass_size=4),
        },
    ):
        with pytest.raises(ValueError, match=r"must"):
            replace(TINY, **wrong)
    with pytest.raises(ValueError, match="method must be one of surfhead"):
        method_presets("nerf")
    assert list(GENERATORS) == ["spherehead", "gsheadrelight"]


def test_a_generator_is_built_by_name_and_seed() -> None:
    first, same, other = (
        build_generator("spherehead", TINY, Conditions(LABELS), seed) for seed in (0, 0, 1)
    )
    weights = [m.generator.state_dict()["decoder.out.weight"] for m in (first, same, other)]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])
    assert math.isfinite(float(first.preview()["fakes"].mean()))


def test_samples_are_conditioned_on_their_own_camera_or_on_another() -> None:
    method = build_generator("spherehead", TINY, Conditions(LABELS), 0)
    own, again, free = (
        method.sample(3, torch.Generator().manual_seed(2), is_free=is_free)
        for is_free in (False, False, True)
    )
    assert own.shape == (3, 3, 64, 64)
    assert torch.equal(own, again)
    assert not torch.equal(own, free)
    assert 0.0 <= float(own.min()) <= float(own.max()) <= 1.0
