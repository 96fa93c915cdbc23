"""Small image sets on disk: noise with masks, seen from all sides."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Sequence
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from vultus.data.camera_labels import look_at_labels


def labels_at(yaws: Sequence[float]) -> Tensor:
    """Cameras around the head; angles in radians."""
    yaw = torch.tensor(yaws)
    height = torch.full_like(yaw, 0.1)
    return look_at_labels(yaw, height, target=torch.zeros(3), radius=2.7, focal=4.2647)


def png(pixels: Tensor) -> bytes:
    """Bytes of a picture with 1, 3 or 4 channels."""
    array = pixels.permute(1, 2, 0).numpy()
    buffer = io.BytesIO()
    Image.fromarray(array[..., 0] if array.shape[2] == 1 else array).save(buffer, "PNG")
    return buffer.getvalue()


def write_files(path: Path, files: dict[str, bytes]) -> Path:
    """Write a folder, or an archive where the path ends in .zip."""
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w") as archive:
            for name, data in files.items():
                archive.writestr(name, data)
        return path
    for name, data in files.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(data)
    return path


def image_files(labels: Tensor, size: int = 16, seed: int = 0) -> tuple[dict, dict]:
    """Files of images with ``dataset.json``, and of masks."""
    generator = torch.Generator().manual_seed(seed)
    images: dict[str, bytes] = {}
    masks: dict[str, bytes] = {}
    entries = []
    for index, label in enumerate(labels):
        name = f"{index // 4:05d}/img{index:08d}.png"
        draw = torch.randint(0, 256, (4, size, size), generator=generator, dtype=torch.uint8)
        images[name], masks[name] = png(draw[:3]), png(draw[3:])
        entries.append([name, label.tolist()])
    images["dataset.json"] = json.dumps({"labels": entries[::-1]}).encode()
    return images, masks


def write_image_set(root: Path, labels: Tensor, size: int = 16, suffix: str = "") -> Path:
    """Write images and masks below a folder, as folders or as archives."""
    root.mkdir(parents=True, exist_ok=True)
    images, masks = image_files(labels, size)
    write_files(root / f"img{suffix}", images)
    write_files(root / f"seg{suffix}", masks)
    return root


def write_lit_set(
    folder: Path, labels: Tensor, size: int = 32, channels: int = 4, seed: int = 1
) -> Path:
    """Write noise with an alpha channel, cameras and lights."""
    files, _ = image_files(labels, size)
    names = sorted(name for name in files if name.endswith(".png"))
    generator = torch.Generator().manual_seed(seed)
    for name in names:
        shape = channels, size, size
        files[name] = png(torch.randint(0, 256, shape, generator=generator, dtype=torch.uint8))
    content = json.loads(files["dataset.json"])
    lights = torch.randn(len(names), 9, generator=generator).tolist()
    content |= {"sh": list(zip(names, lights, strict=True)), "sh_frame": "camera"}
    files["dataset.json"] = json.dumps(content).encode()
    return write_files(folder, files)
