"""Opening of a head model by the name that files and commands use."""

from __future__ import annotations

from pathlib import Path

from vultus.heads.base import HeadModel
from vultus.heads.flame import FlameHead
from vultus.heads.ict import IctHead

__all__ = ["open_head"]


def open_head(model: str, head_file: Path | None = None) -> HeadModel:
    """Open a head model.

    Args:
        model: ``procedural``, ``ict`` or ``flame``.
        head_file: Where the model's data are; the procedural head needs none.

    Raises:
        FileNotFoundError: If a model needs a file and none was given or it is not there.
        ValueError: If the model is unknown or takes no file.
    """
    if model == "procedural":
        if head_file is not None:
            raise ValueError(f"head_file must be left out for a procedural head, got {head_file}")
        from vultus.heads.procedural import ProceduralHead

        return ProceduralHead()
    if model not in ("ict", "flame"):
        raise ValueError(f"head must be procedural, ict or flame, got {model!r}")
    if head_file is None:
        kind = "ict_face_model.npz (ICT-FaceKit)" if model == "ict" else "a converted FLAME model"
        raise FileNotFoundError(f"head_file is needed for a head of kind {model!r}: {kind}")
    return IctHead.from_file(head_file) if model == "ict" else FlameHead.from_file(head_file)
