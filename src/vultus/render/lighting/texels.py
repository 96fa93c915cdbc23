"""Environment maps as one light per texel, which ``kernels.env_shade`` takes."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from vultus.kernels.env_shade import TexelLights
from vultus.render.lighting.envmap import envmap_directions, envmap_solid_angles

__all__ = ["TexelGrid", "texel_lights"]


@dataclass(frozen=True)
class TexelGrid:
    """What is constant about the texels of maps of one size, on one device.

    Light k is the texel of row k div w and column k mod w, as in words of visibility.
    """

    directions: Float[Tensor, "t 3"]
    """Unit, towards the texel centres, in the map's frame."""
    solid_angles: Float[Tensor, " t"]

    @classmethod
    def build(
        cls,
        height: int,
        width: int,
        dtype: torch.dtype | None = None,
        device: torch.device | str = "cpu",
    ) -> TexelGrid:
        """Lay out the texels in the convention of ``render.lighting.envmap``."""
        directions = envmap_directions(height, width, dtype).flatten(0, 1)
        return cls(
            directions.to(device), envmap_solid_angles(height, width, dtype).flatten().to(device)
        )

    def even_light(self, like: TexelLights) -> TexelLights:
        """Radiance 1 from everywhere, in the frames of other lights of this grid."""
        return TexelLights(like.directions, self.solid_angles[:, None].expand(-1, 3).contiguous())

    def lights(
        self, radiance: Float[Tensor, "3 h w"], light_to_object: Float[Tensor, "b 3 3"]
    ) -> TexelLights:
        """Light frames by one map; differentiable in it, and a CUDA graph may capture it.

        Args:
            radiance: Linear.
            light_to_object: See ``texel_lights``.
        """
        irradiances = radiance.flatten(1) * self.solid_angles
        directions = self.directions @ light_to_object.mT
        return TexelLights(directions.contiguous(), irradiances.T.contiguous())


def texel_lights(
    radiance: Float[Tensor, "3 h w"], light_to_object: Float[Tensor, "b 3 3"]
) -> TexelLights:
    """Turn a map into lights; differentiable in the radiance.

    Args:
        radiance: Linear, in the convention of ``render.lighting.envmap``.
        light_to_object: Rotations from the map's frame into that of each frame's normals; with a
            camera that stands while the head moves, the transposed rotation of
            ``world_to_camera`` times diag(1, -1, -1).
    """
    height, width = radiance.shape[1:]
    grid = TexelGrid.build(height, width, radiance.dtype, radiance.device)
    return grid.lights(radiance, light_to_object)
