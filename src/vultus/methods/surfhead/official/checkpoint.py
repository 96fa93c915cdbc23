"""Model folders of the published SurFhead: surfels, FLAME track, specular network, arguments.

    point_cloud/iteration_K/{point_cloud.ply, flame_param.npz}
    specular/iteration_K/specular.pth
    cfg_args

A folder does not say which public state of the code trained it: whoever reads one of October 2024
must ask for ``third_edge="unit"``. Render what was read with ``SpecularConfig.official_quirks``.

Reference: spec of SurFhead section 8.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import torch

from vultus.data.flame_tracks import flame_version_of, read_flame_track, write_flame_track
from vultus.gaussians.splat_files import (
    Splats,
    read_splats,
    splats_to_surfels,
    surfels_to_splats,
    write_splats,
)
from vultus.gaussians.surfels import Surfels
from vultus.geometry.deformation import ThirdEdge
from vultus.heads.base import HeadPose
from vultus.heads.flame import FlameVersion, pad_offsets
from vultus.heads.flame_teeth import NUM_TEETH_FACES, NUM_TEETH_VERTICES
from vultus.methods.surfhead.official.arguments import read_arguments, write_arguments
from vultus.methods.surfhead.official.specular_weights import read_specular, write_specular
from vultus.methods.surfhead.specular import LobeType, SpecularNetwork
from vultus.methods.surfhead.transport import Rig

__all__ = [
    "OfficialAvatar",
    "ShinySurfels",
    "check_faces",
    "iteration_folder",
    "read_avatar_track",
    "read_official",
    "write_official",
]

ShinySurfels = Literal["eyeballs", "teeth", "all"]

_NUM_VERTICES = 5023 + NUM_TEETH_VERTICES
_NUM_FACES = 9976 + NUM_TEETH_FACES
_POINTS, _TRACK, _SPECULAR, _ARGUMENTS = (
    "point_cloud.ply",
    "flame_param.npz",
    "specular.pth",
    "cfg_args",
)
_THIRD_EDGE_ARGUMENT = "vultus_third_edge"
"""What published programs cannot express; they ignore it."""
_NUM_SPECULAR_FEATURES = 24
"""Official programs want the columns f_sg_* even where nothing shines."""


@dataclass(frozen=True)
class OfficialAvatar:
    """A trained avatar with what must be known to pose and render it."""

    surfels: Surfels
    track: HeadPose
    """Fine-tuned FLAME parameters of every timestep, with identity and static offset."""
    rig: Rig
    third_edge: ThirdEdge
    iteration: int
    specular: SpecularNetwork | None = None
    shiny_surfels: ShinySurfels = "eyeballs"
    rigid_eyeballs: bool = True
    """Whether eyeball surfels follow their own triangle whatever their blend weights."""
    white_background: bool = True
    arguments: Mapping[str, Any] = field(default_factory=dict)
    """The official command line, empty if the folder has none."""

    @property
    def flame_version(self) -> FlameVersion:
        """Release of FLAME that the track belongs to."""
        return flame_version_of(self.track)


def read_official(
    folder: Path,
    iteration: int | None = None,
    *,
    third_edge: ThirdEdge | None = None,
    rig: Rig | None = None,
) -> OfficialAvatar:
    """Read a model folder of either public state; no code in it is run.

    Args:
        folder: What the official program calls ``model_path``.
        iteration: Which one; by default the last.
        third_edge: Rule of the deformation gradient; by default ``sqrt_area`` (April 2025).
        rig: Transport of the surfels; by default jbs if there are blend weights, else what
            ``cfg_args`` says.

    Raises:
        FileNotFoundError: If a file is missing.
        ValueError: If a file is damaged, the parts do not belong together, it is a model of
            GaussianAvatars, or the rig cannot be told; one line that names the file.
    """
    source = iteration_folder(folder, iteration)
    found_iteration = int(source.name.removeprefix("iteration_"))
    arguments = _arguments(folder)
    splats = read_splats(source / _POINTS)
    check_faces(source / _POINTS, splats)
    if splats.log_scales.shape[1] == 3:
        raise ValueError(
            f"{source / _POINTS}: has 3 scales, so it is a model of GaussianAvatars; "
            "read it with read_gaussian_avatars"
        )
    specular = _specular(folder, found_iteration, splats, arguments)
    if specular is not None:
        splats = _with_specular_columns(splats, specular.num_features)
    surfels = splats_to_surfels(splats)
    if third_edge is None:
        third_edge = "unit" if arguments.get(_THIRD_EDGE_ARGUMENT) == "unit" else "sqrt_area"
    return OfficialAvatar(
        surfels=surfels,
        track=read_avatar_track(source / _TRACK),
        rig=_rig(folder, surfels, arguments, rig),
        third_edge=third_edge,
        iteration=found_iteration,
        specular=specular,
        shiny_surfels=_shiny_surfels(arguments),
        rigid_eyeballs=bool(arguments.get("detach_eyeball_geometry", True)),
        white_background=bool(arguments.get("white_background", True)),
        arguments=arguments,
    )


def write_official(folder: Path, avatar: OfficialAvatar) -> None:
    """Write a model folder that the published programs and ``read_official`` understand.

    Every file is written atomically; finite values come back bit for bit. ``third_edge`` goes into
    ``cfg_args`` under a name that the published programs ignore: they use their own rule.

    Raises:
        ValueError: If the track is not FLAME's, or blend weights and rig contradict each other.
    """
    _ = avatar.flame_version
    if (avatar.rig == "jbs") != (avatar.surfels.blend_weight_logits is not None):
        raise ValueError(f"rig must be jbs with blend weights and only then, got {avatar.rig!r}")
    name = f"iteration_{avatar.iteration}"
    target = folder / "point_cloud" / name
    target.mkdir(parents=True, exist_ok=True)
    splats = surfels_to_splats(avatar.surfels)
    write_splats(target / _POINTS, _with_specular_columns(splats, _NUM_SPECULAR_FEATURES))
    write_flame_track(target / _TRACK, _with_all_fields(avatar.track))
    if avatar.specular is not None:
        (folder / "specular" / name).mkdir(parents=True, exist_ok=True)
        write_specular(folder / "specular" / name / _SPECULAR, avatar.specular)
    write_arguments(folder / _ARGUMENTS, {**avatar.arguments, **_flags(avatar, splats, folder)})


def iteration_folder(folder: Path, iteration: int | None) -> Path:
    """Find ``point_cloud/iteration_K``; the last one by default.

    Raises:
        FileNotFoundError: If there is none; lists those that are there.
    """
    points = folder / "point_cloud"
    if not points.is_dir():
        raise FileNotFoundError(f"{points}: no such folder; is {folder} a model folder?")
    names = (re.fullmatch(r"iteration_(\d{1,12})", path.name) for path in points.iterdir())
    known = sorted(int(match[1]) for match in names if match)
    if not known or (iteration is not None and iteration not in known):
        listed = ", ".join(map(str, known)) or "none"
        wanted = "iteration" if iteration is None else f"iteration {iteration}"
        raise FileNotFoundError(f"{points}: has no {wanted} (there is {listed})")
    return points / f"iteration_{known[-1] if iteration is None else iteration}"


def read_avatar_track(path: Path) -> HeadPose:
    """Read ``flame_param.npz`` of an avatar; a static offset without teeth is padded with zeros.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is damaged or not of FLAME 2020 or 2023; names the file.
    """
    track = read_flame_track(path)
    try:
        flame_version_of(track)
        if track.static_offset is not None:
            track = track.replace(static_offset=pad_offsets(track.static_offset, _NUM_VERTICES))
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    return track


def check_faces(path: Path, splats: Splats) -> None:
    """Raise unless splats are bound to faces of FLAME with teeth.

    Raises:
        ValueError: Naming the file.
    """
    if splats.face_index is None:
        raise ValueError(f"{path}: splats must be bound to faces; binding_0 is missing")
    if len(splats) == 0:
        raise ValueError(f"{path}: holds no splats")
    last = int(splats.face_index.max())
    if last >= _NUM_FACES:
        raise ValueError(
            f"{path}: binding_0 must be below {_NUM_FACES} (FLAME's faces), got {last}"
        )


def _arguments(folder: Path) -> dict[str, Any]:
    path = folder / _ARGUMENTS
    return read_arguments(path) if path.is_file() else {}


def _rig(folder: Path, surfels: Surfels, arguments: Mapping[str, Any], wanted: Rig | None) -> Rig:
    has_weights = surfels.blend_weight_logits is not None
    if wanted is not None:
        if (wanted == "jbs") != has_weights:
            having = "has" if has_weights else "has no"
            raise ValueError(f"{folder}: {having} blend weights, which rig {wanted!r} contradicts")
        return wanted
    if has_weights:
        return "jbs"
    if "DTF" not in arguments:
        raise ValueError(
            f"{folder}: neither blend weights nor {_ARGUMENTS} tell the rig; "
            "say similarity or jacobian"
        )
    return "jacobian" if arguments["DTF"] else "similarity"


def _specular(
    folder: Path, iteration: int, splats: Splats, arguments: Mapping[str, Any]
) -> SpecularNetwork | None:
    path = folder / "specular" / f"iteration_{iteration}" / _SPECULAR
    if not path.is_file():
        if arguments.get("SGs"):
            raise FileNotFoundError(f"{path} does not exist, though {_ARGUMENTS} says SGs")
        return None
    is_isotropic = arguments.get("sg_type") == "sg"
    lobe_type: LobeType | None = "sg" if is_isotropic else None
    network = read_specular(path, lobe_type)
    features = splats.specular_features
    if features is not None and features.shape[1] != network.num_features:
        raise ValueError(
            f"{path}: takes {network.num_features} features, surfels have {features.shape[1]}"
        )
    return network


def _shiny_surfels(arguments: Mapping[str, Any]) -> ShinySurfels:
    if arguments.get("spec_only_teeth"):
        return "teeth"
    # The 2025 release has no such option and shades the eyeballs alone.
    return "eyeballs" if arguments.get("spec_only_eyeball", True) else "all"


def _flags(avatar: OfficialAvatar, splats: Splats, folder: Path) -> dict[str, Any]:
    specular, features = avatar.specular, splats.specular_features
    return {
        "model_path": str(folder),
        "sh_degree": avatar.surfels.sh_degree,
        "sg_degree": _NUM_SPECULAR_FEATURES if features is None else features.shape[1],
        "white_background": avatar.white_background,
        "bind_to_mesh": True,
        "DTF": avatar.rig != "similarity",
        "invT_Jacobian": avatar.rig != "similarity",
        "train_kinematic": avatar.rig == "jbs",
        "SGs": specular is not None,
        "sg_type": "asg" if specular is None else specular.lobe_type,
        "spec_only_eyeball": avatar.shiny_surfels == "eyeballs",
        "spec_only_teeth": avatar.shiny_surfels == "teeth",
        "detach_eyeball_geometry": avatar.rigid_eyeballs,
        _THIRD_EDGE_ARGUMENT: avatar.third_edge,
    }


def _with_specular_columns(splats: Splats, num_features: int) -> Splats:
    """Features that a file lacks are zero."""
    if splats.specular_features is not None:
        return splats
    return replace(splats, specular_features=torch.zeros(len(splats), num_features))


def _with_all_fields(track: HeadPose) -> HeadPose:
    """Fields that are not set mean zero; official files spell the zeros out."""
    if track.static_offset is not None:
        return track
    return track.replace(static_offset=torch.zeros(1, _NUM_VERTICES, 3))
