from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from vultus.geometry.rotations import axis_angle_to_matrix
from vultus.heads.base import HeadModel, HeadPose
from vultus.heads.ict import IctHead
from vultus.heads.ict_data import ICT_MATERIALS


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def expression(head, **weights):
    coeffs = torch.zeros(1, len(head.expression_names))
    for name, weight in weights.items():
        coeffs[0, head.expression_names.index(name)] = weight
    return coeffs


def test_without_rotations_it_is_the_published_linear_model(data_dir, ict_light):
    with np.load(data_dir / "ict_face" / "ict_face_light.npz") as archive:
        neutral = archive["neutral"].astype(np.float64)
        identity, shapes = archive["identity"], archive["expression"]
        names = archive["expression_names"].tolist()
    weights, coeffs = normal(1, 20), torch.rand(1, 53, generator=torch.Generator().manual_seed(1))
    coeffs[:, [name.startswith("eyeLook") for name in names]] = 0.0
    expected = neutral + np.einsum("k,kvc->vc", weights[0].numpy(), identity.astype(np.float64))
    expected += np.einsum("k,kvc->vc", coeffs[0].numpy(), shapes.astype(np.float64))
    posed = ict_light.vertices(HeadPose(identity_coeffs=weights, expression_coeffs=coeffs))
    np.testing.assert_allclose(posed[0].numpy(), 0.01 * expected, atol=1e-6)


def test_light_and_full_are_the_same_head(ict_light, ict_full):
    assert isinstance(ict_light, HeadModel)
    assert torch.equal(ict_light.topology.faces, ict_full.topology.faces)
    weights = normal(1, 20)
    padded = torch.cat([weights, torch.zeros(1, 80)], dim=1)
    coeffs = expression(ict_light, jawOpen=0.7, mouthSmile_L=0.4)
    rotation = torch.tensor([[0.1, 0.2, 0.0]])
    shared = HeadPose(expression_coeffs=coeffs, neck_pose=rotation, jaw_pose=rotation)
    light = ict_light.vertices(shared.replace(identity_coeffs=weights))
    full = ict_full.vertices(shared.replace(identity_coeffs=padded))
    # The README of the packed model gives 24 micrometres for all shapes at once.
    assert float((light - full).abs().max()) < 5e-5


def test_skinning_weights_are_a_partition_of_unity(ict_light):
    weights = ict_light.skinning_weights
    assert float(weights.min()) >= 0.0
    torch.testing.assert_close(weights.sum(dim=1), torch.ones(len(weights)))
    regions = ict_light.topology.regions
    assert bool((weights[regions["left_eyeball"], 3] == 1).all())
    assert bool((weights[regions["teeth_lower"], 2] == 1).all())
    assert bool((weights[regions["teeth_upper"], 2] == 0).all())
    assert bool((weights[regions["boundary"], 0] == 1).all())


def test_the_jaw_joint_opens_the_mouth_as_the_sculpted_shape_does(ict_light):
    shape = ict_light.vertices(HeadPose(expression_coeffs=expression(ict_light, jawOpen=1.0)))[0]
    # The shape turns the lower teeth by this angle (Kabsch fit, 25.3 degrees).
    joint = ict_light.vertices(HeadPose(jaw_pose=torch.tensor([[math.radians(25.33), 0.0, 0.0]])))
    face = ict_light.topology.regions["narrow_face"]
    moved = (shape - ict_light.neutral).norm(dim=1)
    gap = (shape - joint[0]).norm(dim=1)
    assert float(moved[face].max()) > 0.03
    assert float(gap[face].mean()) < 0.002
    chin_and_lips = ict_light.landmarks68[[7, 8, 9, *range(48, 68)]]
    assert float(gap[chin_and_lips].max()) < 0.006
    assert float(gap[ict_light.topology.regions["teeth_lower"]].max()) < 5e-4


def test_eyeballs_turn_rigidly_about_centres_that_follow_identity(ict_light):
    weights = normal(1, 20)
    rest = ict_light.vertices(HeadPose(identity_coeffs=weights))[0]
    turn = torch.tensor([[0.2, 0.3, 0.0, -0.1, 0.25, 0.0]])
    posed = ict_light.vertices(HeadPose(identity_coeffs=weights, eye_pose=turn))[0]
    for name, joint, angles in (
        ("left_eyeball", 3, turn[0, :3]),
        ("right_eyeball", 4, turn[0, 3:]),
    ):
        mask = ict_light.topology.regions[name]
        shift = (rest - ict_light.neutral)[mask].mean(dim=0)
        # Faces of the cornea are dropped, so its mean is over a part of the globe only.
        center = ict_light.joints[joint] + shift
        rotation = axis_angle_to_matrix(angles)
        expected = (rest[mask] - center) @ rotation.T + center
        assert float((posed[mask] - expected).abs().max()) < 5e-4
    still = ~ict_light.topology.regions["eyeballs"] & (
        ict_light.skinning_weights[:, 3:].sum(1) == 0
    )
    torch.testing.assert_close(posed[still], rest[still])


