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
    covered_vertices,
    exposed_faces,
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


def test_what_is_covered_is_nothing_to_be_bound_to() -> None:
    head, track = head_and_track()
    mesh = HeadMesh(head, track)
    topology = head.topology
    assert torch.equal(mesh.faces, topology.faces)
    is_covered = covered_vertices(mesh.rest_vertices, mesh.faces, mesh.occluders)
    exposed = mesh.faces[exposed_faces(mesh.faces, is_covered, mesh.labels)]
    kept = {tuple(face) for face in exposed.tolist()}

    def share_kept(region: str) -> float:
        faces = topology.faces[topology.face_region(region)].tolist()
        return sum(tuple(face) in kept for face in faces) / len(faces)

    assert share_kept("scalp") < 0.2
    assert share_kept("hair") > 0.8
    # Lids are thin, and half of an eyeball lies in its socket.
    assert share_kept("skin") > 0.9
    assert 0.2 < share_kept("left_eyeball") < 0.8
    for region in ("teeth", "tongue", "mouth_interior"):
        assert share_kept(region) == 1.0, region


def test_what_nothing_covers_stays() -> None:
    triangle = torch.tensor([[0.0, 0, 0], [1, 0, 0], [0, 1, 0]])
    face, hair = torch.tensor([[0, 1, 2]]), torch.full((3,), SEMANTIC_GROUPS.index("hair"))
    kept = exposed_faces(face, covered_vertices(triangle, face, face), hair)
    assert kept.tolist() == [0]


def test_labels_follow_the_regions() -> None:
    head, _ = head_and_track()
    labels, regions = region_labels(head.topology), head.topology.regions
    for group, region in (("eyes", "left_eyeball"), ("hair", "hair"), ("lips", "lips")):
        assert bool((labels[regions[region]] == SEMANTIC_GROUPS.index(group)).all())
    cloth = labels == SEMANTIC_GROUPS.index("cloth")
    assert torch.equal(cloth, regions["garment"])
