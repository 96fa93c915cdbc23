"""Camera labels: identities and what is no label."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from vultus.data.camera_labels import (
    check_label,
    label_angles,
    labels_to_camera,
    look_at_labels,
    mirror_labels,
    pack_labels,
    shift_labels,
)
from vultus.geometry.cameras import Camera, project_points


def labels_at(*yaws: float) -> Tensor:
    yaw = torch.tensor(yaws)
    return look_at_labels(
        yaw, torch.full_like(yaw, 0.1), target=torch.zeros(3), radius=2.7, focal=4.2647
    )


def test_mirrored_labels_see_the_mirrored_world() -> None:
    labels = labels_at(0.4, -2.5)
    assert torch.equal(mirror_labels(mirror_labels(labels)), labels)
    point = torch.tensor([[[0.2, 0.1, -0.1]]]).expand(2, -1, -1)
    flipped = point * torch.tensor([-1.0, 1.0, 1.0])
    here, _ = project_points(point, labels_to_camera(labels, 64))
    there, _ = project_points(flipped, labels_to_camera(mirror_labels(labels), 64))
    assert torch.allclose(here[..., 0], 64.0 - there[..., 0], atol=1e-4)
    assert torch.allclose(here[..., 1], there[..., 1], atol=1e-4)


@pytest.mark.parametrize("yaw", [0.0, 1.2, -1.2, 2.8, -2.8])
def test_angles_of_level_cameras_are_their_yaw(yaw: float) -> None:
    level = look_at_labels(
        torch.tensor([yaw]), torch.zeros(1), target=torch.zeros(3), radius=2.7, focal=4.2647
    )
    angles = label_angles(level)[0]
    assert abs(float(angles[0])) == pytest.approx(abs(yaw), abs=1e-5)
    assert float(angles[1:].abs().max()) < 1e-5


def test_shifted_labels_move_their_cameras_only() -> None:
    labels, offset = labels_at(0.4), torch.tensor([[0.1, -0.2, 0.3]])
    camera, moved = (labels_to_camera(x, 64) for x in (labels, shift_labels(labels, offset)))
    before, after = camera.camera_to_world, moved.camera_to_world
    assert torch.allclose(after[:, :3, 3] - before[:, :3, 3], offset, atol=1e-6)
    assert torch.equal(after[:, :3, :3], before[:, :3, :3])
    assert math.isclose(float(camera.intrinsics[0, 0, 0]), 4.2647 * 64, rel_tol=1e-5)


def test_looking_at_a_point_puts_it_into_the_middle() -> None:
    label = look_at_labels(
        torch.tensor([0.7]),
        torch.tensor([0.3]),
        target=torch.tensor([0.0, 0.1, 0.2]),
        radius=2.7,
        focal=4.2647,
    )
    camera = labels_to_camera(label, 64)
    pixel, _ = project_points(torch.tensor([[[0.0, 0.1, 0.2]]]), camera)
    assert torch.allclose(pixel, torch.full((1, 1, 2), 32.0), atol=1e-3)
    check_label(label[0], "label")


def test_what_is_no_label_is_refused() -> None:
    good = labels_at(0.4)[0]
    with pytest.raises(ValueError, match="label must have 25 numbers, got 24"):
        check_label(good[:24], "label")
    stretched = good.clone()
    stretched[0] *= 1.1
    with pytest.raises(ValueError, match="camera_to_world must be rigid"):
        check_label(stretched, "label")
    behind = good.clone()
    behind[16] = -4.2
    with pytest.raises(ValueError, match="positive focal lengths"):
        check_label(behind, "label")
    with pytest.raises(ValueError, match="images must be square, got 4 x 5"):
        pack_labels(Camera(torch.eye(4)[None], torch.eye(3)[None], 4, 5))
