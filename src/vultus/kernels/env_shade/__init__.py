"""Shading of Gaussians by all texels of an environment map, with packed visibility.

Every texel lights every Gaussian as a light at infinity: nothing is sampled. With unit normal n,
view v (towards the camera), light l and half vector h between the latter two, roughness r:

- diffuse: (n.l)+ / pi;
- specular: F G D / 4 with F = 0.04 + 0.96 (1 - clamp(l.h, 0, 1))^5, D = a / (pi t^2), a = r^4,
  t = (n.h)^2 (a - 1) + 1, k = (r + 1)^2 / 8, and, x+ being max(x, 0),
  G = (n.l)+ / (((n.l)+ (1 - k) + k) ((n.v)+ (1 - k) + k)): Smith's term in Schlick's form times the
  cosine, over the product of cosines that a microfacet model divides by.

Backends: ``"ref"`` is plain PyTorch in the dtype of its inputs and holds all pairs of Gaussians and
texels at once; ``"cpu"`` and ``"gpu"`` are float32 with analytic gradients and hold none of them.
Normals and views are free vectors: nothing is normalised, and gradients have a radial part.
"""

from __future__ import annotations

from typing import Literal, get_args

import torch
from jaxtyping import Float, Int, Int32
from torch import Tensor

from vultus.kernels.env_shade import ref
from vultus.kernels.env_shade._types import Materials, Shading, Shadows, TexelLights
from vultus.kernels.ray_mesh import Bvh, visibility_words

__all__ = [
    "PROBE_BIAS",
    "Backend",
    "Materials",
    "Shading",
    "Shadows",
    "TexelLights",
    "shade",
    "trace_words",
]

Backend = Literal["auto", "ref", "cpu", "gpu"]

PROBE_BIAS = 1e-5
"""Metres along the normal from which rays of probes start, as in torchoptixext_visibility."""
_WORD_BITS = 32


def shade(
    normals: Float[Tensor, "b n 3"],
    view_directions: Float[Tensor, "b n 3"],
    materials: Materials,
    lights: TexelLights,
    shadows: Shadows | None = None,
    *,
    has_specular: bool = True,
    has_back_faces: bool = True,
    backend: Backend = "auto",
) -> Shading:
    """Light Gaussians by all texels; deterministic on all devices.

    Differentiable once by normals, view directions, materials and irradiances, and twice by the
    reference. Memory of the fast backends is that of their inputs and a bounded number of maps.

    Args:
        normals: Unit.
        view_directions: Unit, towards the camera.
        materials: Of the Gaussians.
        lights: Texels of the map, rotated into the frame of the normals.
        shadows: What hides texels; ``None`` for nothing.
        has_specular: Without it ``specular`` is 0.
        has_back_faces: ``False`` leaves Gaussians black whose normals do not face the camera.
        backend: ``"auto"``: ``"cpu"`` or ``"gpu"`` for float32 normals, ``"ref"`` for all others.

    Raises:
        ValueError: If shapes do not fit each other, words do not hold one bit per texel, a probe
            on the CPU does not exist, or the backend does not exist.
        TypeError: If a backend other than ``"ref"`` gets tensors that are not float32 on its
            device.

    Reference: zjumsj/diff_envshade, of Ma et al., Relightable Gaussian Blendshapes.
    """
    _check_shapes(normals, view_directions, materials, lights)
    if shadows is not None:
        _check_shadows(normals, lights, shadows)
    chosen = _choose(backend, normals)
    inputs = (normals, view_directions, materials, lights, shadows)
    # Imported late: Numba takes half a second, and Triton exists on Linux only.
    if chosen == "gpu":
        from vultus.kernels.env_shade import gpu

        return gpu.shade(*inputs, has_specular, has_back_faces)
    if chosen == "cpu":
        from vultus.kernels.env_shade import cpu

        return cpu.shade(*inputs, has_specular, has_back_faces)
    return ref.shade(*inputs, has_specular, has_back_faces)


def trace_words(
    bvh: Bvh,
    points: Float[Tensor, "v 3"],
    normals: Float[Tensor, "v 3"] | None,
    directions: Float[Tensor, "t 3"],
    *,
    rows: Int[Tensor, " m"] | None = None,
    bias: float = PROBE_BIAS,
    check_values: bool = True,
    backend: Backend = "auto",
) -> Int32[Tensor, "v w"]:
    """Trace which texels probes see, as words of ``Shadows``.

    Arguments and errors are those of ``ray_mesh.visibility_words``, which explains them.

    Args:
        bvh: The posed mesh.
        points: The probes: its vertices, and others that hide nothing.
        normals: Texels below their horizon are hidden without a ray; ``None`` for no horizon.
        directions: Towards the texels, rotated into the frame of the mesh.
        rows: Probes that are looked at; ``None`` for all.
        bias: Where rays start, along the normal.
        check_values: ``False`` where all is known to be finite; nothing then waits for a GPU.
        backend: ``"auto"`` follows the device of ``points``.
    """
    return visibility_words(
        bvh, points, normals, directions, bias,
        rows=rows, check_values=check_values, backend=backend,
    )  # fmt: skip


def _choose(backend: Backend, normals: Tensor) -> Backend:
    if backend not in get_args(Backend):
        raise ValueError(f"backend must be of {', '.join(get_args(Backend))}, got {backend!r}")
    if backend != "auto":
        return backend
    if normals.dtype != torch.float32:
        return "ref"
    return "cpu" if normals.device.type == "cpu" else "gpu"


def _check_shapes(
    normals: Tensor, view_directions: Tensor, materials: Materials, lights: TexelLights
) -> None:
    batch, num = normals.shape[:2]
    expected = {
        "view_directions": (view_directions, (batch, num, 3)),
        "albedo": (materials.albedo, (batch, num, 3)),
        "roughness": (materials.roughness, (batch, num)),
        "specular": (materials.specular, (batch, num, 3)),
        "directions": (lights.directions, (batch, lights.irradiances.shape[0], 3)),
    }
    for name, (tensor, shape) in expected.items():
        if tuple(tensor.shape) != shape:
            raise ValueError(f"{name} must have shape {shape}, got {tuple(tensor.shape)}")


def _check_shadows(normals: Tensor, lights: TexelLights, shadows: Shadows) -> None:
    batch, num = normals.shape[:2]
    num_words = -(-lights.irradiances.shape[0] // _WORD_BITS)
    expected = {
        "words": (shadows.words, (batch, shadows.words.shape[1], num_words)),
        "probes": (shadows.probes, (num, 3)),
        "weights": (shadows.weights, (num, 3)),
    }
    for name, (tensor, shape) in expected.items():
        if tuple(tensor.shape) != shape:
            raise ValueError(f"{name} must have shape {shape}, got {tuple(tensor.shape)}")
    if shadows.probes.device.type != "cpu" or not num:
        return
    low, high = (int(x) for x in shadows.probes.aminmax())
    if low < 0 or high >= shadows.words.shape[1]:
        raise ValueError(
            f"probes must be rows of words, 0 to {shadows.words.shape[1] - 1}, got {low} to {high}"
        )
