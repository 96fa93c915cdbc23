"""``gt/``: what surfaces are, beside captures whose own layout has no place for it.

gt/albedo/{picture}.png                    linear; of 16 bits a channel the upper 8 are read
gt/normal/{picture}.png                    0.5 + 0.5 n in the camera's OpenGL axes
gt/roughness/  gt/specular/                grey

Pictures are named as the capture's, of which some may have none. The folder lies in the capture, or
beside the folder of its pictures.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from vultus.data.sequence import FrameRecord, HeadSequence

__all__ = ["with_ground_truth"]

_FOLDER = "gt"
_GREY = ("roughness", "specular")


def with_ground_truth(sequence: HeadSequence) -> HeadSequence:
    """Add the files of ``gt/`` to frames; what the capture's own layout tells stays.

    Raises:
        ValueError: If the capture has normals of its own beside those of ``gt/``.
    """
    frames = tuple(_with_files(record, sequence.root) for record in sequence.frames)
    own = _normal_paths(sequence.frames)
    added = _normal_paths(frames) - own
    if not added:
        return replace(sequence, frames=frames)
    if own:
        raise ValueError(f"{min(added)}: the capture has normals of its own, such as {min(own)}")
    return replace(sequence, frames=frames, normal_space="camera_opengl")


def _with_files(record: FrameRecord, root: Path) -> FrameRecord:
    changes: dict[str, object] = {}
    if record.albedo_path is None and (albedo := _find(record, root, "albedo")) is not None:
        changes |= {"albedo_path": albedo, "has_linear_albedo": True}
        for kind in _GREY:
            if (path := _find(record, root, kind)) is not None:
                changes[f"{kind}_path"] = path
    if record.normal_path is None and (normal := _find(record, root, "normal")) is not None:
        changes["normal_path"] = normal
    return replace(record, **changes) if changes else record


def _find(record: FrameRecord, root: Path, kind: str) -> Path | None:
    name = record.image_path.with_suffix(".png").name
    paths = (each / _FOLDER / kind / name for each in (root, record.image_path.parent.parent))
    return next((path for path in paths if path.is_file()), None)


def _normal_paths(frames: Sequence[FrameRecord]) -> set[Path]:
    return {record.normal_path for record in frames if record.normal_path is not None}
