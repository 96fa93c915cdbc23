import math

import pytest
import torch

from fakes import FakeHead
from vultus.data.studio.rigs import build_rig, dome, head_center, monocular, turntable
from vultus.geometry.cameras import camera_centers, check_rigid, project_points

TARGET = torch.tensor([0.01, -0.02, 0.03])
OPTIONS = {"radius": 0.9, "fov": 0.4, "size": 64, "target": TARGET}


@pytest.mark.parametrize("num_cameras", [1, 2, 5, 16])
def test_every_dome_camera_sees_the_target_in_the_middle_at_the_radius(num_cameras):
    camera = dome(num_cameras, **OPTIONS)
    pixels, depth = project_points(TARGET.expand(num_cameras, 1, 3), camera)
    torch.testing.assert_close(pixels, torch.full_like(pixels, 32.0), atol=1e-3, rtol=0)
    torch.testing.assert_close(depth, torch.full_like(depth, 0.9))
    for matrix in camera.world_to_camera:
        check_rigid(matrix, "world_to_camera")


def test_dome_runs_from_the_subjects_right_to_the_left_in_front():
    offsets = camera_centers(dome(7, **OPTIONS, arc=1.6)) - TARGET
    assert (offsets[:, 2] > 0).all()
    azimuths = torch.atan2(offsets[:, 0], offsets[:, 2])
    torch.testing.assert_close(azimuths, torch.linspace(-0.8, 0.8, 7), atol=1e-5, rtol=0)


def test_a_closed_dome_does_not_repeat_its_first_camera():
    centers = camera_centers(dome(9, **OPTIONS, arc=2 * math.pi))
    assert (torch.pdist(centers) > 0.1).all()


def test_turntable_starts_in_front_and_is_evenly_spaced():
    offsets = camera_centers(turntable(8, **OPTIONS)) - TARGET
    torch.testing.assert_close(offsets[0], torch.tensor([0.0, 0.0, 0.9]), atol=1e-6, rtol=0)
    steps = (offsets - offsets.roll(1, 0)).norm(dim=1)
    torch.testing.assert_close(steps, torch.full_like(steps, 2 * 0.9 * math.sin(math.pi / 8)))


def test_field_of_view_spans_the_image():
    camera = monocular(**OPTIONS)
    edge = TARGET + torch.tensor([0.9 * math.tan(0.2), 0.0, 0.0])
    pixels, _ = project_points(edge.expand(1, 1, 3), camera)
    torch.testing.assert_close(pixels[0, 0], torch.tensor([64.0, 32.0]), atol=1e-3, rtol=0)


def test_monocular_rig_has_one_camera_only():
    with pytest.raises(ValueError, match="cameras must be 1 for the monocular rig, got 2"):
        build_rig("monocular", 2, **OPTIONS, arc=1.0, elevation=0.0)


def test_head_center_of_a_sphere_is_its_middle():
    torch.testing.assert_close(head_center(FakeHead()), torch.zeros(3), atol=1e-3, rtol=0)


def test_head_center_leaves_the_neck_out_and_follows_the_identity():
    head = FakeHead(rings=24, segments=36)
    head.topology.regions["neck"][:] = head.neutral[:, 1] < -1e-4
    center = head_center(head, torch.tensor([[1.0]]))
    torch.testing.assert_close(center, torch.tensor([0.0, 0.055, 0.0]), atol=4e-3, rtol=0)
