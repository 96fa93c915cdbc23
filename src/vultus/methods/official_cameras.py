"""Cameras that published generators were trained with."""

from __future__ import annotations

from dataclasses import replace

from vultus.methods.head_views import ViewRig
from vultus.nets.stylegan2.official_pickle import OfficialNetwork

__all__ = ["official_rig"]


def official_rig(network: OfficialNetwork, default: ViewRig, *, has_pivot: bool = True) -> ViewRig:
    """Find where cameras stood in the training of a published generator.

    Args:
        network: The generator, whose options of the rendering tell it.
        default: What they do not tell.
        has_pivot: Whether published views look at the pivot of the training.

    Raises:
        ValueError: If an option is no number, or no point.
    """
    rendering = network.rendering
    rig, radius = default, rendering.get("avg_camera_radius")
    if radius is not None:
        rig = replace(rig, distance=_numbers("avg_camera_radius", [radius], 1)[0])
    pivot = rendering.get("avg_camera_pivot")
    if pivot is not None and has_pivot:
        x, y, z = _numbers("avg_camera_pivot", pivot, 3)
        rig = replace(rig, target=(x, y, z))
    return rig


def _numbers(name: str, values: object, count: int) -> list[float]:
    if not isinstance(values, list | tuple) or len(values) != count:
        raise ValueError(f"{name} must be {count} numbers, got {values!r}")
    if not all(isinstance(value, int | float) for value in values):
        raise ValueError(f"{name} must be {count} numbers, got {values!r}")
    return [float(value) for value in values]
