"""Materials before their training: on the mesh of a geometry stage, or on the head model's."""

from __future__ import annotations

import hashlib
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from vultus.data.light_card import LightCard
from vultus.data.sequence import HeadSequence
from vultus.heads.base import HeadPose, JointedHead
from vultus.heads.registry import describe_head
from vultus.methods.relightable_blendshapes.config import RelightableBlendshapesConfig
from vultus.methods.relightable_blendshapes.geometry_file import FittedMesh, PersonalGeometry
from vultus.methods.relightable_blendshapes.material_appearance import MaterialAppearance
from vultus.methods.relightable_blendshapes.material_config import MaterialConfig
from vultus.methods.relightable_blendshapes.material_mesh import HeadMesh
from vultus.methods.relightable_blendshapes.mouth import Offset
from vultus.methods.relightable_blendshapes.personal_mesh import static_pose
from vultus.methods.relightable_blendshapes.start import find_teeth_offset, has_strips
from vultus.render.lighting.environments import read_environment

__all__ = ["start_materials"]

_SAME = 1e-6
"""Static fields of a track differ by less when they are read again."""


def start_materials(
    config: RelightableBlendshapesConfig,
    sequence: HeadSequence,
    device: torch.device | str = "cpu",
) -> MaterialAppearance:
    """Choose mesh and light of a capture; strips of teeth are part of the mesh that is looked up.

    Raises:
        FileNotFoundError: If the file of the geometry stage, or of the light, does not exist.
        ValueError: If the geometry is not of this capture, the light cannot be read, or the head
            has no joints.
    """
    head, materials = sequence.head, config.materials
    if not isinstance(head, JointedHead):
        raise ValueError(f"materials need a head with joints, got {head.name!r}")
    opacity = config.model.initial_opacity
    teeth = None
    if has_strips(head, config.model):
        teeth = find_teeth_offset(config.model, sequence.info)
    bare = HeadMesh(head, sequence.pose, device)
    if materials.geometry is None:
        mesh = bare if teeth is None else _with_strips(bare, head, sequence, teeth, device)
        light = _initial_light(materials)
        return MaterialAppearance(materials, mesh, sequence, device, light, opacity)
    path = materials.geometry
    geometry = PersonalGeometry.load(path)
    if geometry.light_space != sequence.light_space:
        raise ValueError(
            f"{path}: light must stand still in {sequence.light_space} as that of the capture "
            f"does, got {geometry.light_space}"
        )
    mesh = FittedMesh(geometry, head, device, teeth_offset=teeth)
    different = _different_field(geometry.subject, static_pose(head, sequence.pose))
    if different is not None:
        raise ValueError(
            f"{path}: must be geometry of the capture's subject, their {different} differ"
        )
    light = _initial_light(materials, geometry)
    digest = hashlib.sha256(path.read_bytes()).digest()
    return MaterialAppearance(materials, mesh, sequence, device, light, opacity, digest)


def _initial_light(
    materials: MaterialConfig, geometry: PersonalGeometry | None = None
) -> Float[Tensor, "3 h w"] | None:
    """What is known about the light, the settings' own file first; ``None`` for even light."""
    if materials.light_file is not None:
        return _read_light(materials.light_file)
    return None if geometry is None else geometry.radiance


def _read_light(path: Path) -> Float[Tensor, "3 h w"]:
    """Read a map, or the one that a capture's card tells of, exposure applied."""
    if path.suffix != ".json":
        return read_environment(path).radiance
    card = LightCard.load(path)
    if card.train_env is None:
        raise ValueError(f"{path}: train_env must name a map to start from, got null")
    return read_environment(path.parent / card.train_env, exposure=card.exposure).radiance


def _different_field(first: HeadPose, second: HeadPose) -> str | None:
    """A field of two subjects that is not the same, if there is one."""
    given, wanted = first.tensors(), second.tensors()
    for name in sorted(given.keys() | wanted.keys()):
        if name not in given or name not in wanted or given[name].shape != wanted[name].shape:
            return name
        if not torch.allclose(given[name], wanted[name], rtol=0.0, atol=_SAME):
            return name
    return None


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
