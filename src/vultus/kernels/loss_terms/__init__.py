"""Loss terms on rendered maps and on surfels, averaged in one pass, for training on a GPU.

``losses.regularizers`` defines the terms and serves every other device. It launches a dozen small
kernels a term, each of which takes a GPU longer to start than to run. Here all terms on maps share
one launch and so do all terms on surfels, forward and backward; programs add up what they have
seen, and a second launch adds that up, so that values and gradients are reproducible.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from jaxtyping import Bool, Float, Int
from torch import Tensor

__all__ = [
    "MapWeights",
    "MeasuredMaps",
    "MeasuredSurfels",
    "SurfelWeights",
    "map_terms",
    "surfel_terms",
]


@dataclass(frozen=True)
class MeasuredMaps:
    """Rendered maps that have terms; what is ``None`` has none."""

    alpha: Float[Tensor, "b 1 h w"] | None = None
    """Compared with ``mask``."""
    mask: Float[Tensor, "b 1 h w"] | None = None
    """Of the foreground; a constant."""
    normals: Float[Tensor, "b 3 h w"] | None = None
    """Compared with ``depth_normals``."""
    depth_normals: Float[Tensor, "b 3 h w"] | None = None
    distortion: Float[Tensor, "b 1 h w"] | None = None


@dataclass(frozen=True)
class MeasuredSurfels:
    """Raw parameters of surfels that have terms; what is ``None`` has none."""

    local_means: Float[Tensor, "n 3"]
    log_scales: Float[Tensor, "n 2"]
    face_scales: Float[Tensor, " n"]
    """Sizes of the surfels' triangles; constants."""
    opacity_logits: Float[Tensor, " n"] | None = None
    eyeballs: Bool[Tensor, " n"] | None = None
    """Which opacities have a term."""
    blend_weight_logits: Float[Tensor, "n 4"] | None = None
    """Of a surfel's face and its neighbours."""
    normals: Float[Tensor, "b n 3"] | None = None
    """Transported; those of the first frame have a term."""


@runtime_checkable
class MapWeights(Protocol):
    """What terms on maps are multiplied with."""

    @property
    def alpha_weight(self) -> float:
        """Of the absolute difference between alpha and mask."""
        ...

    @property
    def surfel_normal_weight(self) -> float:
        """Of ``losses.regularizers.surfel_normal``."""
        ...

    @property
    def mask_normals(self) -> bool:
        """Whether normals are compared on the foreground only."""
        ...

    @property
    def distortion_weight(self) -> float:
        """Of the distortion."""
        ...


@runtime_checkable
class SurfelWeights(Protocol):
    """What terms on surfels are multiplied with, and what is free."""

    @property
    def xyz_weight(self) -> float:
        """Of ``losses.regularizers.xyz``, or of ``metric_xyz``."""
        ...

    @property
    def xyz_threshold(self) -> float:
        """Distance that is free."""
        ...

    @property
    def metric_xyz(self) -> bool:
        """Whether that limit is in world units."""
        ...

    @property
    def scale_weight(self) -> float:
        """Of ``losses.regularizers.scale``."""
        ...

    @property
    def scale_threshold(self) -> float:
        """Size that is free."""
        ...

    @property
    def metric_scale(self) -> bool:
        """Whether sizes are in world units."""
        ...

    @property
    def eye_alpha_weight(self) -> float:
        """Of ``losses.regularizers.eye_alpha``."""
        ...

    @property
    def blend_weight_weight(self) -> float:
        """Of ``losses.regularizers.blend_weight``."""
        ...

    @property
    def normal_norm_weight(self) -> float:
        """Of ``losses.regularizers.normal_norm``."""
        ...


def map_terms(maps: MeasuredMaps, weights: MapWeights) -> dict[str, Float[Tensor, ""]]:
    """Average the differences of rendered maps; weighted.

    Args:
        maps: Float32 on one GPU.
        weights: Of the terms.

    Returns:
        ``"alpha"``, ``"surfel_normal"`` and ``"distortion"``, as far as their maps are given.

    Raises:
        TypeError: If the maps are not float32 on one GPU.
        ValueError: If a map comes without what it is compared with.
    """
    # Triton must not be needed where there is no GPU.
    from vultus.kernels.loss_terms import gpu

    return gpu.map_terms(maps, weights)


def surfel_terms(
    surfels: MeasuredSurfels,
    radii: Int[Tensor, "b n"],
    weights: SurfelWeights,
    *,
    free_blend_weight: float,
) -> dict[str, Float[Tensor, ""]]:
    """Average what surfels exceed over those that are visible in any frame; weighted.

    Without visible surfels the averages are 0. Opacities of eyeballs count whether visible or not.

    Args:
        surfels: Float32 on one GPU.
        radii: On the screen, 0 where not visible.
        weights: Of the terms, and their thresholds.
        free_blend_weight: Neighbours' blend weights below this are free.

    Returns:
        ``"xyz"`` and ``"scale"``; ``"eye_alpha"``, ``"blend_weight"`` and ``"normal_norm"``, as far
        as what they measure is given.

    Raises:
        TypeError: If the parameters are not float32 on one GPU.
        ValueError: If opacities come without eyeballs.
    """
    from vultus.kernels.loss_terms import gpu

    return gpu.surfel_terms(surfels, radii, weights, free_blend_weight)
