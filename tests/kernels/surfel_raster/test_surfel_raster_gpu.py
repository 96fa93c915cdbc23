"""Triton kernels against the oracle; on a GPU, or on tiny images in Triton's interpreter."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch

from raster_scenes import (
    check_against_oracle,
    check_captured_overflow,
    check_captured_report,
    check_gradients_of_nothing,
    double,
    gradients_of,
    make_camera,
    maps_of,
    random_loss,
)
from surfel_scenes import CONVENTIONS, OUTPUTS, Scene, make_scene
from triton_support import triton_device
from vultus.bench.gpu_timing import captured
from vultus.kernels import capacity
from vultus.kernels.capacity import CapacityExceededError, repeat_while_growing

pytestmark = pytest.mark.triton
SIZE = (13, 9)


@pytest.fixture
def device() -> torch.device:
    return triton_device()


@pytest.fixture
def small_buffers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Begin with buffers that are soon too small."""
    monkeypatch.setattr(capacity, "_INITIAL", 4)
    monkeypatch.setattr(capacity, "_shared", {})


@pytest.fixture
def deterministic() -> Iterator[None]:
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


def check(scene: Scene, device: torch.device, size: tuple[int, int] = SIZE, **options) -> None:
    batch = scene.means.shape[0]
    check_against_oracle(
        scene, make_camera(*size, batch=batch), backend="gpu", device=device, **options
    )


@pytest.mark.parametrize(("convention", "cull"), [("2dgs", "3sigma"), ("surfhead", "exact")])
def test_gpu_agrees_with_the_oracle_on_a_batch(device, convention, cull):
    background = torch.tensor([0.2, 0.5, 0.9, -1.0, 0.3])
    scene = make_scene(40, batch=2)
    check(scene, device, convention=convention, cull=cull, background=background)


def test_gpu_blends_sh_alone(device):
    scene = replace(make_scene(30, seed=1), features=None, jacobians=None)
    check(scene, device, outputs=("depth", "normal", "distortion"))


@pytest.mark.parametrize(("stored", "degree"), [(16, 1), (9, 2), (1, 0)])
def test_gpu_evaluates_sh_up_to_the_active_degree(device, stored, degree):
    scene = make_scene(30, seed=1)
    assert scene.sh_coeffs is not None
    scene = replace(scene, sh_coeffs=scene.sh_coeffs[:, :, :stored])
    check(scene, device, outputs=(), sh_degree=degree)


@pytest.mark.parametrize("channels", [1, 16, 33])
def test_gpu_blends_any_number_of_feature_channels(device, channels):
    features = torch.randn(1, 30, channels, generator=torch.Generator().manual_seed(3))
    scene = replace(make_scene(30), features=features, sh_coeffs=None)
    background = torch.linspace(-1, 1, channels)
    check(scene, device, outputs=("median_depth",), background=background)


def test_gpu_lists_surfels_of_many_bins(device):
    """Their bins are dealt out to a warp's lanes, who go around several times."""
    scene = make_scene(40)
    check(replace(scene, scales=3 * scene.scales), device, (27, 19), outputs=())


def test_gpu_lists_large_surfels(device, monkeypatch):
    """They have a kernel of their own, which takes all with more than one bin here."""
    from vultus.kernels.surfel_raster import _gpu_stages

    monkeypatch.setattr(_gpu_stages, "_MANY_BINS", 1)
    # Launches that were prepared with another number must be neither used nor left behind.
    monkeypatch.setattr(_gpu_stages, "_projection", _gpu_stages._projection.__wrapped__)
    check(make_scene(20, batch=2), device, (19, 13), outputs=())


@pytest.mark.parametrize("convention", CONVENTIONS)
def test_gpu_draws_surfels_across_the_camera_plane(device, convention):
    """Some centres lie behind the camera, some huge surfels reach behind it."""
    scene = make_scene(24, seed=4)
    means, scales = scene.means.clone(), scene.scales.clone()
    means[:, :8] = torch.tensor([0.9, 0.7, 4.5])
    scales[:, 8:16] = 3.0
    scene = replace(scene, means=means, scales=scales, opacities=0.3 * scene.opacities)
    check(scene, device, convention=convention, outlier_share=0.01, gradient_tolerance=1e-2)


@pytest.mark.parametrize("convention", CONVENTIONS)
def test_gpu_draws_needles_and_specks(device, convention):
    scene = make_scene(30, seed=5)
    scales = scene.scales.clone()
    scales[:, :10] = torch.tensor([0.4, 4e-4])
    scales[:, 10:20] = 1e-3
    check(
        replace(scene, scales=scales), device, convention=convention, outlier_share=0.01,
        gradient_tolerance=1e-2, outputs=("normal",),
    )  # fmt: skip


