"""What frames show at each vertex of the personal mesh: votes on its label, and its colour.

Figures in brackets are sections of our specification.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from vultus.data.semantics import SEMANTIC_GROUPS
from vultus.kernels.mesh_raster import Fragments

__all__ = ["VertexViews", "nearest_corners", "vote_labels"]

_BACKGROUND = SEMANTIC_GROUPS.index("background")


def nearest_corners(fragments: Fragments, faces: Int[Tensor, "f 3"]) -> Int[Tensor, "b h w"]:
    """The vertex that each pixel centre sees best; -1 where no face is seen."""
    corner = fragments.barycentrics.argmax(dim=1, keepdim=True)
    seen = faces[fragments.face_index.long().clamp(min=0)].movedim(-1, 1).gather(1, corner)[:, 0]
    return torch.where(fragments.face_index >= 0, seen, -1)


@dataclass(frozen=True)
class VertexViews:
    """Sums over the pixels of some frames that see a vertex best."""

    votes: Float[Tensor, "v l"]
    """Pixels of every label."""
    colors: Float[Tensor, "v 3"]

    @staticmethod
    def none(num_vertices: int) -> VertexViews:
        """Before the first frame."""
        votes = torch.zeros(num_vertices, len(SEMANTIC_GROUPS))
        return VertexViews(votes, torch.zeros(num_vertices, 3))

    def add(
        self,
        corners: Int[Tensor, "h w"],
        rgb: Float[Tensor, "3 h w"],
        mask: Float[Tensor, "1 h w"] | None,
        semantics: UInt8[Tensor, "1 h w"] | None,
    ) -> None:
        """Count one frame.

        Args:
            corners: See ``nearest_corners``.
            rgb: Display-encoded.
            mask: What lies outside is not counted.
            semantics: ``SEMANTIC_GROUPS``; background does not vote.
        """
        is_counted = corners >= 0
        if mask is not None:
            is_counted = is_counted & (mask[0] > 0.5)
        vertex = corners[is_counted]
        self.colors.index_add_(0, vertex, rgb.movedim(0, -1)[is_counted])
        if semantics is not None:
            label = semantics[0][is_counted].long()
            entry = vertex * self.votes.shape[1] + label
            weight = (label != _BACKGROUND).float()
            self.votes.view(-1).index_add_(0, entry, weight)

    @property
    def chroma(self) -> Float[Tensor, "v 3"]:
        """Mean colour divided by its sum; grey where nothing was seen."""
        total = self.colors.sum(dim=1, keepdim=True)
        return torch.where(total > 0, self.colors / total.clamp(min=1e-6), 1.0 / 3.0)


def vote_labels(labels: Int[Tensor, " v"], votes: Float[Tensor, "v l"]) -> Int[Tensor, " v"]:
    """Give every vertex the label that most pixels see there; ties keep the old one [5.2]."""
    best = votes.amax(dim=1)
    own = votes.gather(1, labels[:, None])[:, 0]
    return torch.where(best > own, votes.argmax(dim=1), labels)
