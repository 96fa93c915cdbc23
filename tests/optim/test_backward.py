"""The backward pass by the caller's thread."""

from __future__ import annotations

import threading

import pytest
import torch
from torch import Tensor

from vultus.optim.backward import backward_of_sum


class NotesThread(torch.autograd.Function):
    """The identity; notes which thread asks for its gradient."""

    seen: list[int] = []  # noqa: RUF012

    @staticmethod
    def forward(ctx, x: Tensor) -> Tensor:
        return x.clone()

    @staticmethod
    def backward(ctx, grad: Tensor) -> Tensor:
        NotesThread.seen.append(threading.get_ident())
        return grad


def test_gradients_of_terms_add_up():
    x = torch.tensor([1.0, 2.0], requires_grad=True)
    for _ in range(2):
        backward_of_sum({"a": x.square().sum(), "b": 3 * x[0], "c": torch.zeros(())})
    torch.testing.assert_close(x.grad, torch.tensor([10.0, 8.0]))


def test_what_has_no_gradient_is_reported():
    with pytest.raises(RuntimeError, match="does not require grad"):
        backward_of_sum({"a": torch.zeros(())})


@pytest.mark.gpu
def test_the_caller_runs_what_is_on_a_gpu():
    if not torch.cuda.is_available():
        pytest.skip("needs a GPU")
    x = torch.ones(3, device="cuda", requires_grad=True)
    NotesThread.seen.clear()
    NotesThread.apply(x).sum().backward()
    backward_of_sum({"a": NotesThread.apply(x).sum()})
    other, own = NotesThread.seen
    assert other != own == threading.get_ident()


def test_errors_leave_the_threads_of_others_as_they_were():
    before = torch._C._is_multithreading_enabled()
    with pytest.raises(RuntimeError):
        backward_of_sum({"a": torch.zeros(())})
    assert torch._C._is_multithreading_enabled() is before
