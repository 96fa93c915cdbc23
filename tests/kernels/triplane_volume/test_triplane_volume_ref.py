"""Plane lookups and volume rendering: identities and closed forms."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from vultus.kernels.triplane_volume import (
    DecoderWeights,
    VolumeDraws,
    VolumeSettings,
    query_points,
    render_planes,
)
from vultus.kernels.triplane_volume.lookup import (
    sample_dual_spheres,
    sphere_axes,
    sphere_coordinates,
)
from vultus.kernels.triplane_volume.marching import (
    composite_rays,
    resample_depths,
    spread_depths,
)

SETTINGS = VolumeSettings(coarse_samples=32, fine_samples=32, crop_margin=None)


def random(*shape: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, dtype=torch.float64, generator=generator)


def test_the_two_weights_never_vanish_together() -> None:
    points = random(1, 20000, 3)
    first, second = (sphere_coordinates(axes).weight for axes in sphere_axes(points))
    total = first + second
    assert float(total.min()) >= 0.4375 - 1e-3
    assert float(total.max()) <= 1.0 + 1e-9
    assert float(first.min()) >= 0.0


def test_weights_equal_their_definition_by_angles() -> None:
    for axes in sphere_axes(random(1, 500, 3)):
        found = sphere_coordinates(axes)
        polar, azimuth = found.polar * torch.pi, found.azimuth * torch.pi
        expected = 0.25 * (1.0 + polar.cos()) * (1.0 + azimuth.cos())
        assert torch.allclose(found.weight, expected, atol=1e-12)


@pytest.mark.parametrize("sphere", [0, 1])
def test_features_are_continuous_across_seams(sphere: int) -> None:
    planes = random(1, 2, 3, 4, 8, 8)
    # Points on either side of the seam of A (back of the head) and of B (face).
    base = torch.tensor([[[0.2, 0.0, -0.5]], [[0.0, 0.3, 0.5]]], dtype=torch.float64)[sphere]
    across = torch.tensor([[0.0, 1.0, 0.0], [1.0, 0.0, 0.0]], dtype=torch.float64)[sphere]
    jumps = []
    for step in (1e-2, 1e-4, 1e-6):
        pair = torch.stack([base - step * across, base + step * across], dim=1)
        sampled = sample_dual_spheres(planes, pair[:, :, :].reshape(1, 2, 3))
        jumps.append(float((sampled[:, :, 0] - sampled[:, :, 1]).abs().max()))
    assert jumps[2] < 1e-4
    assert jumps[2] < jumps[1] < jumps[0]


def test_poles_and_the_origin_have_finite_features_and_gradients() -> None:
    points = torch.tensor(
        [[0.0, 0.0, 0.0], [0.5, 0.0, 0.0], [-0.5, 0.0, 0.0], [0.0, 0.5, 0.0], [0.0, -0.5, 0.0]],
        requires_grad=True,
    )
    planes = torch.randn(1, 2, 3, 4, 8, 8, requires_grad=True)
    features = sample_dual_spheres(planes, points[None])
    features.square().sum().backward()
    assert bool(features.isfinite().all())
    assert points.grad is not None
    assert bool(points.grad.isfinite().all())
    assert planes.grad is not None
    assert bool(planes.grad.isfinite().all())


def test_gradients_to_points_and_planes_are_exact() -> None:
    planes = random(1, 2, 3, 2, 4, 4).requires_grad_()
    points = (0.4 * random(1, 6, 3, seed=1)).requires_grad_()
    assert torch.autograd.gradcheck(sample_dual_spheres, (planes, points))


def test_a_homogeneous_medium_has_the_closed_form() -> None:
    depths = torch.linspace(1.0, 3.0, 41, dtype=torch.float64)[None, None]
    features = random(1, 1, 1, 3).expand(1, 1, 41, 3)
    raw = torch.full((1, 1, 41), 0.7, dtype=torch.float64)
    composite = composite_rays(features, raw, depths)
    density = torch.nn.functional.softplus(raw[0, 0, 0] - 1.0)
    expected = 1.0 - torch.exp(-2.0 * density)
    assert float(composite.opacity) == pytest.approx(float(expected), rel=1e-8)
    assert torch.allclose(composite.features[0, 0], expected * features[0, 0, 0], rtol=1e-7)


def test_nothing_is_infinitely_far_and_white_if_so_wished() -> None:
    depths = torch.linspace(1.0, 2.0, 5)[None, None]
    composite = composite_rays(
        torch.randn(1, 1, 5, 3), torch.full((1, 1, 5), -1000.0), depths, is_white_behind=True
    )
    assert float(composite.depth) == float("inf")
    assert torch.equal(composite.features, torch.ones(1, 1, 3))


def test_depths_stay_in_their_steps_also_in_disparity() -> None:
    start, end = torch.full((1, 1, 1), 2.0), torch.full((1, 1, 1), 4.0)
    at_start = spread_depths(start, end, torch.zeros(1, 1, 9))
    assert torch.allclose(at_start[0, 0], torch.linspace(2.0, 4.0, 9))
    inverse = 1.0 / spread_depths(start, end, torch.zeros(1, 1, 9), is_in_disparity=True)
    assert torch.allclose(inverse[0, 0].diff(), torch.full((8,), -1.0 / 32.0), atol=1e-6)


def test_new_depths_gather_where_the_weight_is() -> None:
    depths = torch.linspace(0.0, 1.0, 21)[None, None]
    weights = torch.zeros(1, 1, 20)
    weights[..., 10] = 1.0
    uniforms = torch.linspace(0.001, 0.999, 200)[None, None]
    drawn = resample_depths(depths, weights, uniforms)
    assert bool((drawn.diff(dim=-1) >= -1e-6).all())
    assert float(((drawn - 0.525).abs() < 0.12).float().mean()) > 0.8


def ball_scene(radius: float) -> tuple[Tensor, DecoderWeights]:
    """Planes that hold the distance from the centre, and a decoder that is dense inside."""
    size = 64
    rho = (torch.arange(size) + 0.5) / size * 2.0 - 1.0
    distance = (rho + 1.0) * 3.0**0.5 / 2.0 / 2.0  # In world units for a box of 1.
    planes = torch.zeros(1, 2, 3, 1, size, size)
    planes[:, :, 1:, 0] = distance[:, None]
    # The mean over three planes, one of which is empty, is 2/3 of the distance.
    steep = 400.0
    decoder = DecoderWeights(
        torch.tensor([[-1.5 * steep]]),
        torch.tensor([steep * radius]),
        torch.tensor([[100.0], [0.0]]),
        torch.tensor([-10.0, 1.0]),
    )
    return planes, decoder


def rays(*offsets: float) -> tuple[Tensor, Tensor]:
    origins = torch.tensor([[[x, 0.05, 2.7] for x in offsets]])
    return origins, torch.tensor([0.0, 0.0, -1.0]).expand_as(origins)


def draw(settings: VolumeSettings, count: int) -> VolumeDraws:
    return VolumeDraws.draw((1, count), settings, torch.Generator().manual_seed(0))


def test_a_ball_is_where_its_density_says() -> None:
    planes, decoder = ball_scene(0.3)
    rendered = render_planes(planes, decoder, *rays(0.05, 0.45), SETTINGS, draw(SETTINGS, 2))
    front = 2.7 - (0.3**2 - 0.05**2 - 0.05**2) ** 0.5
    assert float(rendered.depth[0, 0]) == pytest.approx(front, abs=0.02)
    assert float(rendered.opacity[0, 0]) == pytest.approx(1.0, abs=1e-3)
    assert float(rendered.opacity[0, 1]) < 1e-3


def test_rays_do_not_depend_on_their_neighbours() -> None:
    planes, decoder = ball_scene(0.3)
    origins, directions = rays(0.0, 0.1, 0.2)
    draws = draw(SETTINGS, 3)
    together = render_planes(planes, decoder, origins, directions, SETTINGS, draws)
    one = VolumeDraws(draws.jitter[:, 1:2], draws.uniforms[:, 1:2])
    alone = render_planes(planes, decoder, origins[:, 1:2], directions[:, 1:2], SETTINGS, one)
    for whole, part in zip(together, alone, strict=True):
        assert torch.allclose(whole[:, 1:2], part, atol=1e-6)


def test_the_crop_empties_what_is_near_the_sides() -> None:
    planes, decoder = ball_scene(0.49)
    points = torch.tensor([[[0.45, 0.0, 0.0], [0.0, 0.45, 0.0], [0.0, 0.0, 0.45], [0.3, 0.0, 0.3]]])
    settings = replace(SETTINGS, crop_margin=0.1)
    _, cropped = query_points(planes, decoder, points, settings)
    assert (cropped < -999.0).tolist() == [[True, False, True, False]]
    _, whole = query_points(planes, decoder, points, settings, is_cropped=False)
    assert float(whole.min()) > -999.0


def test_missing_rays_end_behind_the_box_unless_parity_is_official() -> None:
    planes, decoder = ball_scene(0.3)
    depths = {}
    for parity in ("official", "fixed"):
        settings = replace(SETTINGS, limits="box", fine_samples=0, parity=parity)
        rendered = render_planes(planes, decoder, *rays(0.05, 3.0), settings, draw(settings, 2))
        depths[parity] = float(rendered.depth[0, 1])
    assert depths["official"] != pytest.approx(depths["fixed"], abs=0.1)
    assert 2.2 <= depths["fixed"] <= 3.3


def test_noise_on_the_density_uses_the_given_numbers() -> None:
    planes, decoder = ball_scene(0.3)
    points, numbers = torch.zeros(1, 4, 3), torch.tensor([[0.0, 1.0, -1.0, 2.0]])
    settings = replace(SETTINGS, density_noise=0.5)
    _, still = query_points(planes, decoder, points, settings)
    _, noisy = query_points(planes, decoder, points, settings, noise=numbers)
    assert torch.allclose(noisy - still, 0.5 * numbers, atol=1e-3)
    assert draw(settings, 1).coarse_noise is not None
    assert draw(SETTINGS, 1).coarse_noise is None


def test_contradicting_settings_are_refused() -> None:
    with pytest.raises(ValueError, match="coarse_samples must be at least 4, got 3"):
        VolumeSettings(coarse_samples=3)
    with pytest.raises(ValueError, match="limits must rise from above 0"):
        VolumeSettings(limits=(3.0, 2.0))


def test_draws_of_other_settings_are_refused() -> None:
    planes, decoder = ball_scene(0.3)
    scene = planes, decoder, *rays(0.0)
    finer = replace(SETTINGS, fine_samples=16)
    with pytest.raises(ValueError, match=r"uniforms must have the shape \(1, 1, 16\)"):
        render_planes(*scene, finer, draw(SETTINGS, 1))
    with pytest.raises(ValueError, match="draws must hold noise"):
        render_planes(*scene, replace(SETTINGS, density_noise=1.0), draw(SETTINGS, 1))


def test_a_scene_that_no_ray_meets_has_no_limits() -> None:
    planes, decoder = ball_scene(0.3)
    settings = replace(SETTINGS, limits="box")
    with pytest.raises(ValueError, match="no ray meets the box"):
        render_planes(planes, decoder, *rays(3.0), settings, draw(settings, 1))
