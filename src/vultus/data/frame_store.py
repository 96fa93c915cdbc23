"""All images of a split as bytes, decoded once: what training draws its batches from.

They are kept in memory, or where they do not fit in a file that is mapped into memory: what is not
being looked at then costs no memory, and the system reads ahead.
"""

from __future__ import annotations

import copy
import logging
import math
import os
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from vultus.core.image_io import to_bytes
from vultus.core.progress import track
from vultus.core.threads import map_in_threads
from vultus.data.frames import load_colors
from vultus.data.sequence import FrameRecord, HeadSequence, Split
from vultus.geometry.cameras import Camera

__all__ = ["Batch", "FrameStore"]

_LOG = logging.getLogger(__name__)
_USABLE_DISK = 0.9
"""Share of the free disk that a file of images may take."""
_USABLE_MEMORY = 0.8
"""Share of the free memory that images may take; the rest is for the training itself."""


@dataclass(frozen=True)
class Batch:
    """Training images of one step."""

    timesteps: Int[Tensor, " b"]
    """Rows of the pose track."""
    camera: Camera
    rgb: Float[Tensor, "b 3 h w"]
    mask: Float[Tensor, "b 1 h w"] | None


class FrameStore:
    """Decodes a split once, in threads, over the sequence's background."""

    def __init__(
        self, sequence: HeadSequence, split: Split, *, memory_limit: int | None = None
    ) -> None:
        """Read every image of the split.

        Args:
            sequence: The capture.
            split: Which frames.
            memory_limit: Bytes that the images may take in memory; by default 80 % of what is free,
                where the system tells it. More go into a file without a name in ``$TMPDIR``, or in
                ``/var/tmp``, which vanishes with the store.

        Raises:
            ValueError: If the split is empty, sizes differ, only some frames have masks, or neither
                memory nor disk suffices.
        """
        self.records = sequence.split(split)
        camera, has_masks = _check_uniform(sequence, self.records)
        channels = 4 if has_masks else 3
        shape = (len(self.records), channels, camera.height, camera.width)
        pixels = _allocate(shape, f"{sequence.root}: {split} images", memory_limit)

        def decode(record: FrameRecord) -> Tensor:
            rgb, mask = load_colors(sequence, record)
            if not has_masks:
                return to_bytes(rgb)
            return to_bytes(torch.cat([rgb, torch.ones_like(rgb[:1]) if mask is None else mask]))

        decoded = map_in_threads(decode, self.records)
        label = f"reading {split} images"
        for i, image in enumerate(track(decoded, len(self.records), label, "images")):
            pixels[i] = image
        self.pixels: UInt8[Tensor, "n c h w"] = pixels
        """RGB, and the mask as fourth channel if there are masks."""
        self.camera = camera
        self.timesteps = torch.tensor([record.timestep for record in self.records])

    @classmethod
    def from_pixels(
        cls, pixels: UInt8[Tensor, "n c h w"], camera: Camera, timesteps: Int[Tensor, " n"]
    ) -> FrameStore:
        """Images that are in memory already, RGB with or without a mask; they have no records."""
        store = cls.__new__(cls)
        store.records = ()
        store.pixels, store.camera, store.timesteps = pixels, camera, timesteps
        return store

    def __len__(self) -> int:
        """Number of images."""
        return self.timesteps.shape[0]

    @property
    def num_bytes(self) -> int:
        """Memory that the images take."""
        return self.pixels.numel()

    def batch(self, indices: Sequence[int] | Int[Tensor, " b"]) -> Batch:
        """Take images out as floats; a tensor of indices may lie on a GPU and is not read."""
        rows = torch.as_tensor(indices, dtype=torch.int64, device=self.pixels.device)
        return self.batch_with(rows, self.pixels.index_select(0, rows))

    def batch_with(self, rows: Int[Tensor, " b"], pixels: UInt8[Tensor, "b c h w"]) -> Batch:
        """Make a batch of some rows from their pixels."""
        values = pixels.float() / 255.0
        mask = values[:, 3:] if values.shape[1] == 4 else None
        return Batch(self.timesteps[rows], self.camera[rows], values[:, :3].contiguous(), mask)

    def on_device(self, device: torch.device | str) -> FrameStore:
        """The same images, cameras and timesteps on a device."""
        moved = copy.copy(self)
        moved.pixels = self.pixels.to(device)
        moved.camera = self.camera.to(device)
        moved.timesteps = self.timesteps.to(device)
        return moved

    def without_images(self) -> FrameStore:
        """Cameras and timesteps alone."""
        bare = copy.copy(self)
        bare.pixels = self.pixels[:0]
        return bare


def _check_uniform(sequence: HeadSequence, records: tuple[FrameRecord, ...]) -> tuple[Camera, bool]:
    try:
        camera = Camera.stack([record.camera for record in records])
    except ValueError as error:
        raise ValueError(f"{sequence.root}: {error}") from error
    with_mask = [record.mask_path is not None for record in records]
    if any(with_mask) and not all(with_mask):
        missing = records[with_mask.index(False)].image_path
        raise ValueError(f"{missing}: has no mask, while other frames of its split have one")
    has_alpha = not any(with_mask) and load_colors(sequence, records[0])[1] is not None
    return camera, any(with_mask) or has_alpha


def _allocate(
    shape: tuple[int, int, int, int], name: str, limit: int | None
) -> UInt8[Tensor, "n c h w"]:
    """Room for pixels in memory, or on disk if there are more than allowed."""
    num_bytes = math.prod(shape)
    allowed = _free_memory() if limit is None else limit
    if allowed is None or num_bytes <= allowed:
        return torch.empty(shape, dtype=torch.uint8)
    folder = _file_folder()
    free = shutil.disk_usage(folder).free
    excess = f"{name} take {num_bytes / 2**30:.2f} GiB, more than memory allows"
    if num_bytes > _USABLE_DISK * free:
        raise ValueError(
            f"{excess}, and {folder} has {free / 2**30:.2f} GiB left; read them smaller (option "
            "resolution) or name another folder in TMPDIR"
        )
    _LOG.warning("%s: they are kept in a file in %s", excess, folder)
    with tempfile.TemporaryFile(dir=folder) as file:
        if hasattr(os, "posix_fallocate"):
            # A disk that is full later would end the process.
            os.posix_fallocate(file.fileno(), 0, num_bytes)
        # The map keeps the file alive after it is closed.
        return torch.from_numpy(np.memmap(file, dtype=np.uint8, mode="w+", shape=shape))


def _file_folder() -> Path:
    """``/tmp`` may be memory itself."""
    lasting = Path("/var/tmp")
    if "TMPDIR" not in os.environ and lasting.is_dir() and os.access(lasting, os.W_OK):
        return lasting
    return Path(tempfile.gettempdir())


def _free_memory() -> int | None:
    """Bytes that images may take, or ``None`` where the system does not tell (not Linux)."""
    meminfo = Path("/proc/meminfo")
    if not meminfo.is_file():
        return None
    fields = dict(line.split(":") for line in meminfo.read_text().splitlines())
    if "MemAvailable" not in fields:
        return None
    return int(_USABLE_MEMORY * 1024 * int(fields["MemAvailable"].split()[0]))
