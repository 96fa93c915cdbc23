"""The Triton kernels against the PyTorch forms that define them, in float64."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from triton_support import compile_launch, is_interpreting, triton_device
from vultus.kernels.loss_terms import MeasuredMaps, MeasuredSurfels, map_terms, surfel_terms
from vultus.losses import regularizers
from vultus.methods.surfhead import objectives
from vultus.methods.surfhead.config import LossWeights

triton_test = pytest.mark.triton
FREE = regularizers.FREE_BLEND_WEIGHT
WEIGHTS = LossWeights(
    alpha_weight=0.3,
    eye_alpha_weight=0.1,
    blend_weight_weight=0.7,
    normal_norm_weight=0.4,
    surfel_normal_weight=0.5,
    distortion_weight=10.0,
    xyz_weight=0.2,
    xyz_threshold=0.9,
    scale_weight=1.5,
)
ALL_MAPS = ("alpha", "mask", "normals", "depth_normals", "distortion")
SURFEL_LEAVES = ("local_means", "log_scales", "opacity_logits", "blend_weight_logits", "normals")


@pytest.fixture
def device() -> torch.device:
    return triton_device()


def draw(*shape: int, seed: int) -> Tensor:
    """Numbers that float32 holds as well."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator).double()


def values_of(inputs: MeasuredMaps | MeasuredSurfels) -> dict[str, Tensor]:
    return {name: value for name, value in vars(inputs).items() if value is not None}


def maps(batch: int, height: int, width: int, names: tuple[str, ...] = ALL_MAPS) -> MeasuredMaps:
    """Half of the mask is zero, where normals then have no length; some alphas equal the mask."""
    one, three = (batch, 1, height, width), (batch, 3, height, width)
    mask = draw(*one, seed=1).relu().clamp(max=1)
    alpha = torch.where(draw(*one, seed=2) > 0.5, mask, draw(*one, seed=3).abs())
    every = {
        "alpha": alpha,
        "mask": mask,
        "normals": draw(*three, seed=4),
        "depth_normals": draw(*three, seed=5),
        "distortion": draw(*one, seed=6).abs(),
    }
    return MeasuredMaps(**{name: every[name] for name in names})


def surfels(num: int, batch: int, without: tuple[str, ...] = ()) -> tuple[MeasuredSurfels, Tensor]:
    """Also radii. Some means and normals have no length, some logits are far out."""
    means, normals = draw(num, 3, seed=1), draw(batch, num, 3, seed=2)
    means[::7] = 0
    normals[:, 1::7] = 0
    logits = draw(num, 4, seed=3)
    logits[2::7] *= 100
    every = {
        "opacity_logits": draw(num, seed=4),
        "eyeballs": draw(num, seed=5) > 0.3,
        "blend_weight_logits": logits,
        "normals": normals,
    }
    optional = {name: value for name, value in every.items() if name not in without}
    measured = MeasuredSurfels(means, draw(num, 2, seed=6), draw(num, seed=7).abs(), **optional)
    return measured, (draw(batch, num, seed=8) * 2).relu().int()


def leaves_of(
    inputs: MeasuredMaps | MeasuredSurfels, names: tuple[str, ...], device: torch.device | None
) -> dict[str, Tensor]:
    """Tensors of float64, or of float32 on a device; those named want gradients."""
    found = {}
    for name, value in values_of(inputs).items():
        copy = value.clone() if device is None else value.float().to(device)
        if value.dtype == torch.bool:
            copy = value.clone() if device is None else value.to(device)
        found[name] = copy.requires_grad_() if name in names else copy
    return found


