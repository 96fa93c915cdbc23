"""``vultus relight``: film an avatar with materials in the light of an environment map."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Literal, get_args

import torch
import tyro
from jaxtyping import Float
from torch import Tensor

from vultus.cli.avatar_run import OpenRun, open_run, output_path
from vultus.cli.console import console
from vultus.cli.occluder_faces import check_occluder_faces, print_occluder_faces
from vultus.cli.one_hot import OneHotOptions
from vultus.cli.option_parser import parse_arguments
from vultus.cli.render import path_cameras, path_pose
from vultus.core.image_io import write_image
from vultus.core.progress import track
from vultus.core.video_io import write_video
from vultus.data.sequence import Split
from vultus.export.pictures import side_by_side
from vultus.geometry.cameras import Camera
from vultus.heads.base import HeadPose
from vultus.methods.relightable_blendshapes.material_layers import LayerName
from vultus.methods.relightable_blendshapes.material_relighting import (
    Relighter,
    RelightSpace,
    RelitPicture,
    Surroundings,
    material_appearance,
)
from vultus.methods.relightable_blendshapes.model import RelightableBlendshapes
from vultus.render.lighting.environments import (
    EnvironmentName,
    MapLayout,
    made_environment,
    read_environment,
)
from vultus.render.lighting.envmap import EnvironmentMap

__all__ = ["RelightOptions", "main"]

_MAP_SUFFIXES = (".exr", ".hdr")
_DEFAULT_FRAMES = 120
_COLORS = {"black": (0.0, 0.0, 0.0), "white": (1.0, 1.0, 1.0)}


@dataclass(frozen=True)
class RelightOptions:
    """Write a film of a trained avatar in another light."""

    run: Path
    """Folder that train wrote, of relightable_blendshapes with model.appearance pbr."""
    envmap: str = "trained"
    """Light: trained, the one found in training; constant, gradient, sun or three_point; or a map
    of surroundings (.hdr, .exr)."""
    out: Path | None = None
    """Film to write (.mp4); default: RUN/media/relight_PATH.mp4."""
    layout: MapLayout | None = None
    """Of a map that is read. world, the default: light before the face stands at a quarter of the
    width; front_centered: it stands in the middle; mirrored: as GSHeadRelight's programs read
    maps."""
    yaw: float = 0.0
    """Turn the light around the head, in degrees: what came from the front then comes from the
    subject's left at 90."""
    spin: float = 0.0
    """Turn the light further by so many degrees in the course of the film; 360 is once around."""
    exposure: float = 1.0
    """Factor of the light."""
    lobe: float = 0.0
    """Blur the light on the head (not the background) by a lobe of this width."""
    map_rows: int | None = None
    """Rows of the light on the head, which is twice as wide; default: as in the training. More rows
    give sharper shadows and highlights, and take longer by their square."""
    occluder_faces: int | None = None
    """Decimate the mesh that hides light to so many faces, or as few as its borders and topology
    allow, whose vertices alone are traced; default: all of them. Poses that nobody has traced yet
    are then shown sooner."""
    light_space: RelightSpace | None = None
    """What the light stands still in; head: it turns along with the skull, and front stays before
    the face. Default: as in the capture."""
    background: Literal["environment", "capture", "black", "white"] = "environment"
    """Behind the head: the map itself, what the capture was read over, or a colour."""
    layers: tuple[LayerName, ...] = ()
    """Maps beside the picture: what the avatar is made of, and what light did."""
    path: Literal["still", "turntable", "arc", "dataset"] = "still"
    """still: one camera of the capture; turntable, arc: as in render; dataset: all of them."""
    camera: int | None = None
    """Camera of --path still; default: the first training camera."""
    split: Split | None = None
    """Frames of --path dataset; default: test."""
    timestep: int | None = None
    """Pose of the other paths; default: the track plays along."""
    expressions: Annotated[OneHotOptions, tyro.conf.arg(name="")] = field(
        default_factory=OneHotOptions
    )
    frames: int | None = None
    """Length of the other paths; default: 120."""
    size: tuple[int, int] | None = None
    """Width and height; default: those of the capture."""
    images: Path | None = None
    """Folder that also gets every picture: image/NAME.png and LAYER/NAME.png."""
    fps: float = 25.0
    """Frames per second."""
    data: Path | None = None
    """Where the capture lies now, if it was moved."""
    step: int | None = None
    """Checkpoint to load, by its step; default: the last one."""
    device: str = "cpu"
    """What renders: cpu, cuda, cuda:N, or auto, which takes a GPU if there is one."""
    dry_run: bool = False
    """Check everything, write nothing."""


