"""Cameras around generated heads."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from vultus.data.camera_labels import look_at_labels

__all__ = [
    "Motion",
    "ViewRig",
    "face_labels",
    "mean_rig",
    "motion_labels",
    "ring_labels",
    "strip_labels",
]

Motion = Literal["orbit", "front", "swing", "face"]
"""Once around the head, a camera that stands still, or to and fro in front of the face: widely as
SphereHead is shown, or as little as GSHeadRelight."""

_FACE_YAWS = (-40.0, -20.0, 0.0, 20.0, 40.0)
_STRIP_YAWS = (0.0, -45.0, -90.0, -135.0, -180.0)
# The release writes heights h as v = pi/2 (1 - h), offsets of v below are its own.
_STRIP_HEIGHT = 0.2 / (math.pi / 2)
_FILM_HEIGHT = 0.05 / (math.pi / 2)
_ORBIT_RISE = 0.5 / (math.pi / 2)
_SWING_RISE = 0.25 / (math.pi / 2)
_SWING_YAWS = {"swing": 1.5, "face": 0.35}


@dataclass(frozen=True)
class ViewRig:
    """Where cameras stand that see heads as those of the training did."""

    distance: float = 2.7
    """Of all cameras from the origin, in world units."""
    focal: float = 4.2647
    """Focal length in units of the image's side."""
    target: tuple[float, float, float] = (0.0, 0.0, 0.0)
    """World position in the middle of the images."""

    def __post_init__(self) -> None:
        """Reject cameras that see nothing."""
        for name in ("distance", "focal"):
            value = getattr(self, name)
            if not 0.0 < value < math.inf:
                raise ValueError(f"{name} must be positive, got {value}")

    def labels(
        self, yaw: Float[Tensor, " b"], height: Float[Tensor, " b"]
    ) -> Float[Tensor, "b 25"]:
        """Camera labels; yaw and height as in ``look_at_labels``."""
        target = torch.tensor(self.target)
        return look_at_labels(yaw, height, target=target, radius=self.distance, focal=self.focal)

    def label(self, yaw: float = 0.0, height: float = 0.0) -> Float[Tensor, "1 25"]:
        """One camera; by default the frontal one."""
        return self.labels(torch.tensor([yaw]), torch.tensor([height]))


def mean_rig(labels: Float[Tensor, "n 25"]) -> ViewRig:
    """Cameras at the mean distance of others, and with their mean focal length."""
    centers = labels[:, [3, 7, 11]]
    return ViewRig(float(centers.norm(dim=1).mean()), float(labels[:, 16].mean()))


def strip_labels(rig: ViewRig) -> Float[Tensor, "5 25"]:
    """The published five views: from the front over the subject's right side to the back."""
    yaw = torch.deg2rad(torch.tensor(_STRIP_YAWS))
    return rig.labels(yaw, torch.full_like(yaw, _STRIP_HEIGHT))


def face_labels(rig: ViewRig) -> Float[Tensor, "5 25"]:
    """Five views of a face, from the subject's right to the left, at the height of the eyes."""
    yaw = torch.deg2rad(torch.tensor(_FACE_YAWS))
    return rig.labels(yaw, torch.zeros_like(yaw))


def ring_labels(rig: ViewRig, count: int) -> Float[Tensor, "b 25"]:
    """Views at equal steps around the head, the frontal one first, as high as a strip's."""
    yaw = _turns(count)
    return rig.labels(yaw, torch.full_like(yaw, _STRIP_HEIGHT))


def motion_labels(rig: ViewRig, motion: Motion, count: int) -> Float[Tensor, "b 25"]:
    """The published camera paths of films; all of them loop."""
    turn = _turns(count)
    if motion == "front":
        return rig.labels(torch.zeros(count), torch.full((count,), _FILM_HEIGHT))
    if motion == "orbit":
        return rig.labels(turn, _FILM_HEIGHT - _ORBIT_RISE * turn.sin())
    return rig.labels(_SWING_YAWS[motion] * turn.sin(), _FILM_HEIGHT - _SWING_RISE * turn.cos())


def _turns(count: int) -> Float[Tensor, " b"]:
    return torch.arange(count) * (2.0 * math.pi / count)
