"""CPU backend in Numba: a ray's samples stay in a worker's cache, 16 channels at a time.

Forward, nothing but depths and densities of the samples is kept; backward evaluates them again.
Gradients of features wait for a second pass, in which every worker has planes of its own, so that
nothing is atomic. Gradients of weights are added up per block of rays: results do not depend on the
number of threads.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn.functional import pad

from vultus.core.simd import LANES, run_chunks
from vultus.kernels.triplane_volume._cpu_lookup import MAX_TAPS
from vultus.kernels.triplane_volume._cpu_passes import (
    backward_points,
    backward_rays,
    gather_points,
    render_rays,
    scatter_taps,
)
from vultus.kernels.triplane_volume.calls import (
    RayPlan,
    finish_rays,
    prepare_rays,
    texels_of,
)
from vultus.kernels.triplane_volume.settings import (
    DecoderWeights,
    VolumeDraws,
    VolumeRender,
    VolumeSettings,
)

__all__ = ["mean_features", "render_planes"]

_LOG2E, _LN2 = 1.4426950408889634, 0.6931471805599453
_BLOCK = 64
"""Rays whose gradients of weights are added up: few sums for little memory."""
_SAMPLES_AT_ONCE = 131_072
"""Samples whose gradients wait for the second pass: 60 MB with 32 channels."""


class _Decoder:
    """Weights as the kernels take them."""

    def __init__(self, w1: Tensor, b1: Tensor, w2: Tensor, b2: Tensor, activation: int) -> None:
        hidden, channels = w1.shape
        decoded = w2.shape[0] - 1
        self.shape = channels, hidden, decoded
        self.c, self.k, self.e = (_padded(n) for n in self.shape)
        more_c, more_k, more_e = self.c - channels, self.k - hidden, self.e - decoded
        self.w1, self.w2 = pad(w1, (0, more_c, 0, more_k)), pad(w2[1:], (0, more_k, 0, more_e))
        row, self.b2 = pad(w2[0], (0, more_k)), pad(b2[1:], (0, more_e))
        self.forward = (
            _array(self.w1.t() * _LOG2E),
            _array(pad(b1, (0, more_k)) * _LOG2E),
            _array(row * _LN2),
            np.float32(b2[0].item()),
            _array(self.w2.t() * _LN2),
            _array(self.b2),
            activation,
        )
        zeros = np.zeros(max(self.c, self.k), np.float32)
        self.backward = (_array(self.w1), zeros), (_array(self.w2), zeros), _array(row)


def render_planes(
    planes: Float[Tensor, "b ..."],
    decoder: DecoderWeights,
    origins: Float[Tensor, "b r 3"],
    directions: Float[Tensor, "b r 3"],
    settings: VolumeSettings,
    draws: VolumeDraws,
) -> VolumeRender:
    """See ``vultus.kernels.triplane_volume.render_planes``.

    Raises:
        TypeError: If rays or decoder are not float32 on the CPU.
    """
    texels = texels_of(planes, settings)
    _check(texels, origins, directions, *decoder[:4])
    rays = prepare_rays(origins, directions, settings, draws)
    plan = RayPlan.of(settings, decoder.activation)
    # A ray's samples side by side.
    depths, *drawn = (None if x is None else x.flatten(0, 1).contiguous() for x in rays)
    features, depth, opacity, first, last = _Render.apply(
        texels, origins, directions, depths, *decoder[:4], *drawn, plan
    )  # pyright: ignore[reportGeneralTypeIssues]
    return finish_rays(features, depth, opacity, (first, last), rays.depths, settings)


def mean_features(
    planes: Float[Tensor, "b ..."], points: Float[Tensor, "b p 3"], settings: VolumeSettings
) -> Float[Tensor, "b p d"]:
    """Mean of the features that the planes have at world points.

    Raises:
        TypeError: If the points are not float32 on the CPU.
    """
    texels = texels_of(planes, settings)
    _check(texels, points)
    features: Tensor = _Points.apply(texels, points, RayPlan.of(settings))  # pyright: ignore[reportAssignmentType]
    return features


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
        texels = _padded_texels(texels)
        decoder = _Decoder(w1, b1, w2, b2, plan.activation)
        rays = coarse.shape[0]
        depths = coarse.new_empty(rays, plan.samples)
        depths[:, : plan.coarse] = coarse
        densities = torch.empty_like(depths)
        gathered = coarse.new_empty(rays, decoder.e if plan.activation else decoder.k)
        depth, opacity = coarse.new_empty(rays), coarse.new_empty(rays)
        noise = (coarse if x is None else x for x in (coarse_noise, fine_noise))
        run_chunks(
            torch.get_num_threads(), render_rays, rays, origins.shape[1], _image_stride(texels),
            *map(_array, (origins, directions, depths, densities, uniforms, *noise, texels)),
            _layout(texels, plan), _sizes(decoder, plan), _space(plan), decoder.forward,
            *map(_array, (gathered, depth, opacity)),
        )  # fmt: skip
        features = gathered
        if plan.activation == 0:
            bias = opacity[:, None] * decoder.b2
            features = torch.addmm(bias, gathered, decoder.w2.t(), alpha=_LN2)
        ctx.plan = plan
        ctx.save_for_backward(
            texels, origins, directions, w1, b1, w2, b2, depths, densities, gathered, depth, opacity
        )
        first_fine = plan.coarse if plan.fine else 0
        ends = depths[:, first_fine].clone(), depths[:, -1].clone()
        ctx.mark_non_differentiable(*ends)
        return features[:, : decoder.shape[2]].contiguous(), depth, opacity, *ends

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:
        texels, origins, directions, w1, b1, w2, b2, *rays = ctx.saved_tensors
        plan: RayPlan = ctx.plan
        depths, densities, gathered, depth, opacity = rays
        decoder = _Decoder(w1, b1, w2, b2, plan.activation)
        channels, hidden, decoded = decoder.shape
        g_features = pad(grad_outputs[0], (0, decoder.e - decoded)).contiguous()
        g_depth, g_opacity = grad_outputs[1].contiguous(), grad_outputs[2]
        g_gathered = g_features
        if plan.activation == 0:
            g_opacity = g_opacity + g_features @ decoder.b2
            g_gathered = g_features @ decoder.w2
        has_points, has_depths = any(ctx.needs_input_grad[1:3]), ctx.needs_input_grad[3]
        g_texels, g_origins = torch.zeros_like(texels), torch.zeros_like(origins)
        g_directions = torch.zeros_like(directions)
        g_coarse = depths.new_zeros(depths.shape[0], plan.coarse)
        g_w1, g_b1, g_row, g_w2, g_b2, g_bias = _feature_gradients(
            (texels, g_texels), (origins, directions, depths, densities, depth, opacity),
            (g_gathered, g_depth, g_opacity.contiguous()), (g_origins, g_directions, g_coarse),
            decoder, plan, has_slopes=has_points or has_depths,
        )  # fmt: skip
        g_out = g_w2.t() * _LN2
        if plan.activation == 0:
            g_out = g_features.t() @ gathered * _LN2
            g_b2 = opacity @ g_features
        g_w2 = torch.cat([g_row[None] * _LN2, g_out[:decoded]])[:, :hidden]
        return (
            g_texels[..., :channels],
            *((g_origins, g_directions) if has_points else (None, None)),
            g_coarse if has_depths else None,
            g_w1.t()[:hidden, :channels],
            g_b1[:hidden],
            g_w2,
            torch.cat([g_bias[None], g_b2[:decoded]]),
            *(None,) * 4,
        )


class _Points(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, texels: Tensor, points: Tensor, plan: RayPlan) -> Tensor:
        channels = texels.shape[-1]
        texels, points = _padded_texels(texels), points.contiguous()
        features = points.new_empty(*points.shape[:2], texels.shape[-1])
        run_chunks(
            torch.get_num_threads(), gather_points, points[..., 0].numel(), points.shape[1],
            _image_stride(texels), _array(points), _array(texels), _layout(texels, plan),
            plan.scale, _array(features),
        )  # fmt: skip
        ctx.plan, ctx.channels = plan, channels
        ctx.save_for_backward(texels, points)
        return features[..., :channels]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:
        texels, points = ctx.saved_tensors
        plan, width = ctx.plan, texels.shape[-1]
        dx = pad(grad_outputs[0], (0, width - ctx.channels)).contiguous()
        g_texels, g_points = torch.zeros_like(texels), torch.zeros_like(points)
        images, count = points.shape[:2]
        most = min(_SAMPLES_AT_ONCE, count)
        waiting = _Waiting.build(most, 1, 0)
        arrays = [_array(x) for x in (points, texels)]
        for image in range(images):
            for first in range(image * count, (image + 1) * count, most):
                number = min(most, (image + 1) * count - first)
                start = image * _image_stride(texels)
                run_chunks(
                    torch.get_num_threads(), backward_points, number, first, start, *arrays,
                    _layout(texels, plan), plan.scale, ctx.needs_input_grad[1], waiting.counts,
                    waiting.offsets, waiting.weights, _array(dx), _array(g_points),
                )  # fmt: skip
                waiting.scatter(number, start, _array(dx)[first * width :], g_texels, plan.kind)
        return g_texels[..., : ctx.channels], g_points, None


@dataclass(frozen=True)
class _Waiting:
    """Gradients of samples' features, and the texels that they belong to."""

    samples: int
    """Per ray."""
    counts: np.ndarray
    offsets: np.ndarray
    weights: np.ndarray
    dx: np.ndarray

    @classmethod
    def build(cls, rays: int, samples: int, width: int) -> _Waiting:
        """Make room; a width of 0 for gradients that lie elsewhere."""
        taps = rays * samples * MAX_TAPS
        return cls(
            samples,
            np.zeros(rays, np.int64),
            np.empty(taps, np.int32),
            np.empty(taps, np.float32),
            np.empty(rays * samples * width, np.float32),
        )

    def scatter(self, rays: int, start: int, dx: np.ndarray, g_texels: Tensor, kind: int) -> None:
        """Add the gradients of the first rays to one image's texels."""
        num_planes = g_texels.shape[1]
        run_chunks(
            torch.get_num_threads(), scatter_taps, num_planes, 8 if kind == 2 else 4, rays,
            self.samples, g_texels.shape[-1], start, self.counts, self.offsets, self.weights, dx,
            _array(g_texels),
        )  # fmt: skip


