"""A picture with its ground truth, and the way of pictures from a GPU to the CPU."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, fields
from typing import TypeVar

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

__all__ = ["StudioFrame", "fetch_frames"]

KeyT = TypeVar("KeyT")

# Pictures that a GPU works on while the CPU waits for the oldest.
_AHEAD = 3


@dataclass(frozen=True)
class StudioFrame:
    """One photograph and its ground truth."""

    rgb: Float[Tensor, "3 h w"]
    """Display-encoded (``encode_film`` of the mean radiance of the covered samples), then
    composited: alpha * rgb + (1 - alpha) * background. Without a background it is not multiplied by
    alpha, and 0 where alpha is 0."""
    alpha: Float[Tensor, "1 h w"]
    """Share of the pixel's samples that are covered."""
    depth: Float[Tensor, "1 h w"]
    """Camera z at the pixel centre in metres; 0 where the centre is not covered."""
    normals: Float[Tensor, "3 h w"]
    """Unit, world axes, towards the camera; smooth shading normals without the normal map, at the
    pixel centre; 0 where it is not covered."""
    albedo: Float[Tensor, "3 h w"]
    """Linear, mean of the covered samples; 0 where alpha is 0."""
    labels: UInt8[Tensor, "h w"]
    """At the pixel centre: 0 for background, else the face's label + 1."""
    roughness: Float[Tensor, "1 h w"]
    """Perceptual, mean of the covered samples; 0 where alpha is 0."""
    specular: Float[Tensor, "1 h w"]
    """Reflectance at normal incidence over 0.08, mean of the covered samples; 0 where alpha is
    0."""

    def to_cpu(self) -> StudioFrame:
        """Copy to the CPU; from a GPU to pinned memory, complete once its stream has got there."""
        names = [field.name for field in fields(self)]
        return StudioFrame(**{n: getattr(self, n).to("cpu", non_blocking=True) for n in names})


def fetch_frames(
    frames: Iterable[tuple[KeyT, StudioFrame]],
) -> Iterator[tuple[KeyT, StudioFrame]]:
    """Bring pictures to the CPU, in order, while a GPU takes the next ones.

    Args:
        frames: With any key; those on the CPU are passed on at once.
    """
    waiting: deque[tuple[KeyT, StudioFrame, torch.cuda.Event]] = deque()
    for key, frame in frames:
        if not frame.rgb.is_cuda:
            yield key, frame
            continue
        copy, copied = frame.to_cpu(), torch.cuda.Event()
        copied.record()
        waiting.append((key, copy, copied))
        if len(waiting) > _AHEAD:
            yield _oldest(waiting)
    while waiting:
        yield _oldest(waiting)


def _oldest(
    waiting: deque[tuple[KeyT, StudioFrame, torch.cuda.Event]],
) -> tuple[KeyT, StudioFrame]:
    key, frame, copied = waiting.popleft()
    copied.synchronize()
    return key, frame
