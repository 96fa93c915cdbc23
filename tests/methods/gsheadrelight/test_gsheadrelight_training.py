"""GSHeadRelight in the adversarial loop, on networks of a few channels."""

from __future__ import annotations

import json
import math
import shutil
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from generator_checks import (
    as_older_versions_wrote_it,
    assert_captured_passes_equal_launched_ones,
    assert_goes_on_and_is_read_on_the_cpu,
)
from relight_heads import TINY as TINY_GENERATOR
from relight_heads import built
from tiny_image_sets import labels_at, png, write_files
from vultus.core.run_folder import RunFolder
from vultus.data.image_choice import ChoiceConfig, choose_entries
from vultus.data.image_feed import Conditions, ImageFeed
from vultus.data.image_set import open_image_set
from vultus.data.light_labels import read_head_lights
from vultus.engine.adversarial import train_adversarial
from vultus.engine.adversarial_checkpoint import restore_average
from vultus.engine.generator_metrics import random_feature_distances
from vultus.methods.adversarial import AdversarialSettings, Pass, Phase, PhaseResult
from vultus.methods.gsheadrelight import model
from vultus.methods.gsheadrelight.config import (
    Background,
    DiscriminatorConfig,
    GSHeadRelightConfig,
    ObjectiveConfig,
    ViewConfig,
)
from vultus.methods.gsheadrelight.generator import Generator
from vultus.methods.gsheadrelight.model import GSHeadRelight
from vultus.methods.registry import build_generator
from vultus.nets.augmentation.control import AugmentationConfig
from waits import refusing_to_wait

SIZE = TINY_GENERATOR.image_size
TINY = GSHeadRelightConfig(
    generator=TINY_GENERATOR,
    discriminator=DiscriminatorConfig(
        image_size=SIZE, channel_base=128, channel_max=8, group_size=2, clamp=None
    ),
    objective=ObjectiveConfig(
        compactness_neighbors=8,
        pose_swap_fade=16,
        blur_sigma=1.0,
        blur_fade=16,
        r1_every=2,
        darkness_weight=1.0,
    ),
    views=ViewConfig(light_turn=30.0),
    augmentation=AugmentationConfig(mode="adaptive", speed=32, update_every=2, target=-0.5),
    choice=ChoiceConfig(),
    training=AdversarialSettings(
        images=24,
        batch=4,
        pass_size=2,
        generator_clip=20.0,
        discriminator_clip=5.0,
        log_every=1,
        checkpoint_every=3,
        picture_every=0,
        keep_checkpoints=0,
    ),
)
LABELS = labels_at([0.0, 0.4, -0.4, 0.2])

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def feed(tmp_path_factory: pytest.TempPathFactory) -> ImageFeed:
    """Discs with an alpha channel, whose brightness is that of their light."""
    random = torch.Generator().manual_seed(0)
    lights = torch.randn(len(LABELS), 9, generator=random)
    lights[:, 0] = torch.linspace(0.5, 1.5, len(LABELS))
    place = (torch.arange(SIZE) + 0.5) / SIZE - 0.5
    disc = 255.0 * (place[:, None].square() + place.square() < 0.1).float()
    names = [f"{index}.png" for index in range(len(LABELS))]
    files = {}
    for name, light in zip(names, lights, strict=True):
        noise = 20.0 * torch.rand(3, SIZE, SIZE, generator=random)
        rgba = torch.cat([120.0 * light[0] + noise, disc[None]])
        files[name] = png(rgba.to(torch.uint8))
    rows = {"labels": LABELS, "sh": lights}
    content = {
        key: [[name, row.tolist()] for name, row in zip(names, table, strict=True)]
        for key, table in rows.items()
    }
    files["dataset.json"] = json.dumps({**content, "sh_frame": "camera"}).encode()
    folder = write_files(tmp_path_factory.mktemp("gsheadrelight") / "set", files)
    images = open_image_set(folder, needs_masks=True, alpha="mask")
    entries = choose_entries(images.labels, ChoiceConfig(), 0, read_head_lights(images))
    return ImageFeed(images, entries, 0)


