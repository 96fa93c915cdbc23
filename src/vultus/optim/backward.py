"""The backward pass, by the thread that asks for it.

PyTorch leaves gradients on a GPU to a thread of its own. Where steps are launched one by one, and
the host is what they wait for, waking that thread and then the caller's costs more than the
launches of a rasterizer.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor

__all__ = ["backward_of_sum"]


def backward_of_sum(terms: Mapping[str, Float[Tensor, ""]]) -> None:
    """Add the gradients of the sum of loss terms to those of the leaves.

    Raises:
        RuntimeError: If no term requires a gradient.
    """
    with torch.autograd.set_multithreading_enabled(False):
        torch.stack(list(terms.values())).sum().backward()
