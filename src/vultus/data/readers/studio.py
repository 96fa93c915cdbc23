"""Captures of the virtual studio: the layout of VHAP with any rig, described by ``rig.json``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from vultus.core.files import read_json
from vultus.data.head_files import open_described_head
from vultus.data.light_card import CARD_NAME
from vultus.data.readers import gaussian_avatars
from vultus.data.readers.vhap_layout import VhapOptions, read_layout, read_track
from vultus.data.rig_files import RigCard, read_flame_row, read_rig_row
from vultus.data.sequence import HeadSequence
from vultus.heads.coarse import CoarseHead

__all__ = ["Options", "read"]

RIG_KEY = "rig_param_path"


@dataclass(frozen=True)
class Options(VhapOptions):
    """Options of ``studio``."""

    rig_faces: int | None = None
    """Give methods a mesh of at most so many faces, on some of the head's vertices, if borders
    allow it: the rigs of trackers are far coarser than the heads that they follow."""

    identity: Literal["filmed", "mean"] = "filmed"
    """Shape of the head: that of the person who was filmed, which no tracker would find so well, or
    the head model's mean."""

    def __post_init__(self) -> None:
        """Reject a mesh without faces."""
        super().__post_init__()
        if self.rig_faces is not None and self.rig_faces < 1:
            raise ValueError(f"rig_faces must be positive, got {self.rig_faces}")


def read(root: Path, options: Options) -> HeadSequence:
    """Read a filmed folder.

    Raises:
        FileNotFoundError: If a file is missing.
        ValueError: If a field is wrong or the rig is another one than ``rig.json`` says.
    """
    card_path = root / "rig.json"
    card = RigCard.load(card_path)
    is_flame = card.description["name"] == "flame"
    frames = read_layout(root, options, gaussian_avatars.RIG_KEY if is_flame else RIG_KEY)
    head = options.head or open_described_head(card.description, options.head_file)
    card.check(head, card_path)
    pose = read_track(
        frames,
        head,
        read_flame_row if is_flame else read_rig_row,
        None if is_flame else card.static,
    )
    if options.identity == "mean":
        pose = pose.of_mean_person()
    if options.rig_faces is not None:
        head = CoarseHead(head, options.rig_faces)
    background = _color(frames.manifest.shared, frames.manifest.path)
    return HeadSequence(
        root,
        frames.records,
        frames.splits,
        head,
        pose,
        background=options.background_color,
        image_background=background,
        cut_height=options.cut_height,
        expression_names=card.expression_names,
        info={"format": "studio", "light": _light(root)},
    )


def _color(shared: Mapping[str, object], path: Path) -> tuple[float, float, float]:
    value = shared.get("background")
    if not isinstance(value, list) or len(value) != 3:
        raise ValueError(f"{path}: background must be three numbers, got {value!r}")
    return float(value[0]), float(value[1]), float(value[2])


def _light(root: Path) -> object:
    path = root / CARD_NAME
    return read_json(path) if path.is_file() else None
