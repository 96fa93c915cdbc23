"""A still head under several lights: ``train`` and ``test`` folders of one static capture.

Each folder has ``transforms.json`` with ``lights`` and file paths that hold ``{light}``, and masks,
albedo, world normals and ray distances under the frame's number.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from vultus.data.head_files import open_head
from vultus.data.readers.flame_manifest import finite_numbers
from vultus.data.readers.manifest import Manifest, read_manifest, resize
from vultus.data.readers.options import ReaderOptions
from vultus.data.relighting import KnownLight, RelightTruth, check_exposure, distant_light
from vultus.data.rig_files import read_rig_row
from vultus.data.sequence import FrameRecord, HeadSequence
from vultus.heads.base import HeadModel, HeadPose
from vultus.heads.blendshapes import check_pose
from vultus.render.lighting.environments import read_environment
from vultus.render.lighting.envmap import EnvironmentMap

__all__ = ["Options", "read", "relight_truth"]


@dataclass(frozen=True)
class Options(ReaderOptions):
    """Options of ``lps_multiview``."""

    light: str = "kloppenheim_06"
    """Which of the manifest's lights."""
    envmaps: Path | None = None
    """Folder with the maps that the manifest names (NAME.exr or .hdr, or one NAME_*.exr or .hdr;
    the centre column before the face), for evaluating relighting: the other lights are then test
    lights."""
    fit: Path | None = None
    """Pose of the head in this capture, as ``vultus data fit`` writes it; by default the head's
    neutral."""
    pose: HeadPose | None = None
    """The same, for callers in Python; one row."""

    def __post_init__(self) -> None:
        """Reject contradictions."""
        super().__post_init__()
        if self.pose is not None and (self.head is None or len(self.pose) != 1):
            raise ValueError("pose must have one row and come with the head that it fits")
        if self.pose is not None and self.fit is not None:
            raise ValueError("pose and fit must not both be given")


def read(root: Path, options: Options) -> HeadSequence:
    """Read the capture under one light; the cameras of ``test`` become the split ``val``.

    Raises:
        FileNotFoundError: If a file is missing.
        ValueError: If a field is wrong or the light is not in the manifest.
    """
    train = read_manifest(root / "train" / "transforms.json")
    test = read_manifest(root / "test" / "transforms.json")
    records = [_record(train, i, i, options) for i in range(len(train.frames))]
    num_train = len(records)
    records += [_record(test, i, num_train + i, options) for i in range(len(test.frames))]
    if num_train == 0:
        raise ValueError(f"{train.path}: split 'train' is empty")
    head = options.head or open_head("ict", options.head_file)
    return HeadSequence(
        root,
        tuple(records),
        {
            "train": torch.arange(num_train),
            "val": torch.arange(num_train, len(records)),
            "test": torch.empty(0, dtype=torch.int64),
        },
        head,
        _pose(head, options),
        background=options.background_color,
        image_background=(0.0, 0.0, 0.0),
        depth_kind="ray",
        cut_height=options.cut_height,
        expression_names=tuple(head.expression_names),
        info={
            "format": "lps_multiview",
            "light": train.shared["lights"][options.light],
            "light_name": options.light,
            "envmaps": None if options.envmaps is None else str(options.envmaps),
        },
    )


def relight_truth(sequence: HeadSequence) -> RelightTruth | None:
    """The manifest's lights, the one that was read being that of the training.

    Returns:
        ``None`` without the option ``envmaps``.

    Raises:
        FileNotFoundError: If a map, their folder or a picture is missing.
        ValueError: If a light is described wrongly.
    """
    folder = sequence.info["envmaps"]
    if folder is None:
        return None
    path = sequence.root / "train" / "transforms.json"
    described = read_manifest(path).shared["lights"]
    lights = {
        name: KnownLight(name, _light_loader(path, name, facts, Path(str(folder))))
        for name, facts in described.items()
    }
    train = lights.pop(str(sequence.info["light_name"]))
    pictures = {name: _relit_pictures(sequence, name) for name in lights}
    return RelightTruth(train, lights, sequence.light_space, "srgb", pictures)


