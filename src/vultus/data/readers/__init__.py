"""Readers of capture formats; ``read_sequence`` picks one by the files that a folder holds."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any, get_args, get_type_hints

from vultus.data.frames import load_frame
from vultus.data.ground_truth import with_ground_truth
from vultus.data.light_card import CARD_NAME, read_relight_folder, with_light_card
from vultus.data.readers.facetalk import is_corpus
from vultus.data.readers.imavatar import MANIFEST_NAME, find_clips
from vultus.data.readers.manifest import read_manifest
from vultus.data.readers.metrical_tracker import CHECKPOINT_FOLDER
from vultus.data.readers.options import parse_options
from vultus.data.relighting import RelightTruth
from vultus.data.sequence import HeadSequence
from vultus.data.tracker_frames import FRAME_SUFFIX

__all__ = [
    "READERS",
    "absolute_options",
    "detect_format",
    "load_frame",
    "read_relight_truth",
    "read_sequence",
]

READERS = {
    "gaussian_avatars": "vultus.data.readers.gaussian_avatars",
    "studio": "vultus.data.readers.studio",
    "obama_vhap": "vultus.data.readers.obama_vhap",
    "lps_multiview": "vultus.data.readers.lps_multiview",
    "facetalk": "vultus.data.readers.facetalk",
    "nerf_blendshape": "vultus.data.readers.nerf_blendshape",
    "metrical_tracker": "vultus.data.readers.metrical_tracker",
    "imavatar": "vultus.data.readers.imavatar",
}
"""Module of each format, with a dataclass ``Options`` and a function ``read``."""


def read_sequence(root: Path | str, format: str = "auto", **options: Any) -> HeadSequence:
    """Read the cameras, rig track and file list of a capture; images are decoded when used.

    Args:
        root: Folder of the capture.
        format: A key of ``READERS``, or ``auto`` to look into the folder's manifests.
        **options: Fields of the reader's ``Options``, as values or as text.

    Raises:
        FileNotFoundError: If the folder or a file that its manifest names is missing.
        ValueError: If the format or an option is unknown, or a file is wrong; one line that names
            the file and the field.
    """
    root = Path(root)
    if not root.is_dir():
        raise FileNotFoundError(f"{root}: no such folder")
    reader = _reader(root, format)
    sequence = reader.read(root, parse_options(reader.Options, options))
    return with_ground_truth(with_light_card(sequence))


def read_relight_truth(sequence: HeadSequence) -> RelightTruth | None:
    """Find out under which lights a capture was taken, for the evaluation of relighting.

    Readers whose layout tells it have a function of their own; others are told by ``light.json``.

    Returns:
        ``None`` if the capture does not tell.

    Raises:
        FileNotFoundError: If a map or the relit pictures are missing.
        ValueError: If a file is wrong.
    """
    name = str(sequence.info.get("format"))
    reader = import_module(READERS[name]) if name in READERS else None
    find = getattr(reader, "relight_truth", None)
    if find is not None:
        return find(sequence)
    return read_relight_folder(sequence) if (sequence.root / CARD_NAME).is_file() else None


def absolute_options(root: Path, format: str, options: Mapping[str, str]) -> dict[str, str]:
    """The same options as text, with the files among them named from the root of the file system.

    Raises:
        ValueError: As ``read_sequence``, for the format.
    """
    if not options:
        return {}
    hints = get_type_hints(_reader(root, format).Options)
    return {
        name: str(Path(text).resolve()) if Path in get_args(hints.get(name)) else text
        for name, text in options.items()
    }


def _reader(root: Path, format: str) -> ModuleType:
    name = detect_format(root) if format == "auto" else format
    if name not in READERS:
        raise ValueError(f"format must be auto, {', '.join(READERS)}, got {format!r}")
    return import_module(READERS[name])


def detect_format(root: Path) -> str:
    """Tell the format by the manifests of a folder and the keys in them, never by names of folders.

    Raises:
        ValueError: If no known manifest is there.
    """
    if (root / "rig.json").is_file():
        return "studio"
    if any((root / CHECKPOINT_FOLDER).glob(f"*{FRAME_SUFFIX}")):
        return "metrical_tracker"
    lacks_expressions = False
    for name in ("transforms_train.json", "transforms.json", "train/transforms.json"):
        if not (root / name).is_file():
            continue
        manifest = read_manifest(root / name)
        first = manifest.frames[0] if manifest.frames else {}
        if "flame_param_path" in first:
            return "gaussian_avatars"
        if "identity" in manifest.shared and "expression" in first:
            return "obama_vhap"
        if "img_id" in first and "exp_ori" in first:
            return "nerf_blendshape"
        if "img_id" in first:
            # AD-NeRF's own manifests stay beside the converted one.
            lacks_expressions = True
            continue
        if "exp_path" in first and "seg_mask_path" in first:
            raise ValueError(
                f"{root / name}: INSTA's manifests do not say how the jaw moves; put the tracker's "
                f"folder {CHECKPOINT_FOLDER} with its {FRAME_SUFFIX} files beside them"
            )
        if "lights" in manifest.shared and "{light}" in str(first.get("file_path")):
            return "lps_multiview"
        raise ValueError(
            f"{root / name}: frames have no flame_param_path, no ICT expression, no exp_ori and "
            "no {light}; name the format if it is another one"
        )
    if lacks_expressions:
        raise ValueError(
            f"{root}: frames have img_id but no exp_ori; vultus data convert {root} --from adnerf "
            "adds the expressions of track_params.pt"
        )
    first_below = next(iter(sorted(root.glob("*/transforms.json"))), None)
    if first_below is not None and is_corpus(read_manifest(first_below)):
        return "facetalk"
    if find_clips(root):
        return "imavatar"
    raise ValueError(
        f"{root}: no known capture: neither rig.json nor transforms_train.json, transforms.json, "
        f"train/transforms.json, {CHECKPOINT_FOLDER}/*{FRAME_SUFFIX}, folders of FaceTalk or "
        f"{MANIFEST_NAME}"
    )
