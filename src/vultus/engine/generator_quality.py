"""Measure a generator against a set of real images, by named protocols.

As in the release, images are compared after rounding to bytes; generated people are not truncated
and have their stored noise.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from vultus.core.asset_registry import find_asset
from vultus.core.image_io import to_bytes
from vultus.core.progress import track
from vultus.core.seeding import torch_generator
from vultus.data.image_choice import ChoiceConfig, Entries, choose_entries
from vultus.data.image_feed import Conditions, ImageFeed, RealBatch
from vultus.data.image_set import ImageSet
from vultus.metrics.feature_sets import coverage, inception_score, kernel_distance
from vultus.metrics.frechet import FeatureStatistics, frechet_distance
from vultus.nets.inception import Inception, imported_inception
from vultus.nets.random_features import RandomFeatures
from vultus.nets.vgg_features import VggFeatures, imported_vgg_features

__all__ = [
    "GeneratorMetric",
    "ImageMaker",
    "QualityConfig",
    "Views",
    "check_measurable",
    "choose_real_images",
    "measure_generator",
    "metric_names",
    "quality_protocol",
]

GeneratorMetric = Literal["fid", "kid", "is", "pr", "random_feature_distance"]
"""fid, kid and is need the asset inception, pr (precision and recall) the asset vgg16;
random_feature_distance is the Fréchet distance in an untrained network, which is not FID."""
Views = Literal["all", "front", "back"]
Condition = Literal["rendered", "frontal", "free"]

_QUARTER_TURN, _HALF_TURN = 90.0, 180.0
_YAWS: dict[Views, tuple[float, float]] = {
    "all": (0.0, _HALF_TURN),
    "front": (0.0, _QUARTER_TURN),
    "back": (_QUARTER_TURN, _HALF_TURN),
}
_LEAST: dict[GeneratorMetric, tuple[int, int]] = {"is": (1, 10), "pr": (4, 4), "kid": (2, 2)}
"""How many real and generated images a metric needs at least; the others need one of each."""
_INCEPTION_METRICS = ("fid", "kid", "is")
_ASSETS = {"inception": "inception", "pr": "vgg16"}
"""Network -> its weights."""


@runtime_checkable
class ImageMaker(Protocol):
    """A generator whose people are random."""

    @property
    def image_size(self) -> int:
        """Side of the images."""
        ...

    @property
    def ground(self) -> str:
        """What is behind people, in real and in generated images; ``shown`` is the images' own."""
        ...

    def show_real(self, real: RealBatch) -> Float[Tensor, "b 3 s s"]:
        """Real images in [0, 1], on that ground."""
        ...

    def __call__(
        self,
        seen: Conditions,
        condition: Float[Tensor, "b 25"],
        random: torch.Generator,
        *,
        has_offset: bool,
    ) -> Float[Tensor, "b 3 s s"]:
        """Images in [0, 1], taken as ``seen`` says, of people conditioned on cameras."""
        ...


@dataclass(frozen=True)
class QualityConfig:
    """What is compared."""

    metrics: tuple[GeneratorMetric, ...] = ("random_feature_distance",)
    """What is measured: fid, kid, is (inception score), pr (precision and recall), or
    random_feature_distance, which alone needs no imported network."""
    count: int = 50_000
    """Generated images; of the real ones, all are used."""
    views: Views = "all"
    """Real images by yaw; cameras of generated ones come from the same list. front is 90 degrees to
    either side, back the rest (official --mode)."""
    yaws: tuple[float, float] | None = None
    """Least and largest degrees to either side of the face, such as 150 180, in place of views: how
    good one group of views is."""
    condition: Condition | None = None
    """The camera that people are conditioned on: rendered, the one that shows them; frontal; free,
    another one of the list (FID-random). Default, as published: rendered, but frontal for back."""
    mirror: bool = False
    """Use the real images also flipped."""
    batch: int = 8
    """Images generated at once."""

    def __post_init__(self) -> None:
        """Reject what measures nothing."""
        if self.count < 2 or self.batch < 1:
            raise ValueError(
                f"count must be at least 2 and batch at least 1, got {self.count} and {self.batch}"
            )
        if not self.metrics:
            raise ValueError("metrics must name at least one")
        if self.yaws is None:
            return
        low, high = self.yaws
        if self.views != "all":
            raise ValueError(f"yaws and views exclude each other, got {self.views!r}")
        if not 0.0 <= low < high <= _HALF_TURN:
            raise ValueError(f"yaws must rise within 0 to 180 degrees, got {low:g} to {high:g}")

    @property
    def yaw_range(self) -> tuple[float, float]:
        """Degrees to either side of the face between which the real cameras stand."""
        return _YAWS[self.views] if self.yaws is None else self.yaws

    @property
    def chosen_condition(self) -> Condition:
        """With the default of the views."""
        if self.condition is not None:
            return self.condition
        return "frontal" if self.views == "back" else "rendered"