def build(feed: ImageFeed, **objective: Any) -> GSHeadRelight:
    config = replace(TINY, objective=replace(TINY.objective, **objective))
    return GSHeadRelight(config, feed.conditions, 0, feed.device)


def train(feed: ImageFeed, folder: Path, images: int = 24) -> GSHeadRelight:
    method = build(feed)
    run = RunFolder(folder)
    if not run.config_path.exists():
        RunFolder.create(folder, TINY, seed=0)
    settings = replace(TINY.training, images=images)
    train_adversarial(method, feed, settings, run, 0)
    return method


def a_pass(feed: ImageFeed, first: int = 0, known: Conditions | None = None) -> Pass:
    """One of two passes of a step."""
    return Pass(
        real=next(feed.batches([(first, 2)])),
        first=first,
        step_conditions=known or feed.conditions_at(0, 4),
        images_seen=0,
        random=torch.Generator(feed.device).manual_seed(1 + first),
        step_random=torch.Generator(feed.device).manual_seed(7),
    )


def test_a_resumed_training_equals_an_uninterrupted_one(feed: ImageFeed, tmp_path: Path) -> None:
    method = train(feed, tmp_path / "whole")
    train(feed, tmp_path / "parts", images=12)
    resumed = train(feed, tmp_path / "parts")
    folders = [RunFolder(tmp_path / name) for name in ("whole", "parts")]
    states = [folder.load_checkpoint() for folder in folders]
    for name, tensor in {**states[0].weights, **states[0].optimizer}.items():
        assert torch.equal(tensor, {**states[1].weights, **states[1].optimizer}[name]), name
    rows = [folder.read_metrics() for folder in folders]
    for mine, other in zip(*rows, strict=True):
        assert {**mine, "images_per_second": 0} == {**other, "images_per_second": 0}
    for name, picture in method.preview().items():
        assert torch.equal(picture, resumed.preview()[name])
    loaded = Generator(TINY.generator)
    assert restore_average(folders[0], loaded) == 6
    assert float(loaded.mapping.mean_w.abs().max()) > 0.0
    assert {"loss.generator.darkness", "loss.penalty.r1"} < rows[0][0].keys()
    assert "loss.penalty.r1" not in rows[0][1]
    assert [row["augmentation"] for row in rows[0]][:2] == [0.0, 0.25]


def test_a_run_of_an_older_version_goes_on_with_the_same_bits(
    feed: ImageFeed, tmp_path: Path
) -> None:
    train(feed, tmp_path / "now", images=12)
    shutil.copytree(tmp_path / "now", tmp_path / "older")
    names = as_older_versions_wrote_it(tmp_path / "older")
    assert {name.split(".")[1] for name in names} == {"unused", "background"}
    states = []
    for name in ("now", "older"):
        train(feed, tmp_path / name, images=16)
        states.append(RunFolder(tmp_path / name).load_checkpoint())
    for mine, other in zip(
        *({**state.weights, **state.optimizer}.items() for state in states), strict=True
    ):
        assert mine[0] == other[0]
        assert torch.equal(mine[1], other[1]), mine[0]


def test_a_moment_is_another_one_while_any_fade_moves(feed: ImageFeed) -> None:
    fades = {"pose_swap_fade": 16, "blur_fade": 24, "scenery_start": 32}
    for name, end in fades.items():
        others = {other: 8 for other in fades if other != name}
        for background in ("scenery", "black"):
            method = build(feed, **others, **{name: end}, background=background)
            moves = name != "scenery_start" or background == "scenery"
            assert (method.moment(end - 1) != method.moment(end)) == moves, (name, background)
            assert method.moment(end) == method.moment(end + 1), name


