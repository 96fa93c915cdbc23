"""Distance between two sets of images, as Gaussians in the space of their features."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from jaxtyping import Float
from torch import Tensor

__all__ = ["FeatureStatistics", "frechet_distance"]


class FeatureStatistics:
    """Mean and covariance, gathered batch by batch in double precision."""

    def __init__(self) -> None:
        """Begin with nothing."""
        self.count = 0
        self._sum: Tensor | None = None
        self._squares: Tensor | None = None

    @classmethod
    def of(cls, batches: Iterable[Float[Tensor, "_ d"]]) -> FeatureStatistics:
        """Gather all batches."""
        statistics = cls()
        for features in batches:
            statistics.add(features)
        return statistics

    def add(self, features: Float[Tensor, "b d"]) -> None:
        """Take in a batch."""
        values = features.detach().double()
        total, squares = values.sum(dim=0), values.T @ values
        self._sum = total if self._sum is None else self._sum + total
        self._squares = squares if self._squares is None else self._squares + squares
        self.count += len(features)

    def mean(self) -> Float[Tensor, " d"]:
        """Mean of all features.

        Raises:
            ValueError: If there is none.
        """
        if self._sum is None:
            raise ValueError("features must be added before their mean is asked for")
        return self._sum / self.count

    def covariance(self) -> Float[Tensor, "d d"]:
        """Covariance of all features, divided by their number.

        Raises:
            ValueError: If there is none.
        """
        mean = self.mean()
        assert self._squares is not None
        return self._squares / self.count - torch.outer(mean, mean)


def frechet_distance(first: FeatureStatistics, second: FeatureStatistics) -> float:
    """Squared distance of Gaussians: |m - n|² + tr(S + T - 2 (S T)^(1/2)).

    Reference: Dowson and Landau, The Fréchet Distance between Multivariate Normal Distributions,
    1982; for images Heusel et al., 2017.
    """
    gap = (first.mean() - second.mean()).square().sum()
    one, other = first.covariance(), second.covariance()
    # S T has the eigenvalues of the symmetric R T R with R² = S; rounding makes some negative.
    values, vectors = torch.linalg.eigh(one)
    root = (vectors * values.clamp(min=0.0).sqrt()) @ vectors.T
    common = torch.linalg.eigvalsh(root @ other @ root).clamp(min=0.0).sqrt().sum()
    return float(gap + one.trace() + other.trace() - 2.0 * common)
