"""Pictures of radiance encoded by the curve of sRGB and put before a colour, in one launch.

Does what ``methods.relightable_blendshapes.shading.put_over_color`` does, which defines it and
serves every other device and curve, with a dozen passes over the picture.
"""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

__all__ = ["encode_over_color"]


def encode_over_color(
    radiance: Float[Tensor, "b 3 h w"],
    alpha: Float[Tensor, "b 1 h w"],
    color: Float[Tensor, "1 3 1 1"],
    burnt_slope: float | None,
) -> Float[Tensor, "b 3 h w"]:
    """Encode what was drawn over black, then put it before a colour.

    Gradients reach radiance and alpha.

    Args:
        radiance: Float32 on a GPU.
        alpha: How much of the background is hidden.
        color: Display values; constant.
        burnt_slope: By how much radiance above 1 goes on to count. ``None``: it does not, and the
            picture is clamped to [0, 1].
    """
    # Triton must not be needed where there is no GPU.
    from vultus.kernels.display_encoding import gpu

    return gpu.encode_over_color(radiance, alpha, color, burnt_slope)
