"""CPU backend in Numba: float32, all threads, the same results for any number of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable

from vultus.core.simd import run_chunks
from vultus.kernels._cpu_arrays import Array, array_of
from vultus.kernels.env_shade._cpu_texels import (
    CHUNK,
    WORD_BITS,
    shade_chunks,
    shade_chunks_backward,
)
from vultus.kernels.env_shade._types import Materials, Shading, Shadows, TexelLights

__all__ = ["shade"]


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
        "roughness": materials.roughness,
        "irradiances": lights.irradiances,
    }
    others = {
        "albedo": materials.albedo,
        "specular": materials.specular,
        "directions": lights.directions,
    }
    if shadows is not None:
        others |= {"weights": shadows.weights}
    for name, tensor in {**trained, **others}.items():
        if tensor.dtype != torch.float32 or tensor.device.type != "cpu":
            got = f"{tensor.dtype} on {tensor.device}"
            raise TypeError(f'{name} must be float32 on the CPU for backend="cpu", got {got}')
    scene = _Scene.of(lights.directions, shadows, has_specular, has_back_faces)
    diffuse, specular = _Shade.apply(scene, *trained.values())  # pyright: ignore[reportGeneralTypeIssues]
    color = materials.albedo * diffuse
    if has_specular:
        color = color + materials.specular * specular
    return Shading(color, diffuse, specular)


@dataclass(frozen=True)
class _Scene:
    """What has no gradient, as arrays."""

    directions: Array
    """[b, t, 3]."""
    words: Array
    """[b, v, 4 w]: their bytes, the lowest first."""
    probes: Array
    """[n, 3]; [0, 3] for no shadows."""
    weights: Array
    strength: np.float32
    has_specular: bool
    has_back_faces: bool

    @classmethod
    def of(
        cls,
        directions: Tensor,
        shadows: Shadows | None,
        has_specular: bool,
        has_back_faces: bool,
    ) -> _Scene:
        batch = len(directions)
        if shadows is None:
            words, probes = np.zeros((batch, 0, 0), np.uint8), np.zeros((0, 3), np.int64)
            weights, strength = np.zeros((0, 3), np.float32), 1.0
        else:
            words = array_of(shadows.words, ()).astype("<i4", copy=False).view(np.uint8)
            probes, weights = array_of(shadows.probes.long(), ()), array_of(shadows.weights, ())
            strength = 1.0 if shadows.strength is None else float(shadows.strength)
        return cls(
            array_of(directions, ()), words, probes, weights, np.float32(strength),
            has_specular, has_back_faces,
        )  # fmt: skip

    def frame(self, frame: int, irradiances: Array) -> tuple[Any, ...]:
        """The first arguments of both kernels."""
        num = len(irradiances)
        table = np.zeros((6, -(-num // WORD_BITS) * WORD_BITS), np.float32)
        table[:3, :num], table[3:, :num] = self.directions[frame].T, irradiances.T
        return table, self.words[frame], self.probes, self.weights, self.strength


class _Shade(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, scene: _Scene, *trained: Tensor) -> tuple[Tensor, Tensor]:
        trained = tuple(x.detach().contiguous() for x in trained)
        normals, views, roughness, irradiances = (x.numpy() for x in trained)
        diffuse, specular = torch.empty_like(trained[0]), torch.empty_like(trained[0])
        results = diffuse.numpy(), specular.numpy()
        for k in range(len(normals)):
            run_chunks(
                torch.get_num_threads(), shade_chunks, normals.shape[1],
                *scene.frame(k, irradiances), normals[k], views[k], roughness[k],
                scene.has_specular, scene.has_back_faces, *(x[k] for x in results),
            )  # fmt: skip
        ctx.scene = scene
        ctx.save_for_backward(*trained)
        return diffuse, specular

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:
        scene: _Scene = ctx.scene
        trained = ctx.saved_tensors
        normals, views, roughness, irradiances = (x.numpy() for x in trained)
        upstream = [x.contiguous().numpy() for x in grad_outputs]
        grads = [torch.empty_like(x) for x in trained]
        results = [x.numpy() for x in grads[:3]]
        num_chunks = -(-normals.shape[1] // CHUNK)
        total = np.zeros(irradiances.T.shape, np.float64)
        for k in range(len(normals)):
            frame = scene.frame(k, irradiances)
            parts = np.empty((num_chunks, 3, frame[0].shape[1]), np.float32)
            run_chunks(
                torch.get_num_threads(), shade_chunks_backward, num_chunks, *frame,
                normals[k], views[k], roughness[k], scene.has_specular, scene.has_back_faces,
                *(x[k] for x in (*upstream, *results)), parts,
            )  # fmt: skip
            total += parts[:, :, : len(irradiances)].sum(axis=0, dtype=np.float64)
        grads[3].copy_(torch.from_numpy(total.T))
        return None, *grads
