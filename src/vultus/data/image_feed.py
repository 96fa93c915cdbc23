"""How images of a set reach the training of a generator: as bytes, in the order of the places."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from vultus.core.progress import track
from vultus.core.threads import map_in_threads
from vultus.data.image_choice import Entries, ShuffledOrder
from vultus.data.image_set import ImageSet
from vultus.data.semantics import mirrored_classes

__all__ = ["Conditions", "ImageFeed", "RealBatch", "StorageChoice"]

StorageChoice = Literal["auto", "resident", "streamed"]

_RESIDENT_BYTES = 4 * 2**30
"""Sets up to this size are kept decoded by default: 87k images of 128 pixels with masks."""


@dataclass(frozen=True)
class Conditions:
    """How images are taken."""

    labels: Float[Tensor, "b 25"]
    """Cameras."""
    lights: Float[Tensor, "b l"] | None = None
    """In axes of the head, see ``data.light_labels``; None if the method asks for no lights."""

    def to(self, device: torch.device | str) -> Conditions:
        """The same on a device."""
        lights = None if self.lights is None else self.lights.to(device)
        return Conditions(self.labels.to(device), lights)

    def at(self, rows: Int[Tensor, " c"]) -> Conditions:
        """Those of some images."""
        return Conditions(self.labels[rows], None if self.lights is None else self.lights[rows])


@dataclass(frozen=True)
class RealBatch:
    """Real images on the device of the training."""

    pixels: UInt8[Tensor, "b c h w"]
    """Display-encoded colours, which are not multiplied by the mask; then, where the set has them,
    the mask, and after it the classes of parts."""
    conditions: Conditions

    @property
    def labels(self) -> Float[Tensor, "b 25"]:
        """Cameras."""
        return self.conditions.labels

    @property
    def masks(self) -> UInt8[Tensor, "b 1 h w"] | None:
        """What is the person."""
        return self.pixels[:, 3:4] if self.pixels.shape[1] > 3 else None

    @property
    def parts(self) -> UInt8[Tensor, "b h w"] | None:
        """Semantic maps; images that have them have masks."""
        return self.pixels[:, 4] if self.pixels.shape[1] > 4 else None

    def __len__(self) -> int:
        """Number of images."""
        return len(self.labels)


class ImageFeed:
    """Gives batches of real images, and cameras for generated ones."""

    def __init__(
        self,
        images: ImageSet,
        entries: Entries,
        seed: int,
        *,
        device: torch.device | str = "cpu",
        storage: StorageChoice = "auto",
    ) -> None:
        """Decode all images once if they are to stay in memory.

        Args:
            images: The set.
            entries: What of it is used.
            seed: Decides the order.
            device: Where batches go, and resident images.
            storage: ``resident`` keeps all images decoded on the device; ``streamed`` decodes each
                shortly before it is used; ``auto`` keeps sets of up to 4 GiB.
        """
        self.images = images
        self._order = ShuffledOrder(len(entries.rows), seed)
        self.entries = entries
        self._rows, self._is_mirrored = entries.rows.to(device), entries.is_mirrored.to(device)
        self.conditions = Conditions(entries.labels, entries.lights).to(device)
        """Those of all entries, on the device."""
        self._mirrored_classes = mirrored_classes().to(device)
        self._resident: Tensor | None = None
        num_bytes = len(images) * images.num_channels * images.size**2
        if storage == "resident" or (storage == "auto" and num_bytes <= _RESIDENT_BYTES):
            self._resident = self._decode_all().to(device)

    @property
    def labels(self) -> Float[Tensor, "n 25"]:
        """Cameras of all entries, on the device."""
        return self.conditions.labels

    @property
    def device(self) -> torch.device:
        """Where batches are."""
        return self.labels.device

    def batches(self, places: Iterable[tuple[int, int]]) -> Iterator[RealBatch]:
        """Yield a batch for each (first place, number of places), decoded ahead in threads."""
        if self._resident is not None:
            for place in places:
                entries = self._moved(self._order.take(*place))
                yield self._batch(entries, self._resident[self._rows[entries]])
            return
        taken = (self._order.take(*place) for place in places)
        for entries, pixels in map_in_threads(self._decode, taken):
            yield self._batch(*(t.to(self.device, non_blocking=True) for t in (entries, pixels)))

    def conditions_at(self, first: int, count: int) -> Conditions:
        """Those of ``count`` places from place ``first`` on."""
        return self.conditions.at(self._moved(self._order.take(first, count)))

    def draw_labels(
        self, shape: tuple[int, ...], generator: torch.Generator
    ) -> Float[Tensor, "*shape 25"]:
        """Draw cameras of entries; the generator must live on the device."""
        count = len(self.labels)
        rows = torch.randint(count, shape, generator=generator, device=self.device)
        return self.labels[rows]

    def _decode(self, entries: Int[Tensor, " b"]) -> tuple[Tensor, Tensor]:
        pixels = [self.images.pixels(row) for row in self.entries.rows[entries].tolist()]
        return self._staged(entries), self._staged(torch.stack(pixels))

    def _moved(self, tensor: Tensor) -> Tensor:
        """Copy from the host without waiting for what the device is at."""
        return self._staged(tensor).to(self.device, non_blocking=True)

    def _staged(self, tensor: Tensor) -> Tensor:
        """In memory from which a GPU copies by itself."""
        return tensor.pin_memory() if self.device.type == "cuda" else tensor

    def _batch(self, entries: Int[Tensor, " b"], pixels: Tensor) -> RealBatch:
        """Make a batch of entries from their pixels, both on the device."""
        mirrored = self._is_mirrored[entries][:, None, None, None]
        pixels = torch.where(mirrored, self._flipped(pixels), pixels)
        return RealBatch(pixels, self.conditions.at(entries))

    def _flipped(self, pixels: UInt8[Tensor, "b c h w"]) -> UInt8[Tensor, "b c h w"]:
        """Flip images left to right; what was a left eye is a right one then."""
        flipped = pixels.flip(3)
        if self.images.parts is None:
            return flipped
        classes = self._mirrored_classes[flipped[:, -1:].long()]
        return torch.cat([flipped[:, :-1], classes], dim=1)

    def _decode_all(self) -> UInt8[Tensor, "n c s s"]:
        size = self.images.size
        shape = (len(self.images), self.images.num_channels, size, size)
        pixels = torch.empty(shape, dtype=torch.uint8)
        decoded = map_in_threads(self.images.pixels, range(len(self.images)))
        for row, image in enumerate(track(decoded, len(self.images), "reading images", "images")):
            pixels[row] = image
        return pixels
