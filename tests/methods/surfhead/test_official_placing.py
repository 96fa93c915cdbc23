from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from official_models import official_avatar, write_flame_file
from tolerances import assert_close
from vultus.geometry.rotations import quaternion_to_matrix
from vultus.heads.flame import FlameHead
from vultus.methods.surfhead.official import official_splats, place_official
from vultus.methods.surfhead.transport import PosedSurfels, Rig

RIGS = ("similarity", "jacobian", "jbs")


@pytest.fixture(scope="module")
def head(tmp_path_factory: pytest.TempPathFactory) -> FlameHead:
    path = tmp_path_factory.mktemp("flame") / "flame2023.safetensors"
    write_flame_file(path)
    return FlameHead.from_file(path, teeth="published")


def covariances(placed: PosedSurfels) -> torch.Tensor:
    frames = quaternion_to_matrix(torch.nn.functional.normalize(placed.quats[0], dim=-1))
    tangents = frames[..., :2] * placed.scales[0][:, None]
    if placed.jacobians is not None:
        tangents = placed.jacobians[0] @ tangents
    return tangents @ tangents.mT


@pytest.mark.parametrize("rig", RIGS)
def test_a_moved_subject_takes_its_surfels_along(head: FlameHead, rig: Rig) -> None:
    avatar = official_avatar(rig)
    pose = avatar.track[1].replace(global_rotation=torch.zeros(1, 3))
    still = place_official(avatar, head, pose)
    shift = torch.tensor([[0.3, -0.1, 0.2]])
    moved = place_official(avatar, head, pose.replace(translation=pose.translation + shift))
    assert_close(moved.means - shift, still.means, looser=50, reason="random triangles are thin")
    assert_close(moved.quats, still.quats, looser=1e3, reason="random triangles are thin")


@pytest.mark.parametrize("rig", RIGS)
def test_splats_have_the_place_and_spread_of_the_surfels(head: FlameHead, rig: Rig) -> None:
    avatar = official_avatar(rig)
    with torch.no_grad():
        placed = place_official(avatar, head, avatar.track[2])
        splats = official_splats(avatar, head, 2)
    assert torch.equal(splats.means, placed.means[0])
    assert torch.equal(splats.opacity_logits, avatar.surfels.opacity_logits)
    axes = quaternion_to_matrix(torch.nn.functional.normalize(splats.quats, dim=-1))[..., :2]
    spread = axes * splats.log_scales.exp()[:, None]
    expected = covariances(placed)
    size = expected.diagonal(dim1=-2, dim2=-1).sum(-1)[:, None, None]
    assert_close(spread @ spread.mT / size, expected / size, looser=10, reason="an SVD")


def test_eyeballs_follow_their_own_triangle_unless_the_avatar_says_otherwise(
    head: FlameHead,
) -> None:
    avatar = official_avatar("jbs")
    eyeballs = head.topology.face_region("left_eyeball", "right_eyeball")
    is_eyeball = eyeballs[avatar.surfels.face_index]
    assert 0 < int(is_eyeball.sum()) < len(is_eyeball)
    rigid = place_official(avatar, head, avatar.track[0]).means[0]
    blended = place_official(replace(avatar, rigid_eyeballs=False), head, avatar.track[0]).means[0]
    assert torch.equal(rigid[~is_eyeball], blended[~is_eyeball])
    assert bool((rigid[is_eyeball] != blended[is_eyeball]).any(dim=1).all())


def test_the_shape_is_that_of_the_avatar(head: FlameHead) -> None:
    avatar = official_avatar("similarity")
    other = avatar.track[0].replace(identity_coeffs=torch.zeros(1, 300), static_offset=None)
    found = place_official(avatar, head, other)
    assert torch.equal(found.means, place_official(avatar, head, avatar.track[0]).means)
    # A surfel in the middle of its triangle lies there.
    centered = replace(avatar.surfels, local_means=torch.zeros_like(avatar.surfels.local_means))
    placed = place_official(replace(avatar, surfels=centered), head, avatar.track[0])
    corners = head.vertices(avatar.track[0])[0][head.topology.faces[avatar.surfels.face_index]]
    assert_close(placed.means[0], corners.mean(dim=1))


def test_other_heads_and_moments_are_refused(head: FlameHead) -> None:
    avatar = official_avatar("jacobian")
    far = replace(avatar.surfels, face_index=avatar.surfels.face_index + 5000)
    with pytest.raises(ValueError, match=r"FLAME 2023 with more than \d+ faces, got flame 2023"):
        place_official(replace(avatar, surfels=far), head, avatar.track[0])
    with pytest.raises(ValueError, match="timestep must be 0 to 2, got 3"):
        official_splats(avatar, head, 3)
