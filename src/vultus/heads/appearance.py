"""What a head's surface looks like, for renderers that need ground truth."""

from __future__ import annotations

from dataclasses import dataclass

from jaxtyping import Bool, Float, Int
from torch import Tensor

__all__ = ["HeadAppearance"]


@dataclass(frozen=True)
class HeadAppearance:
    """Textures of one subject with the texture coordinates they are painted for.

    Row 0 of a texture is v = 1. The texture coordinates may differ from the topology's.
    """

    uv: Float[Tensor, "t 2"]
    uv_faces: Int[Tensor, "f 3"]
    albedo: Float[Tensor, "h w 3"]
    """Linear, in [0, 1]."""
    roughness: Float[Tensor, "h w"]
    """Perceptual roughness in [0, 1]; GGX alpha is its square."""
    specular: Float[Tensor, "h w"]
    """Reflectance at normal incidence is 0.08 times this."""
    scatter: Float[Tensor, "h w"]
    """Strength of the wrapped diffuse term in [0, 1]."""
    normal_map: Float[Tensor, "h w 3"]
    """Tangent space, encoded as 0.5 + 0.5 n."""
    eyeball_faces: Bool[Tensor, " f"]
    """Faces with one sharp reflection of the environment."""
    face_labels: Int[Tensor, " f"]
    """Index into ``label_names``."""
    label_names: tuple[str, ...]
