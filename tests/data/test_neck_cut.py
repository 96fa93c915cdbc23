from __future__ import annotations

import math

import pytest
import torch

from fakes import FakeHead
from vultus.data.neck_cut import is_above_cut
from vultus.geometry.cameras import Camera, fov_to_focal, look_at
from vultus.geometry.rotations import axis_angle_to_matrix
from vultus.heads.base import HeadPose

SIZE = 64
FINE = FakeHead(rings=40, segments=60)


def camera_at(eye: tuple[float, float, float], target=(0.0, 0.0, 0.0)) -> Camera:
    focal = fov_to_focal(0.4, SIZE)
    intrinsics = torch.tensor([[[focal, 0, SIZE / 2], [0, focal, SIZE / 2], [0, 0, 1.0]]])
    view = look_at(torch.tensor([eye]), torch.tensor([target]))
    return Camera(view, intrinsics, SIZE, SIZE)


def test_a_level_camera_is_cut_at_the_row_of_the_height():
    kept = is_above_cut(FINE, HeadPose(), camera_at((0.0, 0.0, 1.0)), -0.02)[0]
    # The front of the sphere at this height is 1 - 0.098 metres away.
    focal = fov_to_focal(0.4, SIZE)
    row = SIZE / 2 + focal * 0.02 / (1 - math.sqrt(0.1**2 - 0.02**2))
    middle = kept[:, SIZE // 2]
    crown = int(SIZE / 2 - focal * 0.1)
    assert int(middle.nonzero().max()) + 1 == pytest.approx(row, abs=1.0)
    assert bool(middle[crown : int(row) - 1].all())


def test_the_cut_turns_with_the_head():
    upside_down = HeadPose(global_rotation=torch.tensor([[0.0, 0.0, math.pi]]))
    camera = camera_at((0.0, 0.0, 1.0))
    upright = is_above_cut(FINE, HeadPose(), camera, -0.03)
    turned = is_above_cut(FINE, upside_down, camera, -0.03)
    assert float((upright.flip(1, 2) == turned).float().mean()) > 0.99
    torch.testing.assert_close(
        axis_angle_to_matrix(upside_down.global_rotation)[0].diagonal(),
        torch.tensor([-1.0, -1.0, 1.0]),
        atol=1e-6,
        rtol=0,
    )


def test_pixels_beside_the_head_go_from_bottom_to_top():
    """Hair above the crown stays, a shoulder beside the cut does not."""
    kept = is_above_cut(FINE, HeadPose(), camera_at((0.0, 0.0, 1.0)), -0.05)[0]
    focal = fov_to_focal(0.4, SIZE)
    crown = int(SIZE / 2 - focal * 0.12)
    assert bool(kept[crown, SIZE // 2])
    shoulder_row = int(SIZE / 2 + focal * 0.03)
    edge = int(SIZE / 2 + focal * 0.1)
    assert not bool(kept[shoulder_row, edge + 3 :].any())
    assert bool(kept[shoulder_row, SIZE // 2])


def test_the_inside_of_an_open_neck_does_not_count():
    head = FakeHead(rings=40, segments=60)
    faces = head.topology.faces
    is_open = (head.neutral[faces][..., 1] > -0.06).all(dim=1)
    opened = FakeHead(rings=40, segments=60)
    object.__setattr__(opened.topology, "faces", faces[is_open])
    from_below = camera_at((0.0, -0.9, 0.3))
    closed = is_above_cut(head, HeadPose(), from_below, -0.5)[0]
    seen_inside = is_above_cut(opened, HeadPose(), from_below, -0.5)[0]
    assert bool(closed[SIZE // 2, SIZE // 2])
    assert not bool(seen_inside[SIZE // 2, SIZE // 2])


def test_a_camera_that_looks_past_the_rig_is_refused():
    past = camera_at((0.0, 0.0, 1.0), target=(2.0, 0.0, 1.0))
    with pytest.raises(ValueError, match="does not see the rig"):
        is_above_cut(FINE, HeadPose(), past, 0.0)
