"""Random Gaussians under random texels, for tests of shading."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn.functional import normalize

from vultus.kernels.env_shade import Backend, Materials, Shading, Shadows, TexelLights, shade
from vultus.kernels.ray_mesh import pack_visibility

__all__ = ["TRAINED", "ShadeScene", "make_scene"]

TRAINED = ("normals", "views", "albedo", "roughness", "specular", "irradiances")


@dataclass(frozen=True)
class ShadeScene:
    """Float64 inputs of a call."""

    normals: Tensor
    views: Tensor
    albedo: Tensor
    roughness: Tensor
    specular: Tensor
    irradiances: Tensor
    directions: Tensor
    visible: Tensor
    """Flags, b v t."""
    probes: Tensor
    weights: Tensor
    has_shadows: bool = True
    strength: float | None = None

    def to(self, like: Tensor) -> ShadeScene:
        """With dtype and device of a tensor; what is trained becomes leaves."""
        tensors = {k: v for k, v in vars(self).items() if isinstance(v, Tensor)}
        moved = {
            k: v.detach().clone().to(like) if v.is_floating_point() else v.to(like.device)
            for k, v in tensors.items()
        }
        for name in TRAINED:
            moved[name].requires_grad_()
        return replace(self, **moved)

    def shade(self, backend: Backend, **options: bool) -> Shading:
        """Call the function under test."""
        shadows = None
        if self.has_shadows:
            words = torch.stack([pack_visibility(flags) for flags in self.visible])
            strength = None if self.strength is None else self.normals.new_tensor(self.strength)
            shadows = Shadows(words, self.probes, self.weights, strength)
        return shade(
            self.normals, self.views, Materials(self.albedo, self.roughness, self.specular),
            TexelLights(self.directions, self.irradiances), shadows, backend=backend, **options,
        )  # fmt: skip

    def gradients(self, shading: Shading) -> dict[str, Tensor]:
        """Of a random weighting of all outputs."""
        generator = torch.Generator().manual_seed(99)
        loss = torch.zeros((), dtype=self.normals.dtype, device=self.normals.device)
        for output in (shading.color, shading.diffuse, shading.specular):
            weights = torch.randn(output.shape, generator=generator, dtype=torch.float64)
            loss = loss + (output * weights.to(output)).sum()
        leaves = [getattr(self, name) for name in TRAINED]
        grads = torch.autograd.grad(loss, leaves, allow_unused=True)
        return {
            name: torch.zeros_like(leaf) if grad is None else grad
            for name, leaf, grad in zip(TRAINED, leaves, grads, strict=True)
        }


def make_scene(num: int = 70, texels: int = 45, frames: int = 2, probes: int = 12) -> ShadeScene:
    """Half of the Gaussians face away, and a third of the texels is hidden."""
    generator = torch.Generator().manual_seed(num + 1000 * texels)

    def uniform(*shape: int) -> Tensor:
        return torch.rand(shape, generator=generator, dtype=torch.float64)

    def unit(*shape: int) -> Tensor:
        return normalize(torch.randn(*shape, 3, generator=generator, dtype=torch.float64), dim=-1)

    return ShadeScene(
        # As float32 represents them, so that all backends see the same numbers.
        normals=unit(frames, num).float().double(),
        views=unit(frames, num).float().double(),
        albedo=uniform(frames, num, 3).float().double(),
        roughness=(0.3 + 0.7 * uniform(frames, num)).float().double(),
        specular=uniform(frames, num, 3).float().double(),
        irradiances=uniform(texels, 3).float().double(),
        directions=unit(frames, texels).float().double(),
        visible=(uniform(frames, probes, texels) > 1 / 3).to(torch.uint8),
        probes=torch.randint(0, probes, (num, 3), generator=generator),
        weights=uniform(num, 3).softmax(dim=1).float().double(),
    )
