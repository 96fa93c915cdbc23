"""Film a subject in the virtual studio: every moment from every camera, with ground truth."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch

from vultus.core.config import config_to_data
from vultus.core.exr_io import write_exr
from vultus.core.files import write_json
from vultus.core.progress import Progress
from vultus.core.threads import map_in_threads
from vultus.data.light_card import CARD_NAME, LightCard
from vultus.data.relighting import light_to_world
from vultus.data.rig_files import RigCard
from vultus.data.sequence import LightSpace
from vultus.data.studio.config import StudioConfig, demo_config
from vultus.data.studio.frames import StudioFrame
from vultus.data.studio.layout import CaptureFolder
from vultus.data.studio.notes import check_folder_note
from vultus.data.studio.scene import Scene, Shooting, build_scene
from vultus.data.studio.subject import Subject
from vultus.data.studio.video_layout import VideoCaptureFolder

__all__ = ["FilmPlan", "StudioLayout", "demo_config", "film", "plan_film"]

StudioLayout = Literal["studio", "nerf_blendshape"]
"""Names of the readers that understand what is written."""
_LAYOUTS: dict[StudioLayout, type[CaptureFolder] | type[VideoCaptureFolder]] = {
    "studio": CaptureFolder,
    "nerf_blendshape": VideoCaptureFolder,
}
_LIGHT_SPACES: dict[StudioLayout, LightSpace] = {
    "studio": "world",
    "nerf_blendshape": "camera_opengl",
}
"""What lights stand still in. A video's world is the head, which its camera moves about."""


@dataclass(frozen=True)
class FilmPlan:
    """A filming whose inputs and folder were checked, and what is left to do."""

    config: StudioConfig
    layout: StudioLayout
    scene: Scene
    folder: CaptureFolder | VideoCaptureFolder
    note: Mapping[str, Any]
    """Content of ``studio.json``."""
    missing: Mapping[str | None, Mapping[int, list[int]]]
    """Cameras whose pictures are missing, by light (``None`` is the first one) and moment."""

    @property
    def num_missing(self) -> int:
        """Pictures to take."""
        return sum(len(cameras) for wanted in self.missing.values() for cameras in wanted.values())

    def facts(self) -> dict[str, str]:
        """For a table."""
        config, head = self.config, self.scene.subject.head
        test = config.num_test_frames
        return {
            "layout": self.layout,
            "head": f"{head.name} {head.version}, {head.topology.num_vertices} vertices",
            "track": f"{config.track}, {config.frames} moments",
            "cameras": f"{config.rig}, {config.cameras} of {config.size} x {config.size} pixels",
            "light": f"{self.note['light']}, exposure {self.scene.exposure:.3g}",
            "val": f"cameras {', '.join(map(str, config.val_cameras)) or 'none'}",
            "test": f"the last {test} moments" if test else "none",
            "test lights": ", ".join(self.scene.test_lights) or "none",
            "pictures to take": f"{self.num_missing} of {config.num_pictures}",
        }


def plan_film(
    config: StudioConfig,
    out: Path,
    subject: Subject | None = None,
    layout: StudioLayout = "studio",
) -> FilmPlan:
    """Check a filming without writing anything; see ``film``."""
    scene = build_scene(config, subject)
    folder = _LAYOUTS[layout](out, scene, config)
    note = _note(config, folder.format_name, scene)
    check_folder_note(out, "studio.json", note, "filming")
    missing = {light: _missing(config, folder, light) for light in (None, *scene.test_lights)}
    return FilmPlan(config, layout, scene, folder, note, missing)


def film(
    config: StudioConfig,
    out: Path,
    *,
    subject: Subject | None = None,
    threads: int | None = None,
    device: torch.device | str = "cpu",
    layout: StudioLayout = "studio",
) -> int:
    """Film into a folder that the reader of the layout's name understands.

    A stopped filming continues where it was: pictures that are complete are kept.

    Args:
        config: What to film.
        out: Folder; made if missing.
        subject: Who is filmed, in place of the config's head and seed.
        threads: Workers of the CPU's renderer; ``None`` takes all. They do not change the pictures.
        device: Where pictures are made; those of a GPU differ by the rounding of float32.
        layout: ``studio`` has the rig and all ground truth; ``nerf_blendshape`` is a video of one
            camera with masks, parsing and expression vectors.

    Returns:
        Number of pictures taken now.

    Raises:
        FileNotFoundError: If a file that the config names is missing.
        ValueError: If the folder holds the filming of another config, or the layout does not fit.
    """
    plan = plan_film(config, out, subject, layout)
    folder, scene = plan.folder, plan.scene
    out.mkdir(parents=True, exist_ok=True)
    write_json(out / "studio.json", plan.note)
    _write_lights(out, scene, config, layout)
    folder.begin()
    with Progress("filming", plan.num_missing, "images") as progress:
        for light, wanted in plan.missing.items():
            if not wanted:
                continue
            lit = scene if light is None else scene.under(light)
            shooting = Shooting(lit, config, threads=threads, device=device)
            for _ in map_in_threads(_writer(folder, light), shooting.take(wanted)):
                progress.advance()
    folder.finish()
    return plan.num_missing


def _missing(
    config: StudioConfig, folder: CaptureFolder | VideoCaptureFolder, light: str | None
) -> dict[int, list[int]]:
    """Cameras whose pictures under a light are missing, by moment."""
    first = 0 if light is None else config.frames - config.num_test_frames
    wanted = {}
    for timestep in range(first, config.frames):
        cameras = [c for c in range(config.cameras) if not folder.has_frame(timestep, c, light)]
        if cameras:
            wanted[timestep] = cameras
    return wanted


def _writer(
    folder: CaptureFolder | VideoCaptureFolder, light: str | None
) -> Callable[[tuple[tuple[int, int], StudioFrame]], None]:
    def write(shot: tuple[tuple[int, int], StudioFrame]) -> None:
        (timestep, camera), frame = shot
        folder.write_frame(timestep, camera, frame, light)

    return write


def _note(config: StudioConfig, format_name: str, scene: Scene) -> dict[str, Any]:
    """What ``studio.json`` holds: all that decides the pictures, and the splits."""
    first_test = config.frames - config.num_test_frames
    card = RigCard.describe(scene.subject.head, scene.subject.identity)
    return {
        "format": format_name,
        "config": config_to_data(config),
        "head": card.description,
        "identity": list(card.identity),
        "exposure": scene.exposure,
        "light": "studio" if config.light is None else config.light.name,
        "val_cameras": list(config.val_cameras),
        "test_timesteps": list(range(first_test, config.frames)),
    }


def _write_lights(out: Path, scene: Scene, config: StudioConfig, layout: StudioLayout) -> None:
    light, space = scene.light, _LIGHT_SPACES[layout]
    if space != "world":
        light = light.turned(light_to_world(scene.cameras[0], space)[0])
    write_exr(out / "light.exr", light.radiance, half=False)
    if scene.test_lights:
        (out / "envs").mkdir(exist_ok=True)
    for name, light in scene.test_lights.items():
        write_exr(out / "envs" / f"{name}.exr", light.environment.radiance, half=False)
    exposures = {name: light.exposure for name, light in scene.test_lights.items()}
    card = LightCard("light.exr", scene.exposure, exposures, space, config.film)
    card.save(out / CARD_NAME, {"num_lights": config.num_lights})
