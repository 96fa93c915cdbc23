"""What a check finds in single frames, and the table of facts about a capture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float, Int
from torch import Tensor

from vultus.core.image_io import read_image
from vultus.data.frames import load_frame
from vultus.data.relighting import light_to_world, load_materials
from vultus.data.semantics import SEMANTIC_GROUPS, is_group
from vultus.data.sequence import Frame, FrameRecord, HeadSequence
from vultus.geometry.cameras import Camera
from vultus.geometry.rotations import matrix_to_axis_angle
from vultus.heads.face_motion import skull_to_world

__all__ = ["FrameSurvey", "capture_facts", "light_turn", "survey_frame"]

_ON_MASK = 0.5


@dataclass(frozen=True)
class FrameSurvey:
    """What reading all files of one frame showed."""

    errors: tuple[str, ...] = ()
    has_mask: bool = False
    group_counts: Int[Tensor, " g"] | None = None
    """Pixels of each of ``SEMANTIC_GROUPS``."""
    face_on_mask: float | None = None
    """Share of the pixels labelled as face that the mask covers."""


def survey_frame(sequence: HeadSequence, record: FrameRecord) -> FrameSurvey:
    """Read every file of a frame."""
    try:
        frame = load_frame(sequence, record)
        _check_frame(frame)
        load_materials(record)
        if record.parts_path is not None:
            read_image(record.parts_path)
    except (FileNotFoundError, ValueError) as error:
        return FrameSurvey(errors=(str(error),))
    counts, share = None, None
    if frame.semantics is not None:
        counts = frame.semantics.flatten().bincount(minlength=len(SEMANTIC_GROUPS))
        is_face = is_group(frame.semantics, "skin", "eyes", "brows", "lips", "mouth")
        if frame.mask is not None and bool(is_face.any()):
            share = float((frame.mask[is_face] > _ON_MASK).float().mean())
    return FrameSurvey((), frame.mask is not None, counts, share)


def capture_facts(
    sequence: HeadSequence, format: str, surveys: Sequence[FrameSurvey]
) -> dict[str, str]:
    """Counts, sizes and ranges, for a table.

    Args:
        sequence: The capture.
        format: Name of its reader.
        surveys: Of all frames, in order.
    """
    frames = sequence.frames
    sizes = sorted({f"{r.camera.width} x {r.camera.height}" for r in frames})
    head = sequence.head
    return {
        "format": format,
        "images": str(len(frames)),
        **{name: str(len(sequence.splits.get(name, ()))) for name in ("train", "val", "test")},
        "timesteps": str(len({record.timestep for record in frames})),
        "cameras": str(len({record.camera_index for record in frames})),
        "size": ", ".join(sizes),
        "beside every image": ", ".join(_complete(frames, surveys)) or "nothing",
        "head": f"{head.name} {head.version}, {head.topology.num_vertices} vertices",
        "extent": f"{sequence.extent():.3f} m",
        **_motion_facts(sequence),
        **_semantic_facts(surveys),
    }


def light_turn(sequence: HeadSequence) -> float | None:
    """The largest angle (radians) by which the light turns about the head, from the first frame.

    A still head in a still light tells less about material and light than one that turns.

    Returns:
        ``None`` for rigs whose skull cannot be told from the rest.
    """
    timesteps = torch.tensor([record.timestep for record in sequence.frames])
    # Of one size, so that they can be stacked.
    camera = Camera.stack([record.camera.resized(1, 1) for record in sequence.frames])
    to_world = light_to_world(camera, sequence.light_space)
    if sequence.head.topology.num_vertices > 0:
        try:
            skull = skull_to_world(sequence.head, sequence.pose)[:, :3, :3]
        except ValueError:
            return None
        to_world = skull.expand(len(sequence.pose), 3, 3)[timesteps].transpose(1, 2) @ to_world
    return float(matrix_to_axis_angle(to_world[:1].transpose(1, 2) @ to_world).norm(dim=1).max())


def _check_frame(frame: Frame) -> None:
    path = frame.record.image_path
    if frame.mask is not None and float(frame.mask.max()) == 0:
        raise ValueError(f"{frame.record.mask_path or path}: mask is empty")
    if frame.depth is not None and not bool(torch.isfinite(frame.depth).all()):
        raise ValueError(f"{frame.record.depth_path}: depth must be finite")


def _complete(frames: Sequence[FrameRecord], surveys: Sequence[FrameSurvey]) -> list[str]:
    """Names of what every image has beside it."""
    truth: dict[str, Sequence[Path | None]] = {
        "normals": [r.normal_path for r in frames],
        "depth": [r.depth_path for r in frames],
        "albedo": [r.albedo_path for r in frames],
        "roughness": [r.roughness_path for r in frames],
        "specular": [r.specular_path for r in frames],
        "semantics": [r.parsing_path for r in frames],
        "parts": [r.parts_path for r in frames],
        "face masks": [r.face_mask_path for r in frames],
    }
    has_masks = all(survey.has_mask for survey in surveys)
    names = [name for name, paths in truth.items() if all(path is not None for path in paths)]
    return ["masks", *names] if has_masks else names


def _motion_facts(sequence: HeadSequence) -> dict[str, str]:
    facts = {}
    coeffs, jaw = sequence.pose.expression_coeffs, sequence.pose.jaw_pose
    if coeffs is not None and coeffs.numel() > 0:
        facts["expression"] = _range(coeffs)
    if jaw is not None and bool(jaw.any()):
        facts["jaw"] = f"{_range(jaw.norm(dim=1))} rad"
    elif coeffs is not None and "jawOpen" in sequence.expression_names:
        facts["jaw"] = f"jawOpen {_range(coeffs[:, sequence.expression_names.index('jawOpen')])}"
    turn = light_turn(sequence)
    if turn is not None:
        facts["light on the head"] = f"turns by up to {torch.rad2deg(torch.tensor(turn)):.0f} deg"
    return facts


def _range(values: Float[Tensor, "*dims"]) -> str:
    return f"{float(values.min()):.2f} to {float(values.max()):.2f}"


def _semantic_facts(surveys: Sequence[FrameSurvey]) -> dict[str, str]:
    """Share of the labelled pixels that each group has, and what is never seen."""
    counts = [survey.group_counts for survey in surveys if survey.group_counts is not None]
    if not counts:
        return {}
    total = torch.stack(counts).sum(dim=0).double()
    total[SEMANTIC_GROUPS.index("background")] = 0.0
    shares = (total / total.sum().clamp(min=1.0)).tolist()
    seen = [f"{n} {s:.1%}" for n, s in zip(SEMANTIC_GROUPS, shares, strict=True) if s > 0]
    frames = "" if len(counts) == len(surveys) else f" (in {len(counts)} frames)"
    return {"semantics": (", ".join(seen) or "background alone") + frames}
