"""The motion of joints that heads report is the one that their own vertices follow."""

from __future__ import annotations

import inspect

import pytest
import torch
from torch import Tensor

from fakes import FakeHead
from jointed_head import JointedHead as JointedSphere
from synthetic_flame import synthetic_flame
from vultus.heads.base import HeadModel, HeadPose, JointedHead, RiggedHead
from vultus.heads.flame import FlameHead
from vultus.heads.procedural import ProceduralHead, named_expressions
from vultus.heads.skinning import translate_transforms
from vultus.heads.tracked import TrackedMesh


@pytest.fixture(scope="module")
def flame() -> FlameHead:
    return FlameHead(synthetic_flame(300), teeth="none")


def random_pose(head: JointedHead, batch: int = 3) -> HeadPose:
    generator = torch.Generator().manual_seed(1)

    def normal(size: int, scale: float = 0.3) -> Tensor:
        return scale * torch.randn(batch, size, generator=generator)

    sizes = {spec.name: spec.size for spec in head.parameters_spec}
    return HeadPose(
        identity_coeffs=normal(sizes["identity_coeffs"])[:1],
        expression_coeffs=normal(sizes["expression_coeffs"]).abs(),
        global_rotation=normal(3),
        neck_pose=normal(3),
        jaw_pose=normal(3),
        eye_pose=normal(6),
        translation=normal(3),
    )


def carried(points: Tensor, head: JointedHead, pose: HeadPose) -> Tensor:
    """Points by the mean of the joints' transforms, one at a time."""
    transforms = head.joint_motion(pose).transforms
    moved = torch.zeros_like(points)
    for joint in range(transforms.shape[1]):
        matrix = transforms[:, joint]
        by_one = points @ matrix[:, :, :3].mT + matrix[:, None, :, 3]
        moved = moved + head.skinning_weights[:, joint, None] * by_one
    return moved


def test_vertices_of_flame_are_the_shaped_ones_carried_by_the_joints(flame: FlameHead) -> None:
    pose = random_pose(flame)
    motion = flame.joint_motion(pose)
    shaped = flame.template + torch.einsum(
        "bs,svc->bvc", pose.identity_coeffs, flame.identity_basis
    )
    shaped = shaped + torch.einsum("be,evc->bvc", pose.expression_coeffs, flame.expression_basis)
    assert motion.features.shape == (3, len(flame.pose_basis))
    corrected = shaped + torch.einsum("bp,pvc->bvc", motion.features, flame.pose_basis)
    torch.testing.assert_close(
        carried(corrected, flame, pose), flame.vertices(pose), atol=1e-6, rtol=0
    )


def test_joints_of_flame_follow_identity_and_expression(flame: FlameHead) -> None:
    pose = random_pose(flame)
    shape = pose.replace(
        global_rotation=None, neck_pose=None, jaw_pose=None, eye_pose=None, translation=None
    )
    regressed = flame.joint_regressor @ flame.vertices(shape)
    torch.testing.assert_close(flame.joint_motion(pose).joints, regressed, atol=1e-6, rtol=0)


@pytest.mark.parametrize("kind", ["procedural", "ict"])
def test_eyeballs_and_lower_teeth_follow_the_reported_joints(
    kind: str, request: pytest.FixtureRequest
) -> None:
    head = ProceduralHead() if kind == "procedural" else request.getfixturevalue("ict_light")
    pose = random_pose(head)
    still = HeadPose(identity_coeffs=pose.identity_coeffs)
    # Neither part has shapes of its own: everything it does comes from its joint.
    rigid = head.topology.regions["left_eyeball"] | head.topology.regions["right_eyeball"]
    if isinstance(head, ProceduralHead):
        expression = named_expressions(jawOpen=0.6, eyeLookUp=0.4)
        pose = pose.replace(expression_coeffs=expression.expand(3, -1))
        rigid[head.parts["lower_teeth"].vertices] = True
    rest = head.vertices(still).expand(3, -1, -1)
    moved = carried(rest, head, pose)[:, rigid]
    torch.testing.assert_close(moved, head.vertices(pose)[:, rigid], atol=2e-6, rtol=0)
    assert float((moved - rest[:, rigid]).norm(dim=-1).min()) > 0.01
    assert len(head.pose_basis) == head.joint_motion(pose).features.shape[1] == 0


def test_at_rest_no_joint_moves(flame: FlameHead) -> None:
    for head in (flame, ProceduralHead()):
        transforms = head.joint_motion(HeadPose()).transforms
        still = torch.eye(3, 4).expand_as(transforms)
        torch.testing.assert_close(transforms, still, atol=1e-6, rtol=0)


def test_a_translation_follows_every_transform() -> None:
    transforms = torch.randn(2, 5, 3, 4, generator=torch.Generator().manual_seed(0))
    moved = translate_transforms(transforms, torch.tensor([[1.0, 2.0, 3.0]]))
    assert torch.equal(moved[..., :3], transforms[..., :3])
    torch.testing.assert_close(
        moved[..., 3] - transforms[..., 3], torch.tensor([1.0, 2.0, 3.0]).expand(2, 5, 3)
    )
    assert translate_transforms(transforms, None) is transforms


@pytest.mark.parametrize("protocol", [HeadModel, RiggedHead, JointedHead])
def test_no_member_of_a_protocol_is_a_buffer(protocol: type, flame: FlameHead) -> None:
    """Since Python 3.12 ``isinstance`` does not find what only ``Module.__getattr__`` does."""
    mesh = TrackedMesh(torch.rand(3, 3), torch.tensor([[0, 1, 2]]))
    for head in (flame, ProceduralHead(), mesh, FakeHead(), JointedSphere()):
        members = [name for name in dir(protocol) if not name.startswith("_")]
        seen = [name for name in members if hasattr(head, name)]
        missing = object()
        unseen = [n for n in seen if inspect.getattr_static(head, n, missing) is missing]
        assert unseen == [], type(head).__name__


def test_a_mesh_without_joints_is_no_jointed_head(flame: FlameHead) -> None:
    assert isinstance(flame, JointedHead)
    assert isinstance(ProceduralHead(), JointedHead)
    assert not isinstance(TrackedMesh(torch.rand(3, 3), torch.tensor([[0, 1, 2]])), JointedHead)
