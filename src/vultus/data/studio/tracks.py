"""Tracks of rig parameters: a performance played by one head model."""

from __future__ import annotations

import logging
import math
from pathlib import Path
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from vultus.data.studio.performance import Performance, load_arkit_performance, talking, turns
from vultus.heads.base import HeadModel, HeadPose
from vultus.heads.blendshapes import map_expressions

__all__ = ["TrackName", "build_track", "each_expression", "perform", "rest_pose", "turn_around"]

_LOG = logging.getLogger(__name__)

TrackName = Literal["talking", "arkit", "neutral", "expressions", "turns"]

_JAW_OPEN_ANGLE = 0.35
"""Jaw rotation in radians that ``jawOpen`` at 1 stands for on rigs that have a jaw joint and no
such shape (FLAME)."""
_GAZE_ANGLE = 0.5
"""Eye rotation in radians that a gaze shape at 1 stands for on rigs with eye joints only."""
_OFFSET_FIELDS = ("static_offset", "vertex_offset")


def build_track(
    name: TrackName,
    head: HeadModel,
    num_frames: int,
    *,
    seed: int,
    arkit_path: Path | None = None,
    stride: int = 1,
    start: int = 0,
) -> HeadPose:
    """Make the per-frame parameters of a track; identity is left to the caller.

    Args:
        name: ``talking``: mouth shapes, blinks and head turns drawn from ``seed``; ``arkit``: the
            recording in ``arkit_path``; ``neutral``: stillness; ``expressions``: each shape in
            turn; ``turns``: head rotations of a still face.
        head: Who plays it. Channels that the head cannot play are listed in the log.
        num_frames: Length.
        seed: Of ``talking``.
        arkit_path: ``.npz`` of ``load_arkit_performance``.
        stride: Takes every n-th frame of the recording.
        start: Its first frame that is taken.

    Raises:
        ValueError: If the length is not positive, ``arkit_path`` is missing, or the name is
            unknown.
    """
    if num_frames < 1:
        raise ValueError(f"frames must be positive, got {num_frames}")
    if name == "neutral":
        return rest_pose(head, num_frames)
    if name == "expressions":
        return each_expression(head, num_frames)
    if name == "talking":
        return perform(talking(num_frames, seed), head)
    if name == "turns":
        return perform(turns(num_frames), head)
    if name == "arkit":
        if arkit_path is None:
            raise ValueError("track 'arkit' needs arkit_path, the .npz with the recording")
        return perform(load_arkit_performance(arkit_path, num_frames, stride, start), head)
    raise ValueError(f"track must be talking, arkit, neutral, expressions or turns, got {name!r}")


def rest_pose(head: HeadModel, num_frames: int) -> HeadPose:
    """Zeros in every per-frame field that the head has, vertex offsets left out."""
    return HeadPose(
        **{
            spec.name: torch.zeros(num_frames, spec.size)
            for spec in head.parameters_spec
            if not spec.is_static and spec.name not in _OFFSET_FIELDS
        }
    )


def each_expression(head: HeadModel, num_frames: int) -> HeadPose:
    """Show each expression shape in turn: up to 1 and back, all for the same number of frames.

    With fewer frames than shapes, evenly spaced shapes are shown at 1 for one frame each.
    """
    pose = rest_pose(head, num_frames)
    if pose.expression_coeffs is None:
        raise ValueError(f"head {head.name!r} has no expression_coeffs to show in turn")
    coeffs = pose.expression_coeffs.clone()
    num_shapes = coeffs.shape[1]
    for frame in range(num_frames):
        position = (frame + 0.5) * num_shapes / num_frames
        shape = int(position)
        ramp = 1 - abs(2 * (position - shape) - 1) if num_frames > num_shapes else 1.0
        coeffs[frame, shape] = ramp
    return pose.replace(expression_coeffs=coeffs)


def perform(performance: Performance, head: HeadModel) -> HeadPose:
    """Play a performance on a head.

    Shapes go by name to ``expression_coeffs``. The head turns at the neck if it has one, as a
    whole otherwise. On rigs without the shapes for it, ``jawOpen`` turns the jaw joint and the gaze
    shapes turn the eye joints. What remains is listed in one log line.

    Raises:
        ValueError: If the head has expressions without names.
    """
    pose = rest_pose(head, len(performance))
    fields = pose.tensors()
    if "expression_coeffs" in fields and not head.expression_names:
        raise ValueError(
            f"head {head.name!r} {head.version} cannot play a performance: nobody knows what its "
            "expression coefficients mean"
        )
    missing = set(performance.names)
    if "expression_coeffs" in fields:
        fields["expression_coeffs"], unmapped = map_expressions(
            performance.names, performance.weights, head.expression_names
        )
        missing = set(unmapped)
    curves = dict(zip(performance.names, performance.weights.unbind(dim=1), strict=True))
    if "jawOpen" in missing and "jaw_pose" in fields:
        fields["jaw_pose"][:, 0] = _JAW_OPEN_ANGLE * curves["jawOpen"]
        missing.remove("jawOpen")
    gaze = {name for name in missing if name.startswith("eyeLook")}
    if gaze and "eye_pose" in fields:
        fields["eye_pose"] = _GAZE_ANGLE * _gaze_rotations(curves, len(performance))
        missing -= gaze
    if missing:
        _LOG.info("head %r has no shape for %s", head.name, ", ".join(sorted(missing)))
    for name in ("neck_pose", "global_rotation"):
        if name in fields:
            fields[name] = performance.head_rotation.clone()
            break
    return HeadPose(**fields)


def turn_around(pose: HeadPose, num_frames: int) -> HeadPose:
    """Turn the whole head once about the vertical during the first frames; 0 changes nothing.

    Raises:
        ValueError: If the track is shorter or the head cannot turn as a whole.
    """
    if num_frames == 0:
        return pose
    if pose.global_rotation is None or num_frames > len(pose):
        raise ValueError(
            f"turn_around needs a head with global_rotation and {num_frames} frames, got "
            f"{len(pose)} frames"
        )
    rotation = pose.global_rotation.clone()
    yaw = torch.arange(num_frames) * (2 * math.pi / num_frames)
    rotation[:num_frames] = 0.0
    rotation[:num_frames, 1] = torch.remainder(yaw + math.pi, 2 * math.pi) - math.pi
    return pose.replace(global_rotation=rotation)


def _gaze_rotations(curves: dict[str, Tensor], num_frames: int) -> Float[Tensor, "t 6"]:
    """Axis-angle of left and right eye: about +x looks down, about +y to the subject's left."""
    zero = torch.zeros(num_frames)

    def curve(name: str) -> Tensor:
        return curves.get(name, zero)

    columns = []
    for side, sign in (("Left", 1.0), ("Right", -1.0)):
        down = curve(f"eyeLookDown{side}") - curve(f"eyeLookUp{side}")
        left = sign * (curve(f"eyeLookOut{side}") - curve(f"eyeLookIn{side}"))
        columns += [down, left, zero]
    return torch.stack(columns, dim=1)
