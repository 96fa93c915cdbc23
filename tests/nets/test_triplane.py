"""Tri-planes: which axis runs where, corners, borders, gradients."""

from __future__ import annotations

import pytest
import torch

from vultus.nets.triplane import plane_shapes, sample_planes, sample_scales

RESOLUTION = (4, 5, 6)


def linear_planes(slopes: list[tuple[float, float]]) -> list[torch.Tensor]:
    """Planes whose value is 1 + a u + b v; bilinear lookups give it back exactly."""
    planes = []
    for (height, width), (a, b) in zip(plane_shapes(RESOLUTION), slopes, strict=True):
        v = torch.linspace(-1, 1, height, dtype=torch.float64)[:, None]
        u = torch.linspace(-1, 1, width, dtype=torch.float64)[None]
        planes.append((1 + a * u + b * v)[None, None])
    return planes


def points_in_box(num: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return 2 * torch.rand(1, num, 3, generator=generator, dtype=torch.float64) - 1


def test_each_pair_of_axes_reads_its_plane_and_samples_are_multiplied() -> None:
    slopes = [(0.1, 0.2), (0.3, -0.4), (-0.5, 0.6)]
    points = points_in_box(50)
    x, y, z = points[0].unbind(-1)
    expected = torch.ones_like(x)
    for (a, b), (u, v) in zip(slopes, ((x, y), (x, z), (y, z)), strict=True):
        expected = expected * (1 + a * u + b * v)
    found = sample_planes(linear_planes(slopes), points)
    torch.testing.assert_close(found[0, :, 0], expected)


def test_outside_the_box_the_border_continues_without_gradient() -> None:
    planes = linear_planes([(0.1, 0.2), (0.3, -0.4), (-0.5, 0.6)])
    outside = torch.tensor([[[3.0, 0.2, -0.1]]], dtype=torch.float64, requires_grad=True)
    inside = torch.tensor([[[1.0, 0.2, -0.1]]], dtype=torch.float64)
    found = sample_planes(planes, outside)
    torch.testing.assert_close(found, sample_planes(planes, inside))
    found.sum().backward()
    assert outside.grad is not None
    assert float(outside.grad[0, 0, 0]) == 0
    assert bool((outside.grad[0, 0, 1:] != 0).all())


def test_groups_read_planes_of_their_own() -> None:
    generator = torch.Generator().manual_seed(1)
    planes = [torch.rand(2, 3, *shape, generator=generator) for shape in plane_shapes(RESOLUTION)]
    points = points_in_box(8).float().expand(2, -1, -1)
    together = sample_planes(planes, points)
    for group in range(2):
        alone = sample_planes([p[group : group + 1] for p in planes], points[:1])
        torch.testing.assert_close(together[group], alone[0])


def test_scales_are_added() -> None:
    first = linear_planes([(0.1, 0.2), (0.3, -0.4), (-0.5, 0.6)])
    second = linear_planes([(0.0, 0.1), (0.2, 0.0), (0.0, 0.3)])
    points = points_in_box(8)
    found = sample_scales([first, second], points)
    torch.testing.assert_close(found, sample_planes(first, points) + sample_planes(second, points))


def test_gradients_are_those_of_finite_differences() -> None:
    planes = [p.requires_grad_() for p in linear_planes([(0.1, 0.2), (0.3, -0.4), (-0.5, 0.6)])]
    points = (0.9 * points_in_box(4)).requires_grad_()
    assert torch.autograd.gradcheck(lambda p, *q: sample_planes(q, p), (points, *planes))


def test_wrong_numbers_of_planes_are_refused() -> None:
    planes = linear_planes([(0.1, 0.2), (0.3, -0.4), (-0.5, 0.6)])
    with pytest.raises(ValueError, match="planes must be 3"):
        sample_planes(planes[:2], points_in_box(1))
    with pytest.raises(ValueError, match="at least one tri-plane"):
        sample_scales([], points_in_box(1))
