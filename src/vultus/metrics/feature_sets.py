"""Distances between sets of images that compare features one by one."""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

__all__ = ["Coverage", "coverage", "inception_score", "kernel_distance"]

_ROWS = 1024
"""Features of one set that are compared with the other one at once."""


class Coverage(NamedTuple):
    """Shares of images, from 0 to 1."""

    precision: float
    """Of generated images that lie where real ones do."""
    recall: float
    """Of real images that lie where generated ones do."""


def kernel_distance(
    real: Float[Tensor, "n d"],
    fake: Float[Tensor, "m d"],
    generator: torch.Generator,
    *,
    subsets: int = 100,
    size: int = 1000,
) -> float:
    """KID: unbiased squared maximum mean discrepancy with the kernel (x y / d + 1)³.

    Args:
        real: Features.
        fake: Features.
        generator: Draws subsets; on the CPU.
        subsets: How many are averaged.
        size: Images of each kind in a subset, at most as many as there are.

    Raises:
        ValueError: If there are fewer than two images of a kind.

    Reference: Binkowski et al., Demystifying MMD GANs, 2018.
    """
    size = min(size, len(real), len(fake))
    if size < 2:
        raise ValueError(f"KID needs two images of each kind, got {len(real)} and {len(fake)}")
    total = 0.0
    for _ in range(subsets):
        x, y = (
            values[torch.randperm(len(values), generator=generator)[:size].to(values.device)]
            for values in (real, fake)
        )
        within = sum(_kernel(each, each).double().sum() - _kernel_diagonal(each) for each in (x, y))
        between = _kernel(x, y).double().mean()
        total += float(within / (size * (size - 1)) - 2.0 * between)
    return total / subsets


def coverage(
    real: Float[Tensor, "n d"], fake: Float[Tensor, "m d"], neighbours: int = 3
) -> Coverage:
    """Improved precision and recall: a set covers the balls that reach to the k-th neighbour.

    Raises:
        ValueError: If a set has not more images than ``neighbours``.

    Reference: Kynkäänniemi et al., Improved Precision and Recall Metric for Assessing Generative
    Models, 2019.
    """
    if min(len(real), len(fake)) <= neighbours:
        raise ValueError(
            f"precision and recall need more than {neighbours} images of each kind, got "
            f"{len(real)} and {len(fake)}"
        )
    return Coverage(
        float(_covered(real, fake, neighbours).double().mean()),
        float(_covered(fake, real, neighbours).double().mean()),
    )


def inception_score(probabilities: Float[Tensor, "n c"], splits: int = 10) -> tuple[float, float]:
    """Mean and deviation over splits of exp(mean KL(p(y|x) || p(y))).

    Raises:
        ValueError: If there are fewer images than splits.

    Reference: Salimans et al., Improved Techniques for Training GANs, 2016.
    """
    if len(probabilities) < splits:
        raise ValueError(f"the score needs {splits} images, got {len(probabilities)}")
    scores = []
    for part in probabilities.double().tensor_split(splits):
        marginal = part.mean(dim=0, keepdim=True)
        divergence = torch.xlogy(part, part) - torch.xlogy(part, marginal)
        scores.append(divergence.sum(dim=1).mean().exp())
    values = torch.stack(scores)
    return float(values.mean()), float(values.std(correction=0))


def _kernel(x: Tensor, y: Tensor) -> Tensor:
    return (x @ y.T / x.shape[1] + 1.0) ** 3


def _kernel_diagonal(x: Tensor) -> Tensor:
    return ((x.square().sum(dim=1) / x.shape[1] + 1.0) ** 3).double().sum()


def _covered(
    centers: Float[Tensor, "n d"], points: Float[Tensor, "m d"], neighbours: int
) -> Bool[Tensor, " m"]:
    """Which points lie in the ball of any center."""
    # The nearest one is the center itself.
    radii = torch.cat(
        [
            torch.cdist(rows, centers).kthvalue(neighbours + 1, dim=1).values
            for rows in centers.split(_ROWS)
        ]
    )
    return torch.cat(
        [(torch.cdist(rows, centers) <= radii).any(dim=1) for rows in points.split(_ROWS)]
    )
