"""Whether a checkpoint's tensors are those of an avatar."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

__all__ = ["check_saved_indices", "check_saved_tensors"]

_REASON = "it was trained with other settings or on another capture"


def check_saved_tensors(
    saved: Mapping[str, Tensor], primitives: Mapping[str, Tensor], shared: Mapping[str, Tensor]
) -> None:
    """Raise unless the tensors of a checkpoint can take the place of an avatar's.

    Args:
        saved: Of the checkpoint; may hold more.
        primitives: The avatar's own with a row for each primitive. Saved ones may have another
            number of rows, the same for all.
        shared: The avatar's own of a fixed size.

    Raises:
        ValueError: If one is missing, or has another shape or type; names it.
    """
    missing = [name for name in (*primitives, *shared) if name not in saved]
    if missing:
        raise ValueError(f"checkpoint lacks {missing[0]!r}: {_REASON}")
    rows = next((saved[name].shape[:1] for name in primitives), ())
    for name, own in (*primitives.items(), *shared.items()):
        shape = own.shape if name in shared else (*rows, *own.shape[1:])
        found = saved[name]
        if tuple(found.shape) != tuple(shape) or found.dtype != own.dtype:
            raise ValueError(
                f"checkpoint must have {name!r} of shape {tuple(shape)} and type {own.dtype}, got "
                f"{tuple(found.shape)} and {found.dtype}: {_REASON}"
            )


def check_saved_indices(name: str, indices: Tensor, count: int) -> None:
    """Raise unless indices of a checkpoint point to things that an avatar has.

    Raises:
        ValueError: If one is below 0, or not below ``count``; tells it.
    """
    wrong = indices[(indices < 0) | (indices >= count)]
    if wrong.numel():
        raise ValueError(
            f"checkpoint must have {name!r} of 0 to {count - 1}, got {int(wrong[0])}: {_REASON}"
        )
