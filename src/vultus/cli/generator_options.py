"""What the commands of generators have in common: weights, seeds, settings, folders."""

from __future__ import annotations

import math
import re
from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import tyro
from jaxtyping import Float
from torch import Tensor

from vultus.cli.generator_weights import (
    RELIGHTABLE,
    SPHERE_HEAD,
    SavedSource,
    open_saved,
)
from vultus.cli.light_options import LightOptions
from vultus.cli.option_parser import parse_arguments
from vultus.core.devices import find_device
from vultus.methods.generated_heads import PeopleSampler
from vultus.methods.gsheadrelight import sampling as gsheadrelight
from vultus.methods.gsheadrelight.light_sources import named_light
from vultus.methods.gsheadrelight.rendering import ShadeMode
from vultus.methods.gsheadrelight.shown_gaussians import ShownGaussians
from vultus.methods.head_views import ViewRig
from vultus.methods.latents import read_styles
from vultus.methods.people import DrawSettings, People
from vultus.methods.spherehead import sampling as spherehead
from vultus.methods.spherehead.config import with_parity
from vultus.methods.spherehead.sampling import CameraOffset
from vultus.nets.stylegan2.synthesis import NoiseMode

__all__ = [
    "GENERATOR_OPTIONS",
    "CameraOptions",
    "GaussianOptions",
    "GeneratorOptions",
    "LitGaussianOptions",
    "ManyLightsOptions",
    "OptionsT",
    "PeopleOptions",
    "PictureOptions",
    "RelightableOptions",
    "SphereHeadOptions",
    "SphereSurfaceOptions",
    "check_output_folder",
    "count_people",
    "method_help",
    "parse_options",
    "parse_seeds",
    "split_method",
]


_SEED_RANGE = re.compile(r"(\d+)(?:-(\d+))?")
_LARGEST_SEED = 2**32 - 1
_MOST_SEEDS = 1_000_000


@dataclass(frozen=True)
class CameraOptions:
    """Where cameras see people from; who they are does not depend on it."""

    distance: float | None = None
    """Of the cameras from the origin; default: that of the training images, mostly 2.7."""
    focal: float | None = None
    """Focal length in units of the image's side; default: that of the training images, mostly
    4.2647."""
    target: tuple[float, float, float] | None = None
    """World position in the middle of the images; default: that of the training images, mostly the
    origin."""

    def rig(self, known: ViewRig) -> ViewRig:
        """Cameras of the generator, as far as no others are chosen."""
        return ViewRig(
            known.distance if self.distance is None else self.distance,
            known.focal if self.focal is None else self.focal,
            known.target if self.target is None else self.target,
        )


@dataclass(frozen=True)
class GeneratorOptions(ABC):
    """Options of every command that generates people, whatever the method."""

    weights: Path | None = None
    """Run folder of train, whose averaged weights are taken, or file of convert-checkpoint or
    invert; default, or demo: the built-in generator."""
    step: int | None = None
    """Checkpoint of a run folder, by its step; default: the last one."""
    truncation: float = 0.7
    """0 gives the mean head, 1 all the variety of the training images (official --trunc)."""
    cutoff: int | None = None
    """Truncate only so many of the first styles; default: all (official --trunc-cutoff)."""
    condition_yaw: float = 0.0
    """Yaw in degrees of the camera that people are conditioned on; 0 is frontal (official
    --pose_cond is 90 more)."""
    device: str = "cpu"
    """What generates: cpu, cuda, cuda:N, or auto, which takes a GPU if there is one."""

    @abstractmethod
    def open_sampler(self) -> PeopleSampler[Any]:
        """Check the options, read the weights and put both together.

        Raises:
            FileNotFoundError: As ``generator_weights.open_saved``.
            ValueError: If an option or the weights do not fit.
        """

    def source(self) -> SavedSource:
        """Where the weights are, and where they go."""
        return SavedSource(self.weights, self.step, find_device(self.device))

    def checked(self, settings: DrawSettings, num_ws: int) -> None:
        """Refuse what only the generator tells to be wrong."""
        if settings.cutoff is not None and settings.cutoff > num_ws:
            raise ValueError(f"--cutoff must be 0 to {num_ws}, got {settings.cutoff}")


