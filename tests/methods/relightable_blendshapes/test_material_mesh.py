"""The head's own mesh as what Gaussians are lit by."""

from __future__ import annotations

import torch

from tolerances import assert_close
from vultus.data.semantics import SEMANTIC_GROUPS
from vultus.geometry.meshes import vertex_normals
from vultus.heads.base import HeadPose
from vultus.heads.registry import load_head
from vultus.methods.relightable_blendshapes.material_mesh import (
    HeadMesh,
    ShadingMesh,
    posed_normals,
    region_labels,
)


def head_and_track():
    head = load_head("procedural")
    generator = torch.Generator().manual_seed(0)
    sizes = {spec.name: spec.size for spec in head.parameters_spec}
    identity = torch.randn(1, sizes["identity_coeffs"], generator=generator)
    expression = torch.rand(3, sizes["expression_coeffs"], generator=generator)
    jaw = torch.tensor([[0.0, 0, 0], [0.2, 0, 0], [0.1, 0.1, 0]])
    return head, HeadPose(identity_coeffs=identity, expression_coeffs=expression, jaw_pose=jaw)


def test_the_mesh_is_posed_as_the_head_is() -> None:
    head, track = head_and_track()
    mesh = HeadMesh(head, track)
    assert isinstance(mesh, ShadingMesh)
    assert_close(mesh.vertices(track[1:]), head.vertices(track[1:]), looser=10.0, reason="order")
    rest = HeadPose(identity_coeffs=track.identity_coeffs)
    assert_close(mesh.rest_vertices, head.vertices(rest)[0])
    moving = track.replace(identity_coeffs=None)
    assert_close(mesh.vertices(moving), mesh.vertices(track))


def test_normals_of_the_mesh_are_constants() -> None:
    head, track = head_and_track()
    mesh = HeadMesh(head, track)
    vertices = mesh.vertices(track[:1]).requires_grad_()
    normals = posed_normals(vertices, mesh.faces)
    assert not normals.requires_grad
    assert_close(normals, vertex_normals(vertices.detach(), mesh.faces))


def test_labels_follow_the_regions() -> None:
    head, _ = head_and_track()
    labels, regions = region_labels(head.topology), head.topology.regions
    for group, region in (("eyes", "left_eyeball"), ("hair", "hair"), ("lips", "lips")):
        assert bool((labels[regions[region]] == SEMANTIC_GROUPS.index(group)).all())
    cloth = labels == SEMANTIC_GROUPS.index("cloth")
    assert torch.equal(cloth, regions["garment"])
