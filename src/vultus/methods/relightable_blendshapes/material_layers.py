"""Maps of what avatars are made of, and of what light does to them: a value per Gaussian."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Literal, get_args

from jaxtyping import Float
from torch import Tensor

from vultus.kernels.env_shade import Materials, Shading

__all__ = ["LAYERS", "LayerName", "make_layers"]

LayerName = Literal[
    "albedo", "roughness", "specular", "normals", "visibility", "diffuse", "highlights"
]
"""Materials, the mesh's normals in the world, the share of even light that arrives, and radiance by
what light did: that of a white matte surface, and that of the lobe."""
LAYERS: tuple[LayerName, ...] = get_args(LayerName)


def make_layers(
    names: Collection[LayerName],
    materials: Materials,
    shading: Shading,
    normals: Float[Tensor, "b n 3"],
    share_of_light: Callable[[], Float[Tensor, "b n 1"]],
) -> dict[str, Float[Tensor, "b n c"]]:
    """Find the layers that are asked for.

    Args:
        names: Which ones.
        materials: Activated.
        shading: In the light that is shown.
        normals: Unit, in the world.
        share_of_light: Finds what arrives of even light.
    """
    made = {
        "albedo": lambda: materials.albedo,
        "roughness": lambda: materials.roughness[..., None],
        "specular": lambda: materials.specular[..., :1],
        "normals": lambda: normals,
        "visibility": share_of_light,
        "diffuse": lambda: shading.diffuse,
        "highlights": lambda: materials.specular * shading.specular,
    }
    return {name: made[name]() for name in names}