def assert_same(
    actual: Mapping[str, Tensor],
    expected: Mapping[str, Tensor],
    leaves: Mapping[str, Tensor],
    exact: Mapping[str, Tensor],
) -> None:
    """Values of terms, and gradients of their sum where each counts differently."""
    assert set(actual) == set(expected)
    for name, value in expected.items():
        assert actual[name].shape == ()
        assert float(actual[name].detach()) == pytest.approx(float(value.detach()), rel=1e-5), name
    for terms in (actual, expected):
        weighted = [(k + 1) * terms[name] for k, name in enumerate(sorted(terms))]
        torch.stack(weighted).sum().backward()
    for name, leaf in leaves.items():
        if not leaf.requires_grad:
            continue
        mine, theirs = leaf.grad, exact[name].grad
        assert mine is not None
        assert theirs is not None
        gap = (mine.cpu().double() - theirs).abs().max() if theirs.numel() else torch.zeros(())
        scale = theirs.abs().max() if theirs.numel() else torch.zeros(())
        assert float(gap) <= 1e-5 * float(scale), name


@triton_test
@pytest.mark.parametrize("mask_normals", [True, False])
@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 2, 3), (2, 5, 7), (1, 40, 33)])
def test_terms_on_maps_and_their_gradients_are_those_of_the_definition(shape, mask_normals, device):
    weights, measured = replace(WEIGHTS, mask_normals=mask_normals), maps(*shape)
    names = ("alpha", "normals", "depth_normals", "distortion")
    exact, leaves = leaves_of(measured, names, None), leaves_of(measured, names, device)
    expected = objectives._map_terms(MeasuredMaps(**exact), weights)
    assert_same(map_terms(MeasuredMaps(**leaves), weights), expected, leaves, exact)


@triton_test
@pytest.mark.parametrize(
    "names",
    [("alpha", "mask"), ("normals", "depth_normals"), ("mask", "distortion"), ("mask",)],
)
def test_maps_that_are_not_given_have_no_term(names, device):
    measured = maps(1, 3, 4, names)
    leaf_names = tuple(name for name in names if name != "mask")
    exact, leaves = leaves_of(measured, leaf_names, None), leaves_of(measured, leaf_names, device)
    expected = objectives._map_terms(MeasuredMaps(**exact), WEIGHTS)
    actual = map_terms(MeasuredMaps(**leaves), WEIGHTS)
    assert len(actual) == len(expected) == (1 if leaf_names else 0)
    if expected:
        assert_same(actual, expected, leaves, exact)


@triton_test
def test_maps_without_their_counterparts_are_rejected(device):
    leaves = leaves_of(maps(1, 2, 3), (), device)
    with pytest.raises(ValueError, match="alpha must come with a mask"):
        map_terms(MeasuredMaps(alpha=leaves["alpha"]), WEIGHTS)
    with pytest.raises(ValueError, match="normals and depth_normals must come together"):
        map_terms(MeasuredMaps(normals=leaves["normals"]), WEIGHTS)
    with pytest.raises(TypeError, match="distortion must be float32"):
        map_terms(MeasuredMaps(distortion=leaves["distortion"].double()), WEIGHTS)


@triton_test
@pytest.mark.parametrize("is_metric", [False, True])
@pytest.mark.parametrize(("num", "batch"), [(1, 1), (37, 2), (600, 1), (0, 1)])
def test_terms_on_surfels_and_their_gradients_are_those_of_the_definition(
    num, batch, is_metric, device
):
    weights = replace(WEIGHTS, metric_xyz=is_metric, metric_scale=is_metric)
    measured, radii = surfels(num, batch)
    exact = leaves_of(measured, SURFEL_LEAVES, None)
    leaves = leaves_of(measured, SURFEL_LEAVES, device)
    expected = objectives._surfel_terms(MeasuredSurfels(**exact), radii, weights)
    actual = surfel_terms(
        MeasuredSurfels(**leaves), radii.to(device), weights, free_blend_weight=FREE
    )
    assert len(actual) == 5
    assert_same(actual, expected, leaves, exact)


