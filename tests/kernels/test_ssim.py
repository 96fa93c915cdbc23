from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor

from tolerances import assert_close
from vultus.kernels.ssim import l1_ssim, ssim, ssim_map
from vultus.kernels.ssim.window import C1, C2, WEIGHTS

SIZES = [(1, 1), (3, 16), (11, 17), (40, 48), (5, 33)]


def images(shape: tuple[int, ...], dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(sum(shape))
    a = torch.rand(shape, dtype=dtype, generator=generator)
    return a, (a + 0.3 * torch.rand(shape, dtype=dtype, generator=generator)).clamp(0, 1)


def ssim_of_pixel(a: Tensor, b: Tensor, y: int, x: int) -> float:
    """Wang et al. 2004, eq. 13, as sums over the window; outside the image everything is 0."""
    m_a = m_b = e_aa = e_bb = e_ab = 0.0
    for i, j in itertools.product(range(11), range(11)):
        row, column = y + i - 5, x + j - 5
        if 0 <= row < a.shape[0] and 0 <= column < a.shape[1]:
            weight, p, q = WEIGHTS[i] * WEIGHTS[j], float(a[row, column]), float(b[row, column])
            m_a, m_b = m_a + weight * p, m_b + weight * q
            e_aa, e_bb = e_aa + weight * p * p, e_bb + weight * q * q
            e_ab += weight * p * q
    luminance = (2 * m_a * m_b + C1) / (m_a**2 + m_b**2 + C1)
    return luminance * (2 * (e_ab - m_a * m_b) + C2) / (e_aa - m_a**2 + e_bb - m_b**2 + C2)


def test_reference_equals_loops_over_the_window() -> None:
    a, b = images((7, 13), torch.float64)
    expected = [[ssim_of_pixel(a, b, y, x) for x in range(13)] for y in range(7)]
    assert_close(ssim_map(a[None], b[None])[0], torch.tensor(expected, dtype=torch.float64))


def test_window_is_the_normalized_gaussian() -> None:
    assert sum(WEIGHTS) == pytest.approx(1.0, abs=1e-15)
    assert WEIGHTS[4] / WEIGHTS[5] == pytest.approx(2.718281828459045 ** (-1 / 4.5))
    assert WEIGHTS == WEIGHTS[::-1]


@pytest.mark.parametrize("backend", ["ref", "cpu"])
def test_an_image_is_fully_similar_to_itself(backend: str) -> None:
    a, _ = images((2, 3, 20, 24))
    assert_close(ssim_map(a, a, backend=backend), torch.ones_like(a))


@pytest.mark.parametrize("size", SIZES)
def test_cpu_map_and_both_gradients_equal_the_reference(size: tuple[int, int]) -> None:
    a, b = (x.requires_grad_() for x in images((2, 3, *size)))
    upstream = torch.rand(a.shape, generator=torch.Generator().manual_seed(1))
    exact = [x.detach().double().requires_grad_() for x in (a, b)]
    expected = ssim_map(*exact, backend="ref")
    actual = ssim_map(a, b, backend="cpu")
    reason = "variances in float32 lose digits against the constant 9e-4"
    assert_close(actual, expected, looser=5, reason=reason)
    want = torch.autograd.grad((expected * upstream).sum(), exact)
    got = torch.autograd.grad((actual * upstream).sum(), (a, b))
    for mine, theirs in zip(got, want, strict=True):
        scale = theirs.abs().max()
        assert_close(mine / scale, theirs / scale, looser=5, reason=reason)


def test_cpu_result_does_not_depend_on_the_number_of_threads() -> None:
    a, b = images((1, 3, 37, 48))
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        single = ssim_map(a, b, backend="cpu")
        torch.set_num_threads(3)
        several = ssim_map(a, b, backend="cpu")
    finally:
        torch.set_num_threads(before)
    assert torch.equal(single, several)


def test_cpu_accepts_images_that_are_not_contiguous() -> None:
    a, b = images((3, 20, 32))
    turned = ssim_map(a.transpose(1, 2), b.transpose(1, 2), backend="cpu")
    assert_close(turned.transpose(1, 2), ssim_map(a, b, backend="cpu"))


def test_reference_gradient_passes_gradcheck() -> None:
    a, b = (x.requires_grad_() for x in images((1, 6, 7), torch.float64))
    assert torch.autograd.gradcheck(lambda p, q: ssim_map(p, q, backend="ref"), (a, b))


def test_auto_keeps_the_precision_of_float64() -> None:
    a, b = images((1, 9, 16), torch.float64)
    assert ssim(a, b).dtype == torch.float64
    assert_close(ssim(a, b), ssim_map(a, b, backend="ref").mean())


def test_empty_batch_gives_an_empty_map() -> None:
    empty = torch.zeros(0, 3, 4, 16)
    assert ssim_map(empty, empty, backend="cpu").shape == empty.shape


def test_cpu_rejects_other_dtypes() -> None:
    a, b = images((1, 9, 16), torch.float64)
    with pytest.raises(TypeError, match=r"needs float32 images on the CPU, got torch\.float64"):
        ssim_map(a, b, backend="cpu")


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_l1_and_ssim_are_the_means_of_their_maps(dtype: torch.dtype) -> None:
    a, b = images((2, 3, 11, 17), dtype)
    difference, similarity = l1_ssim(a, b)
    assert_close(difference, (a - b).abs().mean())
    assert_close(similarity, ssim_map(a, b, backend="ref").mean())
