"""CPU backend of the volume renderer against the oracle."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from tolerances import assert_close
from volume_scenes import VARIANTS, VolumeScene, check_against_oracle, make_scene
from vultus.kernels.triplane_volume import (
    DecoderWeights,
    VolumeDraws,
    VolumeSettings,
    _check_choices,
    query_points,
)


@pytest.fixture
def two_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.usefixtures("two_threads")
def test_cpu_images_and_gradients_are_those_of_the_oracle(variant: str) -> None:
    check_against_oracle(make_scene(**VARIANTS[variant]), backend="cpu")


def test_cpu_takes_many_blocks_of_rays_and_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """150 rays per image are three blocks; of two chunks, the last one is short."""
    from vultus.kernels.triplane_volume import cpu

    monkeypatch.setattr(cpu, "_SAMPLES_AT_ONCE", 1000)
    check_against_oracle(make_scene(rays=150, channels=(16, 16, 16)), backend="cpu")


@pytest.mark.parametrize("variant", ["spheres", "planes in the box, leaky", "grids, official"])
def test_cpu_points_have_the_features_and_gradients_of_the_oracle(variant: str) -> None:
    check_against_oracle(make_scene(**VARIANTS[variant]), call="query", backend="cpu")


def gradients(scene: VolumeScene) -> list[Tensor]:
    inputs = scene.inputs(torch.float32, "cpu")
    outputs = scene.render(inputs, backend="cpu")
    return [*outputs, *torch.autograd.grad(sum(x.square().sum() for x in outputs), inputs)]


def test_cpu_results_do_not_depend_on_the_number_of_threads() -> None:
    scene = make_scene(rays=150, is_sorted=True)
    before = torch.get_num_threads()
    results = []
    for count in (1, 3):
        torch.set_num_threads(count)
        results.append(gradients(scene))
    torch.set_num_threads(before)
    for one, three in zip(*results, strict=True):
        assert torch.equal(one, three)


def test_cpu_keeps_what_a_second_backward_pass_needs() -> None:
    scene = make_scene()
    inputs = scene.inputs(torch.float32, "cpu")
    loss = sum(x.sum() for x in scene.render(inputs, backend="cpu"))
    first = torch.autograd.grad(loss, inputs, retain_graph=True)
    for a, b in zip(first, torch.autograd.grad(loss, inputs), strict=True):
        assert torch.equal(a, b)


def test_the_poles_and_the_origin_have_finite_gradients() -> None:
    special = torch.tensor(
        [[0.0, 0.0, 0.0], [0.3, 0.0, 0.0], [-0.3, 0.0, 0.0], [0.0, 0.3, 0.0], [0.0, -0.3, 0.0]]
    )
    scene = make_scene()
    planes, w1, b1, w2, b2, *_ = scene.inputs(torch.float32, "cpu")
    decoder = DecoderWeights(w1, b1, w2, b2)
    results = []
    for backend in ("ref", "cpu"):
        points = special.expand(2, -1, -1).clone().requires_grad_()
        found, density = query_points(planes, decoder, points, scene.settings, backend=backend)
        results.append((found, *torch.autograd.grad(found.sum() + density.sum(), (points, planes))))
    for exact, mine in zip(*results, strict=True):
        assert_close(mine, exact, looser=10, reason="float32 against float32")


def test_auto_takes_ref_for_double_precision_and_cpu_for_single(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from vultus.kernels.triplane_volume import cpu

    calls = []
    monkeypatch.setattr(cpu, "_check", lambda *tensors: calls.append(tensors[0].dtype))
    scene = make_scene()
    for dtype in (torch.float64, torch.float32):
        scene.render(scene.inputs(dtype, "cpu"))
        scene.query(scene.inputs(dtype, "cpu"))
    assert calls == [torch.float32, torch.float32]


def test_half_precision_planes_are_taken_as_they_are() -> None:
    scene = make_scene()
    inputs = scene.inputs(torch.float32, "cpu")
    rounded = inputs[0].detach().half()
    exact = scene.render([rounded.float(), *inputs[1:]], backend="cpu")
    for mine, expected in zip(scene.render([rounded, *inputs[1:]]), exact, strict=True):
        assert torch.equal(mine, expected)


def test_cpu_refuses_what_it_cannot_render() -> None:
    scene = make_scene()
    with pytest.raises(TypeError, match=r"needs rays and decoder in float32 on the CPU, got"):
        scene.render(scene.inputs(torch.float64, "cpu"), backend="cpu")
    inputs = scene.inputs(torch.float32, "cpu")
    narrow = [inputs[0][..., :-1], *inputs[1:]]
    with pytest.raises(ValueError, match=r"planes must be square, got \(8, 7\)"):
        scene.render(narrow, backend="cpu")


def test_unknown_choices_are_named() -> None:
    with pytest.raises(ValueError, match="backend must be of auto, ref, cpu, gpu, got 'cuda'"):
        _check_choices("cuda", "half")
    with pytest.raises(ValueError, match="precision must be of half, single, got 'double'"):
        _check_choices("auto", "double")


def test_draws_are_uniform_and_in_order() -> None:
    settings = VolumeSettings(fine_samples=7)
    draws = VolumeDraws.draw((4, 5000), settings, torch.Generator().manual_seed(0))
    assert draws.is_sorted
    assert bool((draws.uniforms.diff(dim=-1) >= 0).all())
    # Order statistics of 7 uniform numbers: the k-th has the mean k / 8.
    expected = torch.arange(1, 8) / 8.0
    assert torch.allclose(draws.uniforms.mean(dim=(0, 1)), expected, atol=5e-3)
    assert float(draws.uniforms.square().mean()) == pytest.approx(1.0 / 3.0, abs=5e-3)
