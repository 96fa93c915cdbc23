"""Golden values of camera labels."""

from __future__ import annotations

import math
from collections.abc import Mapping

import pytest
import torch
from torch import Tensor

from vultus.data.camera_labels import (
    label_angles,
    labels_to_camera,
    look_at_labels,
    mirror_labels,
    pack_labels,
)
from vultus.methods.spherehead.rays import label_rays

RADIUS = 2.7
DEGREE = math.pi / 180

labels = pytest.mark.golden("spherehead/g_ops_cameras_misc.safetensors")


def published_labels(golden: Mapping[str, Tensor], name: str) -> Tensor:
    matrices = golden[name].flatten(1)
    return torch.cat([matrices, golden["cam.K_fov18.837"].flatten().expand(5, -1)], dim=1)


@labels
@pytest.mark.parametrize(("name", "target"), [("cam.lookat0", 0.0), ("cam.lookat1", 0.2)])
def test_cameras_around_the_head_are_the_published_ones(
    golden: dict[str, Tensor], name: str, target: float
) -> None:
    actual = look_at_labels(
        golden["cam.h"] - math.pi / 2,
        1.0 - 2.0 * golden["cam.v"] / math.pi,
        target=torch.tensor([0.0, 0.0, target]),
        radius=RADIUS,
        focal=float(golden["cam.K_fov18.837"][0, 0]),
    )
    assert torch.allclose(actual, published_labels(golden, name), atol=1e-5)


@labels
def test_angles_of_labels_are_the_published_ones(golden: dict[str, Tensor]) -> None:
    angles = label_angles(published_labels(golden, "cam.lookat0").double())
    assert torch.allclose(angles / DEGREE, golden["cam.pose_angles_deg"].double(), atol=1e-3)


@labels
def test_mirrored_labels_are_exactly_the_published_ones(golden: dict[str, Tensor]) -> None:
    assert torch.equal(mirror_labels(golden["xflip.label_in"]), golden["xflip.label_out"])


@labels
def test_rays_of_skewed_cameras_are_the_published_ones(golden: dict[str, Tensor]) -> None:
    origins, directions = golden["ray.origins"], golden["ray.dirs"]
    size = math.isqrt(origins.shape[1])
    for name in ("cam.lookat0", "cam.lookat1"):
        matrices = golden[name][: len(origins)].flatten(1)
        intrinsics = golden["ray.K"].flatten().expand(len(origins), -1)
        actual = label_rays(torch.cat([matrices, intrinsics], dim=1), size)
        if torch.allclose(actual[0], origins, atol=1e-5):
            assert torch.allclose(actual[1], directions, atol=1e-5)
            return
    pytest.fail("no camera of the fixture has its ray origins")


def test_labels_survive_a_camera() -> None:
    yaw, height = torch.tensor([0.3, -2.0]), torch.tensor([0.1, -0.4])
    label = look_at_labels(yaw, height, target=torch.zeros(3), radius=RADIUS, focal=4.2647)
    assert torch.allclose(pack_labels(labels_to_camera(label, 64)), label, atol=1e-6)
