"""Calls of both rasterizers on a GPU: what is checked, before and after, and when they repeat."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, TypeVar

import torch
from torch import Tensor

from vultus.geometry.cameras import Camera
from vultus.kernels import triton_tiles as tiles
from vultus.kernels.capacity import (
    Capacity,
    CapacityExceededError,
    Reading,
    raise_problem,
)
from vultus.kernels.triton_raster import Lists, Sizes
from vultus.kernels.triton_runtime import is_interpreted, is_recording, launch, start_copy_of_head

__all__ = [
    "background_gradient",
    "check_reading",
    "check_tensors",
    "checked_call",
    "contiguous",
    "empty_like",
    "forward_until_it_fits",
    "moved",
    "or_other",
    "room_for_pairs",
]

T = TypeVar("T")


def checked_call(
    primitives: Mapping[str, Tensor | None], background: Tensor | None, camera: Camera
) -> tuple[Tensor | None, tuple[Tensor | None, ...], bool]:
    """Check what kernels cannot.

    Args:
        primitives: Their tensors by name, ``means`` among them.
        background: May be of any floating type.
        camera: Where gradients go to ``world_to_camera`` alone.

    Returns:
        The background; ``world_to_camera``, then the primitives' tensors; and whether gradients
        are recorded, which cannot be told within an autograd function.

    Raises:
        ValueError: If a gradient of the intrinsics is asked for.
        TypeError: If the tensors are not float32 on one GPU.
    """
    if camera.intrinsics.requires_grad:
        raise ValueError("camera.intrinsics must not require a gradient on backend gpu; use ref")
    if background is not None:
        background = background.float()
    means = primitives["means"]
    assert means is not None
    check_tensors({**primitives, "background": background}, means.device)
    tensors = (camera.world_to_camera, *primitives.values())
    is_recorded = torch.is_grad_enabled() and any(
        tensor is not None and tensor.requires_grad for tensor in (background, *tensors)
    )
    return background, tensors, is_recorded


def check_tensors(tensors: Mapping[str, Tensor | None], device: torch.device) -> None:
    """Check where tensors are and what they hold.

    Raises:
        TypeError: If the tensors are not float32 on one GPU; ``device`` is that of the first.
    """
    if device.type != "cuda" and not (is_interpreted() or is_recording()):
        first = next(name for name, tensor in tensors.items() if tensor is not None)
        raise TypeError(f"{first} must be on a GPU for backend gpu, got {device}")
    for name, tensor in tensors.items():
        if tensor is None or (tensor.dtype == torch.float32 and tensor.device == device):
            continue
        raise TypeError(f"{name} must be float32 on {device}, got {tensor.dtype}, {tensor.device}")


def contiguous(tensors: Sequence[Tensor | None]) -> tuple[Any, ...]:
    """Tensors as kernels expect them; ``None`` stays."""
    return tuple([None if tensor is None else tensor.contiguous() for tensor in tensors])


def moved(tensor: Tensor, target: Tensor) -> Tensor:
    """The tensor where another one is; a GPU is not waited for."""
    device = target.device
    return tensor if tensor.device == device else tensor.to(device, non_blocking=True)


def empty_like(tensors: Sequence[Tensor | None]) -> tuple[Any, ...]:
    """Room for tensors of the same shapes; ``None`` stays."""
    return tuple(None if tensor is None else torch.empty_like(tensor) for tensor in tensors)


def or_other(tensors: Sequence[Tensor | None], other: Tensor) -> tuple[Tensor, ...]:
    """Put any other tensor where kernels get none and will not look at it."""
    return tuple(other if tensor is None else tensor for tensor in tensors)


def forward_until_it_fits(
    make_lists: Callable[[int], Lists],
    blend_lists: Callable[[Lists], T],
    capacity: Capacity,
    problems: Sequence[str],
    *,
    is_recorded: bool,
) -> tuple[Lists, T, Reading | None]:
    """Run the forward stages until the lists fit.

    Args:
        make_lists: Makes lists of up to that many primitives per bin.
        blend_lists: Blends them.
        capacity: Of calls like this one.
        problems: What the bits of the problem mask stand for.
        is_recorded: Whether there will be a backward pass, which the check may be left to.

    Returns:
        Also the counters that are still to be checked.

    Raises:
        ValueError: If the kernels have met a problem with the inputs.
    """
    while True:
        lists = make_lists(capacity.per_list)
        if _is_capturing(lists.radii):
            # Blending meets problems of its own, so that counters are noted behind it.
            blended = blend_lists(lists)
            capacity.capture(partial(_note_counters, lists.counters), problems)
            return lists, blended, None
        if capacity.prepare_capture(lists.radii.device):
            # Nothing can be compiled during a capture; here there is nothing to note yet.
            capacity.capture(partial(_note_counters, torch.zeros_like(lists.counters)))
        blended = blend_lists(lists)
        reading = Reading(lists.counts, tiles.NUM_COUNTERS.value, start_copy_of_head)
        if is_recorded and capacity.is_settled:
            return lists, blended, reading
        if _has_fitted(reading, capacity, problems):
            return lists, blended, None


def _note_counters(counters: Tensor, peaks: Tensor, flag: Tensor, per_list: int) -> None:
    # Unlike other launches, this one is not empty where nothing is on the tensors' GPU.
    with torch.cuda.device_of(counters):
        launch(tiles.note_counters, (1,), counters, peaks, flag, per_list)


def check_reading(
    reading: Reading | None,
    capacity: Capacity,
    problems: Sequence[str],
    primitives: str,
    sizes: Sizes,
) -> None:
    """Look at the counters of a forward pass.

    Raises:
        ValueError: If the kernels have met a problem with the inputs.
        CapacityExceededError: If its lists did not fit; names the ``primitives`` and the sizes.
    """
    if reading is not None and not _has_fitted(reading, capacity, problems):
        raise CapacityExceededError(
            f"lists of {sizes.num} {primitives} at {sizes.width} x {sizes.height} did not fit; "
            "buffers have grown: repeat the step"
        )


def _has_fitted(reading: Reading, capacity: Capacity, problems: Sequence[str]) -> bool:
    """Report bad inputs; learn from the lists' lengths whether they fitted."""
    values = reading.wait()
    raise_problem(values[tiles.COUNT_PROBLEMS.value], problems)
    return capacity.update(values[tiles.COUNT_LONGEST.value])


def _is_capturing(tensor: Tensor) -> bool:
    return tensor.is_cuda and torch.cuda.is_current_stream_capturing()


def room_for_pairs(lists: Lists, capacity: Capacity) -> int | None:
    """How many pairs deterministic gradients must provide for; None if they need not be that."""
    if not torch.are_deterministic_algorithms_enabled():
        return None
    pairs = lists.ends.tensor().sum(dtype=torch.int64)
    if _is_capturing(pairs):
        capacity.capture_pairs(pairs)
    else:
        capacity.update(0, int(pairs))
    return max(1, capacity.pairs)


def background_gradient(grad_image: Tensor | None, alpha: Tensor) -> Tensor | None:
    """Gradient of the background, which shows where alpha lets it."""
    return None if grad_image is None else (grad_image * (1 - alpha)).sum((0, 2, 3))