@dataclass(frozen=True)
class _SphereOptions(GeneratorOptions, ABC):
    """Options of every command that generates people with SphereHead, PanoHead or EG3D."""

    noise: NoiseMode = "const"
    """Noise of the layers: const is the stored one, random that of each seed, none without."""
    parity: Literal["official", "fixed"] | None = None
    """official repeats the slips of the published programs; default: official for their weights,
    fixed for ours."""

    def _settings(self) -> spherehead.SamplingSettings:
        return spherehead.SamplingSettings(
            truncation=self.truncation,
            cutoff=self.cutoff,
            condition_yaw=math.radians(self.condition_yaw),
            noise=self.noise,
        )

    def _open(
        self, settings: spherehead.SamplingSettings, cameras: CameraOptions
    ) -> spherehead.HeadSampler:
        saved = open_saved(SPHERE_HEAD, self.source())
        generator = saved.generator
        if self.parity is not None:
            generator.config = with_parity(generator.config, self.parity)
        self.checked(settings, generator.num_ws)
        if settings.camera_offset != "none" and generator.camera_offset is None:
            raise ValueError(
                f"--camera-offset {settings.camera_offset}: this generator has learned no offset"
            )
        return spherehead.HeadSampler(generator, cameras.rig(saved.rig), settings, saved.rig)


@dataclass(frozen=True)
class SphereSurfaceOptions(_SphereOptions):
    """Options of commands that make no pictures of SphereHead's people."""

    def open_sampler(self) -> spherehead.HeadSampler:
        """Check the options, read the weights and put both together."""
        return self._open(self._settings(), CameraOptions())


@dataclass(frozen=True)
class SphereHeadOptions(_SphereOptions):
    """Options of commands that show people of SphereHead."""

    camera_offset: CameraOffset = "none"
    """Which learned offset moves cameras: none as in the published images, the mean of many people,
    or each person's own as in training."""
    neural_size: int | None = None
    """Side of the rendered feature image; default: that of the training (official --nrr)."""
    sample_factor: float = 1.0
    """Multiply the samples of each ray (official --sample_mult)."""
    cameras: Annotated[CameraOptions, tyro.conf.arg(name="")] = field(default_factory=CameraOptions)

    def open_sampler(self) -> spherehead.HeadSampler:
        """Check the options, read the weights and put both together."""
        settings = replace(
            self._settings(),
            camera_offset=self.camera_offset,
            neural_size=self.neural_size,
            sample_factor=self.sample_factor,
        )
        return self._open(settings, self.cameras)


@dataclass(frozen=True)
class PictureOptions:
    """How pictures of GSHeadRelight's people are made."""

    size: int | None = None
    """Side of the pictures; default: that of the training (official --nrr)."""
    scenery: bool = False
    """Show what the generator has learned to be behind heads (official --with_bg)."""
    backdrop: tuple[float, float, float] = (0.0, 0.0, 0.0)
    """Colour behind everything, from 0 to 1."""
    cameras: Annotated[CameraOptions, tyro.conf.arg(name="")] = field(default_factory=CameraOptions)


