"""A filming as a video of one head, which methods without a rig read: see ``data.head_video``.

    studio.json  light.json  light.exr
    ori_imgs/{t}.jpg  mask/{t + 1}.png  parsing/{t}.png
    transforms.json                                       also background, held_out_frames and
                                                          expression_names, for our reader

The expression vector is all that moves the face: coefficients, jaw and eyes. Head turns are in the
cameras. The head's frame is the rig's at rest with its origin in the middle of the head.
"""

from __future__ import annotations

from pathlib import Path

import torch

from vultus.data.head_video import HeadVideoFolder, ParsingPart, color_parts
from vultus.data.rig_video import rig_video_track
from vultus.data.semantics import PARSING_CLASSES
from vultus.data.studio.config import StudioConfig
from vultus.data.studio.frames import StudioFrame
from vultus.data.studio.rigs import head_center
from vultus.data.studio.scene import Scene
from vultus.heads.face_motion import face_coeff_names

__all__ = ["VideoCaptureFolder"]

_PARTS: dict[str, ParsingPart] = {"background": "background", "neck": "neck", "cloth": "torso"}
"""Parts by the class of face parsers; all others belong to the head."""


class VideoCaptureFolder:
    """Writes a filming with one camera."""

    format_name = "vultus-studio-video-1"

    def __init__(self, root: Path, scene: Scene, config: StudioConfig) -> None:
        """Say where; nothing is written yet.

        Raises:
            ValueError: If there are several cameras or test lights, or the head has no face to
                move.
        """
        if config.cameras != 1:
            raise ValueError(
                f"layout nerf_blendshape has one camera, got {config.cameras}; film with "
                "rig monocular and cameras 1"
            )
        if config.test_lights:
            raise ValueError("layout nerf_blendshape has no test_lights; film with layout studio")
        face_coeff_names(scene.subject.head)
        self._scene, self._config = scene, config
        self._video = HeadVideoFolder(root)
        self._parts: list[ParsingPart] = [_PARTS.get(name, "head") for name in PARSING_CLASSES]

    def has_frame(self, timestep: int, camera: int, light: str | None = None) -> bool:
        """Whether all files of a picture are there; this layout has no test lights."""
        return camera == 0 and light is None and self._video.has_frame(timestep)

    def begin(self) -> None:
        """Create the folders."""
        self._video.make()

    def write_frame(
        self, timestep: int, camera: int, frame: StudioFrame, light: str | None = None
    ) -> None:
        """Write one picture with its matte and parsing."""
        if camera != 0 or light is not None:
            raise ValueError(f"camera must be 0 and light None, got {camera} and {light!r}")
        parsing = color_parts(frame.labels, self._parts)
        self._video.write_frame(timestep, frame.rgb, frame.alpha, parsing)

    def finish(self) -> None:
        """Write the manifest; the last step."""
        scene, config = self._scene, self._config
        head, count = scene.subject.head, config.frames
        track = rig_video_track(
            head,
            scene.pose,
            scene.cameras[torch.zeros(count, dtype=torch.int64)],
            range(count),
            head_center(head, scene.subject.identity),
            {
                "background": list(config.background),
                "held_out_frames": config.num_test_frames,
            },
        )
        self._video.write_track(track)