def metric_names(metric: GeneratorMetric) -> tuple[str, ...]:
    """Names of a metric's numbers."""
    named = {"is": ("is", "is_deviation"), "pr": ("precision", "recall")}
    return named.get(metric, (metric,))


def quality_protocol(config: QualityConfig, ground: str = "shown") -> str:
    """Id that every number carries.

    Args:
        config: What is compared.
        ground: See ``ImageMaker``.
    """
    mirrored = "-mirrored" if config.mirror else ""
    behind = "" if ground == "shown" else f"-{ground}"
    views = config.views
    if config.yaws is not None:
        low, high = config.yaws
        views = f"yaw{low:g}to{high:g}"
    name = f"generator-{views}-{config.chosen_condition}-{config.count}"
    return f"{name}{mirrored}{behind}-v1"


def choose_real_images(
    make: ImageMaker,
    images: ImageSet,
    config: QualityConfig,
    seed: int,
    lights: Float[Tensor, "n l"] | None = None,
) -> Entries:
    """Choose the real images that are compared, and what generated ones are taken like.

    Args:
        make: The generator.
        images: The real ones, of the size that the generator makes.
        config: What is measured.
        seed: Decides the order.
        lights: Of all real images, for generators that light heads.

    Raises:
        ValueError: If the images have another size, or none is of these views.
    """
    if images.size != make.image_size:
        raise ValueError(
            f"{images.path}: the generator makes images of {make.image_size} pixels, these have "
            f"{images.size}"
        )
    low, high = config.yaw_range
    choice = ChoiceConfig(min_yaw=low, max_yaw=high, mirror=config.mirror)
    return choose_entries(images.labels, choice, seed, lights)


def check_measurable(config: QualityConfig, real: int) -> None:
    """Refuse before the long work what would be refused in its course.

    Args:
        config: What is measured.
        real: Number of real images.

    Raises:
        FileNotFoundError: If weights of a metric are not imported; says how to import them.
        ValueError: If there are too few images.
    """
    _check_counts(config, real)
    for name in _networks(config.metrics):
        if name in _ASSETS:
            find_asset(_ASSETS[name])