@dataclass(frozen=True)
class _GaussianOptions(GeneratorOptions, ABC):
    """Options of every command that generates people with GSHeadRelight."""

    def _open(
        self,
        light: Float[Tensor, "9 c"],
        mode: ShadeMode,
        pictures: PictureOptions,
        shown: ShownGaussians | None = None,
    ) -> gsheadrelight.RelightableSampler:
        settings = gsheadrelight.SamplingSettings(
            truncation=self.truncation,
            cutoff=self.cutoff,
            condition_yaw=math.radians(self.condition_yaw),
            light=light,
            mode=mode,
            has_scenery=pictures.scenery,
            backdrop=pictures.backdrop,
            size=pictures.size,
            shown=shown or ShownGaussians(),
        )
        saved = open_saved(RELIGHTABLE, self.source())
        generator = saved.generator
        self.checked(settings, generator.num_ws)
        if pictures.cameras.focal is not None and generator.config.parity == "official":
            raise ValueError(
                "--focal: this generator has the one field of view of the published programs"
            )
        if pictures.scenery and generator.background is None:
            raise ValueError("--scenery: this generator has learned nothing behind heads")
        rig = pictures.cameras.rig(saved.rig)
        return gsheadrelight.RelightableSampler(generator, rig, settings, saved.rig)


@dataclass(frozen=True)
class GaussianOptions(_GaussianOptions):
    """Options of commands that make neither pictures nor light."""

    shown: Annotated[ShownGaussians, tyro.conf.arg(name="")] = field(default_factory=ShownGaussians)

    def open_sampler(self) -> gsheadrelight.RelightableSampler:
        """Check the options, read the weights and put both together."""
        return self._open(named_light("front"), "lit", PictureOptions(), self.shown)


@dataclass(frozen=True)
class ManyLightsOptions(_GaussianOptions):
    """Options of commands that show people in many lights."""

    pictures: Annotated[PictureOptions, tyro.conf.arg(name="")] = field(
        default_factory=PictureOptions
    )
    shown: Annotated[ShownGaussians, tyro.conf.arg(name="")] = field(default_factory=ShownGaussians)

    def open_sampler(self) -> gsheadrelight.RelightableSampler:
        """Check the options, read the weights and put both together."""
        return self._open(named_light("front"), "lit", self.pictures, self.shown)


@dataclass(frozen=True)
class LitGaussianOptions(_GaussianOptions):
    """Options of commands that color people by a light, but make no pictures."""

    light: Annotated[LightOptions, tyro.conf.arg(name="")] = field(default_factory=LightOptions)

    def open_sampler(self) -> gsheadrelight.RelightableSampler:
        """Check the options, read light and weights and put all together."""
        source = self.light.source()
        return self._open(source.light, source.mode, PictureOptions())


@dataclass(frozen=True)
class RelightableOptions(_GaussianOptions):
    """Options of commands that show people of GSHeadRelight in one light."""

    light: Annotated[LightOptions, tyro.conf.arg(name="")] = field(default_factory=LightOptions)
    pictures: Annotated[PictureOptions, tyro.conf.arg(name="")] = field(
        default_factory=PictureOptions
    )
    shown: Annotated[ShownGaussians, tyro.conf.arg(name="")] = field(default_factory=ShownGaussians)

    def open_sampler(self) -> gsheadrelight.RelightableSampler:
        """Check the options, read light and weights and put all together."""
        source = self.light.source()
        return self._open(source.light, source.mode, self.pictures, self.shown)


OptionsT = TypeVar("OptionsT", bound=GeneratorOptions)
"""Options of one method."""

GENERATOR_OPTIONS: dict[str, type[GeneratorOptions]] = {
    "spherehead": SphereHeadOptions,
    "gsheadrelight": RelightableOptions,
}
"""Method -> the options of its commands."""


