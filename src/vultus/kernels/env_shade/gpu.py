"""GPU backend in Triton: launches of the kernels, tied into autograd. Nothing waits for the GPU."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable

from vultus.kernels.env_shade._gpu_texels import WORD_BITS, shade_texels
from vultus.kernels.env_shade._gpu_texels_backward import shade_texels_backward
from vultus.kernels.env_shade._types import Materials, Shading, Shadows, TexelLights
from vultus.kernels.triton_calls import check_tensors, contiguous, or_other
from vultus.kernels.triton_runtime import is_interpreted, launch

__all__ = ["shade"]

_LANES = 64
"""Two Gaussians a thread share what is loaded of a texel; more would leave processors idle."""
_MAX_PROGRAMS = 2048
"""Maps that gradients of irradiances are summed in: 12 MiB for 512 texels."""


def shade(
    normals: Float[Tensor, "b n 3"],
    view_directions: Float[Tensor, "b n 3"],
    materials: Materials,
    lights: TexelLights,
    shadows: Shadows | None,
    has_specular: bool,
    has_back_faces: bool,
) -> Shading:
    """See ``vultus.kernels.env_shade.shade``."""
    trained = {
        "normals": normals,
        "view_directions": view_directions,
        "albedo": materials.albedo,
        "roughness": materials.roughness,
        "specular": materials.specular,
        "irradiances": lights.irradiances,
    }
    scene = _Scene.of(lights, shadows, has_specular, has_back_faces)
    others = {
        "directions": lights.directions,
        "weights": scene.weights,
        "strength": scene.strength,
    }
    check_tensors({**trained, **others}, normals.device)
    return Shading(*_Shade.apply(scene, *trained.values()))  # pyright: ignore[reportGeneralTypeIssues]


@dataclass(frozen=True)
class _Scene:
    """What has no gradient."""

    directions: Tensor
    words: Tensor | None
    probes: Tensor | None
    weights: Tensor | None
    strength: Tensor | None
    has_specular: bool
    has_back_faces: bool

    @classmethod
    def of(
        cls,
        lights: TexelLights,
        shadows: Shadows | None,
        has_specular: bool,
        has_back_faces: bool,
    ) -> _Scene:
        words = probes = weights = strength = None
        if shadows is not None:
            parts = (shadows.words, shadows.probes, shadows.weights.detach(), shadows.strength)
            words, probes, weights, strength = contiguous(parts)
        directions = lights.directions.detach().contiguous()
        return cls(directions, words, probes, weights, strength, has_specular, has_back_faces)

    def constants(self) -> tuple[Tensor, ...]:
        """Tensors in the order of the kernels."""
        shadows = (self.words, self.probes, self.weights, self.strength)
        return or_other(shadows, self.directions)

    def sizes(self, num: int) -> tuple[int, int, int, int]:
        """Gaussians, texels, probes, words."""
        num_lights = self.directions.shape[1]
        num_probes = 0 if self.words is None else self.words.shape[1]
        return num, num_lights, num_probes, -(-num_lights // WORD_BITS)

    def flags(self) -> dict[str, int]:
        """Compile-time constants."""
        return {
            "HAS_SHADOWS": self.words is not None,
            "HAS_STRENGTH": self.strength is not None,
            "HAS_SPECULAR": self.has_specular,
            "HAS_BACK_FACES": self.has_back_faces,
            "IS_FAST": not is_interpreted(),
            "LANES": _LANES,
        }


class _Shade(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, scene: _Scene, *trained: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        trained = contiguous(trained)
        *gaussians, irradiances = trained
        batch, num = gaussians[0].shape[:2]
        color, diffuse, specular = (torch.empty_like(gaussians[0]) for _ in range(3))
        launch(
            shade_texels, (-(-num // _LANES), batch), *gaussians, scene.directions, irradiances,
            *scene.constants(), color, diffuse, specular, *scene.sizes(num), **scene.flags(),
        )  # fmt: skip
        ctx.scene = scene
        ctx.save_for_backward(*trained, diffuse, specular)
        return color, diffuse, specular

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:
        scene: _Scene = ctx.scene
        *gaussians, irradiances, diffuse, specular = ctx.saved_tensors
        batch, num = gaussians[0].shape[:2]
        has_light_gradient = ctx.needs_input_grad[-1]
        programs = _num_programs(-(-num // _LANES), batch)
        grads = [torch.empty_like(x) for x in gaussians]
        partials = irradiances
        if has_light_gradient:
            partials = irradiances.new_empty(batch * programs, *irradiances.shape)
        launch(
            shade_texels_backward, (programs, batch), *gaussians, scene.directions, irradiances,
            *scene.constants(), diffuse, specular, *contiguous(grad_outputs), *grads, partials,
            *scene.sizes(num), **scene.flags(), HAS_LIGHT_GRADIENT=has_light_gradient,
        )  # fmt: skip
        return None, *grads, partials.sum(dim=0) if has_light_gradient else None


def _num_programs(blocks: int, batch: int) -> int:
    """Programs that share the blocks of a frame evenly."""
    rounds = -(-blocks * batch // _MAX_PROGRAMS)
    return -(-blocks // max(1, rounds))
