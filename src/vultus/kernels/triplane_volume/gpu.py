"""GPU backend in Triton: rows of samples, neighbouring rays side by side, nothing sorted.

1. ``sample_rays``: features and densities of the coarse samples; 2. ``place_fine_samples``: one
lane per ray; 3. as 1 for the fine ones; 4. ``weigh_samples`` merges both lists and gives every
sample's share; 5. ``gather_decoded`` sums what the samples' features become. Only densities and
depths are ever merged: features may be summed in any order. Backward: gradients of shares, of
densities, then of features and weights, which are scattered to texels and rays.

Of each sample, its mean feature is kept, as float16 unless precision is ``single``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn.functional import pad

from vultus.kernels.triplane_volume._gpu_decoder import (
    decode_backward,
    gather_decoded,
    share_gradients,
)
from vultus.kernels.triplane_volume._gpu_rays import (
    place_fine_samples,
    weigh_samples,
    weigh_samples_backward,
)
from vultus.kernels.triplane_volume._gpu_samples import (
    gather_points,
    sample_rays,
    scatter_points,
    scatter_rays,
)
from vultus.kernels.triplane_volume.calls import (
    REPRESENTATIONS,
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
from vultus.kernels.triton_runtime import is_interpreted, is_recording, launch

__all__ = ["mean_features", "render_planes"]

_LOG2E, _LN2 = 1.4426950408889634, 0.6931471805599453
_ACTIVATIONS = {"none": 0, "sigmoid": 1, "lrelu": 2}
_LEAST = 16
"""Smallest side of a matrix product."""
_MOST = 128
"""Largest width of features or hidden values: beyond, blocks no longer fit into registers."""

# Measured on an H100 with 32 features and 64 hidden values, 65536 rays of 96 samples: programs of
# 16 / 32 / 64 samples take 0.92 / 0.58 / 0.63 ms in sample_rays, of 32 / 64 / 128 samples
# 1.31 / 1.10 / 0.90 ms in decode_backward. The scatter is bound by its atomics (32 / 64: equal);
# with gradients of positions, 16 spare registers: 5.6 ms against 6.0.
_SAMPLE_BLOCK, _RAY_BLOCK, _GATHER_BLOCK = 32, 32, 64
_DECODE_BLOCKS = (128, 64)
_SCATTER_BLOCK, _SCATTER_POINTS_BLOCK = 32, 16
_WARPS = 4
_PARTS = 2
_ROWS_AT_ONCE = 24
"""Samples per ray whose gradients exist at the same time."""


@dataclass(frozen=True)
class _Plan:
    """What does not change from ray to ray."""

    kind: int
    activation: int
    is_half: bool
    scale: float
    crop: float
    noise: float
    coarse: int
    fine: int

    @classmethod
    def of(cls, settings: VolumeSettings, activation: str, is_half: bool) -> _Plan:
        margin = settings.crop_margin
        return cls(
            REPRESENTATIONS[settings.representation],
            _ACTIVATIONS[activation],
            is_half,
            2.0 / settings.box_size,
            float("inf") if margin is None else 0.5 * settings.box_size - margin,
            settings.density_noise,
            settings.coarse_samples,
            settings.fine_samples,
        )

    @property
    def dtype(self) -> torch.dtype:
        return torch.float16 if self.is_half else torch.float32

    @property
    def gradient_dtype(self) -> torch.dtype:
        """Gradients of mean losses, 1e-8 a sample, vanish in float16.

        Triton's interpreter multiplies no bfloat16.
        """
        return torch.bfloat16 if self.is_half and not is_interpreted() else torch.float32

    @property
    def decode_block(self) -> int:
        """Samples of a program of ``decode_backward``: more weights and digits, fewer samples."""
        return _DECODE_BLOCKS[bool(self.activation) or not self.is_half]

    @property
    def precision(self) -> str:
        return "tf32" if self.is_half else "tf32x3"


class _Decoder:
    """Weights as the kernels take them: padded, and scaled for hidden values in base 2."""

    def __init__(self, w1: Tensor, b1: Tensor, w2: Tensor, b2: Tensor, plan: _Plan) -> None:
        hidden, channels = w1.shape
        self.channels, self.hidden, self.decoded = channels, hidden, w2.shape[0] - 1
        self.c, self.k, self.e = (_padded(n) for n in (channels, hidden, self.decoded))
        self.w1 = _pad_matrix(w1, self.k, self.c)
        self.b1 = pad(b1, (0, self.k - hidden)) * _LOG2E
        self.density = pad(w2[0], (0, self.k - hidden))
        self.density_bias = b2[:1].contiguous()
        self.w2 = _pad_matrix(w2[1:], self.e, self.k)
        self.b2 = pad(b2[1:], (0, self.e - self.decoded))
        self.w1_scaled = (self.w1 * _LOG2E).to(plan.dtype)
        self.w2_scaled = (self.w2 * _LN2).to(plan.dtype)


@dataclass(frozen=True)
class _Samples:
    """Values of samples, a row each, and of rays."""

    depths: Tensor
    densities: Tensor
    features: Tensor
    shares: Tensor
    gathered: Tensor
    """Shares times hidden values, or times decoded features."""
    depth: Tensor
    opacity: Tensor


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
    plan = _Plan.of(settings, decoder.activation, is_half)
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
    plan = _Plan.of(settings, "none", False)
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
        plan: _Plan,
    ) -> tuple[Tensor, ...]:
        origins, directions = origins.contiguous(), directions.contiguous()
        texels = _readable(texels, plan.dtype)
        decoder = _Decoder(w1, b1, w2, b2, plan)
        noise = coarse_noise, fine_noise
        samples = _sample(texels, origins, directions, coarse, decoder, uniforms, noise, plan)
        if plan.activation == 0:
            bias = samples.opacity[:, None] * decoder.b2
            features = torch.addmm(bias, samples.gathered, decoder.w2.t(), alpha=_LN2)
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
        plan: _Plan = ctx.plan
        decoder, samples = _Decoder(w1, b1, w2, b2, plan), _Samples(*values)
        g_features, g_depth, g_opacity = (g.contiguous() for g in grad_outputs[:3])
        g_features = pad(g_features, (0, decoder.e - decoder.decoded))
        has_points, has_depths = any(ctx.needs_input_grad[1:3]), ctx.needs_input_grad[3]
        g_gathered = g_features
        if plan.activation == 0:
            g_opacity = g_opacity + g_features @ decoder.b2
            g_gathered = g_features @ decoder.w2
        g_densities, g_depths = _density_gradients(
            samples, decoder, g_gathered, g_opacity, g_depth, plan, has_depths
        )
        g_texels = torch.zeros_like(texels, dtype=torch.float32)
        g_rays = [torch.zeros_like(origins), torch.zeros_like(directions)]
        g_w1, g_b1, g_density, g_w2, g_b2 = _feature_gradients(
            (texels, g_texels), (origins, directions), g_rays, samples, decoder,
            g_gathered, g_densities, g_depths, plan, has_points or has_depths,
        )  # fmt: skip
        if plan.activation == 0:
            g_w2 = g_features.t() @ samples.gathered * _LN2
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
    def forward(ctx: Any, texels: Tensor, points: Tensor, plan: _Plan) -> Tensor:
        dtype = torch.float16 if texels.dtype == torch.float16 else torch.float32
        texels, points = _readable(texels, dtype), points.contiguous()
        channels = texels.shape[-1]
        features = points.new_empty(*points.shape[:2], channels)
        launch(
            gather_points, _grid(points, _SAMPLE_BLOCK), texels, points, features,
            points.shape[1], plan.scale, texels.stride(0),
            **_layout(texels, plan), CHANNELS=channels, C=_padded(channels), BLOCK=_SAMPLE_BLOCK,
            num_warps=_WARPS,
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
            scatter_points, _grid(points, _SCATTER_POINTS_BLOCK), texels, g_texels, points,
            grad_outputs[0].contiguous(), g_points, points.shape[1], plan.scale, texels.stride(0),
            **_layout(texels, plan), CHANNELS=channels, C=_padded(channels),
            HAS_POINTS=ctx.needs_input_grad[1], BLOCK=_SCATTER_POINTS_BLOCK, num_warps=_WARPS,
        )  # fmt: skip
        return g_texels, g_points if ctx.needs_input_grad[1] else None, None


def _sample(
    texels: Tensor,
    origins: Tensor,
    directions: Tensor,
    coarse: Tensor,
    decoder: _Decoder,
    uniforms: Tensor,
    noise: tuple[Tensor | None, Tensor | None],
    plan: _Plan,
) -> _Samples:
    """Run the forward kernels."""
    images, rays_per_image = origins.shape[:2]
    rays, total = images * rays_per_image, plan.coarse + plan.fine
    depths = coarse.new_empty(total, rays)
    depths[: plan.coarse] = coarse
    densities, shares = torch.empty_like(depths), torch.empty_like(depths)
    features = coarse.new_empty(total, rays, decoder.c, dtype=plan.dtype)
    fast = not is_interpreted()
    lanes = (-(-rays // _RAY_BLOCK),)

    def sample(first: int, count: int, drawn: Tensor | None) -> None:
        launch(
            sample_rays, (-(-rays_per_image // _SAMPLE_BLOCK), count, images),
            texels, origins, directions, depths, decoder.w1_scaled, decoder.b1,
            decoder.density * _LN2, decoder.density_bias, depths if drawn is None else drawn,
            features, densities, rays_per_image, rays, first, plan.scale, plan.crop,
            texels.stride(0), plan.noise,
            **_layout(texels, plan), CHANNELS=decoder.channels, C=decoder.c, K=decoder.k,
            HAS_NOISE=drawn is not None, PRECISION=plan.precision, IS_HARDWARE=fast,
            BLOCK=_SAMPLE_BLOCK, num_warps=_WARPS,
        )  # fmt: skip

    sample(0, plan.coarse, noise[0])
    if plan.fine:
        scratch = shares
        launch(
            place_fine_samples, lanes, depths, densities, uniforms, scratch, rays, plan.coarse,
            plan.fine, BLOCK=_RAY_BLOCK, IS_HARDWARE=fast,
        )  # fmt: skip
        sample(plan.coarse, plan.fine, noise[1])
    depth, opacity = depths.new_empty(rays), depths.new_empty(rays)
    launch(
        weigh_samples, lanes, depths, densities, shares, depth, opacity, rays, plan.coarse,
        plan.fine, BLOCK=_RAY_BLOCK, IS_HARDWARE=fast,
    )  # fmt: skip
    gathered = depths.new_empty(rays, decoder.e if plan.activation else decoder.k)
    launch(
        gather_decoded, (-(-rays // _GATHER_BLOCK),), features, shares, decoder.w1_scaled,
        decoder.b1, decoder.w2_scaled, decoder.b2, gathered, rays, total,
        **_sizes(decoder, plan), BLOCK=_GATHER_BLOCK, num_warps=_WARPS,
    )  # fmt: skip
    return _Samples(depths, densities, features, shares, gathered, depth, opacity)


def _density_gradients(
    samples: _Samples,
    decoder: _Decoder,
    g_gathered: Tensor,
    g_opacity: Tensor,
    g_depth: Tensor,
    plan: _Plan,
    has_depths: bool,
) -> tuple[Tensor, Tensor | None]:
    """Gradients of densities, and of coarse depths by the lengths of intervals."""
    total, rays = samples.depths.shape
    g_shares = torch.empty_like(samples.depths)
    g_base_2 = g_gathered if plan.activation else g_gathered * _LN2
    launch(
        share_gradients, (-(-rays // _GATHER_BLOCK),), samples.features, samples.shares, g_base_2,
        decoder.w1_scaled, decoder.b1, decoder.w2_scaled, decoder.b2, g_shares, rays, total,
        **_sizes(decoder, plan), BLOCK=_GATHER_BLOCK, num_warps=_WARPS,
    )  # fmt: skip
    g_densities = torch.empty_like(samples.depths)
    g_depths = torch.empty_like(samples.depths[: plan.coarse]) if has_depths else None
    launch(
        weigh_samples_backward, (-(-rays // _RAY_BLOCK),), samples.depths, samples.densities,
        g_shares, g_opacity.contiguous(), g_depth, samples.depth, samples.opacity, g_densities,
        g_densities if g_depths is None else g_depths, rays, plan.coarse, plan.fine,
        BLOCK=_RAY_BLOCK, HAS_DEPTHS=has_depths, IS_HARDWARE=not is_interpreted(),
    )  # fmt: skip
    return g_densities, g_depths


def _feature_gradients(
    texels: tuple[Tensor, Tensor],
    rays: tuple[Tensor, Tensor],
    g_rays: list[Tensor],
    samples: _Samples,
    decoder: _Decoder,
    g_gathered: Tensor,
    g_densities: Tensor,
    g_depths: Tensor | None,
    plan: _Plan,
    has_points: bool,
) -> list[Tensor]:
    """Add to the gradients of texels, rays and depths; returns those of the decoder's weights.

    A few rows of samples at a time, so that the gradients of features take little memory.
    """
    total, num_rays = samples.depths.shape
    images, rays_per_image = rays[0].shape[:2]
    rows = min(_ROWS_AT_ONCE, total)
    decode_block = plan.decode_block
    blocks = -(-num_rays // decode_block)
    g_features = samples.features.new_empty(rows, num_rays, decoder.c, dtype=plan.gradient_dtype)
    e = decoder.e if plan.activation else 1
    shapes = (decoder.k, decoder.c), (decoder.k,), (decoder.k,), (e, decoder.k), (e,)
    partial = [g_densities.new_empty(blocks * _PARTS, *shape) for shape in shapes]
    low, g_columns = plan.gradient_dtype, g_gathered.t().contiguous()
    back = decoder.w1.to(low), decoder.w2.to(low)
    block = _SCATTER_POINTS_BLOCK if has_points else _SCATTER_BLOCK
    for first in range(0, total, rows):
        count = min(rows, total - first)
        launch(
            decode_backward, (blocks, _PARTS), samples.features, samples.shares, g_densities,
            g_columns, decoder.w1_scaled, decoder.b1, back[0], decoder.w2_scaled, decoder.b2,
            back[1], decoder.density, g_features, *partial, num_rays, first, count, _PARTS,
            **_sizes(decoder, plan), ADDS=first > 0, BLOCK=decode_block, num_warps=_WARPS,
        )  # fmt: skip
        launch(
            scatter_rays, (-(-rays_per_image // block), count, images), *texels, *rays,
            samples.depths, samples.shares, g_densities, g_features, *g_rays,
            g_densities if g_depths is None else g_depths, rays_per_image, num_rays, first,
            plan.coarse, plan.scale, plan.crop, texels[0].stride(0),
            **_layout(texels[0], plan), CHANNELS=decoder.channels, C=decoder.c,
            HAS_POINTS=has_points, HAS_DEPTHS=g_depths is not None, BLOCK=block,
            num_warps=_WARPS,
        )  # fmt: skip
    return [part.sum(dim=0) for part in partial]


def _layout(texels: Tensor, plan: _Plan) -> dict[str, int]:
    _, _, layers, size, _, _ = texels.shape
    return {
        "KIND": plan.kind,
        "LAYERS": layers,
        "SIZE": size,
        "TEXEL": texels.stride(-2),
        "PLANE": texels.stride(1),
    }


def _sizes(decoder: _Decoder, plan: _Plan) -> dict[str, Any]:
    return {
        "C": decoder.c,
        "K": decoder.k,
        "E": decoder.e,
        "ACTIVATION": plan.activation,
        "PRECISION": plan.precision,
        "IS_HARDWARE": not is_interpreted(),
    }


def _grid(points: Tensor, block: int) -> tuple[int, int]:
    return -(-points.shape[1] // block), points.shape[0]


def _padded(size: int) -> int:
    return max(_LEAST, 1 << (size - 1).bit_length())


def _pad_matrix(matrix: Tensor, rows: int, columns: int) -> Tensor:
    return pad(matrix, (0, columns - matrix.shape[1], 0, rows - matrix.shape[0])).contiguous()


def _readable(texels: Tensor, dtype: torch.dtype) -> Tensor:
    """Texels whose channels are contiguous, and whose rows and layers follow one another."""
    _, _, layers, size, width, _ = texels.shape
    texel = texels.stride(-2)
    is_in_place = texels.stride(-1) == 1 and texels.stride(-3) == width * texel
    is_in_place &= layers == 1 or texels.stride(2) == size * width * texel
    # Vector loads want whole cache lines; converting keeps the strides of what fills its memory.
    if is_in_place and texels.data_ptr() % 16 == 0:
        converted = texels.to(dtype)
        if converted.stride() == texels.stride():
            return converted
    return texels.to(dtype, memory_format=torch.contiguous_format).contiguous()


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
    if max(sizes) > _MOST + 1:
        raise ValueError(
            f'backend="gpu" takes features and hidden layers of up to {_MOST}, got {max(sizes)}; '
            'use backend="ref"'
        )


def _check_determinism() -> None:
    if torch.are_deterministic_algorithms_enabled():
        raise RuntimeError(
            'backend="gpu" adds gradients of planes in any order, deterministic algorithms are on'
        )
