"""From the rendered feature image to the final one."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from vultus.kernels.dispatch import are_for_kernels
from vultus.methods.spherehead.config import SuperResolutionPlan
from vultus.nets.stylegan2.fast_synthesis import FastSynthesis
from vultus.nets.stylegan2.filters import resize_antialiased
from vultus.nets.stylegan2.synthesis import NoiseMode, SynthesisBlock

__all__ = ["SuperResolution"]

_IMAGE_CHANNELS = 3


class SuperResolution(nn.Module):
    """Two synthesis blocks that start from features and a raw image."""

    def __init__(
        self, plan: SuperResolutionPlan, channels: int, w_dim: int, *, clamp: float | None = None
    ) -> None:
        """Build the blocks of a variant for ``channels`` features."""
        super().__init__()
        self.plan = plan
        is_doubling = plan.output_size == 4 * plan.input_size
        first, second = plan.channels
        self.block0 = SynthesisBlock(
            channels,
            first,
            w_dim,
            plan.output_size // 2,
            _IMAGE_CHANNELS,
            is_doubling=is_doubling,
            clamp=clamp,
        )
        self.block1 = SynthesisBlock(
            first, second, w_dim, plan.output_size, _IMAGE_CHANNELS, clamp=clamp
        )
        self._fast = FastSynthesis([self.block0, self.block1])

    def keep_derived(self) -> None:
        """See ``FastSynthesis.keep_derived``."""
        self._fast.keep_derived()

    def forward(
        self,
        raw: Float[Tensor, "b 3 n n"],
        features: Float[Tensor, "b d n n"],
        w: Float[Tensor, "b w"],
        noise_mode: NoiseMode = "none",
        generator: torch.Generator | None = None,
        dtype: torch.dtype = torch.float32,
    ) -> Float[Tensor, "b 3 _ _"]:
        """Enlarge a raw image.

        Args:
            raw: The image so far.
            features: Of its pixels.
            w: The last style of the backbone; all layers use it.
            noise_mode: Noise of the layers.
            generator: For random noise.
            dtype: Of features between the layers, on a GPU.
        """
        size = self.plan.input_size
        if raw.shape[-1] < size or not self.plan.keeps_larger_input:
            raw, features = resize_antialiased(raw, size), resize_antialiased(features, size)
        ws = w[:, None].expand(-1, 3, -1)
        if are_for_kernels(raw, features, w):
            options = {"noise_mode": noise_mode, "generator": generator, "dtype": dtype}
            return self._fast([ws, ws], features, raw, **options).to(raw.dtype)
        x, image = self.block0(features, raw, ws, noise_mode, generator)
        return self.block1(x, image, ws, noise_mode, generator)[1]
