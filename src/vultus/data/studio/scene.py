"""All that a filming needs, and a head before the cameras."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch
from jaxtyping import Float
from torch import Tensor

from vultus.data.light_card import TRAIN_LIGHT
from vultus.data.studio.config import StudioConfig
from vultus.data.studio.frames import StudioFrame, fetch_frames
from vultus.data.studio.lights import auto_exposure, load_light, open_light, studio_light
from vultus.data.studio.parsing import parsing_classes
from vultus.data.studio.renderer import StudioRenderer
from vultus.data.studio.rigs import build_rig, head_center
from vultus.data.studio.subject import Subject, build_subject
from vultus.data.studio.tracks import build_track, turn_around
from vultus.geometry.cameras import Camera
from vultus.heads.base import HeadModel, HeadPose
from vultus.render.lighting.envmap import EnvironmentMap

__all__ = ["Scene", "SceneLight", "Shooting", "build_scene"]

# Moments that a GPU poses at once, so that their check is waited for only once.
_POSED_AT_ONCE = 16


@dataclass(frozen=True)
class SceneLight:
    """Surroundings without exposure, and the exposure that they are filmed with."""

    environment: EnvironmentMap
    exposure: float


@dataclass(frozen=True)
class Scene:
    """All that a filming needs, checked."""

    subject: Subject
    """The labels of the surface are classes of face parsers; see ``parsing_classes``."""
    pose: HeadPose
    """One row per moment, identity included."""
    cameras: Camera
    light: EnvironmentMap
    """Without exposure."""
    exposure: float
    test_lights: Mapping[str, SceneLight] = field(default_factory=dict)
    """Other lights by name."""

    def under(self, test_light: str) -> Scene:
        """The same scene under one of the test lights."""
        light = self.test_lights[test_light]
        return replace(self, light=light.environment, exposure=light.exposure)


def build_scene(config: StudioConfig, subject: Subject | None = None) -> Scene:
    """Open and check everything that a config names.

    Args:
        config: What to film.
        subject: Who is filmed, in place of the config's head and seed.

    Raises:
        FileNotFoundError: If a file is missing.
        ValueError: If a file or a choice is wrong.
    """
    light = studio_light()
    if config.light is not None:
        light = load_light(config.light, config.light_orientation)
    if config.light_turn:
        light = light.rotated(config.light_turn)
    if subject is None:
        subject = build_subject(config.head, config.head_file, config.seed, config.texture_size)
    head = subject.head
    classes = parsing_classes(head, subject.appearance)
    subject = replace(subject, appearance=replace(subject.appearance, **classes))
    track = build_track(
        config.track,
        head,
        config.frames,
        seed=config.seed,
        arkit_path=config.arkit_file,
        stride=config.track_stride,
        start=config.track_start,
    )
    track = turn_around(track, config.turn_around)
    cameras = build_rig(
        config.rig,
        config.cameras,
        radius=config.radius,
        fov=config.fov,
        size=config.size,
        target=head_center(head, subject.identity),
        arc=config.arc,
        elevation=config.elevation,
    )
    exposure = config.exposure or auto_exposure(light, config.film)
    pose = track.replace(identity_coeffs=subject.identity)
    return Scene(subject, pose, cameras, light, exposure, _open_test_lights(config))


def _open_test_lights(config: StudioConfig) -> dict[str, SceneLight]:
    lights: dict[str, SceneLight] = {}
    for text in config.test_lights:
        name, environment = open_light(text, config.light_orientation)
        if name in lights:
            raise ValueError(f"test_lights must have different names, {name!r} comes twice")
        if name == TRAIN_LIGHT:
            raise ValueError(f"test_lights must not be named {name!r}, as the light of training is")
        exposure = config.exposure or auto_exposure(environment, config.film)
        lights[name] = SceneLight(environment, exposure)
    return lights


class Shooting:
    """A scene before the cameras, on one device."""

    def __init__(
        self,
        scene: Scene,
        config: StudioConfig,
        *,
        threads: int | None = None,
        device: torch.device | str = "cpu",
    ) -> None:
        """Set the light and bring everything to the device.

        Args:
            scene: Made from the config.
            config: How pictures are taken.
            threads: Workers of the CPU's renderer; ``None`` takes all.
            device: Where pictures are made.

        Raises:
            TypeError: If the head cannot be moved to the device.
        """
        self._config, self._cameras = config, scene.cameras
        self._device = torch.device(device)
        self._head = _on_device(scene.subject.head, self._device)
        self._pose = scene.pose.to(self._device)
        appearance = scene.subject.appearance
        faces = scene.subject.head.topology.faces
        self._renderer = StudioRenderer(
            faces, appearance, threads, device=self._device, indirect=config.indirect
        )
        # The scene's light is limited already; see ``load_light``.
        self._renderer.set_light(
            scene.light, config.num_lights, scene.exposure, max_radiance_ratio=None
        )

    def take(
        self, wanted: Mapping[int, Sequence[int]]
    ) -> Iterator[tuple[tuple[int, int], StudioFrame]]:
        """Take pictures, all cameras of a moment after each other; they arrive on the CPU.

        Args:
            wanted: Cameras by moment.

        Yields:
            Moment and camera, and their picture.

        Raises:
            ValueError: If the head of a moment is not finite.
        """
        return fetch_frames(self._take(wanted))

    def _take(
        self, wanted: Mapping[int, Sequence[int]]
    ) -> Iterator[tuple[tuple[int, int], StudioFrame]]:
        config = self._config
        for timestep, vertices in self._posed(list(wanted)):
            self._renderer.pose(vertices, self._head.neutral)
            for index in wanted[timestep]:
                camera = self._cameras[index]
                yield (
                    (timestep, index),
                    self._renderer.render(
                        camera, config.samples, config.shadows, config.background, config.film
                    ),
                )

    def _posed(self, timesteps: list[int]) -> Iterator[tuple[int, Float[Tensor, "v 3"]]]:
        at_once = _POSED_AT_ONCE if self._device.type == "cuda" else 1
        for start in range(0, len(timesteps), at_once):
            part = timesteps[start : start + at_once]
            with torch.no_grad():
                posed = self._head.vertices(self._pose[torch.tensor(part, device=self._device)])
            if not bool(torch.isfinite(posed).all()):
                raise ValueError(f"the head must be finite, but is not in moments {part}")
            yield from zip(part, posed.expand(len(part), -1, -1), strict=True)


def _on_device(head: HeadModel, device: torch.device) -> HeadModel:
    if device.type == "cpu":
        return head
    if not isinstance(head, torch.nn.Module):
        raise TypeError(f"head {head.name!r} must be a torch.nn.Module to be posed on {device}")
    return copy.deepcopy(head).to(device)
