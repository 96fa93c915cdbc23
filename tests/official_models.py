"""Made-up models in the layout of the published SurFhead, and a FLAME file that fits them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from synthetic_flame import synthetic_flame
from vultus.core.bundles import save_bundle
from vultus.core.image_io import write_image
from vultus.gaussians.surfels import Surfels
from vultus.geometry.cameras import look_at, opencv_to_opengl
from vultus.heads.base import HeadPose
from vultus.heads.flame import FLAME_ARRAYS, FLAME_FORMAT, MASK_PREFIX
from vultus.methods.surfhead.official import OfficialAvatar
from vultus.methods.surfhead.specular import SpecularNetwork
from vultus.methods.surfhead.transport import Rig

__all__ = ["official_avatar", "write_flame_capture", "write_flame_file"]

_FRAMES, _VERTICES = 3, 5143


def write_flame_file(path: Path) -> None:
    """A made-up FLAME 2023 as ``convert_flame`` writes it, in metres."""
    data = synthetic_flame(num_identity=300, num_expression=100)
    arrays = {name: getattr(data, name) for name in FLAME_ARRAYS}
    masks = {MASK_PREFIX + name: ids for name, ids in data.masks.items()}
    save_bundle(path, {**arrays, **masks}, {"format": FLAME_FORMAT, "version": "2023"})


def official_avatar(rig: Rig, num_surfels: int = 400) -> OfficialAvatar:
    """Random surfels on the faces of that FLAME, eyeballs and teeth among them."""
    generator = torch.Generator().manual_seed(0)

    def normal(*shape: int, scale: float = 1.0) -> Tensor:
        return scale * torch.randn(*shape, generator=generator)

    # Its faces are triples of consecutive vertices; 80 to 120 are the eyeballs, the last the teeth.
    faces = torch.cat([torch.arange(80, 118), torch.arange(5021 + 100, 5021 + 168)])
    rest = torch.randint(5021, (num_surfels - len(faces),), generator=generator)
    surfels = Surfels(
        local_means=normal(num_surfels, 3, scale=0.3),
        log_scales=normal(num_surfels, 2),
        quats=normal(num_surfels, 4),
        opacity_logits=normal(num_surfels),
        sh_dc=normal(num_surfels, 1, 3),
        sh_rest=normal(num_surfels, 15, 3),
        face_index=torch.cat([faces, rest]),
        blend_weight_logits=normal(num_surfels, 4) if rig == "jbs" else None,
        specular_features=normal(num_surfels, 24),
    )
    track = HeadPose(
        identity_coeffs=normal(1, 300),
        expression_coeffs=normal(_FRAMES, 100),
        global_rotation=normal(_FRAMES, 3, scale=0.3),
        neck_pose=normal(_FRAMES, 3, scale=0.3),
        jaw_pose=normal(_FRAMES, 3, scale=0.3),
        eye_pose=normal(_FRAMES, 6, scale=0.3),
        translation=normal(_FRAMES, 3, scale=0.1),
        static_offset=normal(1, _VERTICES, 3, scale=0.001),
    )
    network = SpecularNetwork("lasg", 24, generator)
    return OfficialAvatar(surfels, track, rig, "unit", 300_000, network)


def write_flame_capture(root: Path, track: HeadPose, size: int = 24) -> None:
    """The capture of a track in VHAP's layout: grey pictures from two cameras, the last moment is
    held out."""
    for folder in ("images", "fg_masks", "flame_param"):
        (root / folder).mkdir(parents=True)
    eyes = torch.tensor([[0.2, 0.1, 3.0], [-0.4, 0.0, 3.0]])
    views = torch.linalg.inv(look_at(eyes, torch.zeros(3)).double())
    names = {
        "shape": "identity_coeffs", "expr": "expression_coeffs", "rotation": "global_rotation",
        "neck_pose": "neck_pose", "jaw_pose": "jaw_pose", "eyes_pose": "eye_pose",
        "translation": "translation", "static_offset": "static_offset",
    }  # fmt: skip
    frames = []
    for timestep in range(len(track)):
        row = {key: getattr(track[timestep], name).numpy() for key, name in names.items()}
        np.savez(root / f"flame_param/{timestep:05d}.npz", **{**row, "shape": row["shape"][0]})
        for camera, view in enumerate(views):
            name = f"{timestep:05d}_{camera:02d}.png"
            write_image(root / "images" / name, torch.full((3, size, size), 0.5))
            write_image(root / "fg_masks" / name, torch.ones(1, size, size))
            frames.append(
                {
                    "timestep_index": timestep, "camera_index": camera, "camera_id": str(camera),
                    "w": size, "h": size, "camera_angle_x": 0.5,
                    "transform_matrix": opencv_to_opengl(view).tolist(),
                    "file_path": f"images/{name}", "fg_mask_path": f"fg_masks/{name}",
                    "flame_param_path": f"flame_param/{timestep:05d}.npz",
                }
            )  # fmt: skip
    (root / "transforms.json").write_text(json.dumps({"frames": frames}))
