"""FLAME-tracked captures as GaussianAvatars and SurFhead use them (exports of VHAP).

A union folder holds manifests alone, with paths into sequence folders beside it; a single sequence
holds its own files.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from vultus.data.head_files import open_head
from vultus.data.readers.options import AUTOMATIC_RESOLUTION
from vultus.data.readers.vhap_layout import VhapOptions, read_layout, read_track
from vultus.data.rig_files import read_flame_row
from vultus.data.sequence import HeadSequence
from vultus.heads.flame import FlameVersion

__all__ = ["Options", "read"]

RIG_KEY = "flame_param_path"


@dataclass(frozen=True)
class Options(VhapOptions):
    """Options of ``gaussian_avatars``."""

    resolution: int = AUTOMATIC_RESOLUTION
    flame_version: FlameVersion = "2023"
    """Release whose imported model is used; with ``head_file`` the file decides."""
    use_static_offset: bool = True
    """Use the per-vertex offsets of the subject that VHAP tracked."""


def read(root: Path, options: Options) -> HeadSequence:
    """Read a union or a single sequence.

    Raises:
        FileNotFoundError: If a file is missing.
        ValueError: If a field is wrong or the FLAME file has other sizes than the track.
    """
    frames = read_layout(root, options, RIG_KEY)
    head = options.head or open_head("flame", options.head_file, options.flame_version)
    pose = read_track(frames, head, read_flame_row)
    if not options.use_static_offset:
        pose = pose.replace(static_offset=None)
    return HeadSequence(
        root,
        frames.records,
        frames.splits,
        head,
        pose,
        background=options.background_color,
        image_background=(1.0, 1.0, 1.0),
        cut_height=options.cut_height,
        expression_names=tuple(head.expression_names),
        info={"format": "gaussian_avatars"},
    )
