"""``vultus evaluate-generator``: compare generated images with real ones."""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import torch
import tyro
from jaxtyping import Float
from torch import Tensor

from vultus.cli.avatar_run import output_path
from vultus.cli.console import console, print_table
from vultus.cli.generator_options import split_method
from vultus.cli.generator_weights import RELIGHTABLE, SPHERE_HEAD, SavedSource, open_saved
from vultus.cli.option_parser import parse_arguments
from vultus.core.asset_registry import find_asset
from vultus.core.devices import find_device
from vultus.core.files import file_digest, write_json
from vultus.core.image_io import write_image
from vultus.data.cropping.face_descriptions import face_descriptions
from vultus.data.cropping.onnx_detectors import open_network, person_mattes
from vultus.data.image_choice import Entries
from vultus.data.image_feed import ImageFeed
from vultus.data.image_set import ImageSet, open_image_set
from vultus.data.light_labels import read_head_lights
from vultus.engine.background_quality import (
    BackgroundSwapConfig,
    PersonFinder,
    SceneryMaker,
    measure_background_swap,
    swap_protocol,
)
from vultus.engine.generator_quality import (
    ImageMaker,
    QualityConfig,
    check_measurable,
    choose_real_images,
    measure_generator,
    quality_protocol,
)
from vultus.engine.identity_quality import (
    FaceRecognizer,
    IdentityQualityConfig,
    check_identity_lights,
    identity_protocol,
    identity_view_protocol,
    identity_yaws,
    measure_identity,
    measure_identity_over_views,
)
from vultus.engine.light_quality import (
    LightMeasurement,
    LightQualityConfig,
    check_light_images,
    light_protocol,
    measure_lights,
)
from vultus.export.relit_people import measured_lights_sheet
from vultus.methods.gsheadrelight.random_images import RandomImages as RandomLitImages
from vultus.methods.gsheadrelight.random_images import SceneryImages
from vultus.methods.head_views import ViewRig
from vultus.methods.spherehead.random_images import RandomImages

__all__ = [
    "EvaluateGeneratorOptions",
    "EvaluateRelightableOptions",
    "EvaluateSphereHeadOptions",
    "main",
]

_PICTURES = (".png", ".jpg", ".jpeg")
_DIGEST = 8
"""Hexadecimal digits that tell networks apart."""


@dataclass(frozen=True)
class _Evaluation:
    """What was opened and checked."""

    make: ImageMaker
    images: ImageSet
    rig: ViewRig
    protocols: tuple[str, ...]
    entries: Entries
    """Which images are compared."""
    scenery: SceneryMaker | None = None
    """Whose backgrounds are swapped."""
    finder: PersonFinder | None = None
    """Of masks under swapped backgrounds."""
    recognizer: FaceRecognizer | None = None
    """Of people in several lights and views."""


@dataclass(frozen=True)
class _Measured:
    """What came out."""

    results: dict[str, float]
    lights: LightMeasurement | None = None
    """Where light was measured."""