@pytest.mark.parametrize(
    ("name", "value", "match"),
    [
        ("images_seen", None, "checkpoint lacks 'images_seen'"),
        ("images_seen", torch.zeros(2, dtype=torch.int64), "'images_seen' of shape"),
        ("images_seen", torch.tensor(math.nan), "'images_seen' of shape"),
        ("images_seen", torch.tensor(-1), "'images_seen' of at least 0, got -1"),
        ("probability", torch.tensor(1.5), r"probability of the augmentation .* \[0, 1\]: 1.5"),
        ("probability", torch.tensor(math.nan), "probability of the augmentation .* nan"),
        ("total_sign", torch.tensor(math.inf), "total_sign of the augmentation .* got inf"),
        ("hue", torch.zeros(()), "must not have 'hue', which nothing reads"),
    ],
)
def test_a_training_goes_on_from_nothing_that_cannot_be(
    feed: ImageFeed, name: str, value: Tensor | None, match: str
) -> None:
    method = build(feed)
    saved = method.tensors()
    damaged = {**saved, name: value} if value is not None else saved
    if value is None:
        del damaged[name]
    with pytest.raises(ValueError, match=match):
        method.load_tensors(damaged)
    for key, tensor in build(feed).tensors().items():
        assert torch.equal(method.tensors()[key], tensor)


