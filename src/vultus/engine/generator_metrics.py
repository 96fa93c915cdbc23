"""How far generated images are from real ones."""

from __future__ import annotations

from collections.abc import Callable

import torch

from vultus.core.seeding import torch_generator
from vultus.data.image_feed import ImageFeed
from vultus.methods.adversarial import AdversarialMethod
from vultus.metrics.frechet import FeatureStatistics, frechet_distance
from vultus.nets.random_features import RandomFeatures

__all__ = ["RANDOM_FEATURE_PROTOCOL", "random_feature_distances"]

RANDOM_FEATURE_PROTOCOL = "random-feature-distance-v1"
"""Fréchet distance of features of an untrained network: as many real images, in the order of the
training, as generated ones; cameras from the set, and the ground of ``show_real``. Not FID, and not
comparable with it."""

_BATCH = 16
_MOST_PEOPLE = 64
"""For measurements of the method's own."""


def random_feature_distances(
    method: AdversarialMethod, feed: ImageFeed, count: int, seed: int
) -> Callable[[int], dict[str, float]]:
    """Prepare to measure the averaged generator; the real images are described once.

    The measurement gives ``random_feature_distance``, where heads are conditioned on the camera
    that shows them, and ``random_feature_distance.free``, where on another one of the set; and what
    the method measures itself.

    Args:
        method: What is measured.
        feed: Real images.
        count: Images of each kind.
        seed: Decides the generated people and their cameras, the same in every measurement.
    """
    network = RandomFeatures().to(method.device)
    sizes = [min(_BATCH, count - first) for first in range(0, count, _BATCH)]
    places = ((index * _BATCH, size) for index, size in enumerate(sizes))
    real = FeatureStatistics.of(network(method.show_real(batch)) for batch in feed.batches(places))

    @torch.no_grad()
    def measure(step: int) -> dict[str, float]:
        distances = {}
        for suffix, is_free in (("", False), (".free", True)):
            random = torch_generator(seed, f"generator_metrics{suffix}", method.device)
            images = (method.sample(size, random, is_free=is_free) for size in sizes)
            fake = FeatureStatistics.of(network(batch) for batch in images)
            distances[f"random_feature_distance{suffix}"] = frechet_distance(real, fake)
        random = torch_generator(seed, "generator_metrics.own", method.device)
        return {**distances, **method.measure(min(count, _MOST_PEOPLE), random)}

    return measure
