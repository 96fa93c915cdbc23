"""Subdivision and posing of the personal mesh."""

from __future__ import annotations

import math

import torch

from jointed_head import JointedHead
from mesh_scenes import icosphere
from tolerances import assert_close
from vultus.geometry.meshes import subdivide
from vultus.heads.base import HeadPose
from vultus.heads.registry import load_head
from vultus.heads.skinning import linear_blend_skinning
from vultus.methods.relightable_blendshapes.personal_mesh import (
    PersonalMesh,
    Refinement,
    static_pose,
)


def random_track(head, frames: int = 2) -> HeadPose:
    generator = torch.Generator().manual_seed(1)
    sizes = {spec.name: spec.size for spec in head.parameters_spec}
    return HeadPose(
        identity_coeffs=torch.randn(1, sizes["identity_coeffs"], generator=generator),
        expression_coeffs=0.3 * torch.rand(frames, sizes["expression_coeffs"], generator=generator),
        global_rotation=0.3 * torch.randn(frames, 3, generator=generator),
        translation=0.1 * torch.randn(frames, 3, generator=generator),
    )


def test_refinement_is_repeated_subdivision() -> None:
    vertices, faces = icosphere(1)
    refinement = Refinement.of(faces, len(vertices), 2)
    expected, expected_faces = subdivide(*subdivide(vertices, faces))
    assert_close(refinement.apply(vertices), expected)
    assert torch.equal(refinement.faces, expected_faces)
    once, _ = subdivide(vertices, faces)
    assert_close(refinement.apply(once, first_level=1), expected)


def test_without_offsets_the_mesh_lies_on_the_head_model() -> None:
    head = load_head("procedural")
    track = random_track(head)
    mesh = PersonalMesh.of(head, static_pose(head, track), 1)
    posed = mesh.pose(torch.zeros(mesh.num_vertices, 3), track)
    expected, faces = subdivide(head.vertices(track), head.topology.faces)
    assert_close(posed, expected)
    assert torch.equal(mesh.faces, faces)


def test_offsets_act_as_before_skinning() -> None:
    head = load_head("procedural")
    track = random_track(head)
    mesh = PersonalMesh.of(head, static_pose(head, track), 0)
    offsets = 0.01 * torch.randn(mesh.num_vertices, 3, generator=torch.Generator().manual_seed(2))
    transforms = head.joint_motion(track).transforms
    still = torch.zeros_like(offsets).expand(2, -1, -1)
    moved = offsets.expand(2, -1, -1)
    weights = head.skinning_weights
    expected = linear_blend_skinning(moved, transforms, weights)
    expected = expected - linear_blend_skinning(still, transforms, weights)
    found = mesh.pose(offsets, track) - head.vertices(track)
    assert_close(found, expected, looser=3.0, reason="differences of positions")


def test_the_subject_at_rest_has_its_identity_and_nothing_else() -> None:
    head = load_head("procedural")
    track = random_track(head)
    subject = static_pose(head, track)
    assert list(subject.tensors()) == ["identity_coeffs"]
    mesh = PersonalMesh.of(head, subject, 0)
    assert_close(mesh.rest, head.vertices(HeadPose(identity_coeffs=track.identity_coeffs))[0])


def test_offsets_turn_with_the_head() -> None:
    head = JointedHead()
    mesh = PersonalMesh.of(head, HeadPose(), 1)
    # A quarter turn about y takes x to -z.
    turned = HeadPose(global_rotation=torch.tensor([[0.0, 0.5 * math.pi, 0.0]]))
    offsets = torch.tensor([1.0, 0.0, 0.0]).expand(mesh.num_vertices, 3)
    moved = mesh.pose(offsets, turned) - mesh.pose(torch.zeros_like(offsets), turned)
    assert_close(moved, torch.tensor([0.0, 0.0, -1.0]).expand_as(moved))
