"""Camera rays in square blocks of neighbours, which is the order that ray packets like."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from vultus.geometry.cameras import Camera, camera_centers

__all__ = ["block_rays", "camera_rows", "dense_pixel_sums", "pixel_sums"]

_SIDE = 4
"""16 rays form a packet."""


def camera_rows(camera: Camera, device: torch.device) -> Float[Tensor, "4 3"]:
    """Where homogeneous pixel coordinates look in the world (3 rows), and the eye.

    Directions have camera z = 1. A camera on the CPU is sent to a GPU without waiting for it.

    Raises:
        ValueError: If the camera is not finite.
    """
    rotation = camera.world_to_camera[0, :3, :3].double()
    inverse = torch.linalg.inv(camera.intrinsics[0].double())
    rows = torch.cat([inverse.T @ rotation, camera_centers(camera).double()])
    if not bool(torch.isfinite(rows).all()):
        raise ValueError(f"camera must be finite, got {camera.world_to_camera[0].tolist()}")
    return rows.float().to(device, non_blocking=True)


def block_rays(
    rows: Float[Tensor, "4 3"], width: int, height: int, samples: int
) -> tuple[Float[Tensor, "n 3"], Float[Tensor, "n 3"]]:
    """Origins and directions of world rays through a regular grid in every pixel.

    The image is padded at the right and at the bottom to whole blocks.

    Args:
        rows: ``camera_rows``.
        width: Of the image.
        height: Of the image.
        samples: Per axis and pixel.
    """
    directions = _sample_grid(width, height, samples, rows.device) @ rows[:3]
    return rows[3].expand_as(directions), directions


def pixel_sums(
    values: Float[Tensor, "m c"],
    index: Int[Tensor, " m"],
    width: int,
    height: int,
    samples: int,
) -> Float[Tensor, "c h w"]:
    """Add up samples per pixel on the CPU; ``index`` is their place among ``block_rays``."""
    pixels = _sample_pixels(width, height, samples)[index].numpy()
    # The last bin collects the padding. ``bincount`` is several times faster than ``index_add_``.
    num_bins = width * height + 1
    sums = [np.bincount(pixels, channel, num_bins)[:-1] for channel in values.T.numpy()]
    return torch.from_numpy(np.stack(sums)).float().view(-1, height, width)


def dense_pixel_sums(
    values: Float[Tensor, "n c"], width: int, height: int, samples: int
) -> Float[Tensor, "c h w"]:
    """Add up all samples of ``block_rays`` per pixel, in a fixed order on any device."""
    rows, columns = _num_blocks(height * samples), _num_blocks(width * samples)
    blocks = values.view(rows, columns, _SIDE, _SIDE, -1).permute(4, 0, 2, 1, 3)
    image = blocks.reshape(-1, rows * _SIDE, columns * _SIDE)
    image = image[:, : height * samples, : width * samples]
    return image.reshape(-1, height, samples, width, samples).sum(dim=(2, 4))


def _num_blocks(size: int) -> int:
    return -(-size // _SIDE)


@lru_cache(maxsize=4)
def _sample_grid(
    width: int, height: int, samples: int, device: torch.device
) -> Float[Tensor, "n 3"]:
    """Homogeneous pixel coordinates of all samples, block by block."""
    rows, columns = _num_blocks(height * samples), _num_blocks(width * samples)
    y = (torch.arange(rows * _SIDE) + 0.5) / samples
    x = (torch.arange(columns * _SIDE) + 0.5) / samples
    y, x = torch.meshgrid(y, x, indexing="ij")
    grid = torch.stack([x, y, torch.ones_like(x)], dim=-1)
    blocks = grid.view(rows, _SIDE, columns, _SIDE, 3).transpose(1, 2)
    return blocks.reshape(-1, 3).to(device)


@lru_cache(maxsize=4)
def _sample_pixels(width: int, height: int, samples: int) -> Int[Tensor, " n"]:
    """Flat pixel index of each sample; width * height in the padding."""
    grid = _sample_grid(width, height, samples, torch.device("cpu"))
    x, y = grid[:, :2].long().unbind(dim=1)
    return torch.where((x < width) & (y < height), y * width + x, width * height)
