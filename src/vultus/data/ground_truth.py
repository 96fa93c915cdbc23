"""``gt/``: what surfaces are, beside captures whose own layout has no place for it.

gt/albedo/{picture}.png                    linear; of 8 or 16 bits a channel
gt/normal/{picture}.png                    0.5 + 0.5 n in the camera's OpenGL axes
gt/roughness/  gt/specular/                grey

Pictures are named as the capture's, of which some may have none. The folder lies beside that of the
pictures, or in the capture.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

from vultus.data.companion_files import find_companions
from vultus.data.sequence import FrameRecord, HeadSequence

__all__ = ["with_ground_truth"]

_Kind = Literal["albedo", "normal", "roughness", "specular"]

_FOLDER = Path("gt")


def with_ground_truth(sequence: HeadSequence) -> HeadSequence:
    """Add the files of ``gt/`` to frames; what the capture's own layout tells stays.

    Raises:
        ValueError: If two pictures share a file, or the capture has normals of its own beside those
            of ``gt/``.
    """
    root, records = sequence.root, sequence.frames

    def find(kind: _Kind, pictures: Sequence[Path]) -> dict[Path, Path]:
        return find_companions(root, pictures, _FOLDER / kind, ".png")

    albedo = find("albedo", [r.image_path for r in records if r.albedo_path is None])
    files: dict[_Kind, dict[Path, Path]] = {
        "albedo": albedo,
        "normal": find("normal", [r.image_path for r in records if r.normal_path is None]),
        "roughness": find("roughness", list(albedo)),
        "specular": find("specular", list(albedo)),
    }
    frames = tuple(_with_files(record, files) for record in records)
    own = _normal_paths(records)
    added = _normal_paths(frames) - own
    if not added:
        return replace(sequence, frames=frames)
    if own:
        raise ValueError(f"{min(added)}: the capture has normals of its own, such as {min(own)}")
    return replace(sequence, frames=frames, normal_space="camera_opengl")


def _with_files(record: FrameRecord, files: Mapping[_Kind, Mapping[Path, Path]]) -> FrameRecord:
    found = {kind: paths.get(record.image_path) for kind, paths in files.items()}
    changes: dict[str, object] = {}
    if record.albedo_path is None and found["albedo"] is not None:
        changes["has_linear_albedo"] = True
        for kind in ("albedo", "roughness", "specular"):
            if found[kind] is not None:
                changes[f"{kind}_path"] = found[kind]
    if record.normal_path is None and found["normal"] is not None:
        changes["normal_path"] = found["normal"]
    return replace(record, **changes) if changes else record


def _normal_paths(frames: Sequence[FrameRecord]) -> set[Path]:
    return {record.normal_path for record in frames if record.normal_path is not None}
