"""Decoding of single frames: colours over the chosen background, mask, normals, depth, labels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor
from torch.nn import functional as F

from vultus.core.image_io import read_image, read_image_bytes, read_mask, read_rgba, to_bytes
from vultus.core.npz_io import read_npz_array
from vultus.core.srgb import linear_to_srgb
from vultus.data.neck_cut import is_above_cut
from vultus.data.semantics import (
    SEMANTIC_GROUPS,
    read_parsing,
    resize_label_map,
    semantic_groups,
)
from vultus.data.sequence import Frame, FrameRecord, HeadSequence
from vultus.geometry.cameras import opengl_to_opencv, ray_distance_to_depth

__all__ = [
    "check_size",
    "composite_truncated",
    "load_colors",
    "load_depth",
    "load_face_mask",
    "load_frame",
    "load_normals",
    "load_parsing",
    "resize_to_camera",
]

_NORMAL_LENGTH_ERROR = 0.5
"""Decoded normals are unknown where their length is off by more: grey (0) and black (1.7)
backgrounds. Quantisation and JPEG noise on real normals stay well below."""

_LARGEST_BYTE = 255.0


def load_frame(sequence: HeadSequence, record: FrameRecord) -> Frame:
    """Read one image with its mask; normals, depth and semantics where the sequence has them.

    Raises:
        FileNotFoundError: If a file is missing.
        ValueError: If a file cannot be decoded or its size is not the camera's.
    """
    rgb, mask = load_colors(sequence, record)
    return Frame(
        record,
        rgb[None],
        None if mask is None else mask[None],
        load_normals(sequence, record),
        load_depth(sequence, record),
        load_face_mask(record),
        _load_semantics(sequence, record, mask),
    )


def load_colors(
    sequence: HeadSequence, record: FrameRecord
) -> tuple[Float[Tensor, "3 h w"], Float[Tensor, "1 h w"] | None]:
    """Read the picture over the sequence's background, and the mask.

    A picture with an alpha channel is composited by it, and the channel is the mask if there is no
    mask file. Otherwise see ``HeadSequence.image_background``. Below the sequence's
    ``cut_height`` background and an empty mask are returned.
    """
    rgba = read_rgba(record.image_path)
    check_size(record.image_path, rgba, record)
    rgb, alpha = rgba[:3], rgba[3:]
    if sequence.has_linear_colors:
        rgb = linear_to_srgb(rgb)
    has_alpha = bool((alpha < 1).any())
    mask = alpha if has_alpha else None
    if record.mask_path is not None:
        mask = _read_mask(record.mask_path, record.mask_color)
        check_size(record.mask_path, mask, record)
    target = rgb.new_tensor(sequence.background)[:, None, None]
    if has_alpha:
        rgb = rgb * alpha + target * (1 - alpha)
    elif sequence.image_background != sequence.background:
        rgb = _exchange_background(sequence, record, rgb, mask, target)
    if sequence.cut_height is not None:
        rgb, mask = _cut_off(sequence, record, sequence.cut_height, rgb, mask)
    rgb = resize_to_camera(rgb.clamp(0, 1), record)
    return rgb, None if mask is None else resize_to_camera(mask, record)


def composite_truncated(
    rgb: UInt8[Tensor, "3 h w"],
    mask: UInt8[Tensor, "1 h w"],
    background: tuple[float, float, float],
) -> UInt8[Tensor, "3 h w"]:
    """Composite bytes in float64 and round down, as the published GaussianHead reads its images.

    The order of operations is part of the result: white over white may come out as 254.
    """
    share = mask.double() / _LARGEST_BYTE
    target = _LARGEST_BYTE * torch.tensor(background, dtype=torch.float64)[:, None, None]
    return (rgb.double() * share + target * (1 - share)).to(torch.uint8)


def load_face_mask(record: FrameRecord) -> Float[Tensor, "1 1 h w"] | None:
    """Read where a face parser sees the face."""
    if record.face_mask_path is None:
        return None
    mask = read_mask(record.face_mask_path)
    check_size(record.face_mask_path, mask, record)
    return resize_to_camera(mask, record)[None]


def load_parsing(record: FrameRecord) -> UInt8[Tensor, "h w"] | None:
    """Read the label map in ``semantics.PARSING_CLASSES`` at the camera's size.

    Raises:
        FileNotFoundError: If the file is missing.
        ValueError: If it is no label map, or not of the image's aspect ratio.
    """
    if record.parsing_path is None:
        return None
    parsing = read_parsing(record.parsing_path)
    camera = record.camera
    width, height = record.file_size or (camera.width, camera.height)
    if parsing.shape[0] * width != parsing.shape[1] * height:
        raise ValueError(
            f"{record.parsing_path}: must have the aspect ratio of {width} x {height}, "
            f"got {parsing.shape[1]} x {parsing.shape[0]}"
        )
    return resize_label_map(parsing, camera.height, camera.width)


def load_normals(sequence: HeadSequence, record: FrameRecord) -> Float[Tensor, "1 3 h w"] | None:
    """Read unit normals in world axes; zero where unknown."""
    if record.normal_path is None:
        return None
    encoded = read_image(record.normal_path)
    check_size(record.normal_path, encoded, record)
    normals = 2 * encoded - 1
    length = normals.norm(dim=0, keepdim=True)
    known = (length - 1).abs() < _NORMAL_LENGTH_ERROR
    normals = torch.where(known, normals, 0.0)
    if record.file_size is not None:
        normals = resize_to_camera(normals, record)
        length = normals.norm(dim=0, keepdim=True)
        known = length > _NORMAL_LENGTH_ERROR
    normals = torch.where(known, F.normalize(normals, dim=0), 0.0)
    if sequence.normal_space == "camera_opengl":
        rotation = opengl_to_opencv(record.camera.camera_to_world)[0, :3, :3]
        normals = torch.einsum("ij,jhw->ihw", rotation, normals)
    return normals[None]


def load_depth(sequence: HeadSequence, record: FrameRecord) -> Float[Tensor, "1 1 h w"] | None:
    """Read camera z in metres; zero where unknown."""
    if record.depth_path is None:
        return None
    values = read_npz_array(record.depth_path, "depth")
    if values.dtype.kind not in "fiu":
        raise ValueError(f"{record.depth_path}: depth must be numbers, got {values.dtype}")
    depth = torch.from_numpy(values.astype(np.float32))
    if record.depth_index is not None:
        if depth.ndim != 3 or depth.shape[0] <= record.depth_index:
            raise ValueError(
                f"{record.depth_path}: depth must have shape (n, h, w) with n > "
                f"{record.depth_index}, got {tuple(depth.shape)}"
            )
        depth = depth[record.depth_index]
    if depth.ndim != 2:
        raise ValueError(f"{record.depth_path}: depth must be [h w], got {tuple(depth.shape)}")
    check_size(record.depth_path, depth[None], record)
    depth = depth[None, None]
    if sequence.depth_kind == "ray":
        width, height = record.file_size or (record.camera.width, record.camera.height)
        depth = ray_distance_to_depth(depth, record.camera.resized(width, height))
    if record.file_size is None:
        return depth
    # A mean over an edge would invent surfaces between near and far.
    size = (record.camera.height, record.camera.width)
    return F.interpolate(depth, size=size, mode="nearest-exact")


def _load_semantics(
    sequence: HeadSequence, record: FrameRecord, mask: Float[Tensor, "1 h w"] | None
) -> UInt8[Tensor, "1 1 h w"] | None:
    """Groups of the label map; what is cut off at the neck is background."""
    parsing = load_parsing(record)
    if parsing is None:
        return None
    semantics = semantic_groups(parsing)
    if sequence.cut_height is not None and mask is not None:
        semantics[mask[0] == 0] = SEMANTIC_GROUPS.index("background")
    return semantics[None, None]


def _exchange_background(
    sequence: HeadSequence,
    record: FrameRecord,
    rgb: Float[Tensor, "3 h w"],
    mask: Float[Tensor, "1 h w"] | None,
    target: Float[Tensor, "3 1 1"],
) -> Float[Tensor, "3 h w"]:
    """Composite over ``target`` what is over a known colour, or over the real scene."""
    known = sequence.image_background
    if mask is None:
        if known is None:
            return rgb  # A picture without any matte shows its own background.
        raise ValueError(f"{record.image_path}: needs a mask to change its background")
    if known is None and sequence.truncates_colors:
        composited = composite_truncated(to_bytes(rgb), to_bytes(mask), sequence.background)
        return composited.float() / _LARGEST_BYTE
    if known is None:
        return rgb * mask + target * (1 - mask)
    return rgb + (1 - mask) * (target - rgb.new_tensor(known)[:, None, None])


def _cut_off(
    sequence: HeadSequence,
    record: FrameRecord,
    cut_height: float,
    rgb: Float[Tensor, "3 h w"],
    mask: Float[Tensor, "1 h w"] | None,
) -> tuple[Float[Tensor, "3 h w"], Float[Tensor, "1 h w"]]:
    if mask is None:
        raise ValueError(f"{record.image_path}: needs a mask to be cut off at the neck")
    camera = record.camera.resized(rgb.shape[2], rgb.shape[1])
    is_kept = is_above_cut(sequence.head, sequence.pose[record.timestep], camera, cut_height)
    target = rgb.new_tensor(sequence.background)[:, None, None]
    return torch.where(is_kept, rgb, target), torch.where(is_kept, mask, 0.0)


def _read_mask(path: Path, color: tuple[int, int, int] | None) -> Float[Tensor, "1 h w"]:
    if color is None:
        return read_mask(path)
    pixels = read_image_bytes(path)
    is_part = (pixels == pixels.new_tensor(color)[:, None, None]).all(dim=0, keepdim=True)
    return is_part.float()


def check_size(path: Path, image: Float[Tensor, "c h w"], record: FrameRecord) -> None:
    """Raise unless an image has the size that the record's files have.

    Raises:
        ValueError: Naming the file and both sizes.
    """
    width, height = record.file_size or (record.camera.width, record.camera.height)
    if image.shape[1:] != (height, width):
        raise ValueError(
            f"{path}: must have the camera's size {width} x {height}, "
            f"got {image.shape[2]} x {image.shape[1]}"
        )


def resize_to_camera(
    image: Float[Tensor, "c h w"], record: FrameRecord
) -> Float[Tensor, "c h2 w2"]:
    """Average over the pixels that fall into one of the camera's."""
    if record.file_size is None:
        return image
    return F.adaptive_avg_pool2d(image, (record.camera.height, record.camera.width))
