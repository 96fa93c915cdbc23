"""Small scenes for the backends of the volume renderer, and their comparison with the oracle."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import normalize

from tolerances import assert_close
from vultus.kernels.triplane_volume import (
    DecoderActivation,
    DecoderWeights,
    Representation,
    VolumeDraws,
    VolumeSettings,
    query_points,
    render_planes,
)

__all__ = ["INPUTS", "VARIANTS", "VolumeScene", "check_against_oracle", "make_scene"]

INPUTS = ("planes", "w1", "b1", "w2", "b2", "origins", "directions")
VARIANTS: dict[str, dict[str, Any]] = {
    "spheres": {},
    "spheres, coarse only": {"fine_samples": 0},
    "spheres, sigmoid, noise": {"activation": "sigmoid", "density_noise": 0.5},
    "planes in the box, leaky": {
        "representation": "tri_plane",
        "activation": "lrelu",
        "limits": "box",
        "crop_margin": None,
    },
    "grids, official": {
        "representation": "tri_grid",
        "activation": "sigmoid",
        "grid_depth": 3,
        "is_white_behind": True,
        "is_in_disparity": True,
        "parity": "official",
    },
}
"""Every kind of planes, activation and option at least once."""


@dataclass(frozen=True)
class VolumeScene:
    """Inputs in float64, in the order of ``INPUTS``."""

    settings: VolumeSettings
    activation: DecoderActivation
    leaves: tuple[Tensor, ...]
    draws: VolumeDraws

    def inputs(self, dtype: torch.dtype, device: torch.device | str) -> list[Tensor]:
        """Inputs that ask for gradients."""
        return [x.to(device, dtype).requires_grad_() for x in self.leaves]

    def moved_draws(self, dtype: torch.dtype, device: torch.device | str) -> VolumeDraws:
        numbers = [None if x is None else x.to(device, dtype) for x in self.draws[:4]]
        return VolumeDraws(*numbers, is_sorted=self.draws.is_sorted)  # pyright: ignore[reportArgumentType]

    def render(self, inputs: list[Tensor], **options: Any) -> tuple[Tensor, ...]:
        planes, w1, b1, w2, b2, origins, directions = inputs
        decoder = DecoderWeights(w1, b1, w2, b2, self.activation)
        draws = self.moved_draws(origins.dtype, origins.device)
        return render_planes(planes, decoder, origins, directions, self.settings, draws, **options)

    def query(self, inputs: list[Tensor], **options: Any) -> tuple[Tensor, ...]:
        """Features and densities at the middles of the rays."""
        planes, w1, b1, w2, b2, origins, directions = inputs
        decoder = DecoderWeights(w1, b1, w2, b2, self.activation)
        return query_points(planes, decoder, origins + 2.7 * directions, self.settings, **options)


def make_scene(
    *,
    representation: Representation = "dual_sphere",
    activation: DecoderActivation = "none",
    batch: int = 2,
    rays: int = 20,
    size: int = 8,
    channels: tuple[int, int, int] = (5, 18, 4),
    is_sorted: bool = False,
    **settings: Any,
) -> VolumeScene:
    """Random planes and decoder, rays towards the middle.

    Args:
        representation: Kind of planes.
        activation: Of the decoder.
        batch: Images.
        rays: Per image.
        size: Side of the planes.
        channels: Features, hidden values, decoded features.
        is_sorted: Whether the draws say that they are in order.
        settings: Others; by default 6 coarse and 5 fine samples.
    """
    settings = {"coarse_samples": 6, "fine_samples": 5} | settings
    volume = VolumeSettings(representation=representation, **settings)
    generator = torch.Generator().manual_seed(0)

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    features, hidden, decoded = channels
    planes = (2, 3) if representation == "dual_sphere" else (3,)
    bias = normal(decoded + 1)
    bias[0] += 3.0
    origins = torch.tensor([0.0, 0.0, 2.7], dtype=torch.float64) + 0.1 * normal(batch, rays, 3)
    leaves = (
        normal(batch, *planes, features * volume.grid_depth, size, size),
        0.5 * normal(hidden, features),
        0.3 * normal(hidden),
        0.3 * normal(decoded + 1, hidden),
        bias,
        origins,
        normalize(0.2 * normal(batch, rays, 3) - origins, dim=-1),
    )
    drawn = VolumeDraws.draw((batch, rays), volume, generator)
    if not is_sorted:
        # In reverse, so that a backend which does not sort must fail.
        drawn = drawn._replace(uniforms=drawn.uniforms.flip(-1), is_sorted=False)
    return VolumeScene(volume, activation, leaves, drawn)


def check_against_oracle(
    scene: VolumeScene,
    device: torch.device | str = "cpu",
    *,
    call: str = "render",
    looser: float = 5.0,
    **options: Any,
) -> None:
    """Compare outputs and all gradients with those of ref in float64."""
    reason = "sums over samples, in another order and from half precision where so chosen"
    results = []
    for dtype, place, given in (
        (torch.float64, "cpu", {"backend": "ref"}),
        (torch.float32, device, options),
    ):
        inputs = scene.inputs(dtype, place)
        outputs = getattr(scene, call)(inputs, **given)
        generator = torch.Generator().manual_seed(1)
        loss = torch.zeros((), dtype=dtype, device=place)
        for values in outputs:
            upstream = torch.randn(values.shape, generator=generator, dtype=torch.float64)
            loss = loss + (values * upstream.to(values)).sum()
        results.append((outputs, torch.autograd.grad(loss, inputs)))
    for mine, exact in zip(*((*o, *g) for o, g in reversed(results)), strict=True):
        scale = exact.detach().abs().max().clamp(min=1e-12)
        assert_close(mine.cpu() / scale, exact / scale, looser=looser, reason=reason)
