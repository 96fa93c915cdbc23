from __future__ import annotations

import pytest
import torch

from vultus.geometry.rotations import axis_angle_to_matrix
from vultus.heads.base import HeadPose
from vultus.heads.skinning import (
    HEAD_JOINT_PARENTS,
    head_joint_angles,
    linear_blend_skinning,
    pose_joints,
)

PARENTS = (-1, 0, 1, 1, 1)


@pytest.fixture
def rig():
    generator = torch.Generator().manual_seed(3)

    def random(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    weights = torch.softmax(random(30, 5), dim=1)
    return random(2, 30, 3), random(2, 5, 3), random(2, 5, 3), weights


def loop_transform(rotations, joints, joint):
    """Product of 4x4 matrices up the tree, then removal of the rest joint."""
    matrix = torch.eye(4, dtype=torch.float64)
    chain = [joint]
    while PARENTS[chain[-1]] >= 0:
        chain.append(PARENTS[chain[-1]])
    for index in reversed(chain):
        local = torch.eye(4, dtype=torch.float64)
        local[:3, :3] = rotations[index]
        parent = PARENTS[index]
        local[:3, 3] = joints[index] - (joints[parent] if parent >= 0 else 0)
        matrix = matrix @ local
    removal = torch.eye(4, dtype=torch.float64)
    removal[:3, 3] = -joints[joint]
    return matrix @ removal


def skinned(vertices, angles, joints, weights, translation=None):
    transforms = pose_joints(angles, joints, PARENTS).transforms
    return linear_blend_skinning(vertices, transforms, weights, translation)


def test_transforms_are_the_products_up_the_tree(rig):
    _, angles, joints, _ = rig
    rotations = axis_angle_to_matrix(angles)
    transforms = pose_joints(angles, joints, PARENTS).transforms
    for batch in range(2):
        for joint in range(5):
            expected = loop_transform(rotations[batch], joints[batch], joint)
            torch.testing.assert_close(transforms[batch, joint], expected[:3])


def test_correctives_are_driven_by_what_each_joint_but_the_first_turns(rig):
    _, angles, joints, _ = rig
    features = pose_joints(angles, joints, PARENTS).features.reshape(2, 4, 3, 3)
    rotations = features + torch.eye(3, dtype=torch.float64)
    torch.testing.assert_close(rotations, axis_angle_to_matrix(angles[:, 1:]))


def test_a_vertex_moves_by_the_mean_of_its_joints(rig):
    vertices, angles, joints, weights = rig
    posed = skinned(vertices, angles, joints, weights)
    rotations = axis_angle_to_matrix(angles)
    expected = torch.zeros(3, dtype=torch.float64)
    for joint in range(5):
        transform = loop_transform(rotations[1], joints[1], joint)
        moved = transform[:3, :3] @ vertices[1, 7] + transform[:3, 3]
        expected += weights[7, joint] * moved
    torch.testing.assert_close(posed[1, 7], expected)


def test_zero_angles_leave_the_mesh(rig):
    vertices, angles, joints, weights = rig
    posed = skinned(vertices, torch.zeros_like(angles), joints, weights)
    torch.testing.assert_close(posed, vertices)


def test_turning_the_root_alone_is_rigid_about_it(rig):
    vertices, angles, joints, weights = rig
    root = torch.zeros_like(angles)
    root[:, 0] = angles[:, 0]
    rotations = axis_angle_to_matrix(angles[:, 0])
    expected = (vertices - joints[:, :1]) @ rotations.transpose(1, 2) + joints[:, :1]
    torch.testing.assert_close(skinned(vertices, root, joints, weights), expected)


def test_a_translation_moves_every_vertex_by_as_much(rig):
    vertices, angles, joints, weights = rig
    shift = torch.tensor([[0.5, -1.0, 2.0]], dtype=torch.float64)
    moved = skinned(vertices, angles, joints, weights, shift)
    still = skinned(vertices, angles, joints, weights)
    torch.testing.assert_close(moved - still, shift[:, None].expand_as(still))


def test_gradients_agree_with_finite_differences(rig):
    vertices, angles, joints, weights = rig
    inputs = (vertices[:1, :4], angles[:1], joints[:1])
    inputs = tuple(tensor.clone().requires_grad_() for tensor in inputs)
    assert torch.autograd.gradcheck(lambda v, r, j: skinned(v, r, j, weights[:4]), inputs)


def test_a_parent_behind_its_child_is_refused(rig):
    _, angles, joints, _ = rig
    with pytest.raises(ValueError, match="parents must precede"):
        pose_joints(angles, joints, (-1, 2, 1, 1, 1))


def test_pose_fields_go_to_their_joints():
    pose = HeadPose(
        jaw_pose=torch.tensor([[0.3, 0.0, 0.0]]),
        eye_pose=torch.tensor([[0.1, 0.2, 0.3, 0.4, 0.5, 0.6], [0.0] * 6]),
    )
    angles = head_joint_angles(pose, like=torch.zeros(1, dtype=torch.float64))
    expected = torch.zeros(2, len(HEAD_JOINT_PARENTS), 3, dtype=torch.float64)
    expected[:, 2, 0] = 0.3
    expected[0, 3:] = torch.tensor([[0.1, 0.2, 0.3], [0.4, 0.5, 0.6]])
    torch.testing.assert_close(angles, expected, atol=1e-7, rtol=0)
