"""Launches of the kernels that sample a tri-plane, tied into autograd."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from vultus.kernels.derived_triplane._gpu_sample import sample, sample_backward
from vultus.kernels.triton_calls import check_tensors, or_other
from vultus.kernels.triton_runtime import launch

__all__ = ["sample_derived"]

_LANES = 128
"""Points times channels of a program, which is a warp: four channels per thread."""
_AXES = ((0, 1), (0, 2), (1, 2))
_SUM_BITS = 62
"""Of a signed integer, less one against rounding of the bound."""
_MAX_EXPONENT = 126.0
"""Of a power of two in float32."""


def sample_derived(
    planes: Sequence[Tensor],
    points: Tensor,
    derivation: Tensor | None,
    share: int,
    is_shared: bool,
) -> Tensor:
    """See ``vultus.kernels.derived_triplane.sample_derived``."""
    named = {f"planes[{k}]": plane for k, plane in enumerate(planes)}
    check_tensors({"points": points, "derivation": derivation, **named}, points.device)
    copies = 1 if derivation is None else derivation.shape[1]
    resolution = _resolution(planes)
    first = 0
    if is_shared:
        first = planes[0].shape[1] - share
    if first < 0 or (not is_shared and planes[0].shape[1] != copies * share):
        raise ValueError(
            f"planes must have the channels that copies read, got {planes[0].shape[1]} for "
            f"{copies} x {share}"
        )
    # A row per texel: what a copy reads of it are neighbours in memory.
    flat = [plane.squeeze(0).flatten(1) for plane in planes]
    texels = torch.cat([rows[first:] if first else rows for rows in flat], dim=1).t()
    return _Sample.apply(texels, points, derivation, resolution, share, is_shared)


def _resolution(planes: Sequence[Tensor]) -> tuple[int, int, int]:
    """Texels along the x, y and z axis."""
    if len(planes) != len(_AXES):
        raise ValueError(f"planes must be 3 (xy, xz, yz), got {len(planes)}")
    (y, x), (z, _), _ = (plane.shape[2:] for plane in planes)
    sizes = (x, y, z)
    for plane, (along, across) in zip(planes, _AXES, strict=True):
        if plane.shape[2:] != (sizes[across], sizes[along]) or min(sizes) < 2:
            shapes = ", ".join(str(tuple(each.shape[2:])) for each in planes)
            raise ValueError(f"planes must agree on three sizes of at least 2, got {shapes}")
    return sizes


class _Sample(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        texels: Tensor,
        points: Tensor,
        derivation: Tensor | None,
        resolution: tuple[int, int, int],
        share: int,
        is_shared: bool,
    ) -> Tensor:
        texels, points = texels.contiguous(), points.contiguous()
        derivation = None if derivation is None else derivation.contiguous()
        batch, num = points.shape[:2]
        copies, size = (1, 0) if derivation is None else derivation.shape[1:]
        features = points.new_empty(batch, num, copies * share)
        lanes = _layout(share)
        constants = {
            "CHANNELS": texels.shape[1],
            "COPIES": copies,
            "SHARE": share,
            "SIZE": size,
            "IS_SHARED": is_shared,
        } | lanes
        launch(
            sample, (-(-num // lanes["POINTS"]), batch), texels, points,
            *or_other((derivation,), points), features, num, *resolution, **constants,
        )  # fmt: skip
        ctx.save_for_backward(texels, points, derivation)
        ctx.resolution, ctx.constants = resolution, constants
        return features

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        texels, points, derivation = ctx.saved_tensors
        gradient = grads[0].contiguous()
        batch, num = points.shape[:2]
        needs_texels, needs_points, needs_derivation = ctx.needs_input_grad[:3]
        is_exact = needs_texels and num > 0 and torch.are_deterministic_algorithms_enabled()
        grad_points = torch.empty_like(points) if needs_points else None
        grad_derivation, sums, scale = None, None, None
        if needs_derivation:
            grad_derivation = points.new_empty(batch, *derivation.shape)
        if needs_texels:
            sums = torch.zeros_like(texels, dtype=torch.int64 if is_exact else None)
        if is_exact:
            scale = _scale_of_sums(gradient, texels, ctx.constants["COPIES"])
        launch(
            sample_backward, (-(-num // ctx.constants["POINTS"]), batch), texels, points,
            *or_other((derivation,), points), gradient,
            *or_other((sums, scale, grad_points, grad_derivation), points), num, *ctx.resolution,
            **ctx.constants, NEEDS_TEXELS=needs_texels, NEEDS_POINTS=needs_points,
            NEEDS_DERIVATION=needs_derivation, IS_EXACT=is_exact,
        )  # fmt: skip
        if scale is not None and sums is not None:
            sums = (sums.double() / scale.double()).float()
        if grad_derivation is not None:
            grad_derivation = grad_derivation[0] if batch == 1 else grad_derivation.sum(dim=0)
        return sums, grad_points, grad_derivation, None, None, None


def _layout(share: int) -> dict[str, int]:
    """How many points a program has, and how many channels with those that are masked."""
    lanes = 1 << (share - 1).bit_length()
    return {"POINTS": max(_LANES // lanes, 1), "LANES": lanes}


def _scale_of_sums(gradient: Tensor, texels: Tensor, copies: int) -> Tensor:
    """A power of two that lets sums of gradients of texels just fit into integers.

    Sums of integers do not depend on their order. A copy of a point adds to a texel of a plane at
    most its gradient times the samples of the two other planes.
    """
    largest = [torch.linalg.vector_norm(each, torch.inf) for each in (gradient, texels)]
    terms = gradient.shape[0] * gradient.shape[1] * copies
    bits = largest[0].log2() + 2.0 * largest[1].log2() + math.log2(max(terms, 1))
    return torch.exp2((_SUM_BITS - bits).floor().clamp(max=_MAX_EXPONENT))
