"""The Triton kernels against the PyTorch forms that define them, in float64."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from triton_support import compile_launch, is_interpreting, triton_device
from vultus.kernels.derived_triplane import sample_derived
from vultus.methods.gaussianhead.derivation import DerivationMode, derive_positions
from vultus.nets.triplane import plane_shapes, sample_planes

triton_test = pytest.mark.triton
MODES: tuple[DerivationMode, ...] = ("paper", "baked_scale", "none")
SIZES: dict[DerivationMode, int] = {"paper": 4, "baked_scale": 3}
RESOLUTION = (5, 4, 7)
COPIES, SHARE = 3, 5


@pytest.fixture
def device() -> torch.device:
    return triton_device()


def draw_inputs(mode: DerivationMode, num: int = 37, batch: int = 2) -> dict[str, Tensor]:
    """Points in and around the planes' box, in float64."""
    generator = torch.Generator().manual_seed(3)

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    copies = 1 if mode == "none" else COPIES
    inputs = {f"plane {k}": draw(1, copies * SHARE, *s)
              for k, s in enumerate(plane_shapes(RESOLUTION))}  # fmt: skip
    inputs["points"] = 0.7 * draw(batch, num, 3)
    if mode != "none":
        inputs["derivation"] = draw(num, COPIES, SIZES[mode])
    return {name: value.float().double().requires_grad_() for name, value in inputs.items()}


def defined(inputs: dict[str, Tensor], mode: DerivationMode, is_shared: bool) -> Tensor:
    """Features by grid_sample."""
    points = derive_positions(inputs["points"], mode, inputs.get("derivation"))
    copies, batch, num = points.shape[:3]
    planes = [inputs[f"plane {k}"] for k in range(3)]
    if is_shared:
        groups = [plane[:, -SHARE:].expand(copies, -1, -1, -1) for plane in planes]
    else:
        groups = [plane[0].unflatten(0, (copies, SHARE)) for plane in planes]
    sampled = sample_planes(groups, points.reshape(copies, batch * num, 3))
    return sampled.transpose(0, 1).reshape(batch, num, -1)


def by_kernel(inputs: dict[str, Tensor], is_shared: bool = False) -> Tensor:
    planes = [inputs[f"plane {k}"] for k in range(3)]
    return sample_derived(
        planes, inputs["points"], inputs.get("derivation"), share=SHARE, is_shared=is_shared
    )


def single(inputs: dict[str, Tensor], device: torch.device) -> dict[str, Tensor]:
    return {n: x.detach().float().to(device).requires_grad_() for n, x in inputs.items()}


def error(actual: Tensor, expected: Tensor) -> float:
    return float((actual.cpu().double() - expected).abs().max() / expected.abs().max())


@pytest.fixture
def exact_sums():
    torch.use_deterministic_algorithms(True, warn_only=True)
    yield
    torch.use_deterministic_algorithms(False)


@triton_test
@pytest.mark.parametrize("is_exact", [False, True])
@pytest.mark.parametrize(("mode", "is_shared"), [(m, False) for m in MODES] + [(MODES[1], True)])
def test_features_and_all_gradients_are_those_of_the_definition(
    device, mode, is_shared, is_exact, request
):
    if is_exact:
        request.getfixturevalue("exact_sums")
    exact = draw_inputs(mode)
    mine = single(exact, device)
    expected, found = defined(exact, mode, is_shared), by_kernel(mine, is_shared)
    assert error(found.detach(), expected.detach()) < 2e-6
    weight = torch.randn(expected.shape, generator=torch.Generator().manual_seed(4)).double()
    (expected * weight).sum().backward()
    (found * weight.to(found)).sum().backward()
    for name, value in exact.items():
        assert value.grad is not None
        gradient = mine[name].grad
        assert gradient is not None
        assert error(gradient, value.grad) < 1e-5, name


