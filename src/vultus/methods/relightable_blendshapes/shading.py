"""From posed Gaussians to linear radiance, and from pictures of radiance to display values.

Figures in brackets are sections of our specification.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float, Int32
from torch import Tensor
from torch.nn.functional import normalize

from vultus.core.srgb import linear_to_srgb
from vultus.kernels.env_shade import Backend, Materials, Shading, Shadows, TexelLights, shade
from vultus.methods.relightable_blendshapes.mesh_binding import MeshBinding

__all__ = [
    "Tonemap",
    "Visibility",
    "compose_image",
    "encode_radiance",
    "shade_gaussians",
    "share_of_light",
]

Tonemap = Literal["srgb", "none", "gaussian"]
"""Where radiance becomes display values: in the picture, nowhere, or per Gaussian before it is
drawn (no bright edges, but light no longer adds up) [4.9]."""

_BURNT_SLOPE = 0.01
"""Of burnt highlights while training, so that they keep a gradient."""


@dataclass(frozen=True)
class Visibility:
    """Which texels the vertices of the mesh see."""

    words: Int32[Tensor, "b v w"]
    """As ``kernels.env_shade.trace_words`` makes them."""
    strength: Float[Tensor, ""] | None = None
    """0 for no shadows to 1, which ``None`` stands for."""

    def shadows(self, binding: MeshBinding) -> Shadows:
        """What bound Gaussians see of it."""
        weights = binding.barycentrics.detach()
        return Shadows(self.words, binding.corners, weights, self.strength)


def shade_gaussians(
    means: Float[Tensor, "b n 3"],
    camera_centers: Float[Tensor, "b 3"],
    binding: MeshBinding,
    vertex_normals: Float[Tensor, "b v 3"],
    materials: Materials,
    lights: TexelLights,
    visibility: Visibility | None = None,
    *,
    has_specular: bool = True,
    backend: Backend = "auto",
) -> tuple[Shading, Float[Tensor, "b n 3"]]:
    """Light Gaussians where the mesh says that they face; nothing waits for a GPU [4.10, 5-7].

    Args:
        means: Posed centres, in the frame of the lights' directions.
        camera_centers: In the same frame.
        binding: Where on the mesh normals and visibility are looked up.
        vertex_normals: Unit, of the posed mesh.
        materials: Blended and activated.
        lights: Of the map, turned for each frame.
        visibility: ``None`` for light that passes through everything.
        has_specular: Whether the lobe is there yet.
        backend: Of the shader.

    Returns:
        Linear radiance, and the normals that it was made with.
    """
    normals = binding.normals(vertex_normals)
    views = normalize(camera_centers[:, None] - means, dim=-1)
    shadows = None if visibility is None else visibility.shadows(binding)
    shading = shade(
        normals, views, materials, lights, shadows, has_specular=has_specular, backend=backend
    )
    return shading, normals


def share_of_light(
    normals: Float[Tensor, "b n 3"], even: TexelLights, shadows: Shadows | None
) -> Float[Tensor, "b n 1"]:
    """Share of even light that arrives at Gaussians: what occluders leave of it.

    Args:
        normals: Unit.
        even: Radiance 1 from everywhere.
        shadows: What Gaussians see of it.
    """
    white = Materials(torch.ones_like(normals), torch.ones_like(normals[..., 0]), normals)
    return shade(normals, normals, white, even, shadows, has_specular=False).diffuse[..., :1]


def encode_radiance(
    linear: Float[Tensor, "*dims"], *, keeps_gradients: bool = False
) -> Float[Tensor, "*dims"]:
    """Encode radiance for display in [0, 1].

    Args:
        linear: Not negative.
        keeps_gradients: Above 1 go on with slope 0.01 instead of cutting off.
    """
    bounded = linear.clamp(max=1.0)
    if keeps_gradients:
        bounded = bounded + _BURNT_SLOPE * (linear - 1.0).clamp(min=0.0)
    return linear_to_srgb(bounded)


def compose_image(
    drawn: Float[Tensor, "b 3 h w"],
    alpha: Float[Tensor, "b 1 h w"],
    background: Float[Tensor, "b 3 h w"] | Float[Tensor, "1 3 1 1"],
    tonemap: Tonemap,
    *,
    keeps_gradients: bool = False,
) -> Float[Tensor, "b 3 h w"]:
    """Put what was drawn over black in front of a background, and encode it.

    Args:
        drawn: Radiance, or display values if ``tonemap`` is ``"gaussian"``.
        alpha: How much of the background is hidden.
        background: In the unit of ``drawn``: linear unless ``tonemap`` is ``"gaussian"``.
        tonemap: Where radiance becomes display values.
        keeps_gradients: See ``encode_radiance``.
    """
    composed = drawn + (1.0 - alpha) * background
    if tonemap == "srgb":
        return encode_radiance(composed, keeps_gradients=keeps_gradients)
    return composed if keeps_gradients or tonemap == "none" else torch.clamp(composed, 0.0, 1.0)
