"""What goes into and comes out of shading, whichever backend runs."""

from __future__ import annotations

from dataclasses import dataclass

from jaxtyping import Float, Int, Int32
from torch import Tensor

from vultus.geometry.mesh_sampling import SurfacePoints

__all__ = ["Materials", "Shading", "Shadows", "TexelLights"]


@dataclass(frozen=True)
class Materials:
    """How Gaussians reflect light; activated values in [0, 1]."""

    albedo: Float[Tensor, "b n 3"]
    roughness: Float[Tensor, "b n"]
    """Perceptual: its fourth power is the squared width of the lobe. At 0 nothing shines."""
    specular: Float[Tensor, "b n 3"]
    """Scales the lobe; its reflectance at normal incidence is 0.04 throughout."""


@dataclass(frozen=True)
class TexelLights:
    """An environment map as one light at infinity per texel."""

    directions: Float[Tensor, "b t 3"]
    """Unit, towards the light, in the frame of the normals; constants."""
    irradiances: Float[Tensor, "t 3"]
    """Linear radiance times solid angle."""


@dataclass(frozen=True)
class Shadows:
    """Which lights probes on the surface see, and how Gaussians mix what their probes see."""

    words: Int32[Tensor, "b v w"]
    """Of each probe, as ``ray_mesh.pack_visibility`` packs them: light k is bit k mod 32."""
    probes: Int[Tensor, "n 3"]
    """Rows of ``words``: the corners of the nearest triangle. On a GPU they are trusted."""
    weights: Float[Tensor, "n 3"]
    """Barycentric coordinates; constants."""
    strength: Float[Tensor, ""] | None = None
    """0 for no shadows to 1, which ``None`` stands for; a tensor, so that CUDA graphs can ramp."""

    @classmethod
    def at(
        cls,
        surface: SurfacePoints,
        faces: Int[Tensor, "f 3"],
        words: Int32[Tensor, "b v w"],
        strength: Float[Tensor, ""] | None = None,
    ) -> Shadows:
        """What Gaussians see that are bound to points of a mesh whose vertices are the probes."""
        return cls(words, faces[surface.face_index], surface.barycentrics.detach(), strength)


@dataclass(frozen=True)
class Shading:
    """Linear radiance that leaves Gaussians towards the camera."""

    color: Float[Tensor, "b n 3"]
    """albedo * diffuse + materials.specular * specular."""
    diffuse: Float[Tensor, "b n 3"]
    """Of a white surface without a lobe."""
    specular: Float[Tensor, "b n 3"]
    """Of the lobe alone, not scaled."""
