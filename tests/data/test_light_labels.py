"""Light labels of image sets come in axes of the head."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tiny_image_sets import write_image_set
from vultus.data.camera_labels import labels_to_camera, look_at_labels, mirror_labels
from vultus.data.image_set import ImageSet, open_image_set
from vultus.data.light_labels import (
    RGB_LIGHT_FILE,
    camera_to_head_lights,
    head_to_camera_lights,
    mirror_lights,
    read_head_lights,
)
from vultus.data.studio.collection.lights import camera_light_sh
from vultus.methods.gsheadrelight.lights import light_to_labels, world_to_head_light

COUNT = 5


@pytest.fixture
def image_set(tmp_path: Path) -> ImageSet:
    yaw = torch.linspace(-2.0, 1.0, COUNT)
    labels = look_at_labels(yaw, 0.2 * yaw.sin(), target=torch.zeros(3), radius=2.7, focal=4.0)
    write_image_set(tmp_path, labels)
    return open_image_set(tmp_path)


def worlds(channels: int) -> Tensor:
    return torch.randn(COUNT, 9, channels, generator=torch.Generator().manual_seed(0))


def add_lights(image_set: ImageSet, lights: Tensor, name: str, **facts: Any) -> None:
    """Write a table in another order than that of the images."""
    path = image_set.path / name
    content = json.loads(path.read_text()) if path.exists() else {"labels": []}
    rows = [[n, row] for n, row in zip(image_set.names, lights.tolist(), strict=True)]
    path.write_text(json.dumps({**content, "sh": rows[::-1], **facts}))


@pytest.mark.parametrize(("channels", "name"), [(1, "dataset.json"), (3, RGB_LIGHT_FILE)])
def test_lights_of_a_collection_are_those_of_its_surroundings(
    image_set: ImageSet, channels: int, name: str
) -> None:
    light = worlds(3)
    cameras = labels_to_camera(image_set.labels, 1).camera_to_world
    seen = [camera_light_sh(row, camera) for row, camera in zip(light, cameras, strict=True)]
    add_lights(
        image_set, light_to_labels(torch.stack(seen)[..., :channels]), name, sh_frame="camera"
    )
    read = read_head_lights(image_set, channels)  # pyright: ignore[reportArgumentType]
    expected = world_to_head_light(light)[..., :channels]
    assert torch.allclose(read, light_to_labels(expected), atol=1e-5)


def test_lights_in_axes_of_the_head_are_taken_as_they_are(image_set: ImageSet) -> None:
    labels = light_to_labels(worlds(1))
    add_lights(image_set, labels, "dataset.json", sh_frame="head")
    assert torch.allclose(read_head_lights(image_set), labels)


def test_what_is_missing_or_wrong_is_named(image_set: ImageSet) -> None:
    with pytest.raises(FileNotFoundError, match=rf"{RGB_LIGHT_FILE} is missing"):
        read_head_lights(image_set, 3)
    with pytest.raises(ValueError, match=r'dataset\.json must hold {"sh"'):
        read_head_lights(image_set)
    labels = light_to_labels(worlds(1))
    add_lights(image_set, labels, "dataset.json", sh_frame="left")
    with pytest.raises(ValueError, match="sh_frame must be one of camera, head, got 'left'"):
        read_head_lights(image_set)
    add_lights(image_set, labels[:, :8], "dataset.json", sh_frame="head")
    with pytest.raises(ValueError, match="must have 9 numbers, got 8"):
        read_head_lights(image_set)
    add_lights(image_set, labels * torch.nan, "dataset.json", sh_frame="head")
    with pytest.raises(ValueError, match="must have finite lights"):
        read_head_lights(image_set)
    path = image_set.path / "dataset.json"
    content = json.loads(path.read_text())
    path.write_text(json.dumps({**content, "sh": content["sh"][1:]}))
    with pytest.raises(ValueError, match=f"has no light for the image {image_set.names[-1]}"):
        read_head_lights(image_set)


def test_lights_turn_to_the_camera_and_back() -> None:
    yaw = torch.linspace(-2.0, 1.0, COUNT)
    labels = look_at_labels(yaw, 0.2 * yaw.sin(), target=torch.zeros(3), radius=2.7, focal=4.0)
    lights = light_to_labels(worlds(3))
    seen = head_to_camera_lights(lights, labels)
    assert torch.allclose(camera_to_head_lights(seen, labels), lights, atol=1e-5)
    assert not torch.allclose(seen, lights, atol=0.1)


def test_flipped_images_have_flipped_lights_in_both_frames() -> None:
    yaw = torch.linspace(-2.0, 1.0, COUNT)
    labels = look_at_labels(yaw, 0.2 * yaw.sin(), target=torch.zeros(3), radius=2.7, focal=4.0)
    lights = light_to_labels(worlds(1))
    turned_then_flipped = mirror_lights(camera_to_head_lights(lights, labels))
    flipped_then_turned = camera_to_head_lights(mirror_lights(lights), mirror_labels(labels))
    assert torch.allclose(turned_then_flipped, flipped_then_turned, atol=1e-5)
