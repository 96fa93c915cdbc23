"""Priors on materials: what photographs under one light leave open.

All are unweighted means; the mean over no Gaussians is 0. Figures in brackets are sections of our
specification.

Reference: Bharadwaj et al., FLARE, 2023, for the two priors of skin and the white light.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from scipy.spatial import KDTree
from torch import Tensor

from vultus.core.threads import num_threads
from vultus.data.semantics import SemanticGroup, is_group
from vultus.methods.relightable_blendshapes.material_config import MaterialWeights
from vultus.methods.relightable_blendshapes.materials import MATERIAL_CHANNELS, activate_materials

__all__ = [
    "MaterialPriors",
    "delta_sparsity",
    "labelled_neighbors",
    "material_terms",
    "neighbor_difference",
    "roughness_prior",
    "skin_specular_prior",
    "squared_specular",
    "white_light",
]

_SKIN: tuple[SemanticGroup, ...] = ("skin", "lips")
_DULL: tuple[SemanticGroup, ...] = ("hair", "brows", "cloth")

_ROUGHNESS = (0.5, 0.1)
_SPECULAR = (0.3753, 0.1655)
"""Mean and spread of skin; the latter as measured by Weyrich et al. for FLARE's prior."""
_FREE_SPREADS = 2.0


@dataclass(frozen=True)
class MaterialPriors:
    """What is known about n Gaussians; changes with their number."""

    is_skin: Bool[Tensor, " n"]
    is_dull: Bool[Tensor, " n"]
    pairs: Int[Tensor, "pairs 2"]
    """Neighbours of the same label."""

    @classmethod
    def of(cls, labels: Int[Tensor, " n"], pairs: Int[Tensor, "pairs 2"]) -> MaterialPriors:
        """Look at labels, which are ``SEMANTIC_GROUPS``."""
        groups = labels.to(torch.uint8)
        return cls(is_group(groups, *_SKIN), is_group(groups, *_DULL), pairs)


def white_light(
    diffuse: Float[Tensor, "b n 3"], visible: Bool[Tensor, "b n"] | None = None
) -> Float[Tensor, ""]:
    """Keep what arrives at a white surface grey: mean |c - mean of channels|.

    Args:
        diffuse: Shading without albedo.
        visible: Gaussians that count; ``None`` for all.
    """
    difference = (diffuse - diffuse.mean(dim=-1, keepdim=True)).abs().mean(dim=-1)
    return _masked_mean(difference, visible)


def roughness_prior(
    roughness: Float[Tensor, "b n"], is_skin: Bool[Tensor, " n"]
) -> Float[Tensor, ""]:
    """Keep skin within two spreads of 0.5 +- 0.1."""
    return _masked_mean(_excess(roughness, *_ROUGHNESS), is_skin)


def skin_specular_prior(
    specular: Float[Tensor, "b n"], is_skin: Bool[Tensor, " n"]
) -> Float[Tensor, ""]:
    """Keep skin within two spreads of 0.3753 +- 0.1655."""
    return _masked_mean(_excess(specular, *_SPECULAR), is_skin)


def squared_specular(
    specular: Float[Tensor, "b n"], is_dull: Bool[Tensor, " n"]
) -> Float[Tensor, ""]:
    """Keep hair, brows and cloth dull."""
    return _masked_mean(specular.square(), is_dull)


def labelled_neighbors(
    means: Float[Tensor, "n 3"], labels: Int[Tensor, " n"], count: int = 4
) -> Int[Tensor, "pairs 2"]:
    """Pairs of Gaussians and their nearest ones of the same label; waits for a GPU.

    Args:
        means: Neutral centres.
        labels: Gaussians of different labels are no neighbours.
        count: Neighbours of each; fewer where a label has fewer Gaussians.
    """
    points, names = means.detach().cpu().double().numpy(), labels.cpu().numpy()
    pairs = []
    for name in np.unique(names):
        rows = np.flatnonzero(names == name)
        known = min(count + 1, len(rows))
        if known < 2:
            continue
        _, nearest = KDTree(points[rows]).query(points[rows], known, workers=num_threads())
        own = np.repeat(rows, known)
        other = rows[nearest.reshape(-1)]
        # A point is its own neighbour, unless another one lies at the same place.
        pairs.append(np.stack([own, other], axis=1)[own != other])
    found = np.concatenate(pairs) if pairs else np.zeros((0, 2), np.int64)
    return torch.from_numpy(found).to(means.device)


