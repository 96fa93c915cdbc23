"""SphereHead under inversion: noise of the layers may be found, rays may begin elsewhere.

Reference: Karras et al., Analyzing and Improving the Image Quality of StyleGAN, 2020, appendix D;
spec section 7 for the numbers of the release.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import avg_pool2d

from vultus.data.camera_labels import shift_labels
from vultus.kernels.triplane_volume import VolumeSettings
from vultus.methods.inversion import Extras, StyleInvertible
from vultus.methods.spherehead.generator import Generator
from vultus.methods.spherehead.sampling import mean_camera_offset
from vultus.nets.stylegan2.synthesis import SynthesisLayer

__all__ = ["InvertibleSphereHead", "NoiseSearch", "noise_correlation"]

_SMALLEST_NOISE = 8


@dataclass(frozen=True)
class NoiseSearch:
    """What is particular to SphereHead, PanoHead and EG3D."""

    optimize_noise: bool = False
    """Find the noise of the layers, too."""
    noise_weight: float = 1e5
    """Of the correlations of that noise, which would otherwise hold the picture."""
    nearest: float | None = None
    """Nearest sample of the rays, in world units; default: that of the training. The release
    inverts with 2.35 instead of 2.25."""
    camera_offset: Literal["none", "mean"] = "none"
    """Learned offset that is added to the photo's camera: none, as in one of the release's two
    programs, or the mean of many people, as in the other; generators that have learned one make
    heads that are centred with it."""

    def __post_init__(self) -> None:
        """Reject what cannot be meant."""
        if not 0.0 <= self.noise_weight < math.inf:
            raise ValueError(f"noise_weight must not be negative, got {self.noise_weight}")

    def volume(self, trained: VolumeSettings) -> VolumeSettings:
        """How rays are sampled: without noise on the density.

        Raises:
            ValueError: If rays cannot begin at ``nearest``.
        """
        volume = replace(trained, density_noise=0.0)
        if self.nearest is None:
            return volume
        if volume.limits == "box":
            raise ValueError("nearest must be left out: rays of this generator begin at its box")
        return replace(volume, limits=(self.nearest, volume.limits[1]))


@dataclass(frozen=True)
class InvertibleSphereHead(StyleInvertible):
    """A generator with feature planes; an ``Invertible`` whose extras are noise buffers by name."""

    network: Generator
    search: NoiseSearch = field(default_factory=NoiseSearch)
    offset: Float[Tensor, "1 3"] | None = None
    """Added to cameras, in world units."""

    def __post_init__(self) -> None:
        """Refuse rays that cannot be, before the work."""
        self.search.volume(self.network.config.volume)

    @classmethod
    def open(
        cls, network: Generator, search: NoiseSearch, frontal: Float[Tensor, "1 25"]
    ) -> InvertibleSphereHead:
        """Prepare a generator as a search says.

        Args:
            network: The generator.
            search: Options.
            frontal: The camera that the mean offset is that of, on the generator's device.

        Raises:
            ValueError: If an option asks for what the generator does not have.
        """
        if search.camera_offset == "none":
            return cls(network, search)
        if network.camera_offset is None:
            raise ValueError(
                "camera_offset must be 'none' with this generator, which has learned no offset, "
                f"got {search.camera_offset!r}"
            )
        return cls(network, search, mean_camera_offset(network, frontal))

    @property
    def extra_rate(self) -> float | None:
        """Noise is found at the rate of the styles."""
        return None

    def first_extras(self, random: torch.Generator) -> dict[str, Tensor]:
        """White noise, if it is to be found."""
        if not self.search.optimize_noise:
            return {}
        return {
            name: torch.randn(layer.noise.shape, generator=random, device=random.device)
            for name, layer in _noisy_layers(self.network).items()
        }

    def render(
        self,
        ws: Float[Tensor, "1 n w"],
        label: Float[Tensor, "1 25"],
        extras: Extras,
        random: torch.Generator,
    ) -> Float[Tensor, "1 3 s s"]:
        """The head in [0, 1], unclamped, with rays of its own in each call."""
        volume = self.search.volume(self.network.config.volume)
        draws = self.network.draw(1, random, volume=volume)
        with _noise_of(self.network, extras):
            planes = self.network.planes(ws, "const")
        seen = label if self.offset is None else shift_labels(label, self.offset)
        images = self.network.render(planes, ws, seen, draws, volume=volume)
        return 0.5 * images.image + 0.5

    def penalties(self, extras: Extras) -> dict[str, Float[Tensor, ""]]:
        """Correlations of the noise."""
        if not extras:
            return {}
        correlations = torch.stack([noise_correlation(each) for each in extras.values()])
        return {"noise": self.search.noise_weight * correlations.sum()}

    def constrain(self, extras: Extras) -> None:
        """Give noise zero mean and unit square."""
        for each in extras.values():
            each -= each.mean()
            each *= each.square().mean().rsqrt()

    def copy(self, extras: Extras) -> InvertibleSphereHead:
        """A copy whose buffers hold the noise."""
        network = copy.deepcopy(self.network)
        layers = _noisy_layers(network)
        for name, each in extras.items():
            layers[name].noise = each.clone()
        return InvertibleSphereHead(network, self.search, self.offset)


def noise_correlation(noise: Float[Tensor, "h w"]) -> Float[Tensor, ""]:
    """Squared correlations of neighbours, of the noise and of its halved sizes.

    Reference: Karras et al. 2020, appendix D.
    """
    level = noise[None, None]
    total = noise.new_zeros(())
    while True:
        for axis in (2, 3):
            total = total + (level * level.roll(1, axis)).mean().square()
        if level.shape[-1] <= _SMALLEST_NOISE:
            return total
        level = avg_pool2d(level, 2)


@contextmanager
def _noise_of(network: Generator, noise: Extras) -> Iterator[None]:
    """Let layers have this noise for a while."""
    layers = _noisy_layers(network)
    stored = {name: layers[name].noise for name in noise}
    try:
        for name, each in noise.items():
            # Not a parameter itself: modules refuse those in place of buffers.
            layers[name].noise = each.view_as(each)
        yield
    finally:
        for name, each in stored.items():
            layers[name].noise = each


def _noisy_layers(generator: Generator) -> dict[str, SynthesisLayer]:
    """Layers of the backbone, by the names of their noise buffers."""
    return {
        f"backbone.synthesis.{name}.noise": module
        for name, module in generator.backbone.synthesis.named_modules()
        if isinstance(module, SynthesisLayer)
    }