def measure_generator(
    make: ImageMaker,
    feed: ImageFeed,
    frontal: Float[Tensor, "1 25"],
    config: QualityConfig,
    seed: int = 0,
) -> dict[str, float]:
    """Describe real and generated images, and compare.

    Args:
        make: The generator, on the device of ``frontal``.
        feed: Images of ``choose_real_images``.
        frontal: Camera for the condition ``frontal``.
        config: What is measured.
        seed: Of people, cameras and subsets.

    Raises:
        FileNotFoundError: If weights of a metric are not imported; says how to import them.
        ValueError: If there are too few images.
    """
    watchers = [_make_watcher(name, frontal.device) for name in _networks(config.metrics)]
    real = [_Described() for _ in watchers]
    fake = [_Described() for _ in watchers]
    total = len(feed.labels)
    _check_counts(config, total)
    places = [(at, min(config.batch, total - at)) for at in range(0, total, config.batch)]
    pixels = (to_bytes(make.show_real(batch)) for batch in feed.batches(places))
    _describe(track(pixels, len(places), "real images", "batches"), watchers, real)
    made = _generated(make, feed.conditions, frontal, config, seed)
    count = -(-config.count // config.batch)
    _describe(track(made, count, "generated images", "batches"), watchers, fake)
    results: dict[str, float] = {}
    for watcher, one, other in zip(watchers, real, fake, strict=True):
        results |= _compare(watcher, one, other, config.metrics, seed)
    return {name: results[name] for metric in config.metrics for name in metric_names(metric)}


def _check_counts(config: QualityConfig, real: int) -> None:
    for metric in config.metrics:
        least_real, least_fake = _LEAST.get(metric, (1, 1))
        if real < least_real or config.count < least_fake:
            raise ValueError(
                f"{metric} needs at least {least_real} real and {least_fake} generated images, got "
                f"{real} and {config.count}"
            )


class _Described:
    """Features of a set, and their statistics."""

    def __init__(self) -> None:
        self.statistics = FeatureStatistics()
        self.features: list[Tensor] = []
        self.probabilities: list[Tensor] = []


_Watcher = Inception | VggFeatures | RandomFeatures


def _networks(metrics: Sequence[GeneratorMetric]) -> list[str]:
    """The networks that metrics need, each once."""
    names = ["inception" if m in _INCEPTION_METRICS else m for m in metrics]
    return list(dict.fromkeys(names))


def _make_watcher(name: str, device: torch.device) -> _Watcher:
    if name == "inception":
        return imported_inception().to(device)
    if name == "pr":
        return imported_vgg_features().to(device)
    return RandomFeatures().to(device)


@torch.no_grad()
def _describe(
    batches: Iterable[Tensor], watchers: Sequence[_Watcher], sets: Sequence[_Described]
) -> None:
    """Let all networks see all images, which are bytes."""
    for pixels in batches:
        images = pixels.float() / 255.0
        for watcher, described in zip(watchers, sets, strict=True):
            output = watcher(images)
            if isinstance(watcher, Inception):
                output, probabilities = output
                described.probabilities.append(probabilities.cpu())
            if not isinstance(watcher, VggFeatures):
                described.statistics.add(output)
            if not isinstance(watcher, RandomFeatures):
                described.features.append(output.cpu())


def _compare(
    watcher: _Watcher,
    real: _Described,
    fake: _Described,
    metrics: Sequence[GeneratorMetric],
    seed: int,
) -> dict[str, float]:
    if isinstance(watcher, RandomFeatures):
        distance = frechet_distance(real.statistics, fake.statistics)
        return {"random_feature_distance": distance}
    if isinstance(watcher, VggFeatures):
        shares = coverage(torch.cat(real.features), torch.cat(fake.features))
        return {"precision": shares.precision, "recall": shares.recall}
    results = {}
    if "fid" in metrics:
        results["fid"] = frechet_distance(real.statistics, fake.statistics)
    if "kid" in metrics:
        random = torch_generator(seed, "generator_quality.kid")
        features = torch.cat(real.features), torch.cat(fake.features)
        results["kid"] = kernel_distance(*features, random)
    if "is" in metrics:
        results["is"], results["is_deviation"] = inception_score(torch.cat(fake.probabilities))
    return results


def _generated(
    make: ImageMaker,
    conditions: Conditions,
    frontal: Float[Tensor, "1 25"],
    config: QualityConfig,
    seed: int,
) -> Iterator[Tensor]:
    """Images of random people at cameras of the list, as bytes."""
    device = frontal.device
    random = torch_generator(seed, "generator_quality", device)

    def draw(count: int) -> Conditions:
        size = len(conditions.labels)
        return conditions.at(torch.randint(size, (count,), generator=random, device=device))

    for first in range(0, config.count, config.batch):
        count = min(config.batch, config.count - first)
        seen = draw(count)
        condition = seen.labels
        if config.chosen_condition == "frontal":
            condition = frontal.expand(count, -1)
        elif config.chosen_condition == "free":
            condition = draw(count).labels
        image = make(seen, condition, random, has_offset=config.views != "back")
        yield to_bytes(image)
