"""The Triton kernels against the sum written with einsum in float64."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from triton_support import compile_launch, is_interpreting, triton_device
from vultus.kernels.masked_shapes import blend_shapes

triton_test = pytest.mark.triton

SHAPES: tuple[tuple[int, ...], ...] = ((3,), (4,), (), (2, 3), (1,))
HAS_DELTAS = (True, True, True, True, False)
HAS_FIXED = (True, False, False, False, True)


@pytest.fixture
def device() -> torch.device:
    return triton_device()


def draw(*shape: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


class Inputs:
    """Attributes of all kinds, in float64; some primitives follow nothing."""

    def __init__(self, num: int, num_shapes: int, batch: int) -> None:
        self.neutral = [draw(num, *s, seed=i).requires_grad_() for i, s in enumerate(SHAPES)]
        self.deltas = self._tables(num, num_shapes, HAS_DELTAS, seed=10)
        for table in self.deltas:
            if table is not None:
                table.requires_grad_()
        self.fixed = self._tables(num, num_shapes, HAS_FIXED, seed=20)
        self.mask = draw(num, num_shapes, seed=30).clamp(min=0)
        self.mask[::3] = 0
        self.weights = draw(batch, num_shapes, seed=31)

    @staticmethod
    def _tables(
        num: int, num_shapes: int, flags: tuple[bool, ...], seed: int
    ) -> list[Tensor | None]:
        return [
            draw(num, *shape, num_shapes, seed=seed + i) if flag else None
            for i, (shape, flag) in enumerate(zip(SHAPES, flags, strict=True))
        ]

    def expected(self) -> list[Tensor]:
        blended = []
        for value, delta, fixed in zip(self.neutral, self.deltas, self.fixed, strict=True):
            total = value.expand(len(self.weights), *value.shape)
            if delta is not None:
                total = total + torch.einsum("n...k,nk,bk->bn...", delta, self.mask, self.weights)
            if fixed is not None:
                total = total + torch.einsum("n...k,bk->bn...", fixed, self.weights)
            blended.append(total)
        return blended

    def trained(self) -> list[Tensor]:
        return [*self.neutral, *(table for table in self.deltas if table is not None)]


def single(value: Tensor | None, device: torch.device) -> Tensor | None:
    if value is None:
        return None
    return value.detach().float().to(device).requires_grad_(value.requires_grad)


def singles(values: list[Tensor] | list[Tensor | None], device: torch.device) -> list[Tensor]:
    return [single(value, device) for value in values]  # pyright: ignore[reportReturnType]


def error(actual: Tensor | None, expected: Tensor | None) -> float:
    assert actual is not None
    assert expected is not None
    size = expected.abs().max().clamp(min=1)
    return float((actual.cpu().double() - expected).abs().max() / size)


@triton_test
@pytest.mark.parametrize(("num", "num_shapes", "batch"), [(70, 50, 1), (33, 5, 3), (3, 70, 2)])
def test_blended_attributes_and_their_gradients_are_those_of_the_sum(
    device, num, num_shapes, batch
):
    exact = Inputs(num, num_shapes, batch)
    neutral, deltas = singles(exact.neutral, device), singles(exact.deltas, device)
    actual = blend_shapes(
        neutral,
        deltas,
        singles(exact.fixed, device),
        *singles([exact.mask, exact.weights], device),
    )
    expected = exact.expected()
    for i, (found, value) in enumerate(zip(actual, expected, strict=True)):
        assert found.shape == value.shape
        assert error(found.detach(), value.detach()) < 2e-6
        weights = draw(*value.shape, seed=40 + i)
        (value * weights).sum().backward()
        (found * weights.to(found)).sum().backward(retain_graph=True)
    leaves = [*neutral, *(table for table in deltas if table is not None)]
    for leaf, value in zip(leaves, exact.trained(), strict=True):
        assert error(leaf.grad, value.grad) < 2e-6


@triton_test
def test_what_is_not_used_or_not_trained_gets_no_gradient(device):
    exact = Inputs(20, 5, 1)
    neutral, deltas = singles(exact.neutral, device), singles(exact.deltas, device)
    deltas[0].requires_grad_(False)
    blended = blend_shapes(
        neutral,
        deltas,
        singles(exact.fixed, device),
        *singles([exact.mask, exact.weights], device),
    )
    (blended[0].sum() + blended[1].sum()).backward()
    assert [leaf.grad is not None for leaf in neutral] == [True, True, False, False, False]
    assert [d is not None and d.grad is not None for d in deltas] == [False, True] + 3 * [False]
    torch.testing.assert_close(neutral[0].grad, torch.ones_like(neutral[0]))


@triton_test
def test_deltas_that_nothing_follows_do_not_count_whatever_they_are(device):
    mask, weights = torch.zeros(2, 3, device=device), torch.ones(1, 3, device=device)
    mask[1] = 1.0
    deltas = torch.full((2, 1, 3), torch.inf, device=device)
    (blended,) = blend_shapes([torch.ones(2, 1, device=device)], [deltas], [None], mask, weights)
    assert blended.flatten().tolist() == [1.0, torch.inf]


@triton_test
def test_constants_that_require_gradients_are_refused(device):
    mask, weights = torch.ones(2, 3, device=device), torch.ones(1, 3, device=device)
    with pytest.raises(ValueError, match="weights must be constant"):
        blend_shapes([mask], [None], [None], mask, weights.requires_grad_())


@pytest.mark.parametrize("capability", [80, 90])
def test_kernels_compile_without_spilling(capability):
    pytest.importorskip("triton")
    if is_interpreting():
        pytest.skip("interpreted functions cannot be compiled")
    from vultus.kernels.triton_runtime import recorded_launches

    shapes = ((3,), (3,), (4,), (), (3,), (1,), (1,))
    neutral = [torch.zeros(100, *shape, requires_grad=True) for shape in shapes]
    deltas: list[Tensor | None] = [
        torch.zeros(*value.shape, 50, requires_grad=True) for value in neutral
    ]
    fixed = [torch.zeros(*neutral[i].shape, 50) if i in (0, 2) else None for i in range(7)]
    with recorded_launches() as launches:
        blended = blend_shapes(neutral, deltas, fixed, torch.zeros(100, 50), torch.zeros(1, 50))
        torch.autograd.backward(blended, [torch.ones_like(each) for each in blended])
    assert [launch.kernel.fn.__name__ for launch in launches] == ["blend", "blend_backward"]
    for launch in launches:
        assert compile_launch(launch, capability).stack == 0, launch.kernel.fn.__name__
