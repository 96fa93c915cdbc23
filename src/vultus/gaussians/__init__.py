"""Layer 4: surfels on meshes, their density control, and splat files."""

from vultus.gaussians.densify import AdaptiveDensity, DensifyConfig, DensityEdit, protect_faces
from vultus.gaussians.posed import ellipse_axes, posed_splats, thicken
from vultus.gaussians.splat_files import (
    Splats,
    read_splats,
    splats_to_surfels,
    surfels_to_splats,
    write_splats,
)
from vultus.gaussians.surfels import SURFEL_PARAMETERS, Surfels, initial_surfels

__all__ = [
    "SURFEL_PARAMETERS",
    "AdaptiveDensity",
    "DensifyConfig",
    "DensityEdit",
    "Splats",
    "Surfels",
    "ellipse_axes",
    "initial_surfels",
    "posed_splats",
    "protect_faces",
    "read_splats",
    "splats_to_surfels",
    "surfels_to_splats",
    "thicken",
    "write_splats",
]
