"""Environment maps as one light per texel, which ``kernels.env_shade`` takes."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from vultus.kernels.env_shade import TexelLights
from vultus.render.lighting.envmap import envmap_directions, envmap_solid_angles

__all__ = ["texel_lights"]


def texel_lights(
    radiance: Float[Tensor, "3 h w"], light_to_object: Float[Tensor, "b 3 3"]
) -> TexelLights:
    """Turn a map into lights; differentiable in the radiance.

    Light k is the texel of row k div w and column k mod w, as in words of visibility.

    Args:
        radiance: Linear, in the convention of ``render.lighting.envmap``.
        light_to_object: Rotations from the map's frame into that of each frame's normals; with a
            camera that stands while the head moves, the transposed rotation of
            ``world_to_camera`` times diag(1, -1, -1).
    """
    height, width = radiance.shape[1:]
    directions = envmap_directions(height, width, light_to_object.dtype)
    directions = directions.flatten(0, 1).to(light_to_object.device)
    angles = envmap_solid_angles(height, width, radiance.dtype).to(radiance.device)
    return TexelLights(
        (directions @ light_to_object.mT).contiguous(),
        (radiance * angles).flatten(1).T.contiguous(),
    )
