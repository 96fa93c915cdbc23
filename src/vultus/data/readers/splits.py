"""Splits of videos that hold out their end."""

from __future__ import annotations

from pathlib import Path

import torch
from jaxtyping import Int
from torch import Tensor

from vultus.data.sequence import Split

__all__ = ["hold_out_end"]


def hold_out_end(root: Path, num_frames: int, held_out: int) -> dict[Split, Int[Tensor, " n"]]:
    """Hold out the last frames for ``test``; ``val`` is empty, as for every single camera.

    Raises:
        ValueError: If no frame is left for training; names the folder and the option.
    """
    num_train = num_frames - held_out
    if num_train < 1:
        raise ValueError(
            f"{root}: {num_frames} frames leave none for training when the last {held_out} are "
            "held out; choose option held_out"
        )
    return {
        "train": torch.arange(num_train),
        "val": torch.empty(0, dtype=torch.int64),
        "test": torch.arange(num_train, num_frames),
    }
