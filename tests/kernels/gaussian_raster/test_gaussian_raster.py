"""CPU kernels against the oracle on ordinary and nasty scenes, and what both must obey."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from jaxtyping import TypeCheckError
from torch import Tensor

from gaussian_scenes import OUTPUTS, make_scene, with_covariances
from raster_scenes import (
    check_against_oracle,
    double,
    gradients_of,
    make_camera,
    maps_of,
    random_loss,
)
from vultus.geometry.cameras import Camera
from vultus.kernels import _cpu_tiles
from vultus.kernels.gaussian_raster import rasterize_gaussians


@pytest.mark.parametrize("cull", ["exact", "3sigma"])
def test_cpu_agrees_with_the_oracle_on_a_batch(cull):
    background = torch.tensor([0.2, 0.5, 0.9, -1.0, 0.3])
    check_against_oracle(
        make_scene(batch=2), make_camera(batch=2), cull=cull, background=background
    )


@pytest.mark.parametrize(
    "options",
    [
        {"antialiased": True},
        {"dilation": 0.0},
        {"dilation": 1.5, "antialiased": True},
        {"normalize_quats": False},
        {"scale_modifier": 0.4},
        {"max_alpha": 0.999},
        {"pixel_center": 0.0},
        {"near": 1.9},
        {"gradients": "published"},
        {"sh_degree": 1},
        {"outputs": ()},
        {"outputs": ("median_depth",)},
    ],
    ids=str,
)
def test_every_option_agrees_with_the_oracle(options):
    scene = make_scene(seed=3)
    opacities = scene.opacities.clone()
    opacities[:, ::3] = 1.0
    check_against_oracle(replace(scene, opacities=opacities), make_camera(), **options)


@pytest.mark.parametrize("antialiased", [False, True])
def test_covariances_agree_with_the_oracle(antialiased):
    scene = with_covariances(make_scene(seed=1))
    check_against_oracle(scene, make_camera(), antialiased=antialiased)


def test_sh_alone_agrees_with_the_oracle():
    scene = replace(make_scene(seed=1), features=None, jacobians=None)
    check_against_oracle(scene, make_camera())


@pytest.mark.parametrize("channels", [1, 11, 64])
def test_feature_channels_agree_with_the_oracle(channels):
    features = torch.randn(1, 60, channels, generator=torch.Generator().manual_seed(3))
    scene = replace(make_scene(), features=features, sh_coeffs=None)
    check_against_oracle(scene, make_camera(), outputs=())


def test_gaussians_beside_and_behind_the_camera_agree_with_the_oracle():
    """Some lie behind, some so far aside that their rays are clamped, some are huge."""
    scene = make_scene(32, seed=4)
    assert scene.scales is not None
    means, scales = scene.means.clone(), scene.scales.clone()
    means[:, :8] = torch.tensor([0.9, 0.7, 4.5])
    means[:, 8:16] += torch.tensor([1.5, 0.9, 0.3])
    scales[:, 8:16] = 0.7
    scales[:, 16:24] = 30.0
    scene = replace(scene, means=means, scales=scales, opacities=0.3 * scene.opacities)
    check_against_oracle(scene, make_camera(), outlier_share=0.01, gradient_tolerance=1e-2)


def test_scales_beyond_all_bounds_fill_the_image():
    scene = make_scene(3, seed=4)
    assert scene.scales is not None
    scene = replace(scene, scales=torch.full_like(scene.scales, 1e12)).to(torch.float32)
    for antialiased in (False, True):
        images = scene.render(make_camera(), antialiased=antialiased, backend="cpu")
        expected = 1 - (1 - scene.opacities).prod()
        torch.testing.assert_close(images.alpha, expected.expand_as(images.alpha))
        random_loss(images).backward()
        assert all(bool(g.isfinite().all()) for g in gradients_of(scene, images).values())


@pytest.mark.parametrize("antialiased", [False, True])
def test_needles_and_specks_agree_with_the_oracle(antialiased):
    scene = make_scene(40, seed=5)
    assert scene.scales is not None
    scales = scene.scales.clone()
    scales[:, :15] = torch.tensor([0.4, 4e-4, 4e-4])
    scales[:, 15:25] = 1e-3
    scales[:, 25:30] = 0.0
    scene = replace(scene, scales=scales)
    check_against_oracle(
        scene, make_camera(), outlier_share=0.01, gradient_tolerance=1e-2, antialiased=antialiased
    )


def test_thousands_of_gaussians_on_one_pixel_agree_with_the_oracle():
    scene = make_scene(3000, seed=6)
    assert scene.scales is not None
    scene = replace(
        scene,
        means=0.02 * scene.means,
        scales=0.2 * scene.scales,
        opacities=0.05 * scene.opacities,
    )
    check_against_oracle(scene, make_camera(), outlier_share=0.02, gradient_tolerance=2e-2)


def test_invisible_gaussians_leave_the_background_and_get_no_gradient():
    scene = make_scene()
    scene = replace(scene, opacities=torch.zeros_like(scene.opacities)).to(torch.float32)
    background = torch.rand(5)
    images = scene.render(make_camera(), background=background, outputs=OUTPUTS, backend="cpu")
    assert torch.equal(images.image, background[:, None, None].expand_as(images.image))
    random_loss(images).backward()
    assert all(float(g.detach().abs().sum()) == 0 for g in gradients_of(scene, images).values())


@pytest.mark.parametrize("backend", ["ref", "cpu"])
def test_an_empty_scene_gives_the_background(backend):
    scene = make_scene().map(lambda value: value[:, :0]).to(torch.float32)
    images = scene.render(make_camera(), background=torch.ones(5), outputs=OUTPUTS, backend=backend)
    assert torch.equal(images.image, torch.ones(1, 5, 21, 37))
    assert not images.alpha.any()
    random_loss(images).backward()
    assert images.radii.shape == (1, 0)


@pytest.mark.parametrize("size", [(1, 1), (16, 16), (17, 1), (3, 35)])
def test_odd_image_sizes_agree_with_the_oracle(size):
    check_against_oracle(make_scene(30, seed=8), make_camera(*size), outlier_share=0.02)


def test_results_are_bitwise_equal_for_any_number_of_threads(monkeypatch):
    """Also of the lists, whose buffers have to grow."""
    monkeypatch.setattr(_cpu_tiles, "_PRIMITIVES_PER_WORKER", 50)
    scene, camera = make_scene(403, seed=9), make_camera(90, 70)
    assert scene.scales is not None
    scene = replace(scene, scales=3 * scene.scales)
    before, results = torch.get_num_threads(), []
    try:
        for threads in (1, 2, 5):
            torch.set_num_threads(threads)
            leaf = scene.to(torch.float32)
            matrix = camera.world_to_camera.clone().requires_grad_()
            images = leaf.render(
                replace(camera, world_to_camera=matrix), outputs=OUTPUTS, backend="cpu"
            )
            random_loss(images).backward()
            assert matrix.grad is not None
            gradients = [g.clone() for g in gradients_of(leaf, images).values()]
            results.append([*maps_of(images).values(), *gradients, matrix.grad])
    finally:
        torch.set_num_threads(before)
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other, strict=True))


def test_a_batch_equals_its_frames_and_order_of_rows_does_not_matter():
    scene, camera = make_scene(batch=3), make_camera(batch=3)
    together = scene.render(camera, outputs=OUTPUTS, backend="cpu")
    permutation = torch.randperm(60, generator=torch.Generator().manual_seed(0))
    for frame in range(3):
        part = scene.map(lambda value, i=frame: value[i : i + 1, permutation])
        alone = part.render(camera[frame], outputs=OUTPUTS, backend="cpu")
        for name, value in maps_of(alone).items():
            assert torch.equal(value[0], maps_of(together)[name][frame]), name


@pytest.mark.parametrize("backend", ["ref", "cpu"])
def test_equal_depths_keep_the_order_of_rows(backend):
    """Opaque red and green at one place: the first row wins, whichever it is."""
    means = torch.tensor([0.0, 0.0, 2.0]).expand(1, 2, 3)
    camera = Camera(torch.eye(4)[None], torch.diag(torch.tensor([9.0, 9, 1]))[None], 1, 1)
    colors = torch.eye(2)[None]
    scales, quats = torch.ones(1, 2, 3), torch.tensor([1.0, 0, 0, 0]).expand(1, 2, 4)
    opacities = torch.full((1, 2), 0.9)
    for order in ([0, 1], [1, 0]):
        images = rasterize_gaussians(
            means, quats, scales, opacities, camera, features=colors[:, order], backend=backend
        )
        first, second = images.image[0, order, 0, 0]
        assert first > 5 * second


@pytest.mark.parametrize("options", [{}, {"gradients": "published"}, {"antialiased": True}])
def test_camera_and_background_gradients_agree_with_the_oracle(options):
    scene = make_scene()
    scene.means[:, :9] += torch.tensor([1.2, 0.9, 0.3])
    results = []
    for backend, dtype in (("cpu", torch.float32), ("ref", torch.float64)):
        camera = double(make_camera())
        matrix = camera.world_to_camera.to(dtype).requires_grad_()
        intrinsics = camera.intrinsics.to(dtype).clone().requires_grad_()
        background = torch.linspace(0, 1, 5, dtype=dtype).requires_grad_()
        images = scene.to(dtype).render(
            replace(camera, world_to_camera=matrix, intrinsics=intrinsics),
            background=background,
            outputs=OUTPUTS,
            backend=backend,
            **options,
        )
        random_loss(images).backward()
        assert matrix.grad is not None
        assert intrinsics.grad is not None
        assert background.grad is not None
        gradients = matrix.grad[:, :3], intrinsics.grad, background.grad
        results.append([gradient.double() for gradient in gradients])
    for actual, expected in zip(*results, strict=True):
        assert (actual - expected).norm() < 2e-3 * expected.norm()


@pytest.mark.parametrize("shape", ["quats", "covariances"])
@pytest.mark.parametrize("antialiased", [False, True])
def test_gradients_of_the_oracle_agree_with_finite_differences(shape, antialiased):
    scene = make_scene(2, seed=2)
    assert scene.sh_coeffs is not None
    scene = replace(scene, sh_coeffs=scene.sh_coeffs[:, :, :4])
    scene = with_covariances(scene) if shape == "covariances" else scene
    scene = scene.to(torch.float64)
    camera = double(make_camera(4, 3))
    names = [name for name, value in vars(scene).items() if value is not None]
    background = torch.rand(5, dtype=torch.float64)
    leaves = camera.world_to_camera, camera.intrinsics.clone(), background

    def render(matrix: Tensor, intrinsics: Tensor, behind: Tensor, *values: Tensor) -> Any:
        # Skew is refused: a difference quotient must not move it.
        used = torch.diag_embed(intrinsics.diagonal(dim1=1, dim2=2))
        used[:, :2, 2] = intrinsics[:, :2, 2]
        moved = replace(camera, world_to_camera=matrix, intrinsics=used)
        images = replace(scene, **dict(zip(names, values, strict=True))).render(
            moved, background=behind, outputs=OUTPUTS, antialiased=antialiased
        )
        return tuple(maps_of(images).values())

    inputs = *(leaf.requires_grad_() for leaf in leaves), *(getattr(scene, n) for n in names)
    torch.autograd.gradcheck(render, inputs, fast_mode=True)


def test_jacobians_deform_covariances():
    """J R S is itself a root of the covariance J R S S R^T J^T."""
    scene = make_scene(seed=11).to(torch.float64)
    assert scene.quats is not None
    assert scene.scales is not None
    assert scene.jacobians is not None
    w, x, y, z = torch.nn.functional.normalize(scene.quats, dim=-1).unbind(-1)
    columns = [
        torch.stack([1 - 2 * (y * y + z * z), 2 * (x * y + w * z), 2 * (x * z - w * y)], -1),
        torch.stack([2 * (x * y - w * z), 1 - 2 * (x * x + z * z), 2 * (y * z + w * x)], -1),
        torch.stack([2 * (x * z + w * y), 2 * (y * z - w * x), 1 - 2 * (x * x + y * y)], -1),
    ]
    roots = scene.jacobians @ torch.stack(columns, dim=-1) * scene.scales[:, :, None]
    rows, cols = torch.triu_indices(3, 3)
    covariances = (roots @ roots.transpose(2, 3))[..., rows, cols]
    other = replace(scene, quats=None, scales=None, jacobians=None, covariances=covariances)
    camera = double(make_camera())
    torch.testing.assert_close(other.render(camera).image, scene.render(camera).image)


def test_one_gaussian_looks_as_its_closed_form_says():
    """Isotropic, on the optical axis: variance (focal * scale / depth)^2 + dilation."""
    camera = Camera(
        torch.eye(4)[None], torch.tensor([[[20.0, 0, 8], [0, 20.0, 8], [0, 0, 1]]]), 16, 16
    )
    images = rasterize_gaussians(
        torch.tensor([[[0.0, 0.0, 4.0]]]),
        torch.tensor([[[1.0, 0.0, 0.0, 0.0]]]),
        torch.full((1, 1, 3), 0.5),
        torch.tensor([[0.8]]),
        camera,
        features=torch.tensor([[[2.0]]]),
        outputs=OUTPUTS,
        dilation=0.3,
    )
    offset = torch.arange(16) + 0.5 - 8
    square = offset[:, None] ** 2 + offset[None] ** 2
    alpha = 0.8 * torch.exp(-0.5 * square / (2.5**2 + 0.3))
    alpha = torch.where(alpha < 1 / 255, 0.0, alpha)
    torch.testing.assert_close(images.alpha[0, 0], alpha)
    torch.testing.assert_close(images.image[0, 0], 2 * alpha)
    assert images.depth_sum is not None
    assert images.median_depth is not None
    torch.testing.assert_close(images.depth_sum[0, 0], 4 * alpha)
    torch.testing.assert_close(images.median_depth[0, 0], 4.0 * (alpha > 0))
    assert images.radii.tolist() == [[8]]  # ceil(3 * sqrt(6.55 + sqrt(0.1)))


def test_what_is_not_asked_for_is_none():
    images = make_scene().render(make_camera())
    assert images.depth_sum is None
    assert images.median_depth is None
    assert not images.screen_gradient.requires_grad


@pytest.mark.parametrize("backend", ["ref", "cpu"])
@pytest.mark.parametrize(
    "name",
    ["means", "quats", "scales", "opacities", "jacobians", "features", "sh_coeffs", "covariances"],
)
def test_values_that_are_not_finite_are_reported(backend, name):
    scene = make_scene()
    if name == "covariances":
        scene = with_covariances(scene)
    value = getattr(scene, name).clone()
    value.view(-1)[0] = torch.nan
    with pytest.raises(ValueError, match=rf"{name}.* must be finite"):
        replace(scene, **{name: value}).render(make_camera(), backend=backend)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"background": torch.zeros(3)}, "background must have 5 channels"),
        ({"sh_degree": 4}, "sh_degree must be between 0 and 3"),
        ({"near": 0.0}, "near must be positive"),
        ({"dilation": -1.0}, "dilation must not be negative"),
        ({"max_alpha": 1.0}, "max_alpha must lie between 0 and 1"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_wrong_options_are_reported(options, message):
    with pytest.raises(ValueError, match=message):
        make_scene().render(make_camera(), **options)


@pytest.mark.parametrize(
    ("name", "value"),
    [("cull", "box"), ("gradients", "none"), ("outputs", ("normal",)), ("backend", "tpu")],
)
def test_unknown_names_are_reported(name, value):
    """By the function, or before by the checker of types where it is switched on."""
    with pytest.raises((ValueError, TypeCheckError), match=name):
        make_scene().render(make_camera(), **{name: value})


def test_contradictory_inputs_are_reported():
    scene, camera = make_scene(), make_camera()
    with pytest.raises(ValueError, match="quats and scales, or covariances must be given"):
        replace(scene, scales=None).render(camera)
    with pytest.raises(ValueError, match="must be None beside covariances"):
        replace(with_covariances(scene), quats=scene.quats).render(camera)
    with pytest.raises(ValueError, match="scale_modifier must be 1 beside covariances"):
        with_covariances(scene).render(camera, scale_modifier=2.0)
    with pytest.raises(ValueError, match="features or sh_coeffs"):
        replace(scene, features=None, sh_coeffs=None).render(camera)
    with pytest.raises(ValueError, match="sh_degree must come with sh_coeffs"):
        replace(scene, sh_coeffs=None).render(camera, sh_degree=1)
    with pytest.raises(ValueError, match="batch size"):
        scene.render(make_camera(batch=2))
    skewed = camera.intrinsics.clone()
    skewed[:, 0, 1] = 1.0
    with pytest.raises(ValueError, match="skew"):
        scene.render(replace(camera, intrinsics=skewed))
    with pytest.raises(TypeError, match="means must be float32"):
        scene.to(torch.float64).render(camera, backend="cpu")
