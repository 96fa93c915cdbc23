"""Materials before their training: on the mesh of a geometry stage, or on the head model's."""

from __future__ import annotations

from pathlib import Path

import torch

from vultus.data.sequence import HeadSequence
from vultus.heads.base import JointedHead
from vultus.heads.registry import describe_head
from vultus.methods.relightable_blendshapes.config import RelightableBlendshapesConfig
from vultus.methods.relightable_blendshapes.geometry_file import FittedMesh, PersonalGeometry
from vultus.methods.relightable_blendshapes.material_appearance import MaterialAppearance
from vultus.methods.relightable_blendshapes.material_mesh import HeadMesh
from vultus.methods.relightable_blendshapes.mouth import Offset
from vultus.methods.relightable_blendshapes.personal_mesh import static_pose
from vultus.methods.relightable_blendshapes.start import find_teeth_offset, has_strips

__all__ = ["start_materials"]


def start_materials(
    config: RelightableBlendshapesConfig,
    sequence: HeadSequence,
    device: torch.device | str = "cpu",
) -> MaterialAppearance:
    """Choose mesh and light of a capture; strips of teeth are part of the mesh that is looked up.

    Raises:
        FileNotFoundError: If the file of the geometry stage does not exist.
        ValueError: If it is not of this capture, or the head has no joints.
    """
    head, materials = sequence.head, config.materials
    if not isinstance(head, JointedHead):
        raise ValueError(f"materials need a head with joints, got {head.name!r}")
    opacity = config.model.initial_opacity
    teeth = None
    if has_strips(head, config.model):
        teeth = find_teeth_offset(config.model, sequence.info)
    bare = HeadMesh(head, sequence.pose, device)
    if not materials.geometry:
        mesh = bare if teeth is None else _with_strips(bare, head, sequence, teeth, device)
        return MaterialAppearance(materials, mesh, sequence, device, initial_opacity=opacity)
    geometry = PersonalGeometry.load(Path(materials.geometry))
    if geometry.light_space != sequence.light_space:
        raise ValueError(
            f"{materials.geometry}: light must stand still in {sequence.light_space} as that of "
            f"the capture does, got {geometry.light_space}"
        )
    mesh = FittedMesh(geometry, head, device, teeth_offset=teeth)
    return MaterialAppearance(
        materials, mesh, sequence, device, geometry.radiance, initial_opacity=opacity
    )


def _with_strips(
    bare: HeadMesh,
    head: JointedHead,
    sequence: HeadSequence,
    teeth: Offset,
    device: torch.device | str,
) -> FittedMesh:
    """The head's own mesh as one that a geometry stage has left alone."""
    rest = bare.rest_vertices.cpu()
    geometry = PersonalGeometry(
        rest=rest,
        offsets=torch.zeros_like(rest),
        faces=bare.faces.cpu(),
        skinning_weights=head.skinning_weights,
        labels=bare.labels.cpu(),
        albedo=bare.albedo.cpu(),
        radiance=rest.new_ones(3, 1, 2),
        light_space=sequence.light_space,
        levels=0,
        subject=static_pose(head, sequence.pose),
        head=describe_head(head),
    )
    return FittedMesh(geometry, head, device, teeth_offset=teeth)
