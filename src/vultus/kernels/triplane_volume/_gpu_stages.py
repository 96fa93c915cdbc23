"""What the GPU backend launches: forward in one go, backward in rounds of a few samples."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
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
from vultus.kernels.triplane_volume._gpu_samples import sample_rays, scatter_rays
from vultus.kernels.triplane_volume.calls import RayPlan
from vultus.kernels.triton_runtime import is_interpreted, launch

__all__ = [
    "LN2",
    "MAX_WIDTH",
    "SAMPLE_BLOCK",
    "SCATTER_POINTS_BLOCK",
    "WARPS",
    "Samples",
    "ScaledDecoder",
    "density_gradients",
    "feature_gradients",
    "layout_of",
    "padded_width",
    "readable_texels",
    "sample_all",
    "stored_dtype",
]

_LOG2E, LN2 = 1.4426950408889634, 0.6931471805599453
_LEAST = 16
"""Smallest side of a matrix product."""
MAX_WIDTH = 128
"""Largest width of features or hidden values: beyond, blocks no longer fit into registers."""

# Measured on an H100 with 32 features and 64 hidden values, 65536 rays of 96 samples: programs of
# 16 / 32 / 64 samples take 0.92 / 0.58 / 0.63 ms in sample_rays, of 32 / 64 / 128 samples
# 1.31 / 1.10 / 0.90 ms in decode_backward. The scatter is bound by its atomics (32 / 64: equal);
# with gradients of positions, 16 spare registers: 5.6 ms against 6.0.
SAMPLE_BLOCK, _RAY_BLOCK, _GATHER_BLOCK = 32, 32, 64
_DECODE_BLOCKS = (128, 64)
_SCATTER_BLOCK, SCATTER_POINTS_BLOCK = 32, 16
WARPS = 4
_PARTS = 2
_ROWS_AT_ONCE = 24
"""Samples per ray whose gradients exist at the same time."""


def stored_dtype(plan: RayPlan) -> torch.dtype:
    """Of planes, features and weights."""
    return torch.float16 if plan.is_half else torch.float32


def _gradient_dtype(plan: RayPlan) -> torch.dtype:
    """Of gradients in products: those of mean losses, 1e-8 a sample, vanish in float16.

    Triton's interpreter multiplies no bfloat16.
    """
    return torch.bfloat16 if plan.is_half and not is_interpreted() else torch.float32


def _precision(plan: RayPlan) -> str:
    return "tf32" if plan.is_half else "tf32x3"


def _decode_block(plan: RayPlan) -> int:
    """Samples of a program of ``decode_backward``: more weights and digits, fewer samples."""
    return _DECODE_BLOCKS[bool(plan.activation) or not plan.is_half]


class ScaledDecoder:
    """Weights as the kernels take them: padded, and scaled for hidden values in base 2."""

    def __init__(self, w1: Tensor, b1: Tensor, w2: Tensor, b2: Tensor, plan: RayPlan) -> None:
        hidden, channels = w1.shape
        self.channels, self.hidden, self.decoded = channels, hidden, w2.shape[0] - 1
        self.c, self.k, self.e = (padded_width(n) for n in (channels, hidden, self.decoded))
        self.w1 = _pad_matrix(w1, self.k, self.c)
        self.b1 = pad(b1, (0, self.k - hidden)) * _LOG2E
        self.density = pad(w2[0], (0, self.k - hidden))
        self.density_bias = b2[:1].contiguous()
        self.w2 = _pad_matrix(w2[1:], self.e, self.k)
        self.b2 = pad(b2[1:], (0, self.e - self.decoded))
        self.w1_scaled = (self.w1 * _LOG2E).to(stored_dtype(plan))
        self.w2_scaled = (self.w2 * LN2).to(stored_dtype(plan))


@dataclass(frozen=True)
class Samples:
    """Values of samples, a row each, and of rays."""

    depths: Tensor
    densities: Tensor
    features: Tensor
    shares: Tensor
    gathered: Tensor
    """Shares times hidden values, or times decoded features."""
    depth: Tensor
    opacity: Tensor


def sample_all(
    texels: Tensor,
    origins: Tensor,
    directions: Tensor,
    coarse: Tensor,
    decoder: ScaledDecoder,
    uniforms: Tensor,
    noise: tuple[Tensor | None, Tensor | None],
    plan: RayPlan,
) -> Samples:
    """Run the forward kernels."""
    images, rays_per_image = origins.shape[:2]
    rays, total = images * rays_per_image, plan.coarse + plan.fine
    depths = coarse.new_empty(total, rays)
    depths[: plan.coarse] = coarse
    densities, shares = torch.empty_like(depths), torch.empty_like(depths)
    features = coarse.new_empty(total, rays, decoder.c, dtype=stored_dtype(plan))
    fast = not is_interpreted()
    lanes = (-(-rays // _RAY_BLOCK),)

    def sample(first: int, count: int, drawn: Tensor | None) -> None:
        launch(
            sample_rays, (-(-rays_per_image // SAMPLE_BLOCK), count, images),
            texels, origins, directions, depths, decoder.w1_scaled, decoder.b1,
            decoder.density * LN2, decoder.density_bias, depths if drawn is None else drawn,
            features, densities, rays_per_image, rays, first, plan.scale, plan.crop,
            texels.stride(0), plan.noise,
            **layout_of(texels, plan), CHANNELS=decoder.channels, C=decoder.c, K=decoder.k,
            HAS_NOISE=drawn is not None, PRECISION=_precision(plan), IS_HARDWARE=fast,
            BLOCK=SAMPLE_BLOCK, num_warps=WARPS,
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
        **_sizes(decoder, plan), BLOCK=_GATHER_BLOCK, num_warps=WARPS,
    )  # fmt: skip
    return Samples(depths, densities, features, shares, gathered, depth, opacity)


def density_gradients(
    samples: Samples,
    decoder: ScaledDecoder,
    g_gathered: Tensor,
    g_opacity: Tensor,
    g_depth: Tensor,
    plan: RayPlan,
    has_depths: bool,
) -> tuple[Tensor, Tensor | None]:
    """Gradients of densities, and of coarse depths by the lengths of intervals."""
    total, rays = samples.depths.shape
    g_shares = torch.empty_like(samples.depths)
    g_base_2 = g_gathered if plan.activation else g_gathered * LN2
    launch(
        share_gradients, (-(-rays // _GATHER_BLOCK),), samples.features, samples.shares, g_base_2,
        decoder.w1_scaled, decoder.b1, decoder.w2_scaled, decoder.b2, g_shares, rays, total,
        **_sizes(decoder, plan), BLOCK=_GATHER_BLOCK, num_warps=WARPS,
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


def feature_gradients(
    texels: tuple[Tensor, Tensor],
    rays: tuple[Tensor, Tensor],
    g_rays: list[Tensor],
    samples: Samples,
    decoder: ScaledDecoder,
    g_gathered: Tensor,
    g_densities: Tensor,
    g_depths: Tensor | None,
    plan: RayPlan,
    has_points: bool,
) -> list[Tensor]:
    """Add to the gradients of texels, rays and depths; returns those of the decoder's weights.

    A few rows of samples at a time, so that the gradients of features take little memory.
    """
    total, num_rays = samples.depths.shape
    images, rays_per_image = rays[0].shape[:2]
    rows = min(_ROWS_AT_ONCE, total)
    decode_block = _decode_block(plan)
    blocks = -(-num_rays // decode_block)
    g_features = samples.features.new_empty(rows, num_rays, decoder.c, dtype=_gradient_dtype(plan))
    e = decoder.e if plan.activation else 1
    shapes = (decoder.k, decoder.c), (decoder.k,), (decoder.k,), (e, decoder.k), (e,)
    partial = [g_densities.new_empty(blocks * _PARTS, *shape) for shape in shapes]
    low, g_columns = _gradient_dtype(plan), g_gathered.t().contiguous()
    back = decoder.w1.to(low), decoder.w2.to(low)
    block = SCATTER_POINTS_BLOCK if has_points else _SCATTER_BLOCK
    for first in range(0, total, rows):
        count = min(rows, total - first)
        launch(
            decode_backward, (blocks, _PARTS), samples.features, samples.shares, g_densities,
            g_columns, decoder.w1_scaled, decoder.b1, back[0], decoder.w2_scaled, decoder.b2,
            back[1], decoder.density, g_features, *partial, num_rays, first, count, _PARTS,
            **_sizes(decoder, plan), ADDS=first > 0, BLOCK=decode_block, num_warps=WARPS,
        )  # fmt: skip
        launch(
            scatter_rays, (-(-rays_per_image // block), count, images), *texels, *rays,
            samples.depths, samples.shares, g_densities, g_features, *g_rays,
            g_densities if g_depths is None else g_depths, rays_per_image, num_rays, first,
            plan.coarse, plan.scale, plan.crop, texels[0].stride(0),
            **layout_of(texels[0], plan), CHANNELS=decoder.channels, C=decoder.c,
            HAS_POINTS=has_points, HAS_DEPTHS=g_depths is not None, BLOCK=block,
            num_warps=WARPS,
        )  # fmt: skip
    return [part.sum(dim=0) for part in partial]


def layout_of(texels: Tensor, plan: RayPlan) -> dict[str, int]:
    _, _, layers, size, _, _ = texels.shape
    return {
        "KIND": plan.kind,
        "LAYERS": layers,
        "SIZE": size,
        "TEXEL": texels.stride(-2),
        "PLANE": texels.stride(1),
    }


def _sizes(decoder: ScaledDecoder, plan: RayPlan) -> dict[str, Any]:
    return {
        "C": decoder.c,
        "K": decoder.k,
        "E": decoder.e,
        "ACTIVATION": plan.activation,
        "PRECISION": _precision(plan),
        "IS_HARDWARE": not is_interpreted(),
    }


def padded_width(size: int) -> int:
    return max(_LEAST, 1 << (size - 1).bit_length())


def _pad_matrix(matrix: Tensor, rows: int, columns: int) -> Tensor:
    return pad(matrix, (0, columns - matrix.shape[1], 0, rows - matrix.shape[0])).contiguous()


def readable_texels(texels: Tensor, dtype: torch.dtype) -> Tensor:
    """Texels whose channels are contiguous, and whose rows and layers follow one another."""
    _, _, layers, size, width, _ = texels.shape
    texel = texels.stride(-2)
    is_in_place = texels.stride(-1) == 1 and texels.stride(-3) == width * texel
    is_in_place &= layers == 1 or texels.stride(2) == size * width * texel
    # Gradients get the same strides, which PyTorch keeps for what fills its memory without gaps.
    is_in_place &= torch.empty_like(texels, device="meta").stride() == texels.stride()
    # Vector loads want aligned texels.
    if is_in_place and texels.data_ptr() % 16 == 0:
        return texels.to(dtype)
    return texels.to(dtype, memory_format=torch.contiguous_format).contiguous()
