"""Measure a trained avatar on held-out frames under a named protocol."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from vultus.core.progress import track
from vultus.core.threads import map_in_threads
from vultus.data.frames import load_frame
from vultus.data.sequence import Frame, FrameRecord, HeadSequence, Split
from vultus.methods.base import ReconstructionMethod
from vultus.metrics.protocols import Protocol
from vultus.nets.perceptual import LpipsNetwork, LpipsVariant
from vultus.render.output import RenderOutput

__all__ = ["Evaluation", "check_frames", "check_protocol", "evaluate_split", "render_frames"]


@dataclass(frozen=True)
class Evaluation:
    """Numbers of one split."""

    protocol: str
    split: Split
    mean: Mapping[str, float]
    """Mean over images of every metric that could be computed."""
    unavailable: Mapping[str, str]
    """Metrics that could not be computed, with the reason."""
    masks: Mapping[str, int]
    """Number of images by the mask that their masked metrics used (``MaskKind``)."""
    frames: tuple[Mapping[str, float | str], ...]
    """Row per image; ``image`` names it, ``mask`` its kind of mask."""


def evaluate_split(
    method: ReconstructionMethod,
    sequence: HeadSequence,
    split: Split,
    protocol: Protocol,
    networks: Mapping[LpipsVariant, LpipsNetwork] | None = None,
    *,
    observe: Callable[[FrameRecord, Frame, RenderOutput], None] | None = None,
) -> Evaluation:
    """Render every frame of a split and compare it with its image and ground truth.

    Args:
        method: The avatar.
        sequence: Its capture.
        split: Which frames.
        protocol: What is measured.
        networks: Imported LPIPS networks; without them LPIPS is reported as unavailable.
        observe: Shown every frame with its rendering.

    Raises:
        ValueError: As ``check_protocol``.
    """
    check_protocol(sequence, split, protocol)
    rows: list[dict[str, float | str]] = []
    reasons: dict[str, str] = {}
    for record, frame, output in render_frames(method, sequence, sequence.split(split)):
        measured = protocol.measure(output, frame, networks)
        if observe is not None:
            observe(record, frame, output)
        name = _image_name(sequence.root, record.image_path)
        rows.append({"image": name, "mask": measured.mask, **measured.values})
        reasons |= measured.unavailable
    mean = {
        name: _mean([row[name] for row in rows if name in row])
        for name in protocol.metrics
        if any(name in row for row in rows)
    }
    missing = {name: why for name, why in reasons.items() if name not in mean}
    masks = Counter(str(row["mask"]) for row in rows)
    return Evaluation(protocol.id, split, mean, missing, dict(masks), tuple(rows))


def check_protocol(sequence: HeadSequence, split: Split, protocol: Protocol) -> None:
    """Raise unless the protocol can measure a split.

    Raises:
        ValueError: If images have another background or another size than the protocol says.
    """
    if sequence.background != protocol.background:
        raise ValueError(
            f"protocol {protocol.id} measures over the background {protocol.background}, the "
            f"capture was read over {sequence.background}"
        )
    for record in sequence.split(split):
        size = record.camera.width, record.camera.height
        if protocol.image_size is not None and size != protocol.image_size:
            wanted, got = (" x ".join(map(str, s)) for s in (protocol.image_size, size))
            raise ValueError(
                f"protocol {protocol.id} measures {wanted} images, {record.image_path} has {got}"
            )


def check_frames(sequence: HeadSequence, split: Split) -> None:
    """Decode every file of a split: damage must show before a training, not after it.

    Raises:
        FileNotFoundError: If a file is missing.
        ValueError: If a file cannot be decoded or has another size than its camera.
    """
    records = sequence.split(split)
    decoded = map_in_threads(lambda record: load_frame(sequence, record), records)
    for _ in track(decoded, len(records), label=f"checking {split} images", unit="images"):
        pass


def render_frames(
    method: ReconstructionMethod, sequence: HeadSequence, records: Iterable[FrameRecord]
) -> Iterable[tuple[FrameRecord, Frame, RenderOutput]]:
    """Yield each record with its image and the avatar's rendering of it."""
    pose = method.track
    records = tuple(records)
    for record in track(records, label="evaluating", unit="images"):
        frame = load_frame(sequence, record)
        with torch.no_grad():
            output = method.render(pose[record.timestep], record.camera)
        yield record, frame, output


def _mean(values: list[float | str]) -> float:
    return float(Tensor([float(value) for value in values]).mean())


def _image_name(root: Path, path: Path) -> str:
    return str(path.relative_to(root)) if path.is_relative_to(root) else str(path)
