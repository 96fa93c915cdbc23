"""Surfaces of Gaussians."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from relight_heads import matte_ball
from tolerances import assert_close
from vultus.geometry.isosurface import grid_points
from vultus.geometry.rotations import quaternion_to_matrix
from vultus.methods.gsheadrelight.gaussians import HeadGaussians
from vultus.methods.gsheadrelight.light_sources import named_light
from vultus.methods.gsheadrelight.occupancy import OccupancySettings, head_volume, volume_mesh
from vultus.methods.gsheadrelight.rendering import shade

SETTINGS = OccupancySettings(resolution=24, length=1.0)


def random_gaussians(count: int) -> HeadGaussians:
    random = torch.Generator().manual_seed(0)

    def draw(size: int, scale: float) -> torch.Tensor:
        return scale * torch.randn(1, count, size, generator=random)

    return HeadGaussians(
        draw(3, 0.3), draw(3, 0.5) - 2.5, draw(4, 1.0), draw(1, 2.0), draw(3, 1.0), draw(9, 1.0)
    )


def test_density_is_the_sum_of_all_gaussians() -> None:
    gaussians = random_gaussians(40)
    colors = torch.rand(1, 40, 3, generator=torch.Generator().manual_seed(1))
    volume = head_volume(gaussians, colors, SETTINGS)
    points = grid_points(24, 1.0).double()
    opacities = gaussians.opacity_logits[0, :, 0].sigmoid().double()
    deviations = gaussians.log_scales[0].exp().clamp(min=0.5 / 23).double()
    rotations = quaternion_to_matrix(gaussians.quats[0]).double()
    density, weighted = torch.zeros(24**3).double(), torch.zeros(24**3, 3).double()
    for index in range(40):
        local = (points - gaussians.means[0, index].double()) @ rotations[index]
        square = (local / deviations[index]).square().sum(dim=1)
        weight = opacities[index] * (-0.5 * square).exp() * (square < 9.0)
        weight = weight * (opacities[index] > SETTINGS.least_opacity)
        density += weight
        weighted += weight[:, None] * colors[0, index].double()
    assert_close(volume.density.flatten(), density.float(), looser=10.0, reason="sums")
    is_there = density > 1e-3
    means = (weighted / density.clamp(min=1e-8)[:, None])[is_there].float()
    assert_close(volume.colors.flatten(1).T[is_there], means, looser=100.0, reason="sums")


def test_the_surface_of_a_ball_is_a_ball_with_its_light() -> None:
    ball, light = matte_ball(4000, 0.3), named_light("right")
    settings = OccupancySettings(resolution=48, length=0.8, level=0.5)
    volume = head_volume(ball, shade(ball, light[None]), settings)
    mesh = volume_mesh(volume, settings)
    radii = mesh.vertices.norm(dim=1)
    # A shell has an outer and an inner side; only the largest is kept.
    assert float((radii - 0.3).abs().max()) < 0.06
    assert mesh.colors is not None
    right, left = mesh.vertices[:, 0] > 0.25, mesh.vertices[:, 0] < -0.25
    assert float(mesh.colors[right].mean()) > 0.85
    assert float(mesh.colors[left].mean()) < 0.4
    assert mesh.normals is not None
    outside = radii > 0.3
    facing = (mesh.normals * mesh.vertices).sum(dim=1)[outside]
    assert float((facing > 0).float().mean()) > 0.95


def test_faint_and_far_gaussians_leave_no_trace() -> None:
    gaussians = random_gaussians(10)
    faint = replace(gaussians, opacity_logits=torch.full((1, 10, 1), -6.0))
    far = replace(gaussians, means=gaussians.means + 50.0)
    for absent in (faint, far):
        volume = head_volume(absent, torch.ones(1, 10, 3), SETTINGS)
        assert float(volume.density.abs().max()) == 0.0
    with pytest.raises(ValueError, match="level must be a density that occurs"):
        volume_mesh(volume, SETTINGS)


@pytest.mark.parametrize("changes", [{"resolution": 1}, {"length": 0.0}, {"least_opacity": 1.0}])
def test_grids_that_hold_no_surface_are_refused(changes: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=f"{next(iter(changes))} must be"):
        replace(SETTINGS, **changes)
