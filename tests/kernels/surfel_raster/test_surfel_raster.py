"""CPU kernels against the oracle on ordinary and nasty scenes, and what both must obey."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from raster_scenes import (
    check_against_oracle,
    double,
    gradients_of,
    make_camera,
    maps_of,
    random_loss,
)
from surfel_scenes import CONVENTIONS, OUTPUTS, Scene, make_scene


@pytest.mark.parametrize("convention", CONVENTIONS)
@pytest.mark.parametrize("cull", ["exact", "3sigma"])
def test_cpu_agrees_with_the_oracle_on_a_batch(convention, cull):
    background = torch.tensor([0.2, 0.5, 0.9, -1.0, 0.3])
    check_against_oracle(
        make_scene(batch=2),
        make_camera(batch=2),
        convention=convention,
        cull=cull,
        background=background,
    )


def test_sh_alone_agrees_with_the_oracle():
    scene = replace(make_scene(seed=1), features=None, jacobians=None)
    check_against_oracle(scene, make_camera(), outputs=("depth", "normal", "distortion"))


def test_many_feature_channels_agree_with_the_oracle():
    features = torch.randn(1, 60, 11, generator=torch.Generator().manual_seed(3))
    scene = replace(make_scene(), features=features, sh_coeffs=None)
    check_against_oracle(scene, make_camera(), outputs=("median_depth",))


@pytest.mark.parametrize("convention", CONVENTIONS)
def test_surfels_across_the_camera_plane_agree_with_the_oracle(convention):
    """Some centres lie behind the camera, some huge surfels reach behind it."""
    scene = make_scene(24, seed=4)
    means, scales = scene.means.clone(), scene.scales.clone()
    means[:, :8] = torch.tensor([0.9, 0.7, 4.5])
    scales[:, 8:16] = 3.0
    scene = replace(scene, means=means, scales=scales, opacities=0.3 * scene.opacities)
    check_against_oracle(
        scene, make_camera(), convention=convention, outlier_share=0.01, gradient_tolerance=1e-2
    )


@pytest.mark.parametrize("convention", CONVENTIONS)
def test_needles_and_specks_agree_with_the_oracle(convention):
    scene = make_scene(40, seed=5)
    scales = scene.scales.clone()
    scales[:, :15] = torch.tensor([0.4, 4e-4])
    scales[:, 15:25] = 1e-3
    scene = replace(scene, scales=scales)
    check_against_oracle(
        scene, make_camera(), convention=convention, outlier_share=0.01, gradient_tolerance=1e-2,
        outputs=("normal",),
    )  # fmt: skip


def test_thousands_of_surfels_on_one_pixel_agree_with_the_oracle():
    scene = make_scene(3000, seed=6)
    scene = replace(scene, means=0.02 * scene.means, scales=0.2 * scene.scales)
    check_against_oracle(scene, make_camera(), outlier_share=0.02, gradient_tolerance=2e-2)


def test_invisible_surfels_leave_the_background_and_get_no_gradient():
    scene = make_scene()
    scene = replace(scene, opacities=torch.zeros_like(scene.opacities)).to(torch.float32)
    background = torch.rand(5)
    images = scene.render(make_camera(), background=background, outputs=OUTPUTS, backend="cpu")
    assert torch.equal(images.image, background[:, None, None].expand_as(images.image))
    random_loss(images).backward()
    assert all(float(g.detach().abs().sum()) == 0 for g in gradients_of(scene, images).values())


@pytest.mark.parametrize("backend", ["ref", "cpu"])
def test_an_empty_scene_gives_the_background(backend):
    scene = Scene(*(v[:, :0] for v in vars(make_scene()).values())).to(torch.float32)
    images = scene.render(make_camera(), background=torch.ones(5), outputs=OUTPUTS, backend=backend)
    assert torch.equal(images.image, torch.ones(1, 5, 21, 37))
    assert not images.alpha.any()
    random_loss(images).backward()
    assert images.radii.shape == (1, 0)


@pytest.mark.parametrize("size", [(1, 1), (16, 16), (17, 1), (3, 35)])
def test_odd_image_sizes_agree_with_the_oracle(size):
    check_against_oracle(make_scene(30, seed=8), make_camera(*size), outlier_share=0.02)


def test_results_are_bitwise_equal_for_any_number_of_threads():
    scene, camera = make_scene(400, seed=9), make_camera(90, 70)
    before, results = torch.get_num_threads(), []
    try:
        for threads in (1, 2, 5):
            torch.set_num_threads(threads)
            leaf = scene.to(torch.float32)
            images = leaf.render(camera, outputs=OUTPUTS, backend="cpu")
            random_loss(images).backward()
            gradients = [g.clone() for g in gradients_of(leaf, images).values()]
            results.append([*maps_of(images).values(), *gradients])
    finally:
        torch.set_num_threads(before)
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other, strict=True))


def test_a_batch_equals_its_frames_and_order_of_rows_does_not_matter():
    scene, camera = make_scene(batch=3), make_camera(batch=3)
    together = scene.render(camera, outputs=OUTPUTS, backend="cpu")
    permutation = torch.randperm(60, generator=torch.Generator().manual_seed(0))
    for frame in range(3):
        values = (v[frame : frame + 1, permutation] for v in vars(scene).values())
        alone = Scene(*values).render(camera[frame], outputs=OUTPUTS, backend="cpu")
        for name, value in maps_of(alone).items():
            assert torch.equal(value[0], maps_of(together)[name][frame]), name


@pytest.mark.parametrize("convention", CONVENTIONS)
def test_camera_and_background_gradients_agree_with_the_oracle(convention):
    results = []
    for backend, dtype in (("cpu", torch.float32), ("ref", torch.float64)):
        camera = double(make_camera())
        matrix = camera.world_to_camera.to(dtype).requires_grad_()
        background = torch.linspace(0, 1, 5, dtype=dtype).requires_grad_()
        moved = replace(camera, world_to_camera=matrix, intrinsics=camera.intrinsics.to(dtype))
        images = (
            make_scene()
            .to(dtype)
            .render(
                moved,
                background=background,
                outputs=OUTPUTS,
                convention=convention,
                backend=backend,
            )
        )
        random_loss(images).backward()
        assert matrix.grad is not None
        assert background.grad is not None
        results.append((matrix.grad[:, :3].double(), background.grad.double()))
    for actual, expected in zip(*results, strict=True):
        assert (actual - expected).norm() < 2e-3 * expected.norm()


def test_gradients_of_the_oracle_agree_with_finite_differences():
    scene = make_scene(2, seed=2)
    assert scene.sh_coeffs is not None
    scene = replace(scene, sh_coeffs=scene.sh_coeffs[:, :, :4]).to(torch.float64)
    camera = double(make_camera(4, 3))

    def render(*values: Tensor) -> tuple[Tensor, ...]:
        images = Scene(*values).render(camera, outputs=("depth", "normal", "distortion"))
        return tuple(maps_of(images).values())

    torch.autograd.gradcheck(render, tuple(vars(scene).values()), fast_mode=True)


def test_jacobian_gradient_can_be_switched_off():
    scene = make_scene().to(torch.float32)
    random_loss(scene.render(make_camera(), jacobian_grad=False)).backward()
    assert scene.jacobians is not None
    assert scene.jacobians.grad is None
    assert scene.means.grad is not None


def test_what_is_not_asked_for_is_none():
    images = make_scene().render(make_camera())
    assert images.depth_sum is None
    assert images.normal_view_sum is None
    assert images.median_depth is None
    assert images.distortion is None
    assert not images.screen_gradient.requires_grad


@pytest.mark.parametrize("backend", ["ref", "cpu"])
@pytest.mark.parametrize("name", ["means", "quats", "opacities", "features", "sh_coeffs"])
def test_values_that_are_not_finite_are_reported(backend, name):
    scene = make_scene()
    value = getattr(scene, name).clone()
    value.view(-1)[0] = torch.nan
    with pytest.raises(ValueError, match=rf"{name}.* must be finite"):
        replace(scene, **{name: value}).render(make_camera(), backend=backend)


@pytest.mark.parametrize("backend", ["ref", "cpu"])
def test_singular_jacobians_are_reported(backend):
    scene = replace(make_scene(), jacobians=torch.zeros(1, 60, 3, 3))
    with pytest.raises(ValueError, match=r"jacobians must be .*invertible"):
        scene.render(make_camera(), backend=backend)


def test_triton_is_imported_by_the_gpu_backend_alone():
    code = (
        "import sys, vultus.kernels.surfel_raster, vultus.cli.main;"
        "sys.modules['triton'] = None;"
        "assert not any(name.startswith('triton.') for name in sys.modules);"
        "import vultus.kernels.surfel_raster.gpu"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "backend gpu needs Triton" in result.stderr


def test_wrong_arguments_are_reported():
    scene, camera = make_scene(), make_camera()
    with pytest.raises(TypeError, match="means must be float32"):
        scene.to(torch.float64).render(camera, backend="cpu")
    with pytest.raises(ValueError, match="background must have 5 channels"):
        scene.render(camera, background=torch.zeros(3))
    with pytest.raises(ValueError, match="features or sh_coeffs"):
        replace(scene, features=None, sh_coeffs=None).render(camera)
    with pytest.raises(ValueError, match="sh_degree must be between 0 and 3"):
        scene.render(camera, sh_degree=4)
    with pytest.raises(ValueError, match="batch size"):
        scene.render(make_camera(batch=2))
    with pytest.raises(ValueError, match="intrinsics must not require"):
        scene.render(
            replace(camera, intrinsics=camera.intrinsics.clone().requires_grad_()), backend="cpu"
        )
