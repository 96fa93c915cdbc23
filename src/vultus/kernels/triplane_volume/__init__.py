"""Volume rendering of feature planes: dual spheres, tri-planes and tri-grids.

Backend: ``ref``, in plain PyTorch.
"""

from vultus.kernels.triplane_volume.ref import (
    DecoderActivation,
    DecoderWeights,
    Representation,
    VolumeDraws,
    VolumeRender,
    VolumeSettings,
    query_points,
    render_planes,
)

__all__ = [
    "DecoderActivation",
    "DecoderWeights",
    "Representation",
    "VolumeDraws",
    "VolumeRender",
    "VolumeSettings",
    "query_points",
    "render_planes",
]
