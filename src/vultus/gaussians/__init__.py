"""Layer 4: surfels on meshes, their density control, and splat files."""

from vultus.gaussians.densify import AdaptiveDensity, DensifyConfig, DensityEdit, protect_faces
from vultus.gaussians.surfels import SURFEL_PARAMETERS, Surfels, initial_surfels

__all__ = [
    "SURFEL_PARAMETERS",
    "AdaptiveDensity",
    "DensifyConfig",
    "DensityEdit",
    "Surfels",
    "initial_surfels",
    "protect_faces",
]