@triton_test
def test_exact_sums_do_not_depend_on_the_order_of_the_points(device, exact_sums):
    inputs = draw_inputs("paper", num=200, batch=1)
    order = torch.randperm(200, generator=torch.Generator().manual_seed(5))
    shuffled = {**inputs, "points": inputs["points"][:, order],
                "derivation": inputs["derivation"][order]}  # fmt: skip
    gradients = []
    for each in (inputs, shuffled):
        mine = single(each, device)
        by_kernel(mine).square().sum().backward()
        gradients.append([mine[f"plane {k}"].grad for k in range(3)])
    for one, other in zip(*gradients, strict=True):
        assert torch.equal(one, other)


@triton_test
def test_exact_sums_stand_tiny_huge_and_absent_gradients(device, exact_sums):
    inputs = single(draw_inputs("paper", batch=1), device)
    planes = [inputs[f"plane {k}"] for k in range(3)]
    features = by_kernel(inputs)
    (one,) = torch.autograd.grad(features.sum(), planes[0], retain_graph=True)
    for scale in (1e-30, 1e25):
        (scaled,) = torch.autograd.grad(scale * features.sum(), planes[0], retain_graph=True)
        torch.testing.assert_close(scaled / scale, one, rtol=1e-4, atol=1e-6)
    (nothing,) = torch.autograd.grad(0 * features.sum(), planes[0], retain_graph=True)
    assert not nothing.any()
    (broken,) = torch.autograd.grad(torch.nan * features.sum(), planes[0])
    assert broken.isnan().any()


@triton_test
def test_no_points_leave_no_gradient_in_the_planes(device, exact_sums):
    inputs = single(draw_inputs("paper", num=0), device)
    features = by_kernel(inputs)
    assert features.shape == (2, 0, COPIES * SHARE)
    (gradient,) = torch.autograd.grad(features.sum(), inputs["plane 0"])
    assert not gradient.any()


@triton_test
def test_points_that_are_no_numbers_read_nothing_outside_the_planes(device):
    inputs = single(draw_inputs("none"), device)
    points = inputs["points"].detach().clone()
    points[0, 0], points[0, 1] = torch.nan, torch.inf
    features = by_kernel({**inputs, "points": points})
    assert features[:, 2:].isfinite().all()


@triton_test
def test_planes_that_do_not_fit_are_refused(device):
    inputs = single(draw_inputs("paper"), device)
    planes = [inputs[f"plane {k}"] for k in range(3)]
    with pytest.raises(ValueError, match="must agree on three sizes"):
        sample_derived(planes[::-1], inputs["points"], inputs["derivation"], share=SHARE)
    with pytest.raises(ValueError, match="must be 3"):
        sample_derived(planes[:2], inputs["points"], inputs["derivation"], share=SHARE)
    with pytest.raises(ValueError, match="channels that copies read, got 15 for 3 x 4"):
        sample_derived(planes, inputs["points"], inputs["derivation"], share=4)
    with pytest.raises(TypeError, match="derivation must be float32"):
        sample_derived(planes, inputs["points"], inputs["derivation"].double(), share=SHARE)


@pytest.mark.parametrize("capability", [80, 90])
@pytest.mark.parametrize("is_exact", [False, True])
def test_kernels_compile_without_spilling(capability, is_exact, request):
    pytest.importorskip("triton")
    if is_interpreting():
        pytest.skip("interpreted functions cannot be compiled")
    if is_exact:
        request.getfixturevalue("exact_sums")
    from vultus.kernels.triton_runtime import recorded_launches

    planes = [torch.rand(1, 32, 64, 64, requires_grad=True) for _ in range(3)]
    points, quats = torch.rand(1, 64, 3), torch.rand(64, 4, 4)
    with recorded_launches() as launches:
        features = sample_derived(
            planes, points.requires_grad_(), quats.requires_grad_(), share=8
        )  # fmt: skip
        features.sum().backward()
    assert [launch.kernel.fn.__name__ for launch in launches] == ["sample", "sample_backward"]
    for launch in launches:
        compiled = compile_launch(launch, capability)
        assert compiled.stack == 0, launch.kernel.fn.__name__
        # Channels of a texel are neighbours, and loaded four at a time.
        assert "ld.global.v4" in compiled.ptx