@pytest.mark.gpu
def test_gpu_ranks_thousands_of_surfels_on_one_pixel(device):
    """Lists beyond the sorting networks, after buffers have grown; too slow for the interpreter."""
    scene = make_scene(3000, seed=6)
    scene = replace(scene, means=0.02 * scene.means, scales=0.2 * scene.scales)
    check(scene, device, (37, 21), outlier_share=0.02, gradient_tolerance=2e-2)


def test_gpu_orders_equal_depths_by_row(device):
    """The camera looks along z, and every depth occurs three times."""
    scene = make_scene(24, seed=7)
    means = scene.means.clone()
    means[..., 2] = 0.1 * (torch.arange(24) // 3)
    camera = make_camera(*SIZE)
    matrix = torch.eye(4)[None].clone()
    matrix[:, 2, 3] = 2.0
    check_against_oracle(
        replace(scene, means=means),
        replace(camera, world_to_camera=matrix),
        backend="gpu",
        device=device,
    )


def test_gpu_draws_nothing_where_nothing_is_visible(device):
    scene = make_scene(20)
    scene = replace(scene, opacities=torch.zeros_like(scene.opacities)).to(torch.float32, device)
    background = torch.rand(5, device=device)
    camera = make_camera(*SIZE).to(device)
    images = scene.render(camera, background=background, outputs=OUTPUTS, backend="gpu")
    assert torch.equal(images.image, background[:, None, None].expand_as(images.image))
    random_loss(images).backward()
    assert all(float(g.detach().abs().sum()) == 0 for g in gradients_of(scene, images).values())


@pytest.mark.usefixtures("deterministic")
@pytest.mark.parametrize("axis", [0, 1])
def test_gpu_reads_no_unwritten_memory_for_surfels_beside_the_image(device, axis):
    # Deterministic mode fills new tensors with NaN.
    scene = make_scene(20)
    scene.means[..., axis] += 2.5
    leaves = scene.to(torch.float32, device)
    images = leaves.render(make_camera(*SIZE).to(device), outputs=OUTPUTS, backend="gpu")
    random_loss(images).backward()
    assert all(float(g.detach().abs().sum()) == 0 for g in gradients_of(leaves, images).values())


@pytest.mark.parametrize("is_deterministic", [False, True])
def test_gpu_takes_a_batch_without_frames(device, is_deterministic, request):
    if is_deterministic:
        request.getfixturevalue("deterministic")
    check_gradients_of_nothing(make_scene(6), device)


def test_gpu_draws_an_empty_scene(device):
    scene = Scene(*(v[:, :0] for v in vars(make_scene()).values())).to(torch.float32, device)
    images = scene.render(
        make_camera(*SIZE).to(device), background=torch.ones(5, device=device), outputs=OUTPUTS,
        backend="gpu",
    )  # fmt: skip
    assert torch.equal(images.image, torch.ones_like(images.image))
    assert not images.alpha.any()
    random_loss(images).backward()
    assert images.radii.shape == (1, 0)


@pytest.mark.parametrize("size", [(1, 1), (8, 8), (17, 1), (3, 35)])
def test_gpu_draws_images_of_odd_sizes(device, size):
    check(make_scene(20, seed=8), device, size, outlier_share=0.02)


def test_gpu_gives_camera_and_background_gradients(device):
    results = []
    for backend, dtype, place in (("gpu", torch.float32, device), ("ref", torch.float64, "cpu")):
        camera = double(make_camera(*SIZE)).to(place)
        matrix = camera.world_to_camera.to(dtype).requires_grad_()
        background = torch.linspace(0, 1, 5, dtype=dtype, device=place).requires_grad_()
        moved = replace(camera, world_to_camera=matrix, intrinsics=camera.intrinsics.to(dtype))
        scene = make_scene(30).to(dtype, place)
        images = scene.render(moved, background=background, outputs=OUTPUTS, backend=backend)
        random_loss(images).backward()
        assert matrix.grad is not None
        assert background.grad is not None
        results.append((matrix.grad[:, :3].double().cpu(), background.grad.double().cpu()))
    for actual, expected in zip(*results, strict=True):
        assert (actual - expected).norm() < 1e-4 * expected.norm()


@pytest.mark.usefixtures("deterministic")
def test_deterministic_gradients_agree_with_the_oracle_and_are_bitwise_equal(device):
    features = torch.randn(1, 30, 20, generator=torch.Generator().manual_seed(3))
    scene, results = replace(make_scene(30), features=features), []
    check(scene, device)
    for _ in range(2):
        leaves = scene.to(torch.float32, device)
        images = leaves.render(make_camera(*SIZE).to(device), outputs=OUTPUTS, backend="gpu")
        random_loss(images).backward()
        results.append([*maps_of(images).values(), *gradients_of(leaves, images).values()])
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))


@pytest.mark.usefixtures("small_buffers")
def test_images_without_gradients_never_see_lists_that_do_not_fit(device):
    scene, camera = make_scene(60), make_camera(*SIZE)
    elsewhere = replace(scene, means=scene.means + 50)
    with torch.no_grad():
        elsewhere.to(torch.float32, device).render(camera.to(device), backend="gpu")
        actual = scene.to(torch.float32, device).render(camera.to(device), backend="gpu")
    expected = scene.to(torch.float64).render(double(camera), backend="ref")
    error = actual.image.cpu() - expected.image.detach()
    assert float(error.abs().max()) < 1e-4


