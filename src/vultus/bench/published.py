"""Times of other projects that were measured elsewhere: for orientation, never mixed with our own.

Best medians seen on an H100 with the scenes of ``bench.scenes``, launched op by op (these projects
wait for the GPU within a call and cannot be captured into CUDA graphs).
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

from vultus.bench.results import BOTH, FORWARD, Row
from vultus.bench.scenes import RasterScene
from vultus.bench.timing import Timing

__all__ = ["MODE", "published_rows", "published_steps"]

MODE = "published, H100"


@dataclass(frozen=True)
class _Figure:
    """Milliseconds of forward, and of forward and backward."""

    peer: str
    scene: RasterScene
    forward: float
    both: float


_FIGURES = (
    _Figure("faster-gs", RasterScene("gaussians", 100_000, 512), 0.32, 0.95),
    _Figure("gsplat", RasterScene("gaussians", 100_000, 512), 0.70, 2.0),
    _Figure("faster-gs", RasterScene("gaussians", 100_000, 1024), 0.45, 1.34),
    _Figure("gsplat", RasterScene("gaussians", 100_000, 1024), 0.75, 2.2),
    _Figure("faster-gs", RasterScene("gaussians", 300_000, 1024), 0.50, 1.67),
    _Figure("gsplat", RasterScene("gaussians", 300_000, 1024), 0.97, 2.7),
    _Figure("gsplat", RasterScene("gaussians", 100_000, 512, channels=16), 0.83, 2.67),
    _Figure("gsplat", RasterScene("surfels", 100_000, 512), 1.10, 3.36),
    _Figure("gsplat", RasterScene("surfels", 100_000, 1024), 1.25, 4.16),
)
_STEPS = {("faster-gs", 100_000, 512): 3.5, ("gsplat", 100_000, 512): 4.8}
"""Milliseconds of a training step with L1, SSIM and Adam."""


def published_rows(scene: RasterScene) -> list[Row]:
    """Figures for exactly this scene."""
    return [
        Row(
            str(scene),
            figure.peer,
            MODE,
            {FORWARD: _timing(figure.forward), BOTH: _timing(figure.both)},
            facts=asdict(scene),
        )
        for figure in _FIGURES
        if figure.scene == scene
    ]


def published_steps(num: int, size: int) -> dict[str, Timing]:
    """Times of a training step of so many Gaussians, by project."""
    return {
        peer: _timing(value)
        for (peer, of_num, of_size), value in _STEPS.items()
        if (of_num, of_size) == (num, size)
    }


def _timing(milliseconds: float) -> Timing:
    return Timing(1e-3 * milliseconds, 1e-3 * milliseconds)
