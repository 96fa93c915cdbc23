"""From posed Gaussians to linear radiance, and from pictures of radiance to display values.

Figures in brackets are sections of our specification.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float, Int32
from torch import Tensor

from vultus.core.srgb import linear_to_srgb
from vultus.data.studio.tone_curve import tone_map
from vultus.kernels.dispatch import are_for_kernels
from vultus.kernels.display_encoding import encode_over_color
from vultus.kernels.env_shade import Backend, Materials, Shading, Shadows, TexelLights, shade
from vultus.methods.relightable_blendshapes.mesh_binding import MeshBinding

__all__ = [
    "Tonemap",
    "Visibility",
    "encode_radiance",
    "put_over_color",
    "put_over_light",
    "shade_gaussians",
    "share_of_light",
    "to_display",
]

Tonemap = Literal["srgb", "studio", "none", "gaussian"]
"""Where radiance becomes display values: in the picture, by the curve of sRGB or by that of the
virtual studio's film; nowhere; or per Gaussian before it is drawn (no bright edges, but light no
longer adds up) [4.9]."""

_BURNT_SLOPE = 0.01
"""Of burnt highlights while training, so that they keep a gradient."""


@dataclass(frozen=True)
class Visibility:
    """Which texels the vertices of the mesh see."""

    words: Int32[Tensor, "b v w"]
    """As ``kernels.env_shade.trace_words`` makes them."""
    strength: Float[Tensor, ""] | None = None
    """0 for no shadows to 1, which ``None`` stands for."""
    coarse: MeshBinding | None = None
    """Where Gaussians look it up, if not where they look normals up."""

    def shadows(self, binding: MeshBinding) -> Shadows:
        """What bound Gaussians see of it."""
        binding = binding if self.coarse is None else self.coarse
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
    normals, views = binding.facing(vertex_normals, means, camera_centers)
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


def put_over_color(
    drawn: Float[Tensor, "b 3 h w"],
    alpha: Float[Tensor, "b 1 h w"],
    color: Float[Tensor, "1 3 1 1"],
    tonemap: Tonemap,
    *,
    keeps_gradients: bool = False,
) -> Float[Tensor, "b 3 h w"]:
    """Encode what was drawn over black, then put it before a colour.

    Pictures of a capture are put over their background in display values, by their masks.

    Args:
        drawn: Radiance, or display values if ``tonemap`` is ``"gaussian"``.
        alpha: How much of the background is hidden.
        color: Display values.
        tonemap: Where radiance becomes display values.
        keeps_gradients: See ``encode_radiance``; without it the result lies in [0, 1].
    """
    if tonemap == "srgb" and are_for_kernels(drawn, alpha, color):
        return encode_over_color(drawn, alpha, color, _BURNT_SLOPE if keeps_gradients else None)
    shown = to_display(drawn, tonemap, keeps_gradients=keeps_gradients) + (1.0 - alpha) * color
    return shown if keeps_gradients or tonemap == "none" else shown.clamp(0.0, 1.0)


def put_over_light(
    drawn: Float[Tensor, "b 3 h w"],
    alpha: Float[Tensor, "b 1 h w"],
    radiance: Float[Tensor, "b 3 h w"],
    tonemap: Tonemap,
) -> Float[Tensor, "b 3 h w"]:
    """Put what was drawn over black before surroundings, whose light passes by; then encode it.

    Args:
        drawn: Radiance, or display values if ``tonemap`` is ``"gaussian"``.
        alpha: How much of the background is hidden.
        radiance: Of the background.
        tonemap: Where radiance becomes display values.
    """
    if tonemap == "gaussian":
        return (drawn + (1.0 - alpha) * encode_radiance(radiance)).clamp(0.0, 1.0)
    return to_display(drawn + (1.0 - alpha) * radiance, tonemap)


def to_display(
    linear: Float[Tensor, "*dims"], tonemap: Tonemap, *, keeps_gradients: bool = False
) -> Float[Tensor, "*dims"]:
    """Encode radiance as the pictures of a capture do.

    ``none`` and ``gaussian`` leave what was drawn as it is.
    """
    if tonemap in ("none", "gaussian"):
        return linear
    if tonemap == "studio":
        return tone_map(linear)
    return encode_radiance(linear, keeps_gradients=keeps_gradients)
