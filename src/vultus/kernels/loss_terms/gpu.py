"""Launches of the kernels for loss terms, tied into autograd."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from vultus.kernels.loss_terms import MapWeights, MeasuredMaps, MeasuredSurfels, SurfelWeights
from vultus.kernels.loss_terms._gpu_maps import measure_maps, measure_maps_backward
from vultus.kernels.loss_terms._gpu_sums import weigh_means
from vultus.kernels.loss_terms._gpu_surfels import measure_surfels, measure_surfels_backward
from vultus.kernels.triton_calls import check_tensors, contiguous, empty_like, or_other
from vultus.kernels.triton_runtime import launch

__all__ = ["map_terms", "surfel_terms"]

_PIXELS, _SURFELS, _WARPS = 1024, 256, 4
"""Lanes of a program: maps are long, and few surfels must do for a whole GPU."""
_SUM_BLOCK, _SUM_WARPS = 512, 4


@dataclass(frozen=True)
class _Terms:
    """The terms of a call, in the order of their rows."""

    names: tuple[str, ...]
    weights: tuple[float, ...]
    flags: dict[str, bool]
    numbers: tuple[float, ...] = ()

    def rows(self, names: Sequence[str]) -> dict[str, Any]:
        """Compile-time constants of the kernels, one for each name."""
        rows = {name: k for k, name in enumerate(self.names)}
        return {name.upper(): rows.get(name, -1) for name in names} | self.flags


_MAP_TERMS = ("alpha", "surfel_normal", "distortion")
_SURFEL_TERMS = ("xyz", "scale", "eye_alpha", "blend_weight", "normal_norm")


def map_terms(maps: MeasuredMaps, weights: MapWeights) -> dict[str, Tensor]:
    """See ``vultus.kernels.loss_terms.map_terms``."""
    inputs = {
        "alpha": maps.alpha,
        "mask": maps.mask,
        "normals": maps.normals,
        "depth_normals": maps.depth_normals,
        "distortion": maps.distortion,
    }
    measured = {
        "alpha": (maps.alpha, float(weights.alpha_weight)),
        "surfel_normal": (maps.normals, float(weights.surfel_normal_weight)),
        "distortion": (maps.distortion, float(weights.distortion_weight)),
    }
    found = {name: weight for name, (value, weight) in measured.items() if value is not None}
    if not found:
        return {}
    if maps.alpha is not None and maps.mask is None:
        raise ValueError("alpha must come with a mask")
    if (maps.normals is None) != (maps.depth_normals is None):
        raise ValueError("normals and depth_normals must come together")
    is_masked = maps.normals is not None and weights.mask_normals and maps.mask is not None
    check_tensors(inputs, next(m for m in inputs.values() if m is not None).device)
    terms = _Terms(tuple(found), tuple(found.values()), {"IS_MASKED": is_masked})
    return dict(zip(found, _MapTerms.apply(terms, *inputs.values()), strict=True))


def surfel_terms(
    surfels: MeasuredSurfels, radii: Tensor, weights: SurfelWeights, free_blend_weight: float
) -> dict[str, Tensor]:
    """See ``vultus.kernels.loss_terms.surfel_terms``."""
    if (surfels.opacity_logits is None) != (surfels.eyeballs is None):
        raise ValueError("opacity_logits and eyeballs must come together")
    inputs = {
        "local_means": surfels.local_means,
        "log_scales": surfels.log_scales,
        "opacity_logits": surfels.opacity_logits,
        "blend_weight_logits": surfels.blend_weight_logits,
        "normals": surfels.normals,
    }
    check_tensors({"face_scales": surfels.face_scales, **inputs}, surfels.local_means.device)
    values = dict(zip(_SURFEL_TERMS, inputs.values(), strict=True))
    found = {
        name: float(getattr(weights, f"{name}_weight"))
        for name, value in values.items()
        if value is not None
    }
    terms = _Terms(
        tuple(found),
        tuple(found.values()),
        {"METRIC_XYZ": weights.metric_xyz, "METRIC_SCALE": weights.metric_scale},
        (float(weights.xyz_threshold), float(weights.scale_threshold), float(free_blend_weight)),
    )
    constants = (surfels.face_scales, surfels.eyeballs, radii)
    results = _SurfelTerms.apply(terms, constants, *inputs.values())
    return dict(zip(found, results, strict=True))


def _weigh(partials: Tensor, terms: _Terms) -> tuple[tuple[Tensor, ...], Tensor]:
    """Weighted averages, and what a single value counts in them."""
    num = len(terms.names)
    values, factors = partials.new_empty(num), partials.new_empty(num)
    launch(
        weigh_means, (num,), partials, values, factors, terms.weights, partials.shape[-1],
        TERMS=num, BLOCK=_SUM_BLOCK, num_warps=_SUM_WARPS,
    )  # fmt: skip
    return tuple(values[k] for k in range(num)), factors


class _MapTerms(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, terms: _Terms, *maps: Any) -> Any:
        maps = contiguous(maps)
        first = next(each for each in maps if each is not None)
        batch, _, height, width = first.shape
        grid = (-(-height * width // _PIXELS), batch)
        partials = first.new_empty(2, len(terms.names), grid[0] * batch)
        launch(
            measure_maps, grid, *or_other(maps, partials), partials, height * width,
            **terms.rows(_MAP_TERMS), TERMS=len(terms.names), LANES=_PIXELS, num_warps=_WARPS,
        )  # fmt: skip
        results, factors = _weigh(partials, terms)
        ctx.save_for_backward(*maps, factors)
        ctx.terms, ctx.grid, ctx.size = terms, grid, height * width
        return results

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> Any:
        alpha, mask, normals, depth_normals, distortion, factors = ctx.saved_tensors
        results = empty_like((alpha, normals, depth_normals, distortion))
        launch(
            measure_maps_backward, ctx.grid,
            *or_other((alpha, mask, normals, depth_normals), factors), factors, grads,
            *or_other(results, factors), ctx.size,
            **ctx.terms.rows(_MAP_TERMS), LANES=_PIXELS, num_warps=_WARPS,
        )  # fmt: skip
        grad_alpha, *others = results
        return None, grad_alpha, None, *others


class _SurfelTerms(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, terms: _Terms, constants: tuple[Any, ...], *surfels: Any) -> Any:
        inputs = contiguous((*surfels, *constants))
        means, radii = inputs[0], inputs[-1]
        batch, num = radii.shape
        grid = (-(-num // _SURFELS), 1)
        partials = means.new_empty(2, len(terms.names), grid[0])
        launch(
            measure_surfels, grid, *or_other(inputs, means), partials,
            num, batch, *terms.numbers, **terms.rows(_SURFEL_TERMS), TERMS=len(terms.names),
            LANES=_SURFELS, num_warps=_WARPS,
        )  # fmt: skip
        results, factors = _weigh(partials, terms)
        ctx.save_for_backward(*inputs, factors)
        ctx.terms, ctx.grid = terms, grid
        return results

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> Any:
        *inputs, factors = ctx.saved_tensors
        batch, num = inputs[-1].shape
        results = empty_like(inputs[: len(_SURFEL_TERMS)])
        launch(
            measure_surfels_backward, ctx.grid, *or_other(inputs, factors), factors,
            grads, *or_other(results, factors), num, batch, *ctx.terms.numbers,
            **ctx.terms.rows(_SURFEL_TERMS), LANES=_SURFELS, num_warps=_WARPS,
        )  # fmt: skip
        return None, None, *results
