"""Ends of styled layers and doubled images: the definitions, and the kernels against them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import conv_transpose2d

from triton_support import compile_launch, is_interpreting, triton_device
from vultus.kernels.styled_layer import _choose, add_doubled, finish_layer

triton_test = pytest.mark.triton
BATCH, HEIGHT, WIDTH = 2, 6, 5


@pytest.fixture
def device() -> torch.device:
    return triton_device()


def draw(*shape: int, seed: int) -> Tensor:
    """Numbers that float32 holds as well."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).double()


def layer_inputs(
    channels: int, noise: str, *, is_doubling: bool, has_styles: bool
) -> dict[str, Any]:
    factor = 2 if is_doubling else 1
    size = factor * HEIGHT, factor * WIDTH
    inputs = {
        "x": draw(BATCH, factor**2 * channels, HEIGHT, WIDTH, seed=1),
        "scale": 1 + 0.3 * draw(BATCH, channels, seed=2),
        "bias": 0.5 * draw(channels, seed=3),
    }
    if noise != "none":
        inputs["noise"] = draw(*((BATCH, 1) if noise == "own" else ()), *size, seed=4)
        inputs["noise_strength"] = torch.tensor(0.7).double()
    if has_styles:
        inputs["next_styles"] = 1 + 0.3 * draw(BATCH, channels, seed=5)
    return inputs


def on(device: torch.device, inputs: dict[str, Any]) -> dict[str, Any]:
    return {n: x.detach().float().to(device).requires_grad_() for n, x in inputs.items()}


def assert_same_gradients(
    function: Callable[..., Any], exact: dict[str, Any], device: torch.device
) -> None:
    """Results and all gradients of both backends, random weights on the results."""
    exact = {name: x.requires_grad_() for name, x in exact.items()}
    mine = on(device, exact)
    found, expected = function(mine, backend="gpu"), function(exact, backend="ref")
    for k, (one, other) in enumerate(zip(found, expected, strict=True)):
        torch.testing.assert_close(one.cpu().double(), other, rtol=2e-6, atol=2e-6)
        weight = draw(*other.shape, seed=20 + k)
        for result in (one, other):
            (result * weight.to(result)).sum().backward(retain_graph=True)
    for name, x in exact.items():
        gradient, wanted = mine[name].grad, x.grad
        assert gradient is not None, name
        assert wanted is not None, name
        error = (gradient.cpu().double() - wanted).abs().max()
        assert error < 1e-5 * wanted.abs().max(), name


@triton_test
@pytest.mark.parametrize("is_doubling", [False, True])
@pytest.mark.parametrize(
    ("channels", "noise", "clamp", "has_styles", "keeps"),
    [
        (8, "shared", None, True, True),
        (3, "own", 0.8, True, False),
        (150, "none", 1.0, False, True),
    ],
)
def test_layers_end_as_the_definition_says(
    device, is_doubling, channels, noise, clamp, has_styles, keeps
):
    inputs = layer_inputs(channels, noise, is_doubling=is_doubling, has_styles=has_styles)

    def end(tensors: dict[str, Any], **options: Any) -> list[Tensor]:
        options |= {"is_doubling": is_doubling, "clamp": clamp, "keeps": keeps}
        results = finish_layer(**tensors, **options)
        assert [result is not None for result in results] == [keeps, has_styles]
        return [result for result in results if result is not None]

    assert_same_gradients(end, inputs, device)


@triton_test
def test_a_result_that_is_not_used_changes_no_gradient(device):
    inputs = layer_inputs(4, "none", is_doubling=False, has_styles=True)
    assert_same_gradients(lambda t, **o: [finish_layer(**t, **o)[1]], inputs, device)
    inputs = layer_inputs(4, "shared", is_doubling=False, has_styles=False)
    assert_same_gradients(lambda t, **o: [finish_layer(**t, **o)[0]], inputs, device)


@triton_test
@pytest.mark.parametrize("size", [(1, 1), (3, 5), (8, 4)])
def test_images_double_as_the_definition_says(device, size):
    height, width = size
    inputs = {
        "image": draw(BATCH, 7, height, width, seed=1),
        "added": draw(BATCH, 7, 2 * height, 2 * width, seed=2),
    }
    assert_same_gradients(lambda t, **o: [add_doubled(**t, **o)], inputs, device)


