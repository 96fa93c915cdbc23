"""Film a subject in the virtual studio: every moment from every camera, with ground truth."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch

from vultus.core.config import config_to_data
from vultus.core.exr_io import write_exr
from vultus.core.files import write_json
from vultus.core.progress import Progress
from vultus.core.threads import map_in_threads
from vultus.data.rig_files import RigCard
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


@dataclass(frozen=True)
class FilmPlan:
    """A filming whose inputs and folder were checked, and what is left to do."""

    config: StudioConfig
    layout: StudioLayout
    scene: Scene
    folder: CaptureFolder | VideoCaptureFolder
    note: Mapping[str, Any]
    """Content of ``studio.json``."""
    missing: Mapping[int, list[int]]
    """Cameras whose pictures are missing, by moment."""

    @property
    def num_missing(self) -> int:
        """Pictures to take."""
        return sum(map(len, self.missing.values()))

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
            "pictures to take": f"{self.num_missing} of {config.frames * config.cameras}",
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
    missing = {
        timestep: cameras
        for timestep in range(config.frames)
        if (cameras := [c for c in range(config.cameras) if not folder.has_frame(timestep, c)])
    }
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
    _write_light(out, scene, config)
    folder.begin()

    def write(shot: tuple[tuple[int, int], StudioFrame]) -> None:
        (timestep, camera), frame = shot
        folder.write_frame(timestep, camera, frame)

    shooting = Shooting(scene, config, threads=threads, device=device)
    with Progress("filming", plan.num_missing, "images") as progress:
        for _ in map_in_threads(write, shooting.take(plan.missing)):
            progress.advance()
    folder.finish()
    return plan.num_missing


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


def _write_light(out: Path, scene: Scene, config: StudioConfig) -> None:
    write_exr(out / "light.exr", scene.light.radiance, half=False)
    facts = {
        "type": "envmap",
        "file": "light.exr",
        "exposure": scene.exposure,
        "num_lights": config.num_lights,
        "convention": "row 0 is +y; column j shows (cos e cos a, sin e, cos e sin a) with azimuth "
        "a = 2 pi (j + 0.5) / w; picture = tone_map(exposure * radiance)",
    }
    write_json(out / "light.json", facts)
