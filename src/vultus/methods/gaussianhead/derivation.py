"""Learnable derivation: transformed copies of a position that sample the tri-plane (section 3.4).

Every Gaussian owns k quaternions. What is published differs from what is described; both are here,
as is the form of the published one that does not depend on the order of the Gaussians.
"""

from __future__ import annotations

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import normalize

from vultus.geometry.rotations import quaternion_to_matrix

__all__ = [
    "DerivationMode",
    "check_derivation",
    "derive_positions",
    "initial_quaternions",
    "official_initial_quaternions",
    "official_matrices",
    "official_stretches",
]

DerivationMode = Literal["paper", "official", "baked_scale", "none"]
"""``paper``: the position turned by each rotation. ``official``: what the published code computes,
where order and number of the Gaussians matter. ``baked_scale``: the same with the factors stored.
``none``: the position itself."""

_ENTRIES = 9


def derive_positions(
    means: Float[Tensor, "b n 3"],
    mode: DerivationMode,
    values: Float[Tensor, "n k 4"] | Float[Tensor, "n k 3"] | None,
) -> Float[Tensor, "k b n 3"]:
    """Transform every mean k times; mode ``none`` gives one copy.

    Args:
        means: Deformed means.
        mode: Rule.
        values: Quaternions wxyz (``paper`` turns by them whatever their norm), factors per axis
            for ``baked_scale``, nothing for ``none``.

    Raises:
        ValueError: If values and mode do not fit.
    """
    check_derivation(mode, values)
    if values is None:
        return means[None]
    if mode == "paper":
        matrices = quaternion_to_matrix(values).transpose(0, 1)[:, None]
        return (matrices * means[..., None, :]).sum(dim=-1)
    stretches = values if mode == "baked_scale" else official_stretches(values)
    return stretches.transpose(0, 1)[:, None] * means


def check_derivation(mode: DerivationMode, values: Tensor | None) -> None:
    """Reject values that do not fit the mode.

    Raises:
        ValueError: If ``none`` has values, or another mode has not as many numbers as it needs.
    """
    if mode == "none":
        if values is not None:
            raise ValueError("derivation 'none' takes no values")
        return
    size = 3 if mode == "baked_scale" else 4
    if values is None or values.shape[-1] != size:
        shape = None if values is None else tuple(values.shape)
        raise ValueError(f"derivation {mode!r} needs values of shape [n, k, {size}], got {shape}")


def official_matrices(tau: Float[Tensor, "n k 4"]) -> Float[Tensor, "n k 3 3"]:
    """Build the matrices of the published code, which mixes up the entries of all Gaussians.

    The entries of a rotation matrix are divided by the quaternion's norm instead of its square, and
    are laid out entry by entry over all Gaussians, then cut into Gaussians of nine numbers.
    """
    num, copies = tau.shape[:2]
    products = 2.0 * tau[..., :, None] * tau[..., None, :] / tau.norm(dim=-1)[..., None, None]
    ww, wx, wy, wz = products[..., 0, :].unbind(-1)
    del ww  # no entry of a rotation matrix has it
    xx, xy, xz = products[..., 1, 1:].unbind(-1)
    yy, yz = products[..., 2, 2:].unbind(-1)
    zz = products[..., 3, 3]
    entries = [
        1 - yy - zz, xy - wz, xz + wy,
        xy + wz, 1 - xx - zz, yz - wx,
        xz - wy, yz + wx, 1 - xx - yy,
    ]  # fmt: skip
    by_entry = torch.stack(entries).permute(2, 0, 1)  # [k, 9, n]
    return by_entry.reshape(copies, num, _ENTRIES).transpose(0, 1).unflatten(-1, (3, 3))


def official_stretches(tau: Float[Tensor, "n k 4"]) -> Float[Tensor, "n k 3"]:
    """Reduce the published derivation to what it is: one factor per axis, the columns' sums."""
    return official_matrices(tau).sum(dim=-2)


def initial_quaternions(
    num_gaussians: int, num_derivations: int, generator: torch.Generator
) -> Float[Tensor, "n k 4"]:
    """Draw uniformly distributed rotations; all Gaussians start with the same ones."""
    drawn = torch.randn(num_derivations, 4, generator=generator)
    return normalize(drawn, dim=-1).repeat(num_gaussians, 1, 1)


def official_initial_quaternions(
    num_gaussians: int, num_derivations: int, generator: torch.Generator
) -> Float[Tensor, "n k 4"]:
    """Draw as the published code does: angles from [0, 1) radians, so no component is negative."""
    u1, u2, u3 = torch.rand(3, num_derivations, generator=generator)
    low, high = (1.0 - u1).sqrt(), u1.sqrt()
    drawn = torch.stack([low * u2.sin(), low * u2.cos(), high * u3.sin(), high * u3.cos()], dim=-1)
    return drawn.repeat(num_gaussians, 1, 1)