def test_looking_to_the_left_moves_both_irises_to_the_left(ict_light):
    coeffs = expression(ict_light, eyeLookOut_L=1.0, eyeLookIn_R=1.0)
    posed = ict_light.vertices(HeadPose(expression_coeffs=coeffs))[0] - ict_light.neutral
    for eye in ("left", "right"):
        front = ict_light.topology.regions[f"{eye}_iris"] & (ict_light.neutral[:, 2] > 0.093)
        assert float(posed[front, 0].min()) > 0.005
    down = expression(ict_light, eyeLookDown_L=1.0, eyeLookDown_R=1.0)
    lowered = ict_light.vertices(HeadPose(expression_coeffs=down))[0] - ict_light.neutral
    assert float(lowered[front, 1].max()) < -0.005


def test_irises_are_visible_from_the_front(ict_light):
    """No face of the sclera lies between the camera and the middle of an iris."""
    topology = ict_light.topology
    corners = ict_light.neutral[topology.faces]
    for eye, joint in (("Left", 3), ("Right", 4)):
        is_sclera = ict_light.face_material == ICT_MATERIALS.index(f"M_Sclera{eye}")
        arms = corners[is_sclera].mean(dim=1) - ict_light.joints[joint]
        cosine = torch.nn.functional.normalize(arms, dim=1) @ ict_light.gaze_axes[joint - 3]
        assert float(cosine.max()) < math.cos(0.35)
        assert float(cosine.max()) > math.cos(0.55)


def test_turning_the_neck_keeps_the_cut_and_turns_the_skull(ict_light):
    turn = torch.tensor([[0.0, 0.5, 0.0]])
    posed = ict_light.vertices(HeadPose(neck_pose=turn))[0]
    boundary = ict_light.topology.regions["boundary"]
    torch.testing.assert_close(posed[boundary], ict_light.neutral[boundary])
    teeth = ict_light.topology.regions["teeth_upper"]
    rotation, center = axis_angle_to_matrix(turn[0]), ict_light.joints[1]
    expected = (ict_light.neutral[teeth] - center) @ rotation.T + center
    torch.testing.assert_close(posed[teeth], expected)


def test_global_rotation_and_translation_are_rigid(ict_light):
    pose = HeadPose(
        global_rotation=torch.tensor([[0.3, -0.2, 0.1], [0.0, 0.0, 0.0]]),
        translation=torch.tensor([[0.1, 0.2, 0.3], [0.0, 0.0, 1.0]]),
        eye_pose=torch.full((1, 6), 0.1),
    )
    rest = ict_light.vertices(HeadPose(eye_pose=torch.full((1, 6), 0.1)))
    rotations = axis_angle_to_matrix(pose.global_rotation)
    expected = rest @ rotations.transpose(1, 2) + pose.translation[:, None]
    torch.testing.assert_close(ict_light.vertices(pose), expected)


def test_texture_coordinates_of_different_materials_do_not_overlap(ict_light):
    topology, material = ict_light.topology, ict_light.face_material
    uv = topology.uv[topology.uv_faces]
    assert float(uv.min()) >= 0.0
    assert float(uv.max()) <= 1.0
    shared = {"M_ScleraRight": "M_ScleraLeft", "M_IrisRight": "M_IrisLeft"}
    cells = {}
    for index, name in enumerate(ICT_MATERIALS):
        corners = uv[material == index].reshape(-1, 2)
        cells[name] = (*corners.amin(dim=0).tolist(), *corners.amax(dim=0).tolist())
    for name, (left, bottom, right, top) in cells.items():
        for other, (left2, bottom2, right2, top2) in cells.items():
            if name != other and shared.get(name, name) != shared.get(other, other):
                assert right <= left2 or right2 <= left or top <= bottom2 or top2 <= bottom


def test_regions_are_named_and_disjoint_where_they_must_be(ict_light):
    regions = ict_light.topology.regions
    parts = ["skin", "left_eyeball", "right_eyeball", "teeth", "gums_tongue", "mouth_interior"]
    assert int(torch.stack([regions[name] for name in parts]).sum(dim=0).max()) == 1
    assert bool((ict_light.neutral[regions["left_eyeball"], 0] > 0).all())
    assert bool((regions["neck"] <= regions["skin"]).all())
    assert bool((regions["boundary"] <= regions["neck"]).all())


def test_wrong_sizes_and_files_are_refused(tmp_path, ict_light):
    message = r"ict_face_light.npz: identity_coeffs must have size 20 per frame, got 100$"
    with pytest.raises(ValueError, match=message):
        ict_light.vertices(HeadPose(identity_coeffs=torch.zeros(1, 100)))
    with pytest.raises(FileNotFoundError, match="no packed ICT head there"):
        IctHead.from_file(tmp_path / "none.npz")
    np.savez(tmp_path / "other.npz", neutral=np.zeros((3, 3)))
    with pytest.raises(ValueError, match=r"other.npz: incomplete ICT head, array 'faces'"):
        IctHead.from_file(tmp_path / "other.npz")
    (tmp_path / "text.npz").write_text("hello")
    with pytest.raises(ValueError, match=r"text\.npz: not a readable \.npz file"):
        IctHead.from_file(tmp_path / "text.npz")
