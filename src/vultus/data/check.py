"""Validate a capture: every file, the rig, the cameras, and whether they belong together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from vultus.core.progress import track
from vultus.core.threads import map_in_threads
from vultus.data.check_facts import FrameSurvey, capture_facts, survey_frame
from vultus.data.frames import load_colors, load_frame
from vultus.data.readers import detect_format, read_relight_truth, read_sequence
from vultus.data.relighting import RelightTruth
from vultus.data.sequence import FrameRecord, HeadSequence
from vultus.geometry.cameras import camera_centers, project_points

__all__ = ["CheckReport", "check_capture", "front_vertices", "sample_records"]

_MAX_ERRORS = 20
"""A folder with more is broken as a whole; the rest is counted."""
_HEAD_HEIGHT = (0.12, 0.8)
"""Metres; from a face without neck to a bust with long hair."""
_CAMERA_DISTANCE = (0.15, 20.0)
_MIN_INSIDE = 0.85
"""Share of the vertices in view that must fall onto the mask; the fitted real video has 0.97."""
_ON_MASK = 0.1
_NUM_SAMPLED = 16
"""Frames whose mesh is posed and compared; parameters are checked in all of them on reading."""


@dataclass(frozen=True)
class CheckReport:
    """What was found."""

    root: Path
    errors: tuple[str, ...]
    """One line each; the capture cannot be used as it is."""
    warnings: tuple[str, ...]
    """One line each; suspicious, but readable."""
    facts: Mapping[str, str]
    """Counts and sizes, for a table."""
    sequence: HeadSequence | None
    """The capture, if it could be read."""
    truth: RelightTruth | None = None
    """Its known lights, if it tells them and they could be read."""


def check_capture(root: Path, format: str = "auto", **options: Any) -> CheckReport:
    """Read a capture completely and look for what would spoil a training.

    Args:
        root: Folder.
        format: As in ``read_sequence``.
        **options: Of the reader.

    Raises:
        ValueError: If an option or the format is unknown to the reader.
    """
    if not root.is_dir():
        return CheckReport(root, (f"{root}: no such folder",), (), {}, None)
    try:
        name = detect_format(root) if format == "auto" else format
        sequence = read_sequence(root, name, **options)
    except (FileNotFoundError, ValueError) as error:
        return CheckReport(root, (str(error),), (), {}, None)
    surveys = _survey(sequence)
    file_errors = [error for survey in surveys for error in survey.errors]
    truth, light_errors = _known_lights(sequence)
    errors = [*file_errors, *_rig_errors(sequence), *light_errors]
    warnings = [] if errors else _warnings(sequence, surveys)
    hidden = len(errors) - _MAX_ERRORS
    if hidden > 0:
        errors = [*errors[:_MAX_ERRORS], f"and {hidden} more errors"]
    facts = capture_facts(sequence, name, surveys)
    if truth is not None and truth.test_lights:
        facts["test lights"] = ", ".join(truth.test_lights)
    return CheckReport(root, tuple(errors), tuple(warnings), facts, sequence, truth)


def sample_records(sequence: HeadSequence, count: int) -> tuple[FrameRecord, ...]:
    """Frames spread over the sequence, so that times and cameras both vary."""
    total = len(sequence.frames)
    # The golden ratio avoids multiples of the number of cameras.
    steps = sorted({int(((i + 0.5) * 0.6180339887) % 1 * total) for i in range(count)})
    return tuple(sequence.frames[i] for i in steps)


def front_vertices(
    vertices: Float[Tensor, "v 3"], faces: Tensor, record: FrameRecord
) -> tuple[Float[Tensor, "v 2"], Bool[Tensor, " v"]]:
    """Pixels of the vertices, and which of them lie in the picture on faces towards the camera.

    Vertices on the outline do not count: they touch faces that are turned away.
    """
    corners = vertices[faces]
    normals = torch.linalg.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    faces_camera = ((camera_centers(record.camera) - corners.mean(dim=1)) * normals).sum(1) > 0
    is_front = torch.zeros(len(vertices), dtype=torch.bool)
    is_front[faces[faces_camera].flatten()] = True
    is_front[faces[~faces_camera].flatten()] = False
    pixels, depth = project_points(vertices[None], record.camera)
    size = pixels.new_tensor([record.camera.width, record.camera.height])
    is_inside = ((pixels[0] >= 0) & (pixels[0] < size)).all(dim=1) & (depth[0] > 0)
    return pixels[0], is_front & is_inside


def _survey(sequence: HeadSequence) -> tuple[FrameSurvey, ...]:
    surveys = map_in_threads(lambda record: survey_frame(sequence, record), sequence.frames)
    return tuple(track(surveys, len(sequence.frames), "checking", "images"))


def _known_lights(sequence: HeadSequence) -> tuple[RelightTruth | None, list[str]]:
    """Read every map and every picture under a test light."""
    errors = []
    try:
        truth = read_relight_truth(sequence)
        if truth is None:
            return None, []
        for light in (truth.train_light, *truth.test_lights.values()):
            if light is not None:
                light.load()
    except (FileNotFoundError, ValueError) as error:
        return None, [str(error)]
    for name in truth.test_lights:
        for record in truth.relit(sequence.frames, name):
            try:
                load_colors(sequence, record)
            except ValueError as error:
                errors.append(str(error))
    return truth, errors


def _rig_errors(sequence: HeadSequence) -> list[str]:
    errors = []
    for timestep in sorted({record.timestep for record in sample_records(sequence, _NUM_SAMPLED)}):
        try:
            with torch.no_grad():
                vertices = sequence.head.vertices(sequence.pose[timestep])
        except ValueError as error:
            return [f"{sequence.root}: timestep {timestep}: {error}"]
        if not bool(torch.isfinite(vertices).all()):
            errors.append(f"{sequence.root}: timestep {timestep}: the posed mesh is not finite")
    return errors


def _warnings(sequence: HeadSequence, surveys: Sequence[FrameSurvey]) -> list[str]:
    return [
        *_split_warnings(sequence),
        *_file_warnings(sequence, surveys),
        *_geometry_warnings(sequence),
    ]


def _file_warnings(sequence: HeadSequence, surveys: Sequence[FrameSurvey]) -> list[str]:
    warnings = []
    if not all(survey.has_mask for survey in surveys):
        warnings.append("some frames have no mask: their background becomes part of the avatar")
    shares = [(s.face_on_mask, i) for i, s in enumerate(surveys) if s.face_on_mask is not None]
    worst, index = min(shares, default=(1.0, 0))
    if worst < _MIN_INSIDE:
        warnings.append(
            f"{sequence.frames[index].parsing_path}: only {worst:.0%} of the labelled face falls "
            "onto the mask; label maps and images may not belong together"
        )
    return warnings


def _split_warnings(sequence: HeadSequence) -> list[str]:
    warnings = []
    held_out = sum(len(sequence.splits.get(name, ())) for name in ("val", "test"))
    if held_out == 0:
        warnings.append("no frame is held out: nothing can be evaluated")
    seen: dict[tuple[int, int], Path] = {}
    for record in sequence.frames:
        key = (record.timestep, record.camera_index)
        if key in seen:
            warnings.append(
                f"{record.image_path}: timestep {key[0]} of camera {key[1]} is also "
                f"{seen[key].name}; held-out frames may be among the training frames"
            )
            break
        seen[key] = record.image_path
    return warnings


def _geometry_warnings(sequence: HeadSequence) -> list[str]:
    if sequence.head.topology.num_vertices == 0:
        return _origin_warnings(sequence)
    warnings = []
    vertices = _posed(sequence, sequence.frames[0])
    height = float(vertices[:, 1].max() - vertices[:, 1].min())
    if not _HEAD_HEIGHT[0] < height < _HEAD_HEIGHT[1]:
        warnings.append(f"the head is {height:.3g} high; units should be metres")
    middle = vertices.mean(dim=0)
    for record in sequence.frames:
        distance = float((camera_centers(record.camera)[0] - middle).norm())
        if not _CAMERA_DISTANCE[0] < distance < _CAMERA_DISTANCE[1]:
            warnings.append(
                f"camera {record.camera_index} is {distance:.3g} from the head; units should be "
                "metres"
            )
            break
    worst: tuple[float, Path] | None = None
    for record in sample_records(sequence, _NUM_SAMPLED):
        share = _share_on_mask(sequence, record)
        if share is not None and (worst is None or share < worst[0]):
            worst = share, record.image_path
    if worst is not None and worst[0] < _MIN_INSIDE:
        warnings.append(
            f"{worst[1]}: only {worst[0]:.0%} of the mesh in view falls onto the mask; cameras, "
            "rig and images may not belong together"
        )
    return warnings


def _origin_warnings(sequence: HeadSequence) -> list[str]:
    """Without a mesh all that is known of the head is that it lies around the origin."""
    origin = torch.zeros(1, 1, 3)
    records = sample_records(sequence, _NUM_SAMPLED)
    num_seen = 0
    for record in records:
        (x, y), depth = (values[0, 0] for values in project_points(origin, record.camera))
        is_inside = 0 <= x < record.camera.width and 0 <= y < record.camera.height
        if is_inside and depth > 0:
            mask = load_frame(sequence, record).mask
            num_seen += mask is None or bool(mask[0, 0, int(y), int(x)] > _ON_MASK)
    if num_seen < _MIN_INSIDE * len(records):
        return [
            f"the origin of the head's frame lies on the mask in only {num_seen} of "
            f"{len(records)} frames; transform_matrix must be camera to head, OpenGL axes"
        ]
    return []


def _share_on_mask(sequence: HeadSequence, record: FrameRecord) -> float | None:
    mask = load_frame(sequence, record).mask
    if mask is None:
        return None
    pixels, is_visible = front_vertices(
        _posed(sequence, record), sequence.head.topology.faces, record
    )
    if not bool(is_visible.any()):
        return 0.0
    x, y = pixels[is_visible].long().unbind(dim=1)
    return float((mask[0, 0, y, x] > _ON_MASK).float().mean())


def _posed(sequence: HeadSequence, record: FrameRecord) -> Float[Tensor, "v 3"]:
    with torch.no_grad():
        return sequence.head.vertices(sequence.pose[record.timestep])[0]
