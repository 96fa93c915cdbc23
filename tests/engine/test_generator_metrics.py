"""The distance between generated and real images, measured during a training."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tiny_adversarial import ToyGan, toy_feed
from vultus.engine.generator_metrics import random_feature_distances
from vultus.metrics.frechet import FeatureStatistics, frechet_distance
from vultus.nets.random_features import RandomFeatures


class Copying(ToyGan):
    """Generates the real images of a feed, and their negatives where cameras are free."""

    def __init__(self, pictures: torch.Tensor) -> None:
        super().__init__()
        self.pictures, self.place = pictures, 0

    def sample(self, count: int, random: torch.Generator, *, is_free: bool = False) -> torch.Tensor:
        self.place = 0 if self.place >= len(self.pictures) else self.place
        taken = self.pictures[self.place : self.place + count]
        self.place += count
        return 1.0 - taken if is_free else taken


def test_images_are_at_no_distance_from_themselves(tmp_path: Path) -> None:
    feed = toy_feed(tmp_path / "set")
    real = next(feed.batches([(0, 20)])).pixels[:, :3].float() / 255.0
    distances = random_feature_distances(Copying(real), feed, 20, seed=0)(0)
    assert distances["random_feature_distance"] == pytest.approx(0.0, abs=1e-5)
    network = RandomFeatures()
    sets = [FeatureStatistics.of([network(images)]) for images in (real, 1.0 - real)]
    expected = frechet_distance(*sets)
    assert expected > 0.01
    assert distances["random_feature_distance.free"] == pytest.approx(expected, rel=1e-4)


def test_measurements_repeat(tmp_path: Path) -> None:
    measure = random_feature_distances(ToyGan(), toy_feed(tmp_path / "set"), 20, seed=0)
    assert measure(1) == measure(2)
