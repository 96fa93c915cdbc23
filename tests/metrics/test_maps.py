from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from vultus.metrics.maps import depth_error, mask_iou, normal_angle, normal_cosine


def constant_normals(*vector: float) -> Tensor:
    return torch.tensor(vector).view(1, 3, 1, 1).expand(1, 3, 4, 5).contiguous()


EVERYWHERE = torch.ones(1, 1, 4, 5, dtype=torch.bool)


@pytest.mark.parametrize("degrees", [0.0, 1e-2, 30.0, 90.0, 135.0, 180.0])
def test_angle_and_cosine_of_a_known_rotation_ignore_length(degrees: float) -> None:
    angle = math.radians(degrees)
    a = constant_normals(0.0, 0.0, 0.3)
    b = constant_normals(0.0, 2.0 * math.sin(angle), 2.0 * math.cos(angle))
    assert float(normal_angle(a, b, EVERYWHERE)) == pytest.approx(angle, rel=1e-5, abs=1e-6)
    assert float(normal_cosine(a, b, EVERYWHERE)) == pytest.approx(math.cos(angle), abs=1e-6)


def test_only_chosen_pixels_count() -> None:
    a, b = constant_normals(0.0, 0.0, 1.0), constant_normals(0.0, 0.0, 1.0)
    b[..., 0] = -b[..., 0]
    pixels = EVERYWHERE.clone()
    assert float(normal_cosine(a, b, pixels)) == pytest.approx(0.6)
    pixels[..., 0] = False
    assert float(normal_cosine(a, b, pixels)) == pytest.approx(1.0)


def test_depth_error_averages_absolute_differences() -> None:
    depth = torch.arange(20.0).view(1, 1, 4, 5)
    pixels = (depth > 2) & (depth < 6)
    assert float(depth_error(depth, torch.full_like(depth, 4.0), pixels)) == pytest.approx(2 / 3)


def test_values_outside_the_pixels_may_be_anything() -> None:
    depth = torch.full((1, 1, 4, 5), math.nan)
    depth[..., 0, 0] = 1.0
    pixels = ~depth.isnan()
    assert float(depth_error(depth, torch.zeros_like(depth), pixels)) == 1.0


def test_average_over_no_pixels_is_nan() -> None:
    a = constant_normals(0.0, 0.0, 1.0)
    assert math.isnan(float(normal_angle(a, a, ~EVERYWHERE)))


def test_intersection_over_union_counts_pixels() -> None:
    a, b = torch.zeros(1, 1, 4, 4).bool(), torch.zeros(1, 1, 4, 4).bool()
    a[..., :2, :] = True
    b[..., 1:3, :] = True
    assert float(mask_iou(a, b)) == pytest.approx(1 / 3)
