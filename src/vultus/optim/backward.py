"""The backward pass, by the thread that asks for it.

PyTorch leaves gradients on a GPU to a thread of its own. Where steps are launched one by one, and
the host is what they wait for, waking that thread and then the caller's costs more than the
launches of a rasterizer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

__all__ = ["backward", "backward_of_sum"]


def backward(outputs: Sequence[Tensor], gradients: Sequence[Tensor] | None = None) -> None:
    """Add to the gradients of the leaves, as ``torch.autograd.backward`` does.

    Args:
        outputs: Any number of tensors.
        gradients: Of the outputs, each of the same shape; scalars need none.

    Raises:
        RuntimeError: If nothing requires a gradient, or a tensor that is no scalar has none.
    """
    with torch.autograd.set_multithreading_enabled(False):
        torch.autograd.backward(outputs, gradients)


def backward_of_sum(terms: Mapping[str, Float[Tensor, ""]]) -> None:
    """Add the gradients of the sum of loss terms to those of the leaves; see ``backward``."""
    backward([torch.stack(list(terms.values())).sum()])