@pytest.mark.usefixtures("small_buffers")
def test_a_step_that_does_not_fit_is_loud_and_fits_when_repeated(device):
    """The first scene teaches a small capacity, so that the second one is not looked after."""
    camera = make_camera(*SIZE).to(device)
    small, large = make_scene(60), make_scene(60)
    small = replace(small, means=small.means + 50)
    attempts = []

    def step(scene: Scene) -> Scene:
        leaves = scene.to(torch.float32, device)
        images = leaves.render(camera, backend="gpu")
        attempts.append(bool(images.image.isnan().any()))
        random_loss(images).backward()
        return leaves

    step(small)
    with pytest.raises(CapacityExceededError, match="60 surfels at 13 x 9 did not fit"):
        step(large)
    repeated = repeat_while_growing(lambda: step(large))
    assert attempts[:2] == [False, True]
    assert not attempts[-1]
    assert repeated.means.grad is not None
    assert torch.isfinite(repeated.means.grad).all()


@pytest.mark.parametrize("name", ["means", "quats", "opacities", "features", "sh_coeffs"])
def test_gpu_reports_values_that_are_not_finite(device, name):
    scene = make_scene(20)
    value = getattr(scene, name).clone()
    value.view(-1)[:: value.shape[2:].numel()] = torch.nan
    leaves = replace(scene, **{name: value}).to(torch.float32, device)
    with torch.no_grad(), pytest.raises(ValueError, match=rf"{name}.* must be finite"):
        leaves.render(make_camera(*SIZE).to(device), backend="gpu")


@pytest.mark.usefixtures("small_buffers")
def test_captured_calls_note_lists_that_do_not_fit(device, monkeypatch):
    check_captured_overflow(monkeypatch, make_scene(60), device)


@pytest.mark.parametrize("name", ["means", "sh_coeffs", "features"])
def test_captured_calls_note_values_that_are_not_finite(device, name, monkeypatch):
    check_captured_report(monkeypatch, make_scene(20), name, device)


def test_gpu_reports_singular_jacobians_and_skewed_cameras(device):
    scene, camera = make_scene(20).to(torch.float32, device), make_camera(*SIZE).to(device)
    singular = replace(scene, jacobians=torch.zeros(1, 20, 3, 3, device=device))
    with torch.no_grad(), pytest.raises(ValueError, match=r"jacobians must be .*invertible"):
        singular.render(camera, backend="gpu")
    intrinsics = camera.intrinsics.clone()
    intrinsics[:, 0, 1] = 1.0
    with torch.no_grad(), pytest.raises(ValueError, match="must have no skew"):
        scene.render(replace(camera, intrinsics=intrinsics), backend="gpu")


def test_gpu_rejects_what_it_does_not_support(device):
    scene, camera = make_scene(20), make_camera(*SIZE).to(device)
    with pytest.raises(TypeError, match="means must be float32"):
        scene.to(torch.float64, device).render(camera, backend="gpu")
    background = torch.zeros(5, device="meta")
    with pytest.raises(TypeError, match="background must be float32 on"):
        scene.to(torch.float32, device).render(camera, background=background, backend="gpu")
    intrinsics = camera.intrinsics.clone().requires_grad_()
    with pytest.raises(ValueError, match="intrinsics must not require"):
        scene.to(torch.float32, device).render(
            replace(camera, intrinsics=intrinsics), backend="gpu"
        )


@pytest.mark.gpu
def test_a_captured_graph_replays_new_values(device):
    """Forward and backward pass as one CUDA graph; inputs change in place."""
    camera = make_camera(64, 48).to(device)
    leaves = make_scene(60).to(torch.float32, device)
    with torch.no_grad():
        images = leaves.render(camera, outputs=OUTPUTS, backend="gpu")
    weights = [torch.randn_like(value) for value in maps_of(images).values()]
    results: list[torch.Tensor] = []

    def step() -> None:
        for value in vars(leaves).values():
            value.grad = None
        maps = list(maps_of(leaves.render(camera, outputs=OUTPUTS, backend="gpu")).values())
        torch.autograd.backward(maps, weights)
        grads = (value.grad for value in vars(leaves).values())
        # Without their graph: it would keep the stream that gradients are gathered on.
        results[:] = [value.detach() for value in (*maps, *grads)]

    replay = captured(step)
    replayed = list(results)
    with torch.no_grad():
        leaves.means.add_(0.01)
    replay()
    capacity.check_captured()
    actual = [value.clone() for value in replayed]
    step()
    for a, e in zip(actual, results, strict=True):
        assert float((a - e).norm()) <= 1e-5 * float(e.norm()) + 1e-6
