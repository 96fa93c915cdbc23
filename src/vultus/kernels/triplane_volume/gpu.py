"""GPU backend in Triton: rows of samples, neighbouring rays side by side, nothing sorted.

1. ``sample_rays``: features and densities of the coarse samples; 2. ``place_fine_samples``: one
lane per ray; 3. as 1 for the fine ones; 4. ``weigh_samples`` merges both lists and gives every
sample's share; 5. ``gather_decoded`` sums what the samples' features become. Only densities and
depths are ever merged: features may be summed in any order. Backward: gradients of shares, of
densities, then of features and weights, which are scattered to texels and rays.

Of each sample, its mean feature is kept, as float16 unless precision is ``single``.
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn.functional import pad

from vultus.kernels.triplane_volume._gpu_samples import gather_points, scatter_points
from vultus.kernels.triplane_volume._gpu_stages import (
    LN2,
    MAX_WIDTH,
    SAMPLE_BLOCK,
    SCATTER_POINTS_BLOCK,
    WARPS,
    Samples,
    ScaledDecoder,
    density_gradients,
    feature_gradients,
    layout_of,
    padded_width,
    readable_texels,
    sample_all,
    stored_dtype,
)
from vultus.kernels.triplane_volume.calls import RayPlan, finish_rays, prepare_rays, texels_of
from vultus.kernels.triplane_volume.settings import (
    DecoderWeights,
    VolumeDraws,
    VolumeRender,
    VolumeSettings,
)
from vultus.kernels.triton_runtime import is_interpreted, is_recording, launch

__all__ = ["mean_features", "render_planes"]


def render_planes(
    planes: Float[Tensor, "b ..."],
    decoder: DecoderWeights,
    origins: Float[Tensor, "b r 3"],
    directions: Float[Tensor, "b r 3"],
    settings: VolumeSettings,
    draws: VolumeDraws,
    *,
    is_half: bool,
) -> VolumeRender:
    """See ``vultus.kernels.triplane_volume.render_planes``."""
    texels = texels_of(planes, settings)
    _check(texels, origins, directions, *decoder[:4])
    plan = RayPlan.of(settings, decoder.activation, is_half=is_half)
    rays = prepare_rays(origins, directions, settings, draws)
    # Memory holds all rays of one sample side by side: no copy for what VolumeDraws.draw has made.
    rows = [None if x is None else x.permute(2, 0, 1).flatten(1).contiguous() for x in rays]
    features, depth, opacity, *ends = _Render.apply(
        texels, origins, directions, rows[0], *decoder[:4], *rows[1:], plan
    )  # pyright: ignore[reportGeneralTypeIssues]
    return finish_rays(features, depth, opacity, (ends[0], ends[1]), rays.depths, settings)


def mean_features(
    planes: Float[Tensor, "b ..."], points: Float[Tensor, "b p 3"], settings: VolumeSettings
) -> Float[Tensor, "b p d"]:
    """Mean of the features that the planes have at world points, in float32."""
    texels = texels_of(planes, settings)
    _check(texels, points)
    plan = RayPlan.of(settings)
    return _Points.apply(texels, points, plan)  # pyright: ignore[reportReturnType]


class _Render(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        texels: Tensor,
        origins: Tensor,
        directions: Tensor,
        coarse: Tensor,
        w1: Tensor,
        b1: Tensor,
        w2: Tensor,
        b2: Tensor,
        uniforms: Tensor,
        coarse_noise: Tensor | None,
        fine_noise: Tensor | None,
        plan: RayPlan,
    ) -> tuple[Tensor, ...]:
        origins, directions = origins.contiguous(), directions.contiguous()
        texels = readable_texels(texels, stored_dtype(plan))
        decoder = ScaledDecoder(w1, b1, w2, b2, plan)
        noise = coarse_noise, fine_noise
        samples = sample_all(texels, origins, directions, coarse, decoder, uniforms, noise, plan)
        if plan.activation == 0:
            bias = samples.opacity[:, None] * decoder.b2
            features = torch.addmm(bias, samples.gathered, decoder.w2.t(), alpha=LN2)
        else:
            features = samples.gathered
        ctx.plan = plan
        ctx.save_for_backward(texels, origins, directions, w1, b1, w2, b2, *vars(samples).values())
        first_fine = plan.coarse if plan.fine else 0
        ends = samples.depths[first_fine].clone(), samples.depths[-1].clone()
        ctx.mark_non_differentiable(*ends)
        return features[:, : decoder.decoded].contiguous(), samples.depth, samples.opacity, *ends

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:
        _check_determinism()
        texels, origins, directions, w1, b1, w2, b2, *values = ctx.saved_tensors
        plan: RayPlan = ctx.plan
        decoder, samples = ScaledDecoder(w1, b1, w2, b2, plan), Samples(*values)
        g_features, g_depth, g_opacity = (g.contiguous() for g in grad_outputs[:3])
        g_features = pad(g_features, (0, decoder.e - decoder.decoded))
        has_points, has_depths = any(ctx.needs_input_grad[1:3]), ctx.needs_input_grad[3]
        g_gathered = g_features
        if plan.activation == 0:
            g_opacity = g_opacity + g_features @ decoder.b2
            g_gathered = g_features @ decoder.w2
        g_densities, g_depths = density_gradients(
            samples, decoder, g_gathered, g_opacity, g_depth, plan, has_depths
        )
        g_texels = torch.zeros_like(texels, dtype=torch.float32)
        g_rays = [torch.zeros_like(origins), torch.zeros_like(directions)]
        g_w1, g_b1, g_density, g_w2, g_b2 = feature_gradients(
            (texels, g_texels), (origins, directions), g_rays, samples, decoder,
            g_gathered, g_densities, g_depths, plan, has_points or has_depths,
        )  # fmt: skip
        if plan.activation == 0:
            g_w2 = g_features.t() @ samples.gathered * LN2
            g_b2 = samples.opacity @ g_features
        g_out = torch.cat([g_density[None], g_w2[: decoder.decoded]])[:, : decoder.hidden]
        g_bias = torch.cat([g_densities.sum()[None], g_b2[: decoder.decoded]])
        return (
            g_texels,
            *(g_rays if has_points else (None, None)),
            g_depths,
            g_w1[: decoder.hidden, : decoder.channels],
            g_b1[: decoder.hidden],
            g_out,
            g_bias,
            *(None,) * 4,
        )


class _Points(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, texels: Tensor, points: Tensor, plan: RayPlan) -> Tensor:
        dtype = torch.float16 if texels.dtype == torch.float16 else torch.float32
        texels, points = readable_texels(texels, dtype), points.contiguous()
        channels = texels.shape[-1]
        features = points.new_empty(*points.shape[:2], channels)
        launch(
            gather_points, _grid(points, SAMPLE_BLOCK), texels, points, features,
            points.shape[1], plan.scale, texels.stride(0),
            **layout_of(texels, plan), CHANNELS=channels, C=padded_width(channels),
            BLOCK=SAMPLE_BLOCK, num_warps=WARPS,
        )  # fmt: skip
        ctx.plan = plan
        ctx.save_for_backward(texels, points)
        return features

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:
        _check_determinism()
        texels, points = ctx.saved_tensors
        plan, channels = ctx.plan, texels.shape[-1]
        g_texels = torch.zeros_like(texels, dtype=torch.float32)
        g_points = torch.empty_like(points)
        launch(
            scatter_points, _grid(points, SCATTER_POINTS_BLOCK), texels, g_texels, points,
            grad_outputs[0].contiguous(), g_points, points.shape[1], plan.scale, texels.stride(0),
            **layout_of(texels, plan), CHANNELS=channels, C=padded_width(channels),
            HAS_POINTS=ctx.needs_input_grad[1], BLOCK=SCATTER_POINTS_BLOCK, num_warps=WARPS,
        )  # fmt: skip
        return g_texels, g_points if ctx.needs_input_grad[1] else None, None


def _grid(points: Tensor, block: int) -> tuple[int, int]:
    return -(-points.shape[1] // block), points.shape[0]


def _check(texels: Tensor, *others: Tensor) -> None:
    is_here = texels.is_cuda or is_interpreted() or is_recording()
    is_same = all(x.device == texels.device and x.dtype == torch.float32 for x in others)
    if not (is_here and is_same and texels.dtype.itemsize <= 4 and texels.is_floating_point()):
        places = sorted({f"{x.dtype} on {x.device}" for x in (texels, *others)})
        raise TypeError(
            'backend="gpu" needs rays and decoder in float32, planes in float32 or less, on one '
            f"GPU, got {', '.join(places)}"
        )
    sizes = [texels.shape[-1], *(x.shape[0] for x in others if x.ndim == 2)]
    if max(sizes) > MAX_WIDTH + 1:
        raise ValueError(
            f'backend="gpu" takes features and hidden layers of up to {MAX_WIDTH}, '
            f'got {max(sizes)}; use backend="ref"'
        )


def _check_determinism() -> None:
    if torch.are_deterministic_algorithms_enabled():
        raise RuntimeError(
            'backend="gpu" adds gradients of planes in any order, deterministic algorithms are on'
        )