def main(arguments: list[str]) -> None:
    """Light, draw, write."""
    options = parse_arguments(RelightOptions, arguments, prog="vultus relight", description=__doc__)
    _check(options)
    _check_effects(options)
    environment = _environment(options)
    opened = open_run(options.run, options.data, options.device, options.step)
    avatar = opened.avatar
    appearance = material_appearance(avatar)
    check_occluder_faces(appearance, options.occluder_faces)
    assert isinstance(avatar, RelightableBlendshapes)
    default = opened.folder.media_path / f"relight_{options.path}.mp4"
    out = output_path(options.out, default, [".mp4"])
    if environment is None:
        environment = EnvironmentMap(appearance.radiance.detach().cpu())
    names, pose, cameras = _moments(opened, options)
    if options.dry_run:
        console.print(f"would write {len(names)} frames to {out}")
        return
    space = options.light_space or appearance.light_space
    light = Surroundings(environment.scaled(options.exposure), space, options.lobe)
    background = _background(opened, options)
    relighter = Relighter(avatar, options.map_rows, options.occluder_faces)
    print_occluder_faces(options.occluder_faces, relighter.num_occluder_faces)
    pictures = _pictures(relighter, options, light, background, pose, cameras)
    count = write_video(out, _film(pictures, options, names), options.fps)
    console.print(f"film: {out} ({count} frames)")
    if options.images is not None:
        console.print(f"images: {options.images} ({', '.join(('image', *options.layers))})")


def _check(options: RelightOptions) -> None:
    if not 0.0 < options.exposure < math.inf:
        raise ValueError(f"--exposure must be positive, got {options.exposure}")
    if _num_frames(options) < 1 or not options.fps > 0:
        found = f"{_num_frames(options)} and {options.fps}"
        raise ValueError(f"--frames and --fps must be positive, got {found}")
    if options.map_rows is not None and options.map_rows < 1:
        raise ValueError(f"--map-rows must be positive, got {options.map_rows}")
    if not 0.0 <= options.lobe < math.inf:
        raise ValueError(f"--lobe must be 0 or more and finite, got {options.lobe}")
    if not math.isfinite(options.yaw) or not math.isfinite(options.spin):
        raise ValueError(f"--yaw and --spin must be finite, got {options.yaw}, {options.spin}")


def _check_effects(options: RelightOptions) -> None:
    """Refuse options that would do nothing."""
    if options.layout is not None and Path(options.envmap).suffix.lower() not in _MAP_SUFFIXES:
        raise ValueError(f"--layout is of maps that are read, got --envmap {options.envmap}")
    if options.path != "dataset" and options.split is not None:
        raise ValueError(f"--split is for --path dataset, got --path {options.path}")
    if options.path == "dataset":
        for name in ("frames", "timestep", "camera"):
            if getattr(options, name) is not None:
                raise ValueError(f"--{name} is not for --path dataset, whose frames are the split")
        if options.expressions.one_hot:
            raise ValueError("--one-hot is not for --path dataset, which shows the track")


def _num_frames(options: RelightOptions) -> int:
    return _DEFAULT_FRAMES if options.frames is None else options.frames


def _environment(options: RelightOptions) -> EnvironmentMap | None:
    """The light before turning and exposure; ``None`` for the trained one."""
    text = options.envmap
    if text == "trained":
        return None
    for name in get_args(EnvironmentName):
        if text == name:
            return made_environment(name)
    path = Path(text)
    if path.suffix.lower() not in _MAP_SUFFIXES:
        known = ", ".join(("trained", *get_args(EnvironmentName), *_MAP_SUFFIXES))
        raise ValueError(f"--envmap must be one of {known}, got {text!r}")
    return read_environment(path, options.layout or "world")


def _background(opened: OpenRun, options: RelightOptions) -> tuple[float, float, float] | None:
    if options.background == "capture":
        return opened.sequence.background
    return _COLORS.get(options.background)


def _moments(opened: OpenRun, options: RelightOptions) -> tuple[list[str], HeadPose, Camera]:
    """Names of pictures, their poses and their cameras."""
    if options.path == "dataset":
        records = opened.sequence.split(options.split or "test")
        cameras = Camera.stack([record.camera for record in records])
        names = [f"{record.timestep:05d}_{record.camera_index:02d}" for record in records]
        pose = opened.avatar.track[torch.tensor([record.timestep for record in records])]
    else:
        count = _num_frames(options)
        names = [f"{index:05d}" for index in range(count)]
        cameras = path_cameras(opened, options.path, count, camera=options.camera)
        pose = path_pose(opened, options.path, options.timestep, count, options.expressions)
    return names, pose, cameras if options.size is None else cameras.resized(*options.size)


def _pictures(
    relighter: Relighter,
    options: RelightOptions,
    light: Surroundings,
    background: tuple[float, float, float] | None,
    pose: HeadPose,
    cameras: Camera,
) -> Iterator[RelitPicture]:
    """The map turns, not the frame that visibility is traced in: a still head is traced once."""
    count = len(cameras)
    for index in track(range(count), count, "relighting", "frames"):
        degrees = options.yaw + options.spin * index / count
        surroundings = replace(light, turn=math.radians(degrees))
        moment = pose if len(pose) == 1 else pose[index]
        yield relighter.picture(moment, cameras[index], surroundings, background, options.layers)


def _film(
    pictures: Iterator[RelitPicture], options: RelightOptions, names: list[str]
) -> Iterator[Float[Tensor, "3 h w"]]:
    for name, picture in zip(names, pictures, strict=True):
        shown = {"image": picture.image, **{n: picture.shown(n) for n in options.layers}}
        if options.images is not None:
            for layer, values in shown.items():
                path = options.images / layer / f"{name}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                write_image(path, values)
        yield side_by_side(list(shown.values()))