@dataclass(frozen=True)
class EvaluateGeneratorOptions(ABC):
    """Measure FID, KID, inception score, precision and recall of a generator.

    Their networks are imported with vultus assets; without them there is
    random_feature_distance, which tells progress and compares with nothing else.
    """

    data: Path
    """Folder or zip archive of the real images with dataset.json."""
    weights: Path | None = None
    """Run folder of train, or file of convert-checkpoint; default, or demo: the built-in
    generator."""
    step: int | None = None
    """Checkpoint of a run folder, by its step; default: the last one."""
    quality: Annotated[QualityConfig, tyro.conf.arg(name="")] = field(default_factory=QualityConfig)
    swap: Annotated[BackgroundSwapConfig, tyro.conf.arg(name="")] = field(
        default_factory=BackgroundSwapConfig
    )
    """How changes with the background are measured."""
    matte_model: Path | None = None
    """ONNX model that finds the person in pictures, for the mask error under swapped backgrounds
    (background_swap_mask): coverage, or classes of which 15 is the person, 512 x 512. Without it
    there are only the changes of colours."""
    seed: int = 0
    """Of people, cameras and subsets."""
    out: Path | None = None
    """File that also gets the numbers (.json)."""
    device: str = "cpu"
    """What computes: cpu, cuda, cuda:N, or auto, which takes a GPU if there is one."""
    dry_run: bool = False
    """Check everything, write nothing."""

    def source(self) -> SavedSource:
        """Where the weights are."""
        return SavedSource(self.weights, self.step, find_device(self.device))

    @abstractmethod
    def open(self) -> _Evaluation:
        """Open images and weights, and check that they can be measured."""

    def measure(self, opened: _Evaluation) -> _Measured:
        """Decode all images, then compare."""
        device = find_device(self.device)
        feed = ImageFeed(opened.images, opened.entries, self.seed, device=device)
        return self.compare(opened, feed)

    def choose(
        self, make: ImageMaker, images: ImageSet, lights: Float[Tensor, "n l"] | None = None
    ) -> Entries:
        """Choose the real images, of which there must be enough, and find the metrics' weights."""
        entries = choose_real_images(make, images, self.quality, self.seed, lights)
        check_measurable(self.quality, len(entries.rows))
        return entries

    def compare(self, opened: _Evaluation, feed: ImageFeed) -> _Measured:
        """Compare generated images with real ones, and heads before other backgrounds."""
        frontal, seed = opened.rig.label().to(feed.device), self.seed
        results = measure_generator(opened.make, feed, frontal, self.quality, seed)
        if opened.scenery is not None:
            results |= measure_background_swap(
                opened.scenery, frontal, self.swap, opened.finder, seed
            )
        return _Measured(results)

    def pictures(self, measured: _Measured) -> dict[Path, Float[Tensor, "3 h w"]]:
        """Pictures that were asked for, by file."""
        return {}

    def swapped(self, scenery: SceneryMaker | None, nothing: str) -> SceneryMaker | None:
        """Whose backgrounds are swapped, if any are.

        Args:
            scenery: Paints backgrounds; None if there are none.
            nothing: Says so.

        Raises:
            ValueError: If options ask for what is not there.
        """
        if scenery is None:
            if self.matte_model is not None:
                raise ValueError(f"--matte-model: {nothing}")
            if self.swap.swap_count:
                raise ValueError(f"--swap-count: {nothing}")
        return scenery if self.swap.num_people else None

    def finder(self) -> PersonFinder | None:
        """Open the network that finds people, if there is one."""
        path = self.matte_model
        if path is None:
            return None
        if not self.swap.num_people:
            raise ValueError(f"--matte-model needs --swap-count above 0, got {path}")
        detect = person_mattes(open_network(path))
        return PersonFinder(f"matte-{_digest(path)}", detect)


@dataclass(frozen=True)
class EvaluateSphereHeadOptions(EvaluateGeneratorOptions):
    """Options for SphereHead.

    Where the generator paints backgrounds, it is also measured how far heads change with them.
    """

    def open(self) -> _Evaluation:
        """Open images and weights."""
        finder = self.finder()
        images, saved = open_image_set(self.data), open_saved(SPHERE_HEAD, self.source())
        make, protocols = RandomImages(saved.generator), [quality_protocol(self.quality)]
        scenery = self.swapped(
            None if saved.generator.background is None else make,
            "this generator paints nothing behind heads",
        )
        if scenery is not None:
            protocols.append(swap_protocol(self.swap, finder))
        entries = self.choose(make, images)
        return _Evaluation(make, images, saved.rig, tuple(protocols), entries, scenery, finder)


