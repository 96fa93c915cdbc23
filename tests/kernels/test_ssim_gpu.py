"""Triton kernels of SSIM; on a GPU, or on small images in Triton's interpreter."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from tolerances import assert_close
from triton_support import compile_launch, is_interpreting, triton_device
from vultus.kernels.ssim import l1_ssim, ssim, ssim_map

REASON = "variances in float32 lose digits against the constant 9e-4"
triton_test = pytest.mark.triton


@pytest.fixture
def device(monkeypatch: pytest.MonkeyPatch) -> torch.device:
    """Strips are small in the interpreter, which takes a tenth of a second per row."""
    found = triton_device()
    if is_interpreting():
        from vultus.kernels.ssim import gpu

        monkeypatch.setattr(gpu, "_ROWS", (4,))
        monkeypatch.setattr(gpu, "_COLUMNS", 16)
    return found


def images(shape: tuple[int, ...], device: torch.device) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(sum(shape))
    a = torch.rand(shape, generator=generator)
    b = (a + 0.3 * torch.rand(shape, generator=generator)).clamp(0, 1)
    return a.to(device).requires_grad_(), b.to(device).requires_grad_()


def assert_same_gradients(actual: tuple[Tensor, ...], expected: tuple[Tensor, ...]) -> None:
    for mine, theirs in zip(actual, expected, strict=True):
        scale = theirs.abs().max()
        assert_close(mine.cpu() / scale, theirs / scale, looser=5, reason=REASON)


@triton_test
@pytest.mark.parametrize("shape", [(1, 1, 1), (2, 1, 3, 7), (1, 6, 18)])
def test_gpu_map_and_both_gradients_equal_the_reference(shape, device):
    """The last image takes several strips downwards and sideways."""
    a, b = images(shape, device)
    upstream = torch.rand(shape, generator=torch.Generator().manual_seed(1))
    exact = [x.detach().double().cpu().requires_grad_() for x in (a, b)]
    expected = ssim_map(*exact, backend="ref")
    actual = ssim_map(a, b, backend="gpu")
    assert_close(actual.cpu(), expected, looser=5, reason=REASON)
    assert_same_gradients(
        torch.autograd.grad((actual * upstream.to(a.device)).sum(), (a, b)),
        torch.autograd.grad((expected * upstream).sum(), exact),
    )


@triton_test
def test_gpu_gradient_of_the_mean_reads_one_number(device):
    a, b = images((1, 6, 9), device)
    exact = [x.detach().double().cpu().requires_grad_() for x in (a, b)]
    assert_same_gradients(
        torch.autograd.grad(3 * ssim(a, b, backend="gpu"), (a,)),
        torch.autograd.grad(3 * ssim(*exact, backend="ref"), exact[:1]),
    )


@triton_test
@pytest.mark.parametrize("shape", [(1, 2, 1), (2, 1, 3, 7), (1, 6, 18)])
def test_gpu_l1_and_ssim_of_one_pass_equal_the_reference(shape, device):
    """Weights differ, so that neither gradient can stand in for the other."""
    a, b = images(shape, device)
    with torch.no_grad():
        a[..., 0, 0] = b[..., 0, 0]  # where L1 has no derivative, its gradient is 0
    exact = [x.detach().double().cpu().requires_grad_() for x in (a, b)]
    expected, actual = l1_ssim(*exact, backend="ref"), l1_ssim(a, b, backend="gpu")
    for mine, theirs in zip(actual, expected, strict=True):
        assert_close(mine.cpu(), theirs, looser=5, reason=REASON)
    weights = (0.8, -0.2)
    assert_same_gradients(
        torch.autograd.grad(sum(w * x for w, x in zip(weights, actual, strict=True)), (a, b)),
        torch.autograd.grad(sum(w * x for w, x in zip(weights, expected, strict=True)), exact),
    )


@triton_test
def test_gpu_gradient_of_l1_alone_is_the_sign(device):
    a, b = images((1, 6, 9), device)
    (grad,) = torch.autograd.grad(l1_ssim(a, b, backend="gpu")[0], (a,))
    assert_close(grad, (a - b).sign() / a.numel())


@triton_test
def test_gpu_accepts_images_that_are_not_contiguous_and_empty_batches(device):
    a, b = images((1, 4, 6), device)
    turned = ssim_map(a.transpose(1, 2), b.transpose(1, 2), backend="gpu")
    assert_close(turned.transpose(1, 2), ssim_map(a, b, backend="gpu"))
    empty = torch.zeros(0, 3, 4, 16, device=a.device, requires_grad=True)
    ssim_map(empty, empty.detach(), backend="gpu").sum().backward()
    assert empty.grad is not None
    assert l1_ssim(empty, empty, backend="gpu")[0].isnan()


@triton_test
def test_gpu_rejects_other_dtypes(device):
    a, b = (x.double() for x in images((1, 9, 16), device))
    with pytest.raises(TypeError, match=r"needs float32 images on one GPU, got torch\.float64"):
        ssim_map(a, b, backend="gpu")


def test_strips_are_shorter_where_there_are_few_pixels():
    pytest.importorskip("triton")
    from vultus.kernels.ssim import gpu

    rows = [gpu._rows(torch.empty(1, 3, size, size, device="meta")) for size in (64, 512, 1024)]
    assert rows == [16, 16, 32]


def test_gpu_rejects_images_on_the_cpu():
    pytest.importorskip("triton")
    if is_interpreting():
        pytest.skip("the interpreter runs on the CPU")
    a, b = images((1, 9, 16), torch.device("cpu"))
    with pytest.raises(TypeError, match=r"needs float32 images on one GPU, got .* on cpu"):
        ssim_map(a, b, backend="gpu")


@pytest.mark.parametrize("capability", [80, 90])
def test_gpu_kernels_compile_without_spilling(capability):
    pytest.importorskip("triton")
    if is_interpreting():
        pytest.skip("interpreted functions cannot be compiled")
    from vultus.kernels.triton_runtime import recorded_launches

    a, b = images((3, 64, 96), torch.device("cpu"))
    with recorded_launches() as launches:
        ssim(a, b.detach(), backend="gpu").backward()
        (ssim_map(a, b.detach(), backend="gpu") * b.detach()).sum().backward()
        sum(l1_ssim(a, b.detach(), backend="gpu")).backward()
    names = [launch.kernel.fn.__name__ for launch in launches]
    pair = ["compare", "compare_backward"]
    assert names == [*pair, *pair, "compare", "mean_of_sums", "compare_backward"]
    assert [launches[k].constants["IS_UNIFORM"] for k in (1, 3, 6)] == [True, False, True]
    for launch in [*launches[:2], *launches[3:]]:
        kernel = compile_launch(launch, capability)
        assert kernel.stack == 0
        assert kernel.registers <= 168, "fewer than 12 warps fit on a multiprocessor"