def _relit_pictures(sequence: HeadSequence, light: str) -> dict[Path, Path]:
    found = {}
    for record in sequence.frames:
        path = record.image_path.parent.parent / light / record.image_path.name
        if not path.is_file():
            raise FileNotFoundError(f"{path} does not exist, though {record.image_path} does")
        found[record.image_path] = path
    return found


def _light_loader(
    manifest: Path, name: str, facts: Any, folder: Path
) -> Callable[[], EnvironmentMap]:
    """How the surroundings of a light are read, exposure applied."""
    where = f"{manifest}: lights.{name}"
    try:
        exposure = check_exposure(f"{where}.exposure", facts["exposure"])
        light = facts["light"]
        kind = light["type"]
        if kind == "envmap":
            path = _map_file(folder, str(light["name"]))
            return partial(read_environment, path, "front_centered", exposure)
        if kind == "directional":
            direction = _vector(f"{where}.light.direction", light["direction"])
            irradiance = _vector(f"{where}.light.irradiance", light["irradiance"]["value"])
            if float(direction.norm()) == 0 or float(irradiance.min()) < 0:
                raise ValueError(f"{where} must have a direction and light that is not negative")
            return partial(distant_light, -direction, exposure * irradiance)
    except (KeyError, TypeError) as error:
        raise ValueError(f"{where} must have exposure and light ({error!r})") from error
    raise ValueError(f"{where}: type must be envmap or directional, got {kind!r}")


def _vector(where: str, value: object) -> Float[Tensor, 3]:
    numbers = finite_numbers(where, value, torch.float64)
    if numbers.shape != (3,):
        raise ValueError(f"{where} must be three numbers, got shape {tuple(numbers.shape)}")
    return numbers


def _map_file(folder: Path, name: str) -> Path:
    """The map of a name, or else the one whose name begins with it, as ``name_1k.exr`` does.

    EXR goes before HDR, which keeps fewer digits.
    """
    files = sorted(folder.iterdir())
    choices = (
        [path for path in files if path.suffix == suffix and is_named(path.stem)]
        for is_named in (name.__eq__, lambda stem: stem.startswith(f"{name}_"))
        for suffix in (".exr", ".hdr")
    )
    found = next(filter(None, choices), None)
    if found is None:
        raise FileNotFoundError(f"{folder}: has no map {name} or {name}_*, .exr or .hdr")
    if len(found) > 1:
        names = ", ".join(path.name for path in found)
        raise ValueError(f"{folder}: must have one map of {name}, got {names}")
    return found[0]


def _pose(head: HeadModel, options: Options) -> HeadPose:
    if options.fit is None:
        return options.pose or HeadPose(translation=torch.zeros(1, 3))
    pose = read_rig_row(options.fit)
    check_pose(pose, head.parameters_spec, str(options.fit))
    return pose


def _record(manifest: Manifest, index: int, camera_index: int, options: Options) -> FrameRecord:
    folder = manifest.path.parent
    lights = manifest.shared.get("lights")
    if not isinstance(lights, dict) or options.light not in lights:
        known = ", ".join(lights) if isinstance(lights, dict) else "none"
        raise ValueError(f"{manifest.path}: lights has no {options.light!r}; it has {known}")
    pattern = manifest.frames[index].get("file_path")
    where = manifest.where(index, "file_path")
    if not isinstance(pattern, str) or "{light}" not in pattern:
        raise ValueError(f"{where} must be a path with {{light}}, got {pattern!r}")
    image = folder / pattern.replace("{light}", options.light)
    truth = {
        kind: folder / pattern.replace("{light}", kind) for kind in ("mask", "normal", "albedo")
    }
    for path in (image, *truth.values(), folder / "depth.npz"):
        if not path.is_file():
            raise FileNotFoundError(f"{where}: {path} does not exist")
    camera, file_size = resize(manifest.camera(index, image), options)
    return FrameRecord(
        timestep=0,
        camera_index=camera_index,
        camera=camera,
        image_path=image,
        mask_path=truth["mask"],
        normal_path=truth["normal"],
        depth_path=folder / "depth.npz",
        albedo_path=truth["albedo"],
        depth_index=index,
        file_size=file_size,
    )