@triton_test
@pytest.mark.parametrize(
    "without",
    [
        ("opacity_logits", "eyeballs"),
        ("blend_weight_logits",),
        ("normals",),
        ("opacity_logits", "eyeballs", "blend_weight_logits", "normals"),
    ],
)
def test_surfels_have_terms_for_what_is_given(without, device):
    measured, radii = surfels(20, 1, without)
    names = tuple(name for name in SURFEL_LEAVES if name not in without)
    exact, leaves = leaves_of(measured, names, None), leaves_of(measured, names, device)
    expected = objectives._surfel_terms(MeasuredSurfels(**exact), radii, WEIGHTS)
    actual = surfel_terms(
        MeasuredSurfels(**leaves), radii.to(device), WEIGHTS, free_blend_weight=FREE
    )
    assert_same(actual, expected, leaves, exact)


@triton_test
def test_surfels_that_nobody_sees_cost_nothing_but_eyeballs_must_be_opaque(device):
    measured, radii = surfels(20, 2)
    leaves = leaves_of(measured, SURFEL_LEAVES, device)
    with torch.no_grad():
        leaves["log_scales"][3] = torch.inf
        leaves["normals"][0, 4] = torch.nan
    terms = surfel_terms(
        MeasuredSurfels(**leaves), 0 * radii.to(device), WEIGHTS, free_blend_weight=FREE
    )
    found = {name: float(term.detach()) for name, term in terms.items()}
    eye_alpha = found.pop("eye_alpha")
    assert eye_alpha > 0
    assert set(found.values()) == {0.0}
    torch.stack(list(terms.values())).sum().backward()
    for name in SURFEL_LEAVES:
        grad = leaves[name].grad
        assert grad is not None
        assert bool(grad.any()) == (name == "opacity_logits")


@triton_test
def test_no_eyeballs_give_no_gradient(device):
    measured, radii = surfels(20, 1)
    leaves = leaves_of(measured, SURFEL_LEAVES, device)
    leaves["eyeballs"].fill_(False)
    terms = surfel_terms(
        MeasuredSurfels(**leaves), radii.to(device), WEIGHTS, free_blend_weight=FREE
    )
    terms["eye_alpha"].backward()
    assert float(terms["eye_alpha"].detach()) == 0
    assert leaves["opacity_logits"].grad is not None
    assert not leaves["opacity_logits"].grad.any()


@triton_test
def test_surfels_need_eyeballs_with_opacities_and_float32(device):
    leaves = leaves_of(surfels(5, 1)[0], (), device)
    radii = torch.ones(1, 5, dtype=torch.int32, device=device)
    eyeballs = leaves.pop("eyeballs")
    with pytest.raises(ValueError, match="opacity_logits and eyeballs must come together"):
        surfel_terms(MeasuredSurfels(**leaves), radii, WEIGHTS, free_blend_weight=FREE)
    leaves |= {"eyeballs": eyeballs, "normals": leaves["normals"].double()}
    with pytest.raises(TypeError, match="normals must be float32"):
        surfel_terms(MeasuredSurfels(**leaves), radii, WEIGHTS, free_blend_weight=FREE)


@pytest.mark.parametrize("capability", [80, 90])
def test_kernels_compile_without_spilling(capability):
    pytest.importorskip("triton")
    if is_interpreting():
        pytest.skip("interpreted functions cannot be compiled")
    from vultus.kernels.triton_runtime import recorded_launches

    cpu = torch.device("cpu")
    leaves = leaves_of(maps(2, 5, 7), ("alpha", "normals", "depth_normals", "distortion"), cpu)
    measured, radii = surfels(37, 2)
    others = leaves_of(measured, SURFEL_LEAVES, cpu)
    with recorded_launches() as launches:
        terms = map_terms(MeasuredMaps(**leaves), WEIGHTS)
        terms |= surfel_terms(MeasuredSurfels(**others), radii, WEIGHTS, free_blend_weight=FREE)
        torch.stack(list(terms.values())).sum().backward()
    names = [launch.kernel.fn.__name__ for launch in launches]
    assert names == [
        "measure_maps", "weigh_means", "measure_surfels", "weigh_means",
        "measure_surfels_backward", "measure_maps_backward",
    ]  # fmt: skip
    for launch in launches:
        kernel = compile_launch(launch, capability)
        assert kernel.stack == 0, launch.kernel.fn.__name__
        assert kernel.registers <= 128, launch.kernel.fn.__name__
