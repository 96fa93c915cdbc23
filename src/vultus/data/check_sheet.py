"""One picture of a capture for the eye: mesh over images, mask edges, labels, cameras, counts."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Float
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from vultus.core.image_io import to_bytes, write_image
from vultus.core.srgb import linear_to_srgb
from vultus.data.check import CheckReport, front_vertices, sample_records
from vultus.data.frames import load_colors, load_frame
from vultus.data.relighting import KnownLight, RelightTruth
from vultus.data.semantics import SEMANTIC_GROUPS, SemanticGroup
from vultus.data.sequence import FrameRecord, HeadSequence
from vultus.geometry.cameras import Camera, camera_centers
from vultus.heads.base import HeadModel

__all__ = ["draw_check_sheet"]

_TILE, _COLUMNS, _NUM_FRAMES = 320, 4, 9
_PAPER, _INK, _FADED = (250, 250, 248), (30, 30, 34), (150, 150, 155)
_MESH, _MASK = (0, 200, 255), (255, 60, 40)
_SPLIT_COLORS = {"train": (40, 110, 200), "val": (220, 120, 20), "test": (120, 60, 170)}
_GROUP_COLORS: dict[SemanticGroup, tuple[int, int, int]] = {
    "skin": (235, 180, 150),
    "lips": (200, 40, 60),
    "mouth": (255, 240, 60),
    "eyes": (60, 160, 255),
    "brows": (120, 60, 170),
    "hair": (70, 130, 60),
    "cloth": (60, 70, 140),
    "background": (215, 215, 215),
}
_LINE_LENGTH = 32
_MAP_HEIGHT = 48
_MAX_WIRES = 6000
"""Meshes with more faces are drawn as vertices; lines would cover the picture."""


def draw_check_sheet(report: CheckReport, path: Path) -> None:
    """Draw and write the sheet (PNG).

    Args:
        report: Of a capture that could be read.
        path: Where to write.

    Raises:
        ValueError: If the capture could not be read.
    """
    sequence = report.sequence
    if sequence is None:
        raise ValueError(f"{report.root}: no sheet without a readable capture")
    tiles = [_frame_tile(sequence, record) for record in sample_records(sequence, _NUM_FRAMES)]
    tiles += [_plot_tile(sequence, (0, 2), "from above"), _plot_tile(sequence, (2, 1), "from +x")]
    tiles += [_text_tile(report.facts, report.errors, report.warnings)]
    labelled = [r for r in sample_records(sequence, _COLUMNS) if r.parsing_path is not None]
    tiles += [_semantics_tile(sequence, record) for record in labelled]
    tiles += _light_tiles(sequence, report.truth)
    rows = -(-len(tiles) // _COLUMNS)
    sheet = Image.new("RGB", (_COLUMNS * _TILE, rows * _TILE), _PAPER)
    for i, tile in enumerate(tiles):
        sheet.paste(tile, (i % _COLUMNS * _TILE, i // _COLUMNS * _TILE))
    write_image(path, torch.from_numpy(np.array(sheet)).permute(2, 0, 1))


def _frame_tile(sequence: HeadSequence, record: FrameRecord) -> Image.Image:
    """An image with the mesh in its left half only, so that the right half shows what it covers."""
    frame = load_frame(sequence, record)
    height, width = frame.rgb.shape[2:]
    scale = _TILE / max(width, height)
    image = Image.fromarray(to_bytes(frame.rgb[0]).permute(1, 2, 0).numpy())
    image = image.resize((round(width * scale), round(height * scale)), Image.Resampling.BICUBIC)
    draw = ImageDraw.Draw(image)
    with torch.no_grad():
        vertices = sequence.head.vertices(sequence.pose[record.timestep])[0]
    faces = sequence.head.topology.faces
    pixels, is_visible = front_vertices(vertices, faces, record)
    is_visible &= (pixels[:, 0] < 0.5 * width) & _outer_vertices(sequence.head)
    if len(faces) <= _MAX_WIRES:
        for corners in (pixels[faces[is_visible[faces].all(dim=1)]] * scale).tolist():
            draw.polygon([tuple(corner) for corner in corners], outline=_MESH)
    else:
        draw.point([tuple(p) for p in (pixels[is_visible] * scale).tolist()], fill=_MESH)
    if frame.mask is not None:
        edge = _edge(frame.mask[0, 0] > 0.5).nonzero().flip(1)
        draw.point([tuple(p) for p in ((edge + 0.5) * scale).tolist()], fill=_MASK)
    label = f"t {record.timestep}  camera {record.camera_index}"
    draw.text((6, 4), label, fill=_INK, font=ImageFont.load_default(12))
    tile = Image.new("RGB", (_TILE, _TILE), _PAPER)
    tile.paste(image, ((_TILE - image.width) // 2, (_TILE - image.height) // 2))
    return tile


def _semantics_tile(sequence: HeadSequence, record: FrameRecord) -> Image.Image:
    """An image under the colours of its label map, with their names."""
    frame = load_frame(sequence, record)
    assert frame.semantics is not None
    palette = torch.tensor([_GROUP_COLORS[group] for group in SEMANTIC_GROUPS])
    colors = palette[frame.semantics[0, 0].long()].permute(2, 0, 1)
    blended = to_bytes(0.5 * frame.rgb[0] + 0.5 * colors / 255.0)
    height, width = blended.shape[1:]
    scale = _TILE / max(width, height)
    image = Image.fromarray(blended.permute(1, 2, 0).numpy())
    image = image.resize((round(width * scale), round(height * scale)), Image.Resampling.NEAREST)
    tile = Image.new("RGB", (_TILE, _TILE), _PAPER)
    tile.paste(image, ((_TILE - image.width) // 2, (_TILE - image.height) // 2))
    draw, font = ImageDraw.Draw(tile), ImageFont.load_default(12)
    draw.text((6, 4), f"t {record.timestep}  camera {record.camera_index}", _INK, font)
    for i, (group, color) in enumerate(list(_GROUP_COLORS.items())[:-1]):
        draw.rectangle((6, 24 + 15 * i, 16, 34 + 15 * i), fill=color, outline=_INK)
        draw.text((21, 22 + 15 * i), group, _INK, font)
    return tile


def _light_tiles(sequence: HeadSequence, truth: RelightTruth | None) -> list[Image.Image]:
    """One frame under every light, the map of each below it."""
    if truth is None or not truth.test_lights:
        return []
    first, *_ = truth.relit(sequence.frames, next(iter(truth.test_lights)))
    key = first.timestep, first.camera_index
    original = next(r for r in sequence.frames if (r.timestep, r.camera_index) == key)
    tiles = [_light_tile(sequence, original, truth.train_light, "trained on")]
    for name, light in truth.test_lights.items():
        for record in truth.relit([original], name):
            tiles.append(_light_tile(sequence, record, light, name))
    return tiles


def _light_tile(
    sequence: HeadSequence, record: FrameRecord, light: KnownLight | None, label: str
) -> Image.Image:
    tile = Image.new("RGB", (_TILE, _TILE), _PAPER)
    rgb, _ = load_colors(sequence, record)
    side = _TILE - _MAP_HEIGHT
    scale = side / max(rgb.shape[1:])
    size = round(rgb.shape[2] * scale), round(rgb.shape[1] * scale)
    picture = Image.fromarray(to_bytes(rgb).permute(1, 2, 0).numpy()).resize(size)
    tile.paste(picture, ((_TILE - size[0]) // 2, 0))
    if light is not None:
        encoded = to_bytes(linear_to_srgb(light.load().radiance.clamp(0, 1)))
        shown = Image.fromarray(encoded.permute(1, 2, 0).numpy())
        shown = shown.resize((2 * _MAP_HEIGHT, _MAP_HEIGHT), Image.Resampling.BOX)
        tile.paste(shown, (_TILE // 2 - _MAP_HEIGHT, side))
    ImageDraw.Draw(tile).text((6, 4), label, _INK, ImageFont.load_default(12))
    return tile


def _outer_vertices(head: HeadModel) -> Bool[Tensor, " v"]:
    """All but eyes and teeth, which would be drawn through the skin."""
    regions = head.topology.regions
    return ~(regions["left_eyeball"] | regions["right_eyeball"] | regions["teeth"])


def _edge(inside: Bool[Tensor, "h w"]) -> Bool[Tensor, "h w"]:
    """Pixels of the mask with a neighbour outside it."""
    outside = torch.nn.functional.pad((~inside).float(), (1, 1, 1, 1))[None]
    near = torch.nn.functional.max_pool2d(outside, 3, stride=1)[0] > 0
    return inside & near


def _plot_tile(sequence: HeadSequence, axes: tuple[int, int], title: str) -> Image.Image:
    """Head and camera frusta in two world axes, the second one upwards."""
    tile = Image.new("RGB", (_TILE, _TILE), _PAPER)
    draw = ImageDraw.Draw(tile)
    with torch.no_grad():
        head = sequence.head.vertices(sequence.pose[sequence.frames[0].timestep])[0]
    frusta = {split: _frusta(sequence, split) for split in _SPLIT_COLORS}
    everything = torch.cat([head, *(corners.flatten(0, 1) for corners in frusta.values())])
    flat = everything[:, list(axes)]
    low, high = flat.amin(dim=0), flat.amax(dim=0)
    scale = 0.84 * _TILE / float((high - low).max().clamp_min(1e-6))
    middle = 0.5 * (low + high)

    def place(points: Float[Tensor, "n 3"]) -> list[tuple[float, float]]:
        offset = (points[:, list(axes)] - middle) * scale
        return [(0.5 * _TILE + x, 0.5 * _TILE - y) for x, y in offset.tolist()]

    draw.point(place(head[:: max(len(head) // 4000, 1)]), fill=_FADED)
    for split, color in reversed(_SPLIT_COLORS.items()):
        for corners in frusta[split]:
            eye, *rim = place(corners)
            draw.polygon(rim, outline=color)
            for corner in rim:
                draw.line([eye, corner], fill=color)
    font = ImageFont.load_default(12)
    names = "xyz"
    draw.text((6, 4), f"{title}: {names[axes[0]]} right, {names[axes[1]]} up", _INK, font)
    for i, (split, color) in enumerate(_SPLIT_COLORS.items()):
        draw.text((6 + 50 * i, _TILE - 18), split, color, font)
    return tile


def _frusta(sequence: HeadSequence, split: str) -> Float[Tensor, "n 5 3"]:
    """Centre and rim of each distinct camera of a split, the rim at an eighth of its distance."""
    corners = []
    seen = set()
    for index in sequence.splits.get(split, torch.empty(0)).tolist():  # type: ignore[call-overload]
        camera = sequence.frames[index].camera
        key = tuple(camera.world_to_camera.flatten().tolist())
        if key not in seen:
            seen.add(key)
            corners.append(_frustum(camera))
    return torch.stack(corners) if corners else torch.empty(0, 5, 3)


def _frustum(camera: Camera) -> Float[Tensor, "5 3"]:
    center = camera_centers(camera)[0]
    x = torch.tensor([0.0, camera.width, camera.width, 0.0])
    y = torch.tensor([0.0, 0.0, camera.height, camera.height])
    pixels = torch.stack([x, y, torch.ones(4)], dim=1)
    local = pixels @ torch.linalg.inv(camera.intrinsics[0]).T
    depth = 0.125 * float(center.norm().clamp_min(0.1))
    rim = center + depth * local @ camera.camera_to_world[0, :3, :3].T
    return torch.cat([center[None], rim])


def _text_tile(
    facts: Mapping[str, str], errors: tuple[str, ...], warnings: tuple[str, ...]
) -> Image.Image:
    tile = Image.new("RGB", (_TILE, _TILE), _PAPER)
    draw = ImageDraw.Draw(tile)
    font = ImageFont.load_default(12)
    y = 8
    for name, value in facts.items():
        draw.text((8, y), name, _FADED, font)
        for line in textwrap.wrap(value, _LINE_LENGTH) or [""]:
            draw.text((126, y), line, _INK, font)
            y += 15
    verdict = f"{len(errors)} errors, {len(warnings)} warnings"
    draw.text((8, y + 10), verdict, _MASK if errors else _INK, font)
    return tile
