"""Subdivision and posing of the personal mesh."""

from __future__ import annotations

import math

import torch

from jointed_head import JointedHead
from mesh_scenes import icosphere
from tolerances import assert_close
from vultus.data.semantics import SEMANTIC_GROUPS
from vultus.geometry.meshes import subdivide
from vultus.heads.base import HeadPose
from vultus.heads.registry import describe_head, load_head
from vultus.heads.skinning import linear_blend_skinning
from vultus.methods.relightable_blendshapes.geometry_file import FittedMesh, PersonalGeometry
from vultus.methods.relightable_blendshapes.mouth import PUBLISHED_OFFSET, teeth_strips
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


def fitted(head, track: HeadPose, **options) -> FittedMesh:
    """A mesh without offsets."""
    mesh = PersonalMesh.of(head, static_pose(head, track), 0)
    count = mesh.num_vertices
    geometry = PersonalGeometry(
        rest=mesh.rest,
        offsets=torch.zeros(count, 3),
        faces=mesh.faces,
        skinning_weights=mesh.skinning_weights,
        labels=torch.zeros(count, dtype=torch.long),
        albedo=torch.full((count, 3), 0.3),
        radiance=torch.ones(3, 2, 4),
        light_space="world",
        levels=0,
        subject=static_pose(head, track),
        head=describe_head(head),
    )
    return FittedMesh(geometry, head, **options)


def test_probes_of_the_teeth_move_rigidly_with_skull_and_jaw() -> None:
    head = load_head("procedural")
    track = HeadPose(
        expression_coeffs=torch.zeros(1, len(head.expression_names)),
        jaw_pose=torch.tensor([[0.3, 0.0, 0.0]]),
        global_rotation=torch.tensor([[0.1, 0.4, 0.0]]),
    )
    plain, mesh = fitted(head, track), fitted(head, track, teeth_offset=PUBLISHED_OFFSET)
    count = len(plain.rest_vertices)
    assert_close(mesh.vertices(track)[:, :count], plain.vertices(track))
    upper, lower, _ = teeth_strips(PUBLISHED_OFFSET)
    strips = torch.cat([upper, lower])
    assert_close(mesh.rest_vertices[count:], strips)
    posed = mesh.vertices(track)[0, count:]
    skull = head.joint_motion(track).transforms[0, 1]
    assert_close(posed[:10], upper @ skull[:, :3].T + skull[:, 3], looser=3.0, reason="order")
    still = lower @ skull[:, :3].T + skull[:, 3]
    assert float((posed[10:] - still).norm(dim=1).min()) > 0.005
    assert_close(torch.cdist(posed[:10], posed[:10]), torch.cdist(upper, upper))


def test_probes_hide_no_light_but_can_be_bound_to() -> None:
    head = load_head("procedural")
    track = random_track(head)
    mesh = fitted(head, track, teeth_offset=PUBLISHED_OFFSET)
    count = len(mesh.rest_vertices) - 20
    assert int(mesh.occluders.max()) < count
    assert len(mesh.faces) == len(mesh.occluders) + 16
    strips = mesh.faces[len(mesh.occluders) :]
    assert strips.unique().tolist() == list(range(count, count + 20))
    assert len(mesh.labels) == len(mesh.albedo) == count + 20
    assert set(mesh.labels[count:].tolist()) == {SEMANTIC_GROUPS.index("mouth")}
