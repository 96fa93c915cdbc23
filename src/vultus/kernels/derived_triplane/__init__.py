"""Features of transformed copies of points from a tri-plane, one launch, on a GPU.

What is computed is defined by ``methods.gaussianhead.derivation.derive_positions`` and
``nets.triplane.sample_planes``, which serve every other device. Their copies of points, samples and
products all go through memory, and the gradient of the planes depends on the order in which a GPU
happens to add; here it does not where torch is told to be deterministic.

Reference: GaussianHead (arXiv 2312.01632), learnable Gaussian derivation.
"""

from __future__ import annotations

from collections.abc import Sequence

from jaxtyping import Float
from torch import Tensor

__all__ = ["sample_derived"]


def sample_derived(
    planes: Sequence[Float[Tensor, "1 c _ _"]],
    points: Float[Tensor, "b n 3"],
    derivation: Float[Tensor, "n k 4"] | Float[Tensor, "n k 3"] | None,
    *,
    share: int,
    is_shared: bool = False,
) -> Float[Tensor, "b n d"]:
    """Derive copies of the points, sample the planes at each, and join what the copies read.

    Gradients reach planes, points and derivation. Outside [-1, 1] the border of the planes
    continues, so gradients to such coordinates are zero.

    Args:
        planes: (x, y), (x, z) and (y, z) of ``nets.triplane``, float32 on a GPU.
        points: The same for every copy.
        derivation: For every point and copy a quaternion wxyz of any norm but zero, which turns the
            point, or a factor per axis; ``None``: one copy, the point itself.
        share: Number of channels that a copy reads; d is that times k.
        is_shared: Whether all copies read the last channels, instead of each its own.

    Raises:
        ValueError: If planes, copies and channels do not fit together.
        TypeError: If a tensor is not float32 on the points' GPU.
    """
    # Triton must not be needed where there is no GPU.
    from vultus.kernels.derived_triplane import gpu

    return gpu.sample_derived(planes, points, derivation, share, is_shared)
