"""Golden values of plane lookups and of their volume rendering."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from vultus.kernels.triplane_volume import (
    Backend,
    DecoderWeights,
    VolumeDraws,
    VolumeSettings,
    render_planes,
)
from vultus.kernels.triplane_volume.lookup import (
    sample_dual_spheres,
    sample_tri_grid,
    sample_tri_plane,
    sphere_axes,
    sphere_coordinates,
)
from vultus.kernels.triplane_volume.marching import composite_rays, resample_depths
from vultus.kernels.triplane_volume.ref import decode

LOOKUP, GRADIENT, RENDERING = 2e-5, 1e-4, 2e-4
TRUSTED = 1e-6
"""Fusion weight below which published coordinates depend on the platform."""
TRI_GRID_DEPTH = 3

BASE = VolumeSettings(coarse_samples=12, fine_samples=12, parity="official")
VARIANTS = {
    "fixed": BASE,
    "white": replace(BASE, is_white_behind=True, fine_samples=0),
    "auto": replace(BASE, limits="box"),
    "auto_miss": replace(BASE, limits="box", box_size=0.5),
    "disparity": replace(BASE, is_in_disparity=True),
}


def assert_near(actual: Tensor, expected: Tensor, tolerance: float) -> None:
    assert actual.shape == expected.shape
    scale = max(float(expected.abs().max()), 1.0)
    assert float((actual - expected).detach().abs().max()) <= tolerance * scale


def applied(golden: Mapping[str, Tensor], prefix: str, activation: str = "none") -> DecoderWeights:
    """Equalised layers as they are applied."""
    layers = []
    for index in (0, 2):
        weight = golden[f"{prefix}net.{index}.weight"].float()
        layers += [weight / weight.shape[1] ** 0.5, golden[f"{prefix}net.{index}.bias"].float()]
    return DecoderWeights(*layers, activation=activation)  # pyright: ignore[reportArgumentType]


@pytest.mark.golden("spherehead/a_sphere_sampling.safetensors")
def test_sphere_coordinates_and_weights_are_the_published_ones(golden: dict[str, Tensor]) -> None:
    for sphere, axes in zip("AB", sphere_axes(2.0 * golden["points"]), strict=True):
        actual = sphere_coordinates(axes)
        assert_near(actual.weight, golden[f"weight_{sphere}"], LOOKUP)
        trusted = golden[f"weight_{sphere}"] > TRUSTED
        for name, values in (
            ("theta", actual.polar),
            ("phi", actual.azimuth),
            ("radius", actual.radius),
        ):
            assert_near(values[trusted], golden[f"{name}_{sphere}"][trusted], LOOKUP)


@pytest.mark.golden("spherehead/a_sphere_sampling.safetensors")
def test_fused_features_are_the_published_ones(golden: dict[str, Tensor]) -> None:
    features = sample_dual_spheres(golden["planes"].float(), 2.0 * golden["points"])
    total = golden["weight_A"] + golden["weight_B"]
    is_direction = total > TRUSTED  # The origin has none.
    assert int((~is_direction).sum()) <= golden["points"].shape[0]
    mask = is_direction[:, None, :, None].expand_as(features)
    assert_near(features[mask], golden["features"][mask], LOOKUP)


@pytest.mark.golden("spherehead/a_sphere_sampling.safetensors")
def test_gradients_to_the_planes_are_the_published_ones(
    golden: dict[str, Tensor], golden_dir: Path
) -> None:
    expected = load_file(golden_dir / "spherehead" / "a_sphere_sampling_grad.safetensors")
    planes = golden["planes"].float().requires_grad_()
    features = sample_dual_spheres(planes, 2.0 * golden["points"][:, :64])
    (features * expected["grad_out"]).sum().backward()
    gradient = planes.grad
    assert gradient is not None
    sums = gradient.abs().sum(dim=(-2, -1))
    assert_near(sums, expected["grad_planes_abs_sum_per_plane"], GRADIENT)
    assert_near(gradient[0, 0, 0, 0], expected["grad_planes_n0_a_p0_c0"], GRADIENT)
    assert_near(gradient[1, 1, 2, 5], expected["grad_planes_n1_b_p2_c5"], GRADIENT)


@pytest.mark.golden("spherehead/b_osg_decoder.safetensors")
@pytest.mark.parametrize("activation", ["sigmoid", "lrelu", "none"])
def test_decoders_are_the_published_ones(golden: dict[str, Tensor], activation: str) -> None:
    decoder = applied(golden, f"{activation}.param.", activation)
    features, density = decode(golden["sampled_features"], decoder)
    assert_near(features, golden[f"{activation}.rgb"], 1e-5)
    assert_near(density[..., None], golden[f"{activation}.sigma"], 1e-5)


@pytest.mark.golden("spherehead/c_ray_marcher.safetensors")
def test_compositing_and_resampling_are_the_published_ones(golden: dict[str, Tensor]) -> None:
    samples = golden["colors"], golden["densities"][..., 0], golden["depths"][..., 0]
    composite = composite_rays(*samples)
    assert_near(composite.features, golden["rgb"], 1e-5)
    assert_near(composite.depth, golden["depth"], 1e-5)
    assert_near(composite.weights[..., None], golden["weights"], 1e-5)
    white = composite_rays(*samples, is_white_behind=True)
    assert_near(white.features, golden["rgb_white_back"], 1e-5)
    fine = resample_depths(samples[2], golden["weights"][..., 0], golden["pdf_u"][None])
    assert_near(fine[..., None], golden["fine_depths"], 1e-5)


@pytest.mark.golden("spherehead/c_volume_renderer.safetensors")
@pytest.mark.parametrize("backend", ["ref", "cpu"])
@pytest.mark.parametrize("variant", list(VARIANTS))
def test_volume_rendering_replays_the_published_one(
    golden: dict[str, Tensor], variant: str, backend: Backend
) -> None:
    planes = golden["planes"].float().requires_grad_()
    jitter = golden[f"{variant}.draw0_rand_like"][..., 0]
    uniforms = golden.get(f"{variant}.draw1_rand", torch.zeros(jitter[..., 0].numel(), 0))
    rendered = render_planes(
        planes,
        applied(golden, "param.", "sigmoid"),
        golden["ray_origins"],
        golden["ray_directions"],
        VARIANTS[variant],
        VolumeDraws(jitter, uniforms.unflatten(0, jitter.shape[:2])),
        backend=backend,
    )
    assert_near(rendered.features, golden[f"{variant}.rgb"], RENDERING)
    assert_near(rendered.depth, golden[f"{variant}.depth"], RENDERING)
    assert_near(rendered.opacity, golden[f"{variant}.weight"], RENDERING)
    (rendered.features.square().mean() + rendered.opacity.mean()).backward()
    assert planes.grad is not None
    norms, expected = planes.grad.flatten(3).norm(dim=3), golden[f"{variant}.grad_planes_norm"]
    assert float((norms - expected).abs().max()) <= 1e-3 * float(expected.max())


@pytest.mark.golden("spherehead/i_trigrid_sampling_panohead.safetensors")
def test_tri_grids_are_sampled_as_published(golden: dict[str, Tensor]) -> None:
    features = sample_tri_grid(golden["planes"], 2.0 * golden["points"], TRI_GRID_DEPTH)
    assert_near(features, golden["features"], LOOKUP)


@pytest.mark.golden("spherehead/i_triplane_sampling_eg3d.safetensors")
def test_tri_planes_are_sampled_as_published(golden: dict[str, Tensor]) -> None:
    assert_near(
        sample_tri_plane(golden["planes"], 2.0 * golden["points"]), golden["features"], LOOKUP
    )
