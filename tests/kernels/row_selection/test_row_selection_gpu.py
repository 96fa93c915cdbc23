"""The Triton kernels against indexing."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from triton_support import compile_launch, is_interpreting, triton_device
from vultus.kernels.row_selection import select_rows

triton_test = pytest.mark.triton
SHAPES = ((7, 150), (7, 3), (7, 2, 3))


@pytest.fixture
def device() -> torch.device:
    return triton_device()


def tables(device: torch.device | str) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    drawn = [torch.randn(*shape, generator=generator) for shape in SHAPES]
    return [table.to(device).requires_grad_() for table in drawn]


@triton_test
@pytest.mark.parametrize("numbers", [[3], [5, 0, 5, 5], [-1, 2, 6]])
def test_rows_and_their_gradients_are_those_of_indexing(device, numbers):
    index = torch.tensor(numbers, device=device)
    mine, theirs = tables(device), tables(device)
    for k, (found, table) in enumerate(zip(select_rows(mine, index), theirs, strict=True)):
        expected = table[index]
        assert torch.equal(found, expected)
        weights = torch.rand_like(expected)
        (found * weights).sum().backward(retain_graph=True)
        (expected * weights).sum().backward()
        torch.testing.assert_close(mine[k].grad, table.grad)


@triton_test
def test_one_pass_gives_the_gradients_of_all_tables_that_need_one(device):
    first, second, third = tables(device)
    second = second.detach()
    index = torch.tensor([4, 4], device=device)
    rows = select_rows([first, second, third], index)
    assert [row.requires_grad for row in rows] == [True, True, True]
    (rows[0].sum() + 2 * rows[1].sum() + 3 * rows[2].sum()).backward()
    expected = torch.zeros(7, device=device)
    expected[4] = 2
    assert first.grad is not None
    assert third.grad is not None
    assert torch.equal(first.grad, expected[:, None].expand(7, 150))
    assert torch.equal(third.grad, 3 * expected[:, None, None].expand(7, 2, 3))
    assert second.grad is None


@triton_test
def test_rows_that_do_not_exist_are_not_numbers(device):
    rows = select_rows(tables(device), torch.tensor([7, 1, -8], device=device))
    for row in rows:
        assert row.isnan().flatten(1).all(dim=1).tolist() == [True, False, True]


def test_tables_of_different_lengths_are_refused():
    with pytest.raises(ValueError, match="must have equally many rows, got shapes"):
        select_rows([torch.zeros(2, 3), torch.zeros(3, 3)], torch.tensor([0]))


@pytest.mark.parametrize("capability", [80, 90])
def test_kernels_compile_without_spilling(capability):
    pytest.importorskip("triton")
    if is_interpreting():
        pytest.skip("interpreted functions cannot be compiled")
    from vultus.kernels.triton_runtime import recorded_launches

    with recorded_launches() as launches:
        rows = select_rows(tables("cpu"), torch.tensor([0, 1]))
        torch.cat([row.flatten() for row in rows]).sum().backward()
    assert [launch.kernel.fn.__name__ for launch in launches] == ["select", "select_backward"]
    for launch in launches:
        assert compile_launch(launch, capability).stack == 0, launch.kernel.fn.__name__
