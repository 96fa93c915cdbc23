"""Generators measured against image sets."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tiny_generators import tiny_generator
from tiny_image_sets import labels_at, write_image_set
from vultus.core.image_io import write_image
from vultus.data.image_feed import Conditions, ImageFeed, RealBatch
from vultus.data.image_set import ImageSet, open_image_set
from vultus.engine import generator_quality
from vultus.engine.generator_quality import (
    QualityConfig,
    check_measurable,
    choose_real_images,
    measure_generator,
    metric_names,
    quality_protocol,
)
from vultus.methods.head_views import ViewRig
from vultus.methods.spherehead.random_images import RandomImages
from vultus.nets import vgg_features
from vultus.nets.inception import Inception
from vultus.nets.vgg_features import VggFeatures, vgg_features_from_published

FRONTAL = ViewRig().label()
QUICK = QualityConfig(count=6, batch=4)


def measured(make: Any, images: ImageSet, config: QualityConfig, seed: int = 0) -> dict[str, float]:
    feed = ImageFeed(images, choose_real_images(make, images, config, seed), seed)
    return measure_generator(make, feed, FRONTAL, config, seed)


@pytest.fixture(scope="module")
def generator() -> Any:
    return RandomImages(tiny_generator())


@pytest.fixture(scope="module")
def noise_set(tmp_path_factory: pytest.TempPathFactory) -> ImageSet:
    """Six images of 64 pixels; two of them show the back."""
    root = tmp_path_factory.mktemp("quality") / "images"
    return open_image_set(write_image_set(root, labels_at([0.0, 0.4, -0.7, 1.2, 2.5, -3.0]), 64))


@pytest.fixture
def small_vgg(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vgg_features, "_WIDTHS", (4, 0, 4, 0, 4, 0, 0, 0))
    monkeypatch.setattr(vgg_features, "_HIDDEN", 8)


def test_each_metric_gives_its_numbers(generator, noise_set, small_vgg, monkeypatch):
    torch.manual_seed(0)
    monkeypatch.setattr(generator_quality, "imported_inception", Inception)
    monkeypatch.setattr(generator_quality, "imported_vgg_features", VggFeatures)
    metrics = ("pr", "fid", "kid", "random_feature_distance")
    results = measured(generator, noise_set, replace(QUICK, metrics=metrics))
    assert list(results) == ["precision", "recall", "fid", "kid", "random_feature_distance"]
    assert all(torch.tensor(list(results.values())).isfinite())
    assert results["fid"] > 0


def test_images_of_the_generator_itself_are_close_and_noise_is_not(generator, noise_set, tmp_path):
    """A set that the generator made, against one of random pixels."""
    config = replace(QUICK, count=24)
    labels = labels_at([0.3 * k for k in range(24)])
    root = write_image_set(tmp_path / "own", labels, 64)
    made = list(generator_quality._generated(generator, Conditions(labels), FRONTAL, config, 5))
    for path, image in zip(sorted((root / "img").rglob("*.png")), torch.cat(made), strict=True):
        write_image(path, image.float() / 255.0)
    own = measured(generator, open_image_set(root), config, seed=1)
    other = measured(generator, noise_set, config, seed=1)
    name = "random_feature_distance"
    assert own[name] < 0.1 * other[name]


@pytest.mark.parametrize(
    ("metric", "count", "message"),
    [
        ("is", 9, "is needs at least 1 real and 10 generated images, got 6 and 9"),
        ("pr", 3, "pr needs at least 4 real and 4 generated images, got 6 and 3"),
    ],
)
def test_too_few_images_are_refused_before_any_is_made(
    noise_set, monkeypatch, metric, count, message
):
    monkeypatch.setattr(generator_quality, "imported_inception", Inception)
    monkeypatch.setattr(generator_quality, "imported_vgg_features", VggFeatures)

    class NoImages:
        image_size, ground = 64, "shown"

        def show_real(self, real: RealBatch) -> Tensor:
            raise AssertionError("no image may be looked at")

        def __call__(self, *args: Any, **options: Any) -> Tensor:
            raise AssertionError("no image may be made")

    with pytest.raises(ValueError, match=f"^{message}$"):
        measured(NoImages(), noise_set, QualityConfig((metric,), count))


def test_the_same_seed_gives_the_same_numbers(generator, noise_set):
    a, b, c = (measured(generator, noise_set, QUICK, seed=s) for s in (1, 1, 2))
    assert a == b
    assert a != c


@pytest.mark.parametrize(("views", "count"), [("all", 6), ("front", 4), ("back", 2)])
def test_views_choose_real_images_and_cameras(generator, noise_set, views, count, monkeypatch):
    seen: dict[str, Tensor] = {}
    original = generator.generator.map

    def watch(z: Tensor, labels: Tensor) -> Tensor:
        seen["condition"] = labels
        return original(z, labels)

    monkeypatch.setattr(generator.generator, "map", watch)
    described = []
    add = generator_quality.FeatureStatistics.add

    def count_rows(self: Any, features: Tensor) -> None:
        described.append(len(features))
        add(self, features)

    monkeypatch.setattr(generator_quality.FeatureStatistics, "add", count_rows)
    measured(generator, noise_set, replace(QUICK, views=views))
    assert sum(described) == count + QUICK.count
    frontal = torch.equal(seen["condition"], FRONTAL.expand(len(seen["condition"]), -1))
    assert frontal == (views == "back")


def test_one_group_of_views_is_compared_with_its_like(generator, noise_set):
    """Yaws of the set are 0, 23, 40, 69, 143 and 172 degrees to either side."""
    for yaws, kept in (((0.0, 30.0), [0, 1]), ((60.0, 150.0), [3, 4]), ((0.0, 180.0), range(6))):
        config = replace(QUICK, yaws=yaws)
        entries = choose_real_images(generator, noise_set, config, 0)
        assert sorted(entries.rows.tolist()) == list(kept)
    assert quality_protocol(config) == "generator-yaw0to180-rendered-6-v1"
    assert measured(generator, noise_set, config) == measured(generator, noise_set, QUICK)
    odd = replace(QUICK, yaws=(22.5, 45.0), condition="free")
    assert quality_protocol(odd) == "generator-yaw22.5to45-free-6-v1"
    with pytest.raises(ValueError, match="no image has a yaw of 80"):
        choose_real_images(generator, noise_set, replace(QUICK, yaws=(80.0, 90.0)), 0)
    for wrong in ((90.0, 90.0), (-10.0, 10.0), (150.0, 190.0)):
        with pytest.raises(ValueError, match="yaws must rise within 0 to 180 degrees"):
            replace(QUICK, yaws=wrong)
    with pytest.raises(ValueError, match="yaws and views exclude each other, got 'front'"):
        replace(QUICK, views="front", yaws=(0.0, 10.0))


def test_protocols_name_what_decides():
    assert quality_protocol(QualityConfig()) == "generator-all-rendered-50000-v1"
    back = QualityConfig(views="back", count=10, mirror=True)
    assert quality_protocol(back) == "generator-back-frontal-10-mirrored-v1"
    assert quality_protocol(replace(back, condition="free")).split("-")[2] == "free"
    black = quality_protocol(QualityConfig(count=9), "black")
    assert black == "generator-all-rendered-9-black-v1"
    assert metric_names("pr") == ("precision", "recall")


def test_what_cannot_be_measured_is_refused(generator, noise_set, tmp_path, monkeypatch):
    monkeypatch.setenv("VULTUS_ASSETS", str(tmp_path / "none"))
    with pytest.raises(FileNotFoundError, match="vultus assets import inception"):
        measured(generator, noise_set, replace(QUICK, metrics=("fid",)))
    with pytest.raises(FileNotFoundError, match="vultus assets import vgg16"):
        measured(generator, noise_set, replace(QUICK, metrics=("pr",)))
    small = open_image_set(write_image_set(Path(tmp_path) / "small", labels_at([0.0, 1.0]), 16))
    with pytest.raises(ValueError, match="makes images of 64 pixels, these have 16"):
        measured(generator, small, QUICK)
    with pytest.raises(ValueError, match="count must be at least 2"):
        replace(QUICK, count=1)
    with pytest.raises(ValueError, match="metrics must name at least one"):
        replace(QUICK, metrics=())


def test_missing_weights_and_images_are_found_before_the_work(tmp_path, monkeypatch):
    monkeypatch.setenv("VULTUS_ASSETS", str(tmp_path / "none"))
    check_measurable(QUICK, 1)
    for metric, asset in (("kid", "inception"), ("pr", "vgg16")):
        config = replace(QUICK, metrics=("random_feature_distance", metric), count=20)
        with pytest.raises(FileNotFoundError, match=f"vultus assets import {asset}"):
            check_measurable(config, 20)
        with pytest.raises(ValueError, match=f"{metric} needs at least"):
            check_measurable(config, 1)


def test_vgg_takes_published_names(small_vgg):
    network = VggFeatures()
    weights = {n: t + 1 for n, t in network.state_dict().items()}
    loaded = vgg_features_from_published(weights | {"classifier.6.bias": torch.ones(1)})
    assert torch.equal(loaded.state_dict()["features.0.weight"], weights["features.0.weight"])
    assert loaded(torch.rand(2, 3, 30, 40)).shape == (2, 8)
    del weights["classifier.3.bias"]
    with pytest.raises(ValueError, match=r"must have 'classifier\.3\.bias' of shape"):
        vgg_features_from_published(weights)


def test_vgg_has_the_published_layers():
    with torch.device("meta"):
        network = VggFeatures()
    shapes = {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}
    assert shapes["features.28.weight"] == (512, 512, 3, 3)
    assert shapes["classifier.0.weight"] == (4096, 25088)
    assert shapes["classifier.3.weight"] == (4096, 4096)
