"""Latents of seeds, and what lies between people."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from scipy.interpolate import CubicSpline
from torch import Tensor
from torch.nn.functional import normalize

from vultus.core.npz_io import read_npz_array

__all__ = ["closed_slerp", "closed_spline", "latents_of_seeds", "mix_styles", "read_styles"]

_PARALLEL = 1e-4
"""Sine below which directions are taken for parallel: float32 has no angle between them."""


def latents_of_seeds(seeds: Sequence[int], z_dim: int) -> Float[Tensor, "b z"]:
    """Draw the latents that the published programs draw for these seeds."""
    rows = [np.random.RandomState(seed).randn(z_dim) for seed in seeds]
    return torch.from_numpy(np.stack(rows).astype(np.float32))


def closed_spline(
    keys: Float[Tensor, "k ..."], times: Float[Tensor, " t"]
) -> Float[Tensor, "t ..."]:
    """Follow the smooth closed curve through keys, which is at key i at time i.

    The published films repeat the keys and use an open spline, which is nearly the same curve.

    Args:
        keys: Two or more.
        times: In key steps; the curve returns to the first key at the time of their number.
    """
    knots = torch.cat([keys, keys[:1]]).cpu().double().numpy()
    curve = CubicSpline(np.arange(len(knots)), knots, bc_type="periodic")
    return torch.from_numpy(curve(times.double().numpy())).to(keys)


def closed_slerp(keys: Float[Tensor, "k z"], times: Float[Tensor, " t"]) -> Float[Tensor, "t z"]:
    """Go from latent to latent along great circles, and from the last to the first.

    Norms change linearly, so that points in between are as likely as the keys.

    Args:
        keys: One or more.
        times: In key steps.

    Reference: Shoemake, Animating rotation with quaternion curves, 1985; White, Sampling generative
    networks, 2016.
    """
    start = times.floor().long()
    share = (times - start).to(keys)[:, None]
    here, there = keys[start % len(keys)], keys[(start + 1) % len(keys)]
    norm = torch.lerp(here.norm(dim=1, keepdim=True), there.norm(dim=1, keepdim=True), share)
    here, there = normalize(here, dim=1), normalize(there, dim=1)
    angle = (here * there).sum(dim=1, keepdim=True).clamp(-1.0, 1.0).acos()
    sine = angle.sin()
    on_arc = ((1.0 - share) * angle).sin() * here + (share * angle).sin() * there
    straight = torch.lerp(here, there, share)
    return norm * torch.where(sine > _PARALLEL, on_arc / sine.clamp(min=_PARALLEL), straight)


def mix_styles(
    coarse: Float[Tensor, "b n w"], fine: Float[Tensor, "b n w"], first_fine: int
) -> Float[Tensor, "b n w"]:
    """Take styles of layers from ``first_fine`` on from another person.

    Raises:
        ValueError: If there is no such layer.
    """
    num_ws = coarse.shape[1]
    if not 0 <= first_fine <= num_ws:
        raise ValueError(f"first_fine must be 0 to {num_ws}, got {first_fine}")
    return torch.cat([coarse[:, :first_fine], fine[:, first_fine:]], dim=1)


def read_styles(path: Path) -> Float[Tensor, "b n w"]:
    """Read the styles that inversions write: an array ``w`` in an ``.npz`` file.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is damaged or holds no styles; names the file.
    """
    styles = read_npz_array(path, "w")
    if styles.ndim != 3 or not np.issubdtype(styles.dtype, np.floating):
        raise ValueError(
            f"{path}: w must hold floats of the shape (people, styles, numbers), got "
            f"{styles.dtype} {styles.shape}"
        )
    return torch.from_numpy(styles.astype(np.float32))