@pytest.mark.gpu
def test_captured_passes_give_the_numbers_of_launched_ones(
    feed: ImageFeed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert_captured_passes_equal_launched_ones(build, feed, TINY, tmp_path, monkeypatch)


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def test_a_training_on_any_device_goes_on_and_is_read_on_the_cpu(
    feed: ImageFeed, tmp_path: Path, device: str
) -> None:
    assert_goes_on_and_is_read_on_the_cpu(build, feed, TINY, tmp_path, device)


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
@pytest.mark.parametrize("background", ["black", "random", "scenery"])
def test_losses_do_not_wait_for_a_gpu(feed: ImageFeed, device: str, background: Background) -> None:
    moved = ImageFeed(feed.images, feed.entries, 0, device=device)
    method = build(moved, background=background, scenery_start=0)
    # The first passes compile kernels, and keep what they read from lists.
    for around in (nullcontext(), refusing_to_wait(moved.device)):
        with around:
            work = a_pass(moved)
            for phase in method.phases:
                result = method.losses(phase, work)
                torch.stack(list(result.losses.values())).sum().backward()


def test_gradients_of_all_phases_reach_every_parameter(feed: ImageFeed) -> None:
    method = build(feed, background="scenery", scenery_start=0)
    for phase in method.phases:
        result = method.losses(phase, a_pass(feed))
        torch.stack(list(result.losses.values())).sum().backward()
    missing = [n for n, p in method.generator.named_parameters() if p.grad is None]
    assert all(name.startswith("unused.") for name in missing)
    assert [n for n, p in method.discriminator.named_parameters() if p.grad is None] == []


@pytest.mark.parametrize("phase", ["generator", "discriminator", "penalty"])
def test_pictures_are_compared_with_the_lights_of_the_whole_step(
    feed: ImageFeed, phase: str
) -> None:
    method = build(feed)
    known = feed.conditions_at(0, 4)
    assert known.lights is not None
    other = known.lights.clone()
    other[3] = -other[3]
    changed = Conditions(known.labels, other)
    which = next(each for each in method.phases if each.name == phase)
    one, two = (method.losses(which, a_pass(feed, 0, c)).losses for c in (known, changed))
    # Generated heads have lights of their own, and know those of the other pass.
    assert torch.equal(one["light"], two["light"]) == (phase == "generator")
    assert torch.equal(one["camera"], two["camera"])


def test_passes_of_a_step_know_the_same_scenes(feed: ImageFeed) -> None:
    method = build(feed)
    one, two = (method._draw_scenes(a_pass(feed, first)) for first in (0, 2))
    assert len(one.labels) == 4
    for mine, other in zip(one, two, strict=True):
        assert torch.equal(mine, other)


def test_real_and_generated_heads_stand_before_the_same_colour(
    feed: ImageFeed, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: dict[str, Tensor] = {}

    def spy(_judge: Any, fake: Tensor, _c: Any, _l: Any, real: Tensor, *_: Any) -> PhaseResult:
        seen.update(fake=fake, real=real)
        return PhaseResult({}, {})

    monkeypatch.setattr(model, "discriminator_losses", spy)
    method = build(feed, background="random")
    # Small Gaussians leave the corners free.
    with torch.no_grad():
        method.generator.head.start.mul_(0.01)
    method.losses(Phase("discriminator", "discriminator"), a_pass(feed))
    corners = [seen[name][:, :, 0, 0] for name in ("fake", "real")]
    assert torch.allclose(corners[0], corners[1], atol=0.05)
    assert float(corners[1].std(dim=1).min()) > 0.01
    black = method.show_real(next(feed.batches([(0, 2)])))
    assert torch.equal(black[:, :, 0, 0], torch.zeros(2, 3))
    assert float(black[:, :, SIZE // 2, SIZE // 2].min()) > 0.1


def test_sheets_show_views_lights_albedo_and_depth(feed: ImageFeed) -> None:
    sheets = build(feed).preview()
    shapes = {name: tuple(pictures.shape) for name, pictures in sheets.items()}
    assert shapes == {
        "fakes": (32, 3, SIZE, SIZE),
        "fakes_lit": (32, 3, SIZE, SIZE),
        "fakes_albedo": (8, 3, SIZE, SIZE),
        "fakes_depth": (8, 3, SIZE, SIZE),
    }
    assert 0.0 < float(sheets["fakes_depth"].max()) <= 1.0


def test_measurements_of_a_training_repeat(feed: ImageFeed) -> None:
    method = build(feed)
    measure = random_feature_distances(method, feed, 4, 0)
    values = measure(0)
    assert values == measure(0)
    assert values.keys() == {
        "random_feature_distance",
        "random_feature_distance.free",
        "side_light",
    }
    assert all(math.isfinite(value) for value in values.values())
    # Branches of untrained networks add nothing, so that all people would be the same.
    method.average.load_state_dict(built(TINY.generator).state_dict())
    own, again, free = (
        method.sample(3, torch.Generator().manual_seed(2), is_free=is_free)
        for is_free in (False, False, True)
    )
    assert torch.equal(own, again)
    assert not torch.equal(own, free)


def test_light_from_the_side_is_found_in_heads_that_show_it(feed: ImageFeed) -> None:
    method = build(feed)
    random = torch.Generator().manual_seed(3)
    unlit = method.measure(32, random)["side_light"]
    # Transfer towards X, for Gaussians to the right: a round head.
    average, shade = method.average, Generator.render

    def round_head(self: Generator, gaussians: Any, light: Any, labels: Any, **rest: Any) -> Any:
        transfer = torch.zeros_like(gaussians.transfer)
        transfer[..., 0], transfer[..., 3] = 10.0, 40.0 * gaussians.means[..., 0]
        return shade(self, replace(gaussians, transfer=transfer), light, labels, **rest)

    average.render = round_head.__get__(average)  # pyright: ignore[reportAttributeAccessIssue]
    lit = method.measure(32, torch.Generator().manual_seed(3))["side_light"]
    assert lit > 0.8
    assert lit > unlit


def test_lights_must_be_known() -> None:
    with pytest.raises(ValueError, match="lights of 9 numbers, got None"):
        build_generator("gsheadrelight", TINY, Conditions(LABELS), 0)
    colored = Conditions(LABELS, torch.zeros(len(LABELS), 27))
    with pytest.raises(ValueError, match="lights of 9 numbers, got 27"):
        build_generator("gsheadrelight", TINY, colored, 0)