@dataclass(frozen=True)
class EvaluateRelightableOptions(EvaluateGeneratorOptions):
    """Options for GSHeadRelight.

    Real images must have masks and lights. Both sides are over black, unless there is scenery. It
    is also measured whether heads show the light that was asked for, and with --identity-count
    whether people stay who they are in other lights and from other sides; with --scenery, how far
    heads change with what is behind them.
    """

    masks: Path | None = None
    """Folder or zip archive of the masks of images without alpha channel, under their names."""
    scenery: bool = False
    """Compare real images as they are with heads before generated scenery."""
    light: Annotated[LightQualityConfig, tyro.conf.arg(name="")] = field(
        default_factory=LightQualityConfig
    )
    """How light is measured."""
    light_sheet: Path | None = None
    """Picture (.png, .jpg) of eight of the people whose light is measured: as they are, and white
    balls in the light asked for and in the light found."""
    identity: Annotated[IdentityQualityConfig, tyro.conf.arg(name="")] = field(
        default_factory=IdentityQualityConfig
    )
    """How likeness in different lights and views is measured."""
    identity_model: Path | None = None
    """ONNX model that describes faces, with --identity-count: RGB in [-1, 1], 112 x 112, as
    ArcFace's; default: the asset face_recognition."""

    def open(self) -> _Evaluation:
        """Open images and weights."""
        self._check_sheet()
        recognizer, finder = self._recognizer(), self.finder()
        images = open_image_set(
            self.data,
            self.masks,
            needs_masks=not self.scenery,
            alpha="ignored" if self.scenery else "mask",
        )
        saved = open_saved(RELIGHTABLE, self.source())
        if self.scenery and saved.generator.background is None:
            raise ValueError("--scenery: this generator has learned nothing behind heads")
        make = RandomLitImages(saved.generator, self.scenery)
        lights = read_head_lights(images, saved.generator.config.light_channels)
        entries = self.choose(make, images, lights)
        assert entries.lights is not None
        # One light for all, as it changes nothing behind heads.
        light = entries.lights.mean(dim=0).to(find_device(self.device))
        scenery = self.swapped(
            SceneryImages(saved.generator, light) if self.scenery else None,
            "heads are measured over black; give --scenery",
        )
        protocols = [quality_protocol(self.quality, make.ground)]
        if scenery is not None:
            protocols.append(swap_protocol(self.swap, finder))
        if self.light.light_count:
            check_light_images(len(entries.rows))
            protocols.append(light_protocol(self.light))
        if recognizer is not None:
            check_identity_lights(self.identity, entries.lights)
            protocols.append(identity_protocol(self.identity, recognizer))
            if self.identity.identity_yaw:
                protocols.append(identity_view_protocol(self.identity, recognizer))
        return _Evaluation(
            make, images, saved.rig, tuple(protocols), entries, scenery, finder, recognizer
        )

    def compare(self, opened: _Evaluation, feed: ImageFeed) -> _Measured:
        """Compare images, lights with those that were asked for, and people in several lights."""
        results, lights = super().compare(opened, feed).results, None
        make, batch = opened.make, self.quality.batch
        assert isinstance(make, RandomLitImages)
        if self.light.light_count:
            lights = measure_lights(make, feed, self.light, batch, self.seed)
            results |= lights.figures
        if opened.recognizer is not None:
            results |= self._likeness(make, opened.rig, opened.recognizer, feed)
        return _Measured(results, lights)

    def _likeness(
        self, make: RandomLitImages, rig: ViewRig, recognizer: FaceRecognizer, feed: ImageFeed
    ) -> dict[str, float]:
        """Compare people with themselves in other lights, and from other sides."""
        rest = self.identity, recognizer, self.quality.batch, self.seed
        results = measure_identity(make, feed, rig.label().to(feed.device), *rest)
        if len(yaws := identity_yaws(self.identity)):
            views = rig.labels(yaws, torch.zeros_like(yaws)).to(feed.device)
            results |= measure_identity_over_views(make, feed, views, *rest)
        return results

    def pictures(self, measured: _Measured) -> dict[Path, Float[Tensor, "3 h w"]]:
        """The sheet of lights."""
        lights = measured.lights
        if self.light_sheet is None or lights is None:
            return {}
        sheet = measured_lights_sheet(lights.pictures, lights.wanted, lights.found)
        return {self.light_sheet: sheet}

    def _recognizer(self) -> FaceRecognizer | None:
        path = self.identity_model
        if not self.identity.identity_count:
            if path is not None:
                raise ValueError(f"--identity-model needs --identity-count above 0, got {path}")
            return None
        path = path or find_asset("face_recognition")
        describe = face_descriptions(open_network(path))
        return FaceRecognizer(f"face-{_digest(path)}", describe)

    def _check_sheet(self) -> None:
        path = self.light_sheet
        if path is None:
            return
        if not self.light.light_count:
            raise ValueError(f"--light-sheet needs --light-count above 0, got {path}")
        if path.suffix.lower() not in _PICTURES:
            raise ValueError(f"--light-sheet must end in {', '.join(_PICTURES)}, got {path}")
        if not path.parent.is_dir():
            raise FileNotFoundError(f"--light-sheet: the folder {path.parent} does not exist")


_OPTIONS: dict[str, type[EvaluateGeneratorOptions]] = {
    "spherehead": EvaluateSphereHeadOptions,
    "gsheadrelight": EvaluateRelightableOptions,
}


def main(arguments: list[str]) -> None:
    """Check, measure, print."""
    method, rest = split_method("evaluate-generator", arguments, _OPTIONS)
    options = parse_arguments(
        _OPTIONS[method],
        rest,
        prog=f"vultus evaluate-generator {method}",
        description=_description(_OPTIONS[method]),
    )
    out = None if options.out is None else output_path(options.out, options.out, [".json"])
    opened = options.open()
    protocol = ", ".join(opened.protocols)
    if options.dry_run:
        console.print(f"would measure {', '.join(options.quality.metrics)} by {protocol}")
        return
    measured = options.measure(opened)
    rows = [[name, value] for name, value in measured.results.items()]
    print_table("generated against real images", ["metric", "value"], rows, f"protocol {protocol}")
    if out is not None:
        facts = {"protocol": protocol, "data_id": opened.images.fingerprint(), "seed": options.seed}
        write_json(out, {**facts, "results": measured.results})
        console.print(f"written: {out}")
    # Last: what fails here has cost no number.
    for path, picture in options.pictures(measured).items():
        write_image(path, picture)
        console.print(f"pictures: {path}")


def _description(options: type[EvaluateGeneratorOptions]) -> str:
    """What is measured of all generators, and what of those of one method."""
    return "\n\n".join(inspect.getdoc(each) or "" for each in (EvaluateGeneratorOptions, options))


def _digest(path: Path) -> str:
    """What tells a network apart from others."""
    return file_digest(path)[:_DIGEST]
