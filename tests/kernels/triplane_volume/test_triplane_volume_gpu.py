"""Triton kernels of the volume renderer; on a GPU, or on few rays in Triton's interpreter."""

from __future__ import annotations

import pytest
import torch

from triton_support import is_interpreting, triton_device
from volume_scenes import VARIANTS, check_against_oracle, make_scene
from vultus.kernels.triplane_volume._gpu_rays import weigh_samples
from vultus.kernels.triton_runtime import launch

pytestmark = pytest.mark.triton
EXACT, HALF = 10.0, 1000.0
"""Of float32's tolerance: half precision is good to 2e-2 of the largest gradient."""


@pytest.fixture
def device() -> torch.device:
    return triton_device()


@pytest.mark.parametrize("variant", VARIANTS)
def test_gpu_images_and_gradients_are_those_of_the_oracle(variant, device):
    scene = make_scene(rays=9, **VARIANTS[variant])
    check_against_oracle(scene, device, backend="gpu", precision="single", looser=EXACT)


@pytest.mark.parametrize("variant", ["spheres", "grids, official"])
def test_gpu_half_precision_is_near_the_oracle(variant, device):
    scene = make_scene(rays=9, batch=1, **VARIANTS[variant])
    check_against_oracle(scene, device, backend="gpu", precision="half", looser=HALF)


def test_gpu_adds_up_gradients_of_several_rounds_of_samples(device, monkeypatch):
    """Eleven samples in rounds of four, the last of which is short."""
    from vultus.kernels.triplane_volume import _gpu_stages

    monkeypatch.setattr(_gpu_stages, "_ROWS_AT_ONCE", 4)
    scene = make_scene(rays=9, batch=1, activation="sigmoid")
    check_against_oracle(scene, device, backend="gpu", precision="single", looser=EXACT)


@pytest.mark.parametrize("variant", ["spheres", "planes in the box, leaky", "grids, official"])
def test_gpu_points_have_the_features_and_gradients_of_the_oracle(variant, device):
    scene = make_scene(rays=9, **VARIANTS[variant])
    check_against_oracle(scene, device, call="query", backend="gpu", looser=EXACT)


def test_gpu_reads_channels_that_lie_side_by_side_in_place(device):
    from vultus.kernels.triplane_volume._gpu_stages import readable_texels
    from vultus.kernels.triplane_volume.calls import texels_of

    scene = make_scene(channels=(16, 16, 16))
    planes = scene.leaves[0].to(device, torch.float32)
    texels = texels_of(planes, scene.settings)
    assert readable_texels(texels, torch.float32).is_contiguous()
    # b h w 2 3 d, as a convolution with its channels last writes it.
    last = planes.permute(0, 4, 5, 1, 2, 3).contiguous().permute(0, 3, 4, 5, 1, 2)
    texels = texels_of(last, scene.settings)
    readable = readable_texels(texels, torch.float32)
    assert readable.data_ptr() == last.data_ptr()
    assert readable_texels(texels, torch.float16).stride() == texels.stride()
    # One head seen by two cameras: its gradients must not be mixed up, so that it is copied.
    shared = texels_of(last[:1].expand(2, -1, -1, -1, -1, -1), scene.settings)
    assert readable_texels(shared, torch.float32).is_contiguous()
    inputs = [last, *(x.detach() for x in scene.inputs(torch.float32, device)[1:])]
    usual = [planes, *inputs[1:]]
    for mine, expected in zip(
        scene.render(inputs, backend="gpu", precision="single"),
        scene.render(usual, backend="gpu", precision="single"),
        strict=True,
    ):
        assert torch.equal(mine, expected)


def test_gpu_keeps_what_a_second_backward_pass_needs(device):
    scene = make_scene(rays=9, batch=1)
    inputs = scene.inputs(torch.float32, device)
    loss = sum(x.sum() for x in scene.render(inputs, backend="gpu"))
    first = torch.autograd.grad(loss, inputs, retain_graph=True)
    for a, b in zip(first, torch.autograd.grad(loss, inputs), strict=True):
        # Atomic sums have any order.
        assert torch.allclose(a, b, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("missing", [0, 2, 5])
def test_gpu_writes_no_row_beyond_the_samples_of_a_ray_without_depths(device, missing):
    coarse, fine, rays = 4, 2, 3
    depths = torch.linspace(1, 2, coarse + fine, device=device)[:, None].repeat(1, rays)
    depths[missing, 1] = torch.nan
    densities = torch.ones_like(depths)
    shares = torch.full((2 * (coarse + fine), rays), 7.0, device=device)
    depth, opacity = depths.new_empty(rays), depths.new_empty(rays)
    launch(
        weigh_samples, (1,), depths, densities, shares, depth, opacity, rays, coarse, fine,
        BLOCK=32, IS_HARDWARE=False,
    )  # fmt: skip
    assert (shares[coarse + fine :] == 7.0).all()
    assert torch.isfinite(shares[:, [0, 2]]).all()


def test_gpu_refuses_deterministic_gradients_of_planes(device):
    scene = make_scene(rays=4, batch=1)
    inputs = scene.inputs(torch.float32, device)
    loss = sum(x.sum() for x in scene.render(inputs, backend="gpu"))
    torch.use_deterministic_algorithms(True)
    try:
        with pytest.raises(RuntimeError, match="in any order, deterministic algorithms are on"):
            torch.autograd.grad(loss, inputs)
    finally:
        torch.use_deterministic_algorithms(False)


def test_gpu_refuses_what_it_cannot_render(device):
    scene = make_scene(rays=4, batch=1)
    with pytest.raises(TypeError, match="needs rays and decoder in float32, planes in float32"):
        scene.render(scene.inputs(torch.float64, device), backend="gpu")
    wide = make_scene(rays=4, batch=1, channels=(16, 256, 16))
    with pytest.raises(ValueError, match="hidden layers of up to 128, got 256"):
        wide.render(wide.inputs(torch.float32, device), backend="gpu")


@pytest.mark.skipif("not torch.cuda.is_available()", reason="needs a GPU")
def test_gpu_renders_many_rays_like_the_oracle(device):
    """Several blocks of rays, 48 samples, planes of 16 texels: features of real size."""
    assert not is_interpreting()
    scene = make_scene(rays=300, size=16, channels=(32, 64, 32), coarse_samples=24, fine_samples=24)
    check_against_oracle(scene, device, backend="gpu", precision="single", looser=100.0)