def _feature_gradients(
    texels: tuple[Tensor, Tensor],
    rays: tuple[Tensor, ...],
    g_rays: tuple[Tensor, ...],
    g_inputs: tuple[Tensor, ...],
    decoder: _Decoder,
    plan: RayPlan,
    *,
    has_slopes: bool,
) -> tuple[Tensor, ...]:
    """Add to the gradients of texels and inputs; returns those of the decoder's weights.

    Args:
        texels: And their gradients.
        rays: Origins, directions; depths and densities of samples; mean depth, opacity.
        g_rays: Gradients of what was gathered, of mean depth and of opacity.
        g_inputs: Gradients of origins, directions and coarse depths.
        decoder: Weights.
        plan: What does not change.
        has_slopes: Whether ``g_inputs`` are wanted.
    """
    images, rays_per_image = rays[0].shape[:2]
    most = min(max(_SAMPLES_AT_ONCE // plan.samples // _BLOCK, 1) * _BLOCK, rays_per_image)
    blocks = -(-most // _BLOCK)
    waiting = _Waiting.build(most, plan.samples, decoder.c)
    e = decoder.e if plan.activation else 0
    shapes = (decoder.c, decoder.k), (decoder.k,), (decoder.k,), (decoder.k, e), (e,)
    sums = [rays[0].new_zeros(blocks, *shape) for shape in shapes]
    g_bias = rays[0].new_empty(images * rays_per_image)
    stride = _image_stride(texels[0])
    inputs = [*map(_array, (*rays, texels[0]))]
    for image in range(images):
        for first in range(image * rays_per_image, (image + 1) * rays_per_image, most):
            last = min(first + most, (image + 1) * rays_per_image)
            run_chunks(
                torch.get_num_threads(), backward_rays, -(-(last - first) // _BLOCK), _BLOCK,
                (first, last), image * stride, *inputs, _layout(texels[0], plan),
                _sizes(decoder, plan), _space(plan), decoder.forward, decoder.backward,
                *map(_array, g_rays), has_slopes, waiting.counts, waiting.offsets,
                waiting.weights, waiting.dx, tuple(map(_array, sums)), _array(g_bias),
                *map(_array, g_inputs),
            )  # fmt: skip
            waiting.scatter(last - first, image * stride, waiting.dx, texels[1], plan.kind)
    return *(total.sum(dim=0) for total in sums), g_bias.sum()


def _layout(texels: Tensor, plan: RayPlan) -> tuple[int, int, int, int, int]:
    _, _, layers, size, _, width = texels.shape
    return plan.kind, layers, size, width, layers * size * size * width


def _sizes(decoder: _Decoder, plan: RayPlan) -> tuple[int, int, int, int, int]:
    return plan.coarse, plan.fine, decoder.c, decoder.k, decoder.e


def _space(plan: RayPlan) -> tuple[np.float32, np.float32, np.float32]:
    return np.float32(plan.scale), np.float32(plan.crop), np.float32(plan.noise)


def _image_stride(texels: Tensor) -> int:
    return texels[0].numel()


def _padded(size: int) -> int:
    return -(-size // LANES) * LANES


def _padded_texels(texels: Tensor) -> Tensor:
    """Texels as float32 whose channels fill vectors; without a copy where they do already."""
    texels = texels.detach().float()
    missing = -texels.shape[-1] % LANES
    return pad(texels, (0, missing)).contiguous() if missing else texels.contiguous()


def _array(tensor: Tensor) -> np.ndarray:
    return tensor.detach().contiguous().view(-1).numpy()


def _check(texels: Tensor, *others: Tensor) -> None:
    is_same = all(x.dtype == torch.float32 and x.device.type == "cpu" for x in others)
    if not is_same or texels.device.type != "cpu" or not texels.is_floating_point():
        places = sorted({f"{x.dtype} on {x.device}" for x in (texels, *others)})
        raise TypeError(
            f'backend="cpu" needs rays and decoder in float32 on the CPU, got {", ".join(places)}'
        )