@triton_test
def test_features_of_half_precision_are_summed_in_float32(device):
    inputs = {
        n: x.float() for n, x in layer_inputs(8, "own", is_doubling=True, has_styles=True).items()
    }
    expected = finish_layer(**inputs, is_doubling=True, backend="ref")
    inputs = {n: x.to(device) for n, x in inputs.items()}
    inputs["x"] = inputs["x"].half()
    for one, other in zip(
        finish_layer(**inputs, is_doubling=True, backend="gpu"), expected, strict=True
    ):
        assert one is not None
        assert other is not None
        assert one.dtype == torch.float16
        torch.testing.assert_close(one.cpu().float(), other, rtol=2e-3, atol=2e-3)


def test_doubling_is_a_transposed_convolution():
    """Filter (1, 3, 3, 1) / 4 along both axes, a zero behind every pixel."""
    image, added = draw(1, 2, 4, 3, seed=1), draw(1, 2, 8, 6, seed=2)
    taps = torch.tensor([1.0, 3.0, 3.0, 1.0]).double() / 4
    kernel = torch.outer(taps, taps).expand(2, 1, 4, 4)
    expected = conv_transpose2d(image, kernel, stride=2, padding=1, groups=2) + added
    torch.testing.assert_close(add_doubled(image, added, backend="ref"), expected)


def test_groups_of_channels_become_rows_and_columns():
    x = torch.arange(8.0).view(1, 8, 1, 1)
    y, _ = finish_layer(x, torch.ones(1, 2), torch.zeros(2), is_doubling=True, backend="ref")
    assert y is not None
    torch.testing.assert_close(y / 2**0.5, torch.tensor([[[[0.0, 2], [4, 6]], [[1.0, 3], [5, 7]]]]))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"x": torch.zeros(2, 5, 4, 4)}, "x must have a channel for each of the 8"),
        ({"is_doubling": True}, "x must have 4 channels for each of the 8 in scale, got 8"),
        ({"keeps": False, "next_styles": None}, "keeps must be True"),
        ({"noise_strength": None}, "noise and noise_strength must come together"),
    ],
)
def test_bad_layers_are_refused(changes, message):
    inputs = layer_inputs(8, "shared", is_doubling=False, has_styles=True)
    with pytest.raises(ValueError, match=message):
        finish_layer(**{**inputs, **changes})


def test_unknown_backends_are_named():
    with pytest.raises(ValueError, match="backend must be of auto, ref, gpu, got 'cuda'"):
        _choose("cuda", is_served=True)


def test_images_of_other_sizes_are_refused():
    with pytest.raises(ValueError, match=r"added must have shape \(1, 3, 8, 8\)"):
        add_doubled(torch.zeros(1, 3, 4, 4), torch.zeros(1, 3, 8, 6))


@triton_test
def test_factors_of_other_dtypes_are_refused(device):
    inputs = on(device, layer_inputs(4, "none", is_doubling=False, has_styles=False))
    inputs["bias"] = inputs["bias"].double()
    with pytest.raises(TypeError, match="bias must be float32"):
        finish_layer(**inputs, backend="gpu")


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32])
def test_kernels_compile_without_spilling(dtype):
    pytest.importorskip("triton")
    if is_interpreting():
        pytest.skip("interpreted functions cannot be compiled")
    from vultus.kernels.triton_runtime import recorded_launches

    inputs = layer_inputs(64, "own", is_doubling=True, has_styles=True)
    tensors = {n: x.float().requires_grad_() for n, x in inputs.items()}
    tensors["x"] = tensors["x"].detach().to(dtype).requires_grad_()
    image = draw(1, 16, 4, 4, seed=1).to(dtype).requires_grad_()
    with recorded_launches() as launches:
        kept, scaled = finish_layer(**tensors, is_doubling=True, clamp=1.0, backend="gpu")
        assert kept is not None
        assert scaled is not None
        (kept.sum() + scaled.sum()).backward()
        add_doubled(image, draw(1, 16, 8, 8, seed=2).to(dtype), backend="gpu").sum().backward()
    names = [launch.kernel.fn.__name__ for launch in launches]
    assert names == ["finish", "finish_backward", "double", "double_backward"]
    for launch in launches:
        for capability in (80, 90):
            assert compile_launch(launch, capability).stack == 0, launch.kernel.fn.__name__