def neighbor_difference(
    values: Float[Tensor, "b n c"], pairs: Int[Tensor, "pairs 2"]
) -> Float[Tensor, ""]:
    """Mean absolute difference of activated materials between neighbours."""
    first, second = pairs.unbind(dim=1)
    return _masked_mean((values[:, first] - values[:, second]).abs(), None)


def delta_sparsity(deltas: Float[Tensor, "n c k"]) -> Float[Tensor, ""]:
    """Let expressions change materials only where they must: mean |delta|.

    The published form of such terms weighs deltas by the expressions' mask; where that is 0, deltas
    have no other gradient and stay 0 without it.
    """
    return _masked_mean(deltas.abs(), None)


def material_terms(
    weights: MaterialWeights,
    gaussians: Mapping[str, Tensor],
    diffuse: Float[Tensor, "b n 3"],
    priors: MaterialPriors,
    min_roughness: float,
) -> dict[str, Tensor]:
    """All weighted terms of materials [5.3]; those of weight 0 are left out.

    Args:
        weights: Of the terms.
        gaussians: Stored neutral materials, and deltas by ``<name>_deltas`` where there are any.
        diffuse: What arrives at white Gaussians in the frames of a step.
        priors: What is known about the Gaussians.
        min_roughness: See ``activate_materials``.
    """
    stored = (gaussians[name][None] for name in MATERIAL_CHANNELS)
    materials = activate_materials(*stored, min_roughness=min_roughness)
    gain, pairs = materials.specular[..., 0], priors.pairs
    terms = {
        "white_light": (weights.white_light, lambda: white_light(diffuse)),
        "roughness_prior": (
            weights.roughness_prior,
            lambda: roughness_prior(materials.roughness, priors.is_skin),
        ),
        "specular_prior": (
            weights.specular_prior,
            lambda: skin_specular_prior(gain, priors.is_skin),
        ),
        "dull_specular": (weights.dull_specular, lambda: squared_specular(gain, priors.is_dull)),
        "albedo_neighbors": (
            weights.albedo_neighbors,
            lambda: neighbor_difference(materials.albedo, pairs),
        ),
        "material_neighbors": (
            weights.material_neighbors,
            lambda: neighbor_difference(torch.stack([materials.roughness, gain], dim=2), pairs),
        ),
    }
    delta_weights = {
        "albedo": weights.albedo_deltas,
        "roughness": weights.material_deltas,
        "specular": weights.material_deltas,
    }
    for name, weight in delta_weights.items():
        deltas = gaussians.get(f"{name}_deltas")
        if deltas is not None:
            terms[f"{name}_deltas"] = (weight, partial(delta_sparsity, deltas))
    return {name: weight * term() for name, (weight, term) in terms.items() if weight > 0}


def _excess(values: Tensor, mean: float, spread: float) -> Tensor:
    """How many spreads beyond two a value lies from the mean."""
    return (((values - mean) / spread).abs() - _FREE_SPREADS).clamp(min=0.0)


def _masked_mean(values: Tensor, mask: Tensor | None) -> Tensor:
    """Average over the true places of a mask that broadcasts; they are not taken out.

    A GPU would have to tell the host how many there are.
    """
    if mask is None:
        return values.mean() if values.numel() else values.sum()
    chosen = mask.expand_as(values)
    return torch.where(chosen, values, 0.0).sum() / chosen.sum().clamp(min=1)
