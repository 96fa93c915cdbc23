"""Everything that decides what the virtual studio films, and named presets of it."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from vultus.data.studio.lights import LightOrientation
from vultus.data.studio.renderer import Shadows
from vultus.data.studio.rigs import RigName
from vultus.data.studio.subject import HeadName
from vultus.data.studio.tone_curve import Film
from vultus.data.studio.tracks import TrackName

__all__ = ["PRESETS", "PresetName", "StudioConfig", "demo_config"]

_MIN_TEXTURE_SIZE = 128

PresetName = Literal["demo", "standard", "reference", "video", "relightable"]


@dataclass(frozen=True)
class StudioConfig:
    """What to film. The same config and seed give the same files on the same machine."""

    preset: PresetName = "demo"
    """Where the other defaults come from."""
    seed: int = 0
    """Decides the person and the performance; 0 films the built-in default person."""

    head: HeadName = "procedural"
    """Head model. ``ict`` and ``flame`` need a file: imported as an asset, or ``head_file``."""
    head_file: Path | None = None
    """ICT-FaceKit's packed .npz or a converted FLAME model, in place of the imported asset."""
    texture_size: int = 512
    """Side of the textures in texels."""

    track: TrackName = "talking"
    """Performance: talking, a recorded ARKit sequence, neutral, expressions one by one, turns."""
    arkit_file: Path | None = None
    """.npz with ``names``, ``weights``, ``head_pose`` and ``fps``, for the track ``arkit``."""
    track_start: int = 0
    """First frame of the recording that is taken; several filmings can show different parts."""
    track_stride: int = 1
    """Take every n-th frame of the recording."""
    frames: int = 64
    """Moments in time."""

    turn_around: int = 0
    """Moments at the start in which the subject turns once about the vertical, as on a chair, so
    that standing cameras see the back of the head."""

    rig: RigName = "dome"
    """Cameras on an arc before the face, on a full circle, or one in front."""
    cameras: int = 4
    """Number of cameras."""
    size: int = 256
    """Width and height of the pictures in pixels."""
    radius: float = 1.0
    """Distance of the cameras from the middle of the head in metres."""
    fov: float = 0.35
    """Field of view in radians."""
    arc: float = 1.5
    """Azimuth between the outermost cameras of a dome in radians; above 6.28 it is closed."""
    elevation: float = 0.3
    """Height of a dome's upper row, or of a turntable, in radians."""

    light: Path | None = None
    """Environment map (.exr or .hdr); by default a portrait light made by code."""
    light_orientation: LightOrientation = "vultus"
    """How the map lies: as in docs/conventions.md, or with its centre before the face."""
    light_turn: float = 0.0
    """Rotation of the light about the vertical in radians."""
    test_lights: tuple[str, ...] = ()
    """Film the moments of the split test under these lights, too, for judging relighting: files as
    for ``light``, or left, right, top and sky, made by code. Roughness and specular maps are then
    written as well."""
    num_lights: int = 128
    """Directional lights that stand in for the map."""
    exposure: float | None = None
    """Factor on the light; by default chosen so that white in front of the face is bright."""

    samples: int = 2
    """Rays per pixel and axis."""
    shadows: Shadows = "baked_all"
    """``baked_all`` keeps visibility at the vertices; ``traced`` is exact, and slow on the CPU."""
    indirect: bool = True
    """Let light bounce between surfaces, as far as their openness tells, and scatter past the
    terminator of skin. Avatars with materials know direct light alone: only without indirect light
    are their shadows those of the pictures."""
    film: Film = "studio"
    """How radiance becomes display values: ``studio``, with a soft shoulder for highlights, or
    plain ``srgb``, clipped at 1, which methods with lights of their own assume."""
    background: tuple[float, float, float] = (1.0, 1.0, 1.0)
    """Display-encoded colour behind the head."""

    held_out_cameras: tuple[int, ...] | None = None
    """Cameras of the split ``val``; by default the middle one of three or more."""
    test_share: float = 0.1875
    """Share of the moments, at the end, that all cameras hold out for the split ``test``."""

    def __post_init__(self) -> None:
        """Reject contradictions."""
        for name in ("frames", "cameras", "size", "samples", "track_stride"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be positive, got {getattr(self, name)}")
        if self.texture_size < _MIN_TEXTURE_SIZE:
            raise ValueError(
                f"texture_size must be at least {_MIN_TEXTURE_SIZE}, got {self.texture_size}"
            )
        if not 0 <= self.turn_around <= self.frames:
            raise ValueError(f"turn_around must be 0 to {self.frames}, got {self.turn_around}")
        if self.radius <= 0:
            raise ValueError(f"radius must be positive, got {self.radius}")
        if not 0 < self.fov < math.pi:
            raise ValueError(f"fov must be in (0, pi) radians, got {self.fov}")
        if self.rig == "monocular" and self.cameras != 1:
            raise ValueError(f"cameras must be 1 for the monocular rig, got {self.cameras}")
        if self.track_start < 0:
            raise ValueError(f"track_start must not be negative, got {self.track_start}")
        if self.track == "arkit" and self.arkit_file is None:
            raise ValueError("track 'arkit' needs arkit_file")
        if self.exposure is not None and self.exposure <= 0:
            raise ValueError(f"exposure must be positive, got {self.exposure}")
        self._check_splits()

    @property
    def val_cameras(self) -> tuple[int, ...]:
        """The cameras that are held out."""
        if self.held_out_cameras is not None:
            return self.held_out_cameras
        return (self.cameras // 2,) if self.cameras >= 3 else ()

    @property
    def num_test_frames(self) -> int:
        """How many moments at the end are held out."""
        return int(self.test_share * self.frames)

    @property
    def num_pictures(self) -> int:
        """Pictures in all, those under test lights included."""
        return (self.frames + len(self.test_lights) * self.num_test_frames) * self.cameras

    def _check_splits(self) -> None:
        unknown = [c for c in self.val_cameras if not 0 <= c < self.cameras]
        if unknown:
            raise ValueError(f"held_out_cameras must be below {self.cameras}, got {unknown[0]}")
        if len(set(self.val_cameras)) == self.cameras:
            raise ValueError("held_out_cameras must leave a camera for training")
        if self.test_lights and self.num_test_frames == 0:
            raise ValueError("test_lights need moments of the split test; raise test_share")
        if not 0 <= self.test_share < 1 or self.num_test_frames >= self.frames:
            raise ValueError(f"test_share must leave moments for training, got {self.test_share}")


_DEMO = StudioConfig()
PRESETS: dict[PresetName, StudioConfig] = {
    "demo": _DEMO,
    "standard": replace(
        _DEMO,
        preset="standard",
        frames=200,
        cameras=16,
        size=512,
        texture_size=1024,
        samples=3,
        arc=2.0,
    ),
    "reference": replace(
        _DEMO,
        preset="reference",
        frames=100,
        cameras=16,
        size=512,
        texture_size=1024,
        num_lights=256,
        samples=4,
        shadows="traced",
        arc=2.0,
    ),
    "video": replace(
        _DEMO,
        preset="video",
        frames=1000,
        rig="monocular",
        cameras=1,
        test_share=0.1,
    ),
    "relightable": replace(
        _DEMO,
        preset="relightable",
        frames=400,
        rig="monocular",
        cameras=1,
        num_lights=256,
        test_share=0.1,
        test_lights=("left", "top", "sky"),
        film="srgb",
    ),
}
"""``demo`` takes well under a minute on two cores; ``reference`` traces every shadow; ``video`` is
one camera before a talking head, as methods for monocular videos take it; ``relightable`` films the
end of such a video under three more lights."""


def demo_config(seed: int) -> StudioConfig:
    """What ``vultus demo`` films: the preset ``demo``, and the subject turns around once."""
    return replace(_DEMO, seed=seed, turn_around=8)
