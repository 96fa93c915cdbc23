"""Materials before their training: on the mesh of a geometry stage, or on the head model's."""

from __future__ import annotations

from pathlib import Path

import torch

from vultus.data.sequence import HeadSequence
from vultus.heads.base import JointedHead
from vultus.methods.relightable_blendshapes.geometry_file import FittedMesh, PersonalGeometry
from vultus.methods.relightable_blendshapes.material_appearance import MaterialAppearance
from vultus.methods.relightable_blendshapes.material_config import MaterialConfig
from vultus.methods.relightable_blendshapes.material_mesh import HeadMesh

__all__ = ["start_materials"]


def start_materials(
    config: MaterialConfig, sequence: HeadSequence, device: torch.device | str = "cpu"
) -> MaterialAppearance:
    """Choose mesh and light of a capture.

    Raises:
        FileNotFoundError: If the file of the geometry stage does not exist.
        ValueError: If it is not of this capture.
    """
    if not config.geometry:
        mesh = HeadMesh(sequence.head, sequence.pose, device)
        return MaterialAppearance(config, mesh, sequence, device)
    geometry = PersonalGeometry.load(Path(config.geometry))
    if geometry.light_space != sequence.light_space:
        raise ValueError(
            f"{config.geometry}: light must stand still in {sequence.light_space} as that of the "
            f"capture does, got {geometry.light_space}"
        )
    if not isinstance(sequence.head, JointedHead):
        raise ValueError(f"{config.geometry}: needs a head with joints, got {sequence.head.name!r}")
    mesh = FittedMesh(geometry, sequence.head, device)
    return MaterialAppearance(config, mesh, sequence, device, geometry.radiance)
