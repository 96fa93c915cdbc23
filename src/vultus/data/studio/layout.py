"""What the studio writes: the folder layout of VHAP and GaussianAvatars plus ground truth.

    rig.json  light.json  light.exr  studio.json
    rig_param/{t}.npz                 per-frame fields of HeadPose (FLAME: flame_param/, and
                                      canonical_flame_param.npz)
    images/ fg_masks/ normals/ albedo/ semantic/ {t}_{camera}.png    depth/{t}_{camera}.npz
    transforms_{train,val,test}.json  transforms.json
    roughness/ specular/ {t}_{camera}.png       with test lights only, like what follows
    envs/{light}.exr                            test lights
    relight/{light}/images/{t}_{camera}.png     pictures of the split test under each of them

Normals are 8-bit, 0.5 + 0.5 n in world axes, grey outside: at most 0.4 degrees off. Albedo is
sRGB-encoded, black outside. Depth is camera z in metres (``depth`` [h w], 0 outside). Label maps
have the classes of face parsers (``semantics.PARSING_CLASSES``). Roughness and specular are what
the studio shades with (``FrameRecord``), 0 outside.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from vultus.core.files import atomic_path, write_json
from vultus.core.image_io import to_bytes, write_image
from vultus.core.srgb import linear_to_srgb
from vultus.data.rig_files import FLAME_KEYS, RigCard, write_flame_row, write_rig_row
from vultus.data.sequence import Split
from vultus.data.studio.config import StudioConfig
from vultus.data.studio.frames import StudioFrame
from vultus.data.studio.scene import Scene
from vultus.geometry.cameras import Camera, opencv_to_opengl
from vultus.heads.base import HeadPose

__all__ = ["CaptureFolder"]

_FILES = {
    "file_path": "images/{name}.png",
    "fg_mask_path": "fg_masks/{name}.png",
    "normal_path": "normals/{name}.png",
    "depth_path": "depth/{name}.npz",
    "albedo_path": "albedo/{name}.png",
    "parsing_path": "semantic/{name}.png",
}
"""Files of one picture by their key in the manifests."""
_MATERIAL_FILES = {
    "roughness_path": "roughness/{name}.png",
    "specular_path": "specular/{name}.png",
}
_RELIT_FILE = "relight/{light}/images/{name}.png"


_CANONICAL_JAW = 0.3
_UNWRITTEN = ("static_offset",)


class CaptureFolder:
    """Knows where each file of a capture lies; every file is written atomically."""

    format_name = "vultus-studio-1"

    def __init__(self, root: Path, scene: Scene, config: StudioConfig) -> None:
        """Say where; nothing is written yet."""
        self.root = root
        self._scene, self._config = scene, config
        head = scene.subject.head
        self._is_flame = head.name == "flame"
        self._spec = head.parameters_spec
        self._files = {**_FILES, **(_MATERIAL_FILES if config.test_lights else {})}

    def begin(self) -> None:
        """Create the folders and write the rig with its parameters of all moments."""
        folders = {Path(pattern).parent for pattern in self._files.values()}
        folders |= {self._relit_file(light, 0, 0).parent for light in self._scene.test_lights}
        for folder in (*folders, Path(self._rig_file(0)).parent):
            (self.root / folder).mkdir(parents=True, exist_ok=True)
        subject = self._scene.subject
        RigCard.describe(subject.head, subject.identity).save(self.root / "rig.json")
        if self._is_flame:
            self._write_canonical()
        for timestep in range(self._config.frames):
            self._write_rig(timestep, self._scene.pose[timestep])

    def has_frame(self, timestep: int, camera: int, light: str | None = None) -> bool:
        """Whether all files of a picture are there; atomic writes make them complete.

        Args:
            timestep: Moment.
            camera: Camera.
            light: A test light, or the one that all pictures are taken under.
        """
        if light is not None:
            return (self.root / self._relit_file(light, timestep, camera)).is_file()
        files = self._frame_files(timestep, camera).values()
        return all((self.root / file).is_file() for file in files)

    def write_frame(
        self, timestep: int, camera: int, frame: StudioFrame, light: str | None = None
    ) -> None:
        """Write one picture and its ground truth; under a test light the picture alone."""
        if light is not None:
            write_image(self.root / self._relit_file(light, timestep, camera), frame.rgb)
            return
        paths = {k: self.root / v for k, v in self._frame_files(timestep, camera).items()}
        write_image(paths["file_path"], frame.rgb)
        write_image(paths["fg_mask_path"], frame.alpha)
        write_image(paths["normal_path"], 0.5 + 0.5 * frame.normals)
        write_image(paths["albedo_path"], to_bytes(linear_to_srgb(frame.albedo)))
        write_image(paths["parsing_path"], frame.labels[None])
        if self._config.test_lights:
            write_image(paths["roughness_path"], frame.roughness)
            write_image(paths["specular_path"], frame.specular)
        depth = frame.depth[0].numpy().astype(np.float32)
        with atomic_path(paths["depth_path"]) as temporary, temporary.open("wb") as file:
            np.savez_compressed(file, allow_pickle=False, depth=depth)

    def finish(self) -> None:
        """Write the transforms files, one per split and one of everything; the last step."""
        cameras, config = self._scene.cameras, self._config
        first_test = config.frames - config.num_test_frames
        frames: dict[Split, list[dict[str, Any]]] = {"train": [], "val": [], "test": []}
        for timestep in range(config.frames):
            for index in range(len(cameras)):
                is_val = index in config.val_cameras
                split = "test" if timestep >= first_test else "val" if is_val else "train"
                frames[split].append(self._frame_entry(cameras, timestep, index))
        for split, entries in frames.items():
            self._write_manifest(f"transforms_{split}.json", entries, cameras, config)
        everything = [entry for entries in frames.values() for entry in entries]
        everything.sort(key=lambda entry: (entry["timestep_index"], entry["camera_index"]))
        self._write_manifest("transforms.json", everything, cameras, config)

    def _write_rig(self, timestep: int, pose: HeadPose) -> None:
        path = self.root / self._rig_file(timestep)
        if self._is_flame:
            write_flame_row(path, pose)
        else:
            write_rig_row(path, pose, self._spec)

    def _write_canonical(self) -> None:
        """Write the marker that published readers look for beside FLAME captures.

        It is the subject at rest with the mouth a little open, as VHAP writes it.
        """
        sizes = {spec.name: spec.size for spec in self._spec}
        names = (name for name in FLAME_KEYS.values() if name not in _UNWRITTEN)
        rest = {name: torch.zeros(1, sizes[name]) for name in names}
        rest["jaw_pose"][0, 0] = _CANONICAL_JAW
        pose = HeadPose(**rest)
        identity = self._scene.subject.identity
        if identity is not None:
            pose = pose.replace(identity_coeffs=identity)
        write_flame_row(self.root / "canonical_flame_param.npz", pose)

    def _write_manifest(
        self, name: str, entries: list[dict[str, Any]], cameras: Camera, config: StudioConfig
    ) -> None:
        shared = {
            **_intrinsics(cameras, 0),
            "background": list(config.background),
            "timestep_indices": sorted({entry["timestep_index"] for entry in entries}),
            "camera_indices": sorted({entry["camera_index"] for entry in entries}),
        }
        write_json(self.root / name, {**shared, "frames": entries})

    def _frame_entry(self, cameras: Camera, timestep: int, index: int) -> dict[str, Any]:
        matrix = opencv_to_opengl(cameras[index].camera_to_world.double())[0]
        rig_key = "flame_param_path" if self._is_flame else "rig_param_path"
        return {
            "timestep_index": timestep,
            "timestep_index_original": timestep,
            "timestep_id": f"{timestep:05d}",
            "camera_index": index,
            "camera_id": f"{index:02d}",
            **_intrinsics(cameras, index),
            "transform_matrix": matrix.tolist(),
            **self._frame_files(timestep, index),
            rig_key: self._rig_file(timestep),
        }

    def _rig_file(self, timestep: int) -> str:
        folder = "flame_param" if self._is_flame else "rig_param"
        return f"{folder}/{timestep:05d}.npz"

    def _frame_files(self, timestep: int, camera: int) -> Mapping[str, str]:
        name = _name(timestep, camera)
        return {key: pattern.format(name=name) for key, pattern in self._files.items()}

    def _relit_file(self, light: str, timestep: int, camera: int) -> Path:
        return Path(_RELIT_FILE.format(light=light, name=_name(timestep, camera)))


def _name(timestep: int, camera: int) -> str:
    return f"{timestep:05d}_{camera:02d}"


def _intrinsics(cameras: Camera, index: int) -> dict[str, float | int]:
    matrix: torch.Tensor = cameras.intrinsics[index].double()
    focal_x, focal_y = float(matrix[0, 0]), float(matrix[1, 1])
    return {
        "cx": float(matrix[0, 2]),
        "cy": float(matrix[1, 2]),
        "fl_x": focal_x,
        "fl_y": focal_y,
        "h": cameras.height,
        "w": cameras.width,
        "camera_angle_x": 2 * math.atan(0.5 * cameras.width / focal_x),
        "camera_angle_y": 2 * math.atan(0.5 * cameras.height / focal_y),
    }
