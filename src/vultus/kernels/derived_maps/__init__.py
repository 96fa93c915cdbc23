"""World normals of rendered surfels and of their depth, in one launch, for training on a GPU.

The PyTorch forms in ``geometry.depth`` define what is made here and serve every other device. They
launch dozens of small kernels forward and backward, each of which takes a GPU longer to start than
to run.

Reference: Huang et al., 2D Gaussian Splatting, 2024, eq. 15.
"""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from vultus.geometry.cameras import Camera

__all__ = ["derive_normals"]


def derive_normals(
    camera: Camera,
    *,
    depth: Float[Tensor, "b 1 h w"] | None,
    alpha: Float[Tensor, "b 1 h w"] | None,
    view_normals: Float[Tensor, "b 3 h w"] | None,
) -> tuple[Float[Tensor, "b 3 h w"] | None, Float[Tensor, "b 3 h w"] | None]:
    """Turn depth into world normals, and normals from camera axes into the world.

    Gradients reach depth and ``view_normals``; those of a pixel's depth are gathered from its four
    neighbours, so that they are reproducible.

    Args:
        camera: A constant; its tensors are only read on the GPU.
        depth: Camera z; ``None`` if its normals are not wanted.
        alpha: What normals of depth are multiplied with, a constant; must come with ``depth``.
        view_normals: In camera axes, of any length; ``None`` if there are none to be turned.

    Returns:
        ``geometry.depth.depth_to_normals`` of depth times alpha, and ``geometry.depth.rotate_maps``
        of ``view_normals``; ``None`` for what was not given.

    Raises:
        TypeError: If the maps are not float32 on one GPU.
        ValueError: If ``depth`` comes without ``alpha``, or if the camera wants a gradient.
    """
    # Triton must not be needed where there is no GPU.
    from vultus.kernels.derived_maps import gpu

    return gpu.derive_normals(camera, depth, alpha, view_normals)
