"""Camera rays in square blocks of neighbours, which is the order that ray packets like."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from vultus.geometry.cameras import Camera

__all__ = ["block_directions", "pixel_sums"]

_SIDE = 4
"""16 rays form a packet."""


def block_directions(camera: Camera, samples: int) -> Float[Tensor, "n 3"]:
    """World directions, scaled so that camera z is 1, through a regular grid in every pixel.

    The image is padded at the right and at the bottom to whole blocks.
    """
    rotation = camera.world_to_camera[0, :3, :3].double()
    inverse = torch.linalg.inv(camera.intrinsics[0].double())
    grid = _sample_grid(camera.width, camera.height, samples)
    return grid @ (inverse.T @ rotation).float()


def pixel_sums(
    values: Float[Tensor, "m c"],
    index: Int[Tensor, " m"],
    width: int,
    height: int,
    samples: int,
) -> Float[Tensor, "c h w"]:
    """Add up samples per pixel, where ``index`` is their place among ``block_directions``."""
    pixels = _sample_pixels(width, height, samples)[index].numpy()
    # The last bin collects the padding. ``bincount`` is several times faster than ``index_add_``.
    num_bins = width * height + 1
    sums = [np.bincount(pixels, channel, num_bins)[:-1] for channel in values.T.numpy()]
    return torch.from_numpy(np.stack(sums)).float().view(-1, height, width)


def _num_blocks(size: int) -> int:
    return -(-size // _SIDE)


@lru_cache(maxsize=4)
def _sample_grid(width: int, height: int, samples: int) -> Float[Tensor, "n 3"]:
    """Homogeneous pixel coordinates of all samples, block by block."""
    rows, columns = _num_blocks(height * samples), _num_blocks(width * samples)
    y = (torch.arange(rows * _SIDE) + 0.5) / samples
    x = (torch.arange(columns * _SIDE) + 0.5) / samples
    y, x = torch.meshgrid(y, x, indexing="ij")
    grid = torch.stack([x, y, torch.ones_like(x)], dim=-1)
    blocks = grid.view(rows, _SIDE, columns, _SIDE, 3).transpose(1, 2)
    return blocks.reshape(-1, 3)


@lru_cache(maxsize=4)
def _sample_pixels(width: int, height: int, samples: int) -> Int[Tensor, " n"]:
    """Flat pixel index of each sample; width * height in the padding."""
    x, y = _sample_grid(width, height, samples)[:, :2].long().unbind(dim=1)
    return torch.where((x < width) & (y < height), y * width + x, width * height)
