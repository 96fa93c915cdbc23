"""The layout of NeRFBlendShape and GaussianHead: a video of one head with expression vectors.

    transforms.json
    ori_imgs/{id}.jpg         what the camera saw
    mask/{id + 1}.png         matte of the person, grey; matting tools count from 1
    parsing/{id}.png          optional: head, neck and clothes in the colours of AD-NeRF

The world is the frame of the head, so the camera moves.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from vultus.core.files import write_json
from vultus.core.image_io import write_image
from vultus.geometry.cameras import Camera, opencv_to_opengl

__all__ = [
    "IMAGE_FOLDER",
    "MANIFEST_NAME",
    "MASK_FOLDER",
    "MASK_ID_OFFSET",
    "PARSING_COLORS",
    "PARSING_FOLDER",
    "HeadVideoFolder",
    "ParsingPart",
    "VideoTrack",
    "color_parts",
    "mask_offset",
]

MANIFEST_NAME = "transforms.json"
IMAGE_FOLDER, MASK_FOLDER, PARSING_FOLDER = "ori_imgs", "mask", "parsing"
MASK_ID_OFFSET = 1
"""The number of a mask is that of its image plus this."""

ParsingPart = Literal["background", "head", "neck", "torso"]
PARSING_COLORS: dict[ParsingPart, tuple[int, int, int]] = {
    "background": (255, 255, 255),
    "head": (0, 0, 255),
    "neck": (0, 255, 0),
    "torso": (255, 0, 0),
}
"""RGB bytes; hair and hats belong to the head."""


@dataclass(frozen=True)
class VideoTrack:
    """What ``transforms.json`` says about every frame."""

    image_ids: tuple[int, ...]
    camera: Camera
    """One per frame, in the frame of the head; the first one's intrinsics are those of all."""
    expressions: Float[Tensor, "t e"]
    facts: Mapping[str, Any] = field(default_factory=dict)
    """More keys for the top of the file, which other readers do not know."""

    def __post_init__(self) -> None:
        """Reject parts of different lengths."""
        counts = len(self.image_ids), len(self.camera), len(self.expressions)
        if len(set(counts)) != 1:
            raise ValueError(
                "image_ids, camera and expressions must have one entry per frame, got "
                + ", ".join(map(str, counts))
            )


class HeadVideoFolder:
    """Knows where each file of a video lies; every file is written atomically."""

    def __init__(self, root: Path) -> None:
        """Say where; nothing is written yet."""
        self.root = root

    def make(self, *, with_parsing: bool = True) -> None:
        """Create the folders."""
        for folder in (IMAGE_FOLDER, MASK_FOLDER, *([PARSING_FOLDER] if with_parsing else [])):
            (self.root / folder).mkdir(parents=True, exist_ok=True)

    def image_path(self, image_id: int) -> Path:
        """File of a picture."""
        return self.root / IMAGE_FOLDER / f"{image_id}.jpg"

    def mask_path(self, image_id: int) -> Path:
        """File of its matte."""
        return self.root / MASK_FOLDER / f"{image_id + MASK_ID_OFFSET}.png"

    def parsing_path(self, image_id: int) -> Path:
        """File of its parsing."""
        return self.root / PARSING_FOLDER / f"{image_id}.png"

    def has_frame(self, image_id: int) -> bool:
        """Whether all files of a picture are there; atomic writes make them complete."""
        paths = (self.image_path, self.mask_path, self.parsing_path)
        return all(path(image_id).is_file() for path in paths)

    def write_frame(
        self,
        image_id: int,
        rgb: Float[Tensor, "3 h w"],
        mask: Float[Tensor, "1 h w"],
        parsing: UInt8[Tensor, "3 h w"] | None,
    ) -> None:
        """Write one picture with its matte and, where there is one, its parsing."""
        write_image(self.image_path(image_id), rgb)
        write_image(self.mask_path(image_id), mask)
        if parsing is not None:
            write_image(self.parsing_path(image_id), parsing)

    def write_track(self, track: VideoTrack) -> None:
        """Write ``transforms.json``; the last step."""
        camera = track.camera
        intrinsics = camera.intrinsics[0].double()
        matrices = opencv_to_opengl(camera.camera_to_world.double()).tolist()
        rows = zip(track.image_ids, matrices, track.expressions.double().tolist(), strict=True)
        frames = [
            {"img_id": image_id, "transform_matrix": matrix, "exp_ori": expression}
            for image_id, matrix, expression in rows
        ]
        shared = {
            "h": camera.height,
            "w": camera.width,
            "fx": float(intrinsics[0, 0]),
            "fy": float(intrinsics[1, 1]),
            "cx": float(intrinsics[0, 2]),
            "cy": float(intrinsics[1, 2]),
            **track.facts,
        }
        write_json(self.root / MANIFEST_NAME, {**shared, "frames": frames})


def color_parts(
    labels: UInt8[Tensor, "h w"], parts: Sequence[ParsingPart]
) -> UInt8[Tensor, "3 h w"]:
    """Draw a parsing in AD-NeRF's colours.

    Args:
        labels: Index into ``parts`` for each pixel.
        parts: What each label shows.
    """
    palette = torch.tensor([PARSING_COLORS[part] for part in parts], dtype=torch.uint8)
    return palette[labels.long()].permute(2, 0, 1)


def mask_offset(image_ids: Sequence[int], mask_numbers: Collection[int]) -> int:
    """Tell by their numbers how masks belong to images: what is added to an image's number.

    0 if every image has a mask of its own number and none follows the last, else 1.
    """
    is_aligned = all(image_id in mask_numbers for image_id in image_ids)
    return 0 if is_aligned and max(image_ids) + 1 not in mask_numbers else MASK_ID_OFFSET
