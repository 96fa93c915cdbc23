"""From a folder of photographs to an image set: crops, camera labels, masks, and what was refused.

    img/00000/img00000000.png ...  seg/...      with dataset.json, as image sets are
    info.json                                   of each crop: source, quad, angles, scores
    refused.json                                photographs without a crop, and why

Faces with landmarks are cropped by them; other heads by their box and pose, from all sides.
Reference: SphereHead's toolbox (WildHead.DatProc), whose limits are the defaults.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from vultus.core.files import atomic_directory, is_temporary, write_json, write_text
from vultus.core.image_io import read_image, write_image
from vultus.core.progress import Progress
from vultus.core.threads import map_in_threads
from vultus.data.camera_labels import label_angles
from vultus.data.cropping.detectors import Detectors, Photograph
from vultus.data.cropping.poses import (
    angles_to_rotation,
    camera_sphere,
    check_face_pose,
    face_pose,
    flip_disagreement,
    pose_label,
    rotation_to_angles,
    view_of,
)
from vultus.data.cropping.quads import CropQuad, box_quad, landmark_quad, square_box
from vultus.data.cropping.warping import crop_image, crop_mask, laplacian_variance, singular_blur
from vultus.data.image_choice import yaw_repeats
from vultus.data.image_set import IMAGE_FOLDER, LABEL_FILE, MASK_FOLDER
from vultus.geometry.rotations import axis_angle_to_matrix

__all__ = ["Crop", "CropConfig", "CropPlan", "Refusal", "crop_photograph", "plan_crops"]

_SUFFIXES = (".png", ".jpg", ".jpeg")
_FILES_A_FOLDER = 1000
_ROLL_ROUNDS = 3
_POSE_PICTURE = 448
_LANDMARKS_WITH_POSE = 68


@dataclass(frozen=True)
class CropConfig:
    """Limits, and what the crops are like."""

    size: int = 512
    """Side of the crops, a power of two."""
    min_side: int = 512
    """Photographs with a shorter side are refused, in pixels."""
    min_crop_side: float = 256.0
    """Heads that are smaller in their photograph are refused, in pixels."""
    max_singular_blur: float = 1.0
    """Share of the ten largest singular values; 0.6 refuses blurred crops, 1 none."""
    min_laplacian: float = 0.0
    """Variance of the Laplacian; 100 refuses blurred crops, 0 none."""
    max_flip_disagreement: float = 10.0
    """Largest difference between the pose of a crop and of the flipped crop, in degrees; only where
    a network finds poses."""
    remove_roll: bool = True
    """Turn heads upright that are cropped by their box."""
    yaw_group: float = 5.0
    """Width of a group of views for ``dup_num`` in info.json, in degrees."""
    least_per_group: int = 1500
    """``dup_num`` says how often images must be repeated until a group has as many."""

    def __post_init__(self) -> None:
        """Reject contradictions."""
        if self.size < 16 or self.size.bit_count() != 1:
            raise ValueError(f"size must be a power of two from 16 on, got {self.size}")
        if not 0 < self.yaw_group <= 360 or self.least_per_group < 1:
            raise ValueError(
                "yaw_group must be in (0, 360] and least_per_group positive, got "
                f"{self.yaw_group} and {self.least_per_group}"
            )


class Refusal(Exception):
    """Why a photograph has no crop; not an error of the caller."""


@dataclass(frozen=True)
class Crop:
    """A crop and all that is known about it."""

    image: Float[Tensor, "3 s s"]
    mask: Float[Tensor, "1 s s"] | None
    label: Float[Tensor, " 25"]
    facts: dict[str, Any]


@dataclass(frozen=True)
class CropPlan:
    """Photographs and detectors that were found."""

    source: Path
    out: Path
    names: tuple[str, ...]
    detectors: Detectors
    config: CropConfig

    def write(self) -> tuple[int, int]:
        """Crop all photographs, then publish the set.

        Returns:
            Numbers of crops and of refused photographs.

        Raises:
            ValueError: If a photograph or what files say of it is damaged, or none has a crop.
        """
        refused: dict[str, str] = {}
        facts: list[dict[str, Any]] = []
        labels: list[Tensor] = []
        with atomic_directory(self.out) as folder, Progress("cropping", len(self.names)) as bar:
            for name, result in map_in_threads(self._crop, self.names):
                if isinstance(result, str):
                    refused[name] = result
                else:
                    stem = f"{len(labels) // _FILES_A_FOLDER:05d}/img{len(labels):08d}.png"
                    self._write_crop(folder, stem, result)
                    labels.append(result.label)
                    facts.append({"name": stem, "source": name, **result.facts})
                bar.advance()
            if not labels:
                reason = next(iter(refused.values()))
                raise ValueError(f"{self.source}: no photograph has a crop; the first: {reason}")
            self._write_tables(folder, torch.stack(labels), facts, refused)
        return len(labels), len(refused)

    def _crop(self, name: str) -> tuple[str, Crop | str]:
        photo = Photograph(name, read_image(self.source / name))
        try:
            return name, crop_photograph(photo, self.detectors, self.config)
        except Refusal as reason:
            return name, str(reason)

    def _write_crop(self, folder: Path, name: str, crop: Crop) -> None:
        for kind, pixels in ((IMAGE_FOLDER, crop.image), (MASK_FOLDER, crop.mask)):
            if pixels is not None:
                path = folder / kind / name
                path.parent.mkdir(parents=True, exist_ok=True)
                write_image(path, pixels)

    def _write_tables(
        self,
        folder: Path,
        labels: Float[Tensor, "n 25"],
        facts: list[dict[str, Any]],
        refused: dict[str, str],
    ) -> None:
        yaw = torch.rad2deg(label_angles(labels)[:, 0])
        repeats = yaw_repeats(yaw, self.config.yaw_group, self.config.least_per_group).tolist()
        crops = [{**fact, "dup_num": count} for fact, count in zip(facts, repeats, strict=True)]
        names = (fact["name"] for fact in facts)
        rows = [[name, row] for name, row in zip(names, labels.tolist(), strict=True)]
        for kind in (IMAGE_FOLDER, MASK_FOLDER):
            if (folder / kind).is_dir():
                write_text(folder / kind / LABEL_FILE, json.dumps({"labels": rows}))
        write_json(folder / "info.json", crops)
        write_json(folder / "refused.json", refused)


def plan_crops(
    source: Path, out: Path, detectors: Detectors, config: CropConfig | None = None
) -> CropPlan:
    """Find photographs; nothing is written.

    Raises:
        FileNotFoundError: If there is no such folder.
        ValueError: If it has no photographs, ``out`` exists, or too little would be known.
    """
    if not source.is_dir():
        raise FileNotFoundError(f"{source} is no folder")
    if out.exists():
        raise ValueError(f"{out} exists; give a new folder")
    if detectors.landmarks is None and (detectors.box is None or detectors.pose is None):
        raise ValueError("crops need landmarks, or boxes and poses; got neither")
    files = (file for file in source.rglob("*") if file.suffix.lower() in _SUFFIXES)
    names = sorted(file.relative_to(source).as_posix() for file in files if not is_temporary(file))
    if not names:
        raise ValueError(f"{source}: holds no PNG or JPEG image")
    return CropPlan(source, out, tuple(names), detectors, config or CropConfig())


def crop_photograph(photo: Photograph, detectors: Detectors, config: CropConfig) -> Crop:
    """Crop a photograph's most prominent head.

    Raises:
        Refusal: If there is none that fits, or a limit is broken; says which.
    """
    height, width = photo.rgb.shape[1:]
    if min(height, width) < config.min_side:
        raise Refusal(f"the photograph is {width} x {height}, shorter than {config.min_side}")
    landmarks = None if detectors.landmarks is None else detectors.landmarks(photo)
    if landmarks is not None:
        quad, rotation, branch = *_by_landmarks(photo, landmarks, detectors), "front"
    else:
        quad, rotation, branch = *_by_box(photo, detectors, config), "box"
    if quad.side < config.min_crop_side:
        raise Refusal(f"the head is {quad.side:.0f} pixels, less than {config.min_crop_side:.0f}")
    image, valid = crop_image(photo.rgb, quad, config.size)
    if branch == "box" or landmarks is None or len(landmarks) != _LANDMARKS_WITH_POSE:
        _check_flipped(photo, image, detectors, config)
    blur, edges = singular_blur(image), laplacian_variance(image)
    if blur > config.max_singular_blur or edges < config.min_laplacian:
        raise Refusal(f"the crop is blurred: singular values {blur:.2f}, Laplacian {edges:.0f}")
    mask = _matte(photo, quad, detectors, config)
    label = pose_label(rotation)
    roll, yaw, pitch = (math.degrees(angle) for angle in rotation_to_angles(rotation))
    facts = {
        "branch": branch,
        "quad": quad.corners.tolist(),
        "hpose": [yaw, roll, pitch],
        "camera_scoord": list(camera_sphere(label)),
        "view": view_of(label),
        "valid_area_ratio": float(valid.mean()),
        "svd_score": blur,
        "laplacian_score": edges,
        "msk_ratio": None if mask is None else float(mask.mean()),
    }
    return Crop(image, mask, label, facts)


def _by_landmarks(
    photo: Photograph, landmarks: Float[Tensor, "n 2"], detectors: Detectors
) -> tuple[CropQuad, Float[Tensor, "3 3"]]:
    quad = landmark_quad(landmarks)
    if len(landmarks) != _LANDMARKS_WITH_POSE:
        if detectors.pose is None:
            raise Refusal(f"a face with {len(landmarks)} landmarks needs a pose, and has none")
        return quad.expanded(), _pose_in(photo, quad.expanded(), detectors)
    pose = face_pose(landmarks, quad)
    fault = check_face_pose(pose)
    if fault is not None:
        raise Refusal(fault)
    return quad.moved(*pose.shift, pose.scale).expanded(), pose.rotation


def _by_box(
    photo: Photograph, detectors: Detectors, config: CropConfig
) -> tuple[CropQuad, Float[Tensor, "3 3"]]:
    if detectors.box is None or detectors.pose is None:
        raise Refusal("no face was found, and there is no detector of heads and poses")
    box = detectors.box(photo)
    if box is None:
        raise Refusal("neither a face nor a head was found")
    square = square_box(box, photo.rgb.shape[2], photo.rgb.shape[1])
    quad, middle = box_quad(square), 0.5 * (square[:2] + square[2:])
    half = 0.5 * (square[2] - square[0])
    head = CropQuad(middle, torch.stack([half, torch.zeros_like(half)]))
    rotation = _pose_in(photo, head, detectors)
    if not config.remove_roll:
        return quad, rotation
    for _ in range(_ROLL_ROUNDS if detectors.sees_pixels else 1):
        tilt = math.atan2(float(rotation[0, 1]), float(rotation[1, 1]))
        quad, head = quad.turned(tilt, middle), head.turned(tilt, middle)
        if detectors.sees_pixels:
            rotation = _pose_in(photo, head, detectors)
        else:
            upright = axis_angle_to_matrix(rotation.new_tensor([0.0, 0.0, tilt]))
            rotation = upright @ rotation
    return quad, rotation


def _pose_in(photo: Photograph, head: CropQuad, detectors: Detectors) -> Float[Tensor, "3 3"]:
    assert detectors.pose is not None
    seen = photo
    if detectors.sees_pixels:
        seen = Photograph(photo.name, crop_image(photo.rgb, head, _POSE_PICTURE)[0])
    angles = detectors.pose(seen)
    if angles is None:
        raise Refusal("the pose of the head is not known")
    return angles_to_rotation(*angles)


def _check_flipped(
    photo: Photograph, image: Float[Tensor, "3 s s"], detectors: Detectors, config: CropConfig
) -> None:
    """Refuse heads whose pose a network does not find again in the flipped crop."""
    if detectors.pose is None or not detectors.sees_pixels:
        return
    plain = detectors.pose(Photograph(photo.name, image))
    flipped = detectors.pose(Photograph(photo.name, image.flip(2)))
    if plain is None or flipped is None:
        raise Refusal("the pose of the crop is not known")
    difference = math.degrees(flip_disagreement(plain, flipped))
    if difference >= config.max_flip_disagreement:
        raise Refusal(f"the pose of the flipped crop differs by {difference:.1f} degrees")


def _matte(
    photo: Photograph, quad: CropQuad, detectors: Detectors, config: CropConfig
) -> Float[Tensor, "1 s s"] | None:
    if detectors.matte is None:
        return None
    matte = detectors.matte(photo)
    if matte is None:
        raise Refusal("there is no matte")
    return crop_mask(matte, quad, config.size)
