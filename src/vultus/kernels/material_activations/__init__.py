"""Activated materials of Gaussians in one launch.

``methods.relightable_blendshapes.materials`` defines them and serves every other device, with eight
launches forward and more backward.
"""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

__all__ = ["activate_materials"]


def activate_materials(
    albedo: Float[Tensor, "b n 3"],
    roughness: Float[Tensor, "b n 1"],
    specular: Float[Tensor, "b n 1"],
    min_roughness: float,
) -> tuple[Float[Tensor, "b n 3"], Float[Tensor, "b n"], Float[Tensor, "b n 3"]]:
    """Squash stored numbers: albedo, roughness from its minimum to 1, and specular for all colours.

    Raises:
        TypeError: If they are not float32 on one GPU.
    """
    # Triton must not be needed where there is no GPU.
    from vultus.kernels.material_activations import gpu

    return gpu.activate_materials(albedo, roughness, specular, min_roughness)
