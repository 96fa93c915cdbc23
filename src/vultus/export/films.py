"""Films of an avatar: a frozen or moving pose along a camera path, or a dataset's own cameras."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from jaxtyping import Float
from torch import Tensor

from vultus.data.sequence import FrameRecord, HeadSequence
from vultus.export.pictures import side_by_side
from vultus.export.shots import Shot, View, frame_shots, path_shots, picture_of, save_views
from vultus.geometry.cameras import Camera
from vultus.heads.base import HeadPose
from vultus.methods.base import ReconstructionMethod

__all__ = ["COMPARISON", "comparison_film", "film_of", "path_film"]

COMPARISON: tuple[View, ...] = ("truth", "rgb", "normals")
"""What is shown of frames of a capture where nothing else is asked for."""


def path_film(
    avatar: ReconstructionMethod, pose: HeadPose, cameras: Camera, views: Iterable[View] = ("rgb",)
) -> Iterator[Float[Tensor, "3 h w"]]:
    """Frame i shows pose row i (or the only row) from camera i.

    Raises:
        ValueError: If there are neither as many poses as cameras nor one pose.
    """
    return film_of(path_shots(avatar, pose, cameras), views)


def comparison_film(
    avatar: ReconstructionMethod,
    sequence: HeadSequence,
    records: Iterable[FrameRecord],
    views: Iterable[View] = COMPARISON,
) -> Iterator[Float[Tensor, "3 h w"]]:
    """Views of frames of the capture side by side, without those that cannot be made."""
    return film_of(frame_shots(avatar, sequence, records), views, leave_out=True)


def film_of(
    shots: Iterable[Shot],
    views: Iterable[View],
    folder: Path | None = None,
    *,
    leave_out: bool = False,
) -> Iterator[Float[Tensor, "3 h w"]]:
    """Put views of each shot side by side.

    Args:
        shots: They are taken one by one.
        views: What is shown.
        folder: Where the views are also saved one by one.
        leave_out: Leave out views that cannot be made, instead of refusing them.

    Raises:
        ValueError: If a view cannot be made, or none can.
    """
    views = tuple(views)
    for shot in shots:
        shown: list[View] = [view for view in views if shot.has(view) or not leave_out]
        if not shown:
            raise ValueError(f"{shot.name}: none of the views {', '.join(views)} can be made")
        if folder is not None:
            save_views(shot, folder, shown)
        yield side_by_side([picture_of(shot, view) for view in shown])
