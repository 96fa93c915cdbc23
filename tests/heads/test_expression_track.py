from __future__ import annotations

import pytest
import torch

from fakes import FakeHead
from vultus.heads.base import HeadModel, HeadPose
from vultus.heads.expression_track import ExpressionTrack, check_has_mesh
from vultus.heads.regions import REQUIRED_REGIONS
from vultus.heads.retargeting import MotionSpace, retarget


def test_it_is_a_head_model_with_empty_regions() -> None:
    head = ExpressionTrack(46)
    assert isinstance(head, HeadModel)
    assert set(head.topology.regions) == set(REQUIRED_REGIONS)
    assert head.topology.num_vertices == 0
    assert not head.topology.face_region("skin", "teeth").any()
    assert head.neutral.shape == (0, 3)


def test_a_pose_gives_no_vertices_for_each_frame() -> None:
    head = ExpressionTrack(5)
    assert head.vertices(HeadPose(expression_coeffs=torch.randn(7, 5))).shape == (7, 0, 3)
    assert head.vertices(HeadPose()).shape == (1, 0, 3)
    with pytest.raises(ValueError, match="expression_coeffs must have size 5 per frame, got 4"):
        head.vertices(HeadPose(expression_coeffs=torch.randn(7, 4)))


def test_counts_and_names_must_agree() -> None:
    assert ExpressionTrack(2, ["a", "b"]).expression_names == ("a", "b")
    with pytest.raises(ValueError, match="num_expressions must be positive, got 0"):
        ExpressionTrack(0)
    with pytest.raises(ValueError, match="expression_names must be 2 or none, got 3"):
        ExpressionTrack(2, ["a", "b", "c"])


def test_another_number_of_coefficients_is_another_motion_space() -> None:
    """Equal numbers are taken over; different ones only by name."""
    motion = HeadPose(expression_coeffs=torch.tensor([[1.0, 2.0]]))
    space = MotionSpace.of(ExpressionTrack(2))
    played = retarget(motion, space, ExpressionTrack(2), HeadPose())
    assert torch.equal(played.pose.expression_coeffs, motion.expression_coeffs)
    with pytest.raises(ValueError, match=r"takes 3 expression coefficients, .* has 2 without"):
        retarget(motion, space, ExpressionTrack(3), HeadPose())
    named = MotionSpace.of(ExpressionTrack(2, ["jawOpen", "browInnerUp"]))
    played = retarget(motion, named, ExpressionTrack(3, ["x", "y", "jawOpen"]), HeadPose())
    assert played.pose.expression_coeffs.tolist() == [[0.0, 0.0, 1.0]]


def test_what_needs_a_mesh_is_refused_in_one_line() -> None:
    check_has_mesh(FakeHead(), "a fit")
    with pytest.raises(ValueError, match=r"^a fit needs a head with a mesh, .* 46 coefficients"):
        check_has_mesh(ExpressionTrack(46), "a fit")
