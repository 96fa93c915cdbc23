"""What a specular network sees of each shiny surfel, one launch, for training on a GPU.

View directions and normals are turned back to rest, mirrored and answered by spherical-Gaussian
lobes. ``methods.surfhead.shading`` and ``methods.surfhead.specular`` define all of it and serve
every other device; they launch two hundred small kernels a step for it.

Reference: SurFhead (arXiv 2410.11682), specular eyeballs; Xu et al., Anisotropic Spherical
Gaussians, 2013.
"""

from __future__ import annotations

from dataclasses import dataclass

from jaxtyping import Bool, Float, Int
from torch import Tensor

__all__ = ["NUM_VIEW_INPUTS", "BlendedTurns", "lobe_inputs"]

NUM_VIEW_INPUTS = 16
"""Numbers that follow the lobes' answers: cosine, direction (3), its sines (6) and cosines (6)."""


@dataclass(frozen=True)
class BlendedTurns:
    """Rotations of surfels from rest to pose, blended in the logarithm."""

    blend_weights: Float[Tensor, "n 4"]
    """Of a surfel's face and its three neighbours; gradients reach them."""
    rotation_logs: Float[Tensor, "b f 3"]
    """Axis-angle rotation of every face; constants."""
    face_index: Int[Tensor, " n"]
    adjacency: Int[Tensor, "f 4"]
    """Each face, then its neighbours."""
    rigid_surfels: Bool[Tensor, " n"] | None = None
    """Surfels that turn with their own face alone."""


def lobe_inputs(
    numbers: Float[Tensor, "m k"],
    means: Float[Tensor, "b n 3"],
    normals: Float[Tensor, "b n 3"],
    camera_centers: Float[Tensor, "b 3"],
    chosen: Int[Tensor, " m"],
    turns: BlendedTurns | Float[Tensor, "b m 3 3"],
    axes: tuple[Float[Tensor, "t p 3"], Float[Tensor, "t p 3"], Float[Tensor, "t p 3"]],
    *,
    is_isotropic: bool,
) -> Float[Tensor, "b m c"]:
    """Answers of the lobes, then what else the network sees (``NUM_VIEW_INPUTS``).

    Gradients reach ``numbers``, ``means`` and the blend weights.

    Args:
        numbers: Of each chosen surfel, four per lobe: two amplitudes, lambda, mu.
        means: Of all surfels in the world.
        normals: Likewise, any length and either side.
        camera_centers: In the world.
        chosen: Which surfels, each at most once.
        turns: From rest to pose; as matrices, of the chosen surfels, they are constants.
        axes: ``lobe_axes`` of t x p lobes.
        is_isotropic: Lobes answer as ``sg``, else as ``asg``.

    Raises:
        ValueError: If there are not four numbers per lobe.
    """
    from vultus.kernels.specular_lobes import gpu

    num_lobes = axes[0].shape[0] * axes[0].shape[1]
    if numbers.shape[1] != 4 * num_lobes:
        raise ValueError(
            f"numbers must have 4 columns per lobe ({4 * num_lobes}), got {numbers.shape[1]}"
        )
    return gpu.lobe_inputs(
        numbers, means, normals, camera_centers, chosen, turns, axes, is_isotropic
    )
