"""Everything that decides the pictures of a collection."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

__all__ = [
    "COLLECTION_FORMAT",
    "COLLECTION_NOTE",
    "Backdrop",
    "CollectionConfig",
    "CollectionHead",
]

COLLECTION_NOTE = "collection.json"
"""File in the folder of a collection that says how it is made."""
COLLECTION_FORMAT = "vultus-collection-1"
"""What the note has as ``format``."""

CollectionHead = Literal["procedural", "ict", "mixed"]
Backdrop = Literal["painted", "transparent", "white", "black"]

_MIN_SIZE, _MAX_SIZE = 16, 1024
# Fewer leave gaps through which no light comes.
_MIN_LIGHTS = 16
_MIN_TEXTURE_SIZE, _MAX_TEXTURE_SIZE = 256, 1024


@dataclass(frozen=True)
class CollectionConfig:
    """Who is drawn and how they are taken. A picture depends on this and its number alone."""

    seed: int = 0
    """Decides all people and pictures."""
    size: int = 64
    """Width and height of the pictures in pixels, a power of two."""
    views: int = 8
    """Pictures of one person, each with an expression, a light and a camera of its own. Making a
    person costs as much as about eight pictures, so that fewer views mostly make people."""

    head: CollectionHead = "procedural"
    """Head model; ``ict`` needs its file, imported as an asset or as ``head_file``."""
    head_file: Path | None = None
    """ICT-FaceKit's packed .npz, in place of the imported asset."""
    ict_share: float = 0.3
    """Share of ICT heads among ``mixed`` people. They are bald, with painted scalps."""

    yaw_range: float = math.pi
    """Cameras stand uniformly up to this many radians to either side of the face."""
    height_mean: float = 0.05
    """Mean of the sine of the cameras' elevation."""
    height_std: float = 0.2
    """Standard deviation of the sine of the cameras' elevation."""
    radius: float = 2.7
    """Distance of the cameras from the origin, units; EG3D's."""
    focal: float = 4.2647
    """Focal length in units of the picture's side; EG3D's."""
    meters_per_unit: float = 0.5
    """Scale of the labels' world. Pictures then show 0.32 m: all of a head, and the neck."""

    backdrop: Backdrop = "painted"
    """Behind the head: soft random colours, nothing (pictures are RGBA), white or black."""
    samples: int = 2
    """Rays per pixel and axis."""
    num_lights: int = 96
    """Directional lights that stand in for the surroundings."""

    def __post_init__(self) -> None:
        """Reject contradictions."""
        if not _MIN_SIZE <= self.size <= _MAX_SIZE or self.size & (self.size - 1):
            raise ValueError(
                f"size must be a power of two from {_MIN_SIZE} to {_MAX_SIZE}, got {self.size}"
            )
        for name in ("views", "samples"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be positive, got {getattr(self, name)}")
        for name in ("radius", "focal", "meters_per_unit"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be positive, got {getattr(self, name)}")
        if self.num_lights < _MIN_LIGHTS:
            raise ValueError(f"num_lights must be at least {_MIN_LIGHTS}, got {self.num_lights}")
        if not 0 <= self.ict_share <= 1:
            raise ValueError(f"ict_share must lie in [0, 1], got {self.ict_share}")
        if not 0 <= self.yaw_range <= math.pi:
            raise ValueError(f"yaw_range must lie in [0, pi] radians, got {self.yaw_range}")
        if not -1 < self.height_mean < 1 or self.height_std < 0:
            raise ValueError(
                "height_mean must lie in (-1, 1) and height_std must not be negative, got "
                f"{self.height_mean} and {self.height_std}"
            )
        if self.head == "procedural" and self.head_file is not None:
            raise ValueError(f"head_file is for ICT heads, got {self.head_file}")

    @property
    def texture_size(self) -> int:
        """Side of the textures: two texels for a pixel, and enough for strands of hair."""
        return min(max(2 * self.size, _MIN_TEXTURE_SIZE), _MAX_TEXTURE_SIZE)