@dataclass(frozen=True)
class PeopleOptions:
    """Who is generated."""

    seeds: str | None = None
    """People: numbers and ranges such as 1,4-6. A seed gives the person that it gives in the
    published programs. Default: 0, or nobody beside --styles."""
    styles: tuple[Path, ...] = ()
    """Files with styles, such as projected_w.npz of invert, for more people; they are not
    truncated."""

    def named(self, sampler: PeopleSampler[Any]) -> list[tuple[str, People]]:
        """People with the names of their files.

        Raises:
            FileNotFoundError: If a file with styles is missing.
            ValueError: If seeds are no seeds, or styles are those of another generator.
        """
        default = () if self.styles else (0,)
        seeds = default if self.seeds is None else parse_seeds(self.seeds)
        found = [(f"seed{seed:04d}", sampler.people((seed,))) for seed in seeds]
        wanted = sampler.style_shape
        for path in self.styles:
            ws = read_styles(path)
            if tuple(ws.shape[1:]) != wanted:
                raise ValueError(
                    f"--styles: {path} must hold {wanted[0]} styles of {wanted[1]} numbers, as "
                    f"this generator has them, got {ws.shape[1]} of {ws.shape[2]}"
                )
            people = sampler.people_of_styles(ws)
            first = len(found) - len(seeds)
            found += [(f"styles{first + row:04d}", person) for row, person in enumerate(people)]
        return found


def parse_options(
    options_class: Any,
    command: str,
    arguments: list[str],
    description: str | None,
    tables: Sequence[Mapping[str, type]] = (GENERATOR_OPTIONS,),
) -> Any:
    """Parse ``METHOD options``.

    Args:
        options_class: Generic in a class of options for each table.
        command: Its name, for help.
        arguments: Of the command.
        description: For help.
        tables: Classes of options, by method.

    Raises:
        ValueError: If the method is missing or unknown.
    """
    method, rest = split_method(command, arguments, tables[0])
    classes = tuple(table[method] for table in tables)
    prog, text = f"vultus {command} {method}", method_help(description, method, tables[0])
    return parse_arguments(options_class[classes], rest, prog=prog, description=text)


def method_help(description: str | None, method: str, known: Collection[str]) -> str:
    """Say in a command's help that there are other methods."""
    others = ", ".join(name for name in known if name != method)
    return f"{description}\n\nThese are the options of {method}; METHOD may also be {others}."


def split_method(
    command: str, arguments: list[str], known: Collection[str]
) -> tuple[str, list[str]]:
    """Take the method off the arguments; help without one is that of the first known.

    Raises:
        ValueError: If the method is missing or unknown.
    """
    names = ", ".join(known)
    if not arguments or arguments[0].startswith("-"):
        if not set(arguments) & {"-h", "--help"}:
            raise ValueError(f"the method comes first: vultus {command} METHOD; known: {names}")
        return next(iter(known)), ["--help"]
    method, *rest = arguments
    if method not in known:
        raise ValueError(f"method must be one of {names}, got {method!r}")
    return method, rest


def parse_seeds(text: str, flag: str = "--seeds") -> tuple[int, ...]:
    """Read seeds such as ``1,4-6``.

    Raises:
        ValueError: If the text is no list of numbers and rising ranges; names the flag.
    """
    seeds: list[int] = []
    for part in text.split(","):
        match = _SEED_RANGE.fullmatch(part.strip())
        if match is None:
            raise ValueError(f"{flag} must be numbers and ranges such as 1,4-6, got {text!r}")
        first, last = int(match[1]), int(match[2] or match[1])
        if not first <= last <= _LARGEST_SEED or last - first >= _MOST_SEEDS:
            raise ValueError(
                f"{flag}: a range must rise, hold at most {_MOST_SEEDS} seeds and none above "
                f"{_LARGEST_SEED}, got {part.strip()!r}"
            )
        seeds += range(first, last + 1)
    return tuple(seeds)


def check_output_folder(path: Path) -> None:
    """Check the folder that pictures go into, before the work.

    Raises:
        NotADirectoryError: If there is a file of that name.
        FileNotFoundError: If the folder that would hold it does not exist.
    """
    if path.exists() and not path.is_dir():
        raise NotADirectoryError(f"--out: {path} must be a folder")
    if not path.absolute().parent.is_dir():
        raise FileNotFoundError(f"--out: the folder {path.absolute().parent} does not exist")


def count_people(count: int) -> str:
    """A number of people in words."""
    return f"{count} {'person' if count == 1 else 'people'}"
