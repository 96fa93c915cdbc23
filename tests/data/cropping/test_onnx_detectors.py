"""Detectors made of networks: what goes in, and what is made of what comes out."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from vultus.data.cropping.detectors import Photograph
from vultus.data.cropping.onnx_detectors import (
    head_boxes,
    head_poses,
    open_network,
    person_mattes,
)


def photo(height: int, width: int) -> Photograph:
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    return Photograph("x.png", torch.stack([rows / height, columns / width, 0 * rows]).float())


def test_boxes_return_to_the_photograph() -> None:
    seen = {}

    def network(pixels: np.ndarray) -> list[np.ndarray]:
        seen["pixels"] = pixels
        boxes = np.array([[0.25, 0.25, 0.5, 0.75], [0.26, 0.25, 0.5, 0.75], [0, 0, 1, 1]])
        confidences = np.array([[0.9], [0.95], [0.3]])
        return [confidences[None].astype(np.float32), boxes[None, :, None].astype(np.float32)]

    # 1200 x 800 is shrunk by 0.6 to 480 rows and 320 columns; the rest is black.
    found = head_boxes(network)(photo(800, 1200))
    pixels = seen["pixels"]
    assert pixels.shape == (1, 3, 480, 640)
    assert pixels.dtype == np.float32
    assert np.abs(pixels[0, 1, 200, ::64] - np.arange(0, 640, 64) / 640).max() < 0.01
    assert found is not None
    # The surer of the two that overlap, in pixels: 640 columns are 1200.
    expected = [0.26 * 1200, 0.25 * 480 / 427 * 800, 0.5 * 1200, 0.75 * 480 / 427 * 800]
    assert found.tolist() == pytest.approx(expected, rel=1e-3)
    assert head_boxes(network, least_confidence=0.99)(photo(800, 1200)) is None
    tall = head_boxes(network)(photo(800, 400))
    assert tall is not None
    assert float(pixels[0].max()) <= 1.0
    assert tall[3] == pytest.approx(0.75 * 800, rel=1e-3)


def test_the_largest_sure_head_wins() -> None:
    def network(_: np.ndarray) -> list[np.ndarray]:
        boxes = np.array([[0.0, 0.0, 0.1, 0.1], [0.5, 0.5, 0.9, 0.9]], np.float32)
        return [boxes, np.array([0.99, 0.7], np.float32)[:, None]]

    found = head_boxes(network)(photo(480, 640))
    assert found is not None
    assert found.tolist() == pytest.approx([320, 240, 576, 432])


def test_angles_are_reordered_to_radians() -> None:
    seen = {}

    def network(pixels: np.ndarray) -> list[np.ndarray]:
        seen["pixels"] = pixels
        return [np.array([[90.0]]), np.array([[10.0]]), np.array([[-20.0]])]

    roll, yaw, pitch = head_poses(network)(photo(50, 60)) or (0, 0, 0)
    assert (yaw, roll, pitch) == pytest.approx([math.radians(a) for a in (90, 10, -20)])
    assert seen["pixels"].shape == (1, 3, 224, 224)
    # Blue is 0 everywhere: minus ImageNet's mean over its deviation.
    assert seen["pixels"][0, 2].mean() == pytest.approx(-0.406 / 0.225, rel=1e-4)
    with pytest.raises(ValueError, match="must give three angles"):
        head_poses(lambda _: [np.zeros(2)])(photo(50, 60))


@pytest.mark.parametrize("classes", [1, 21])
def test_mattes_have_the_size_of_the_photograph(classes: int) -> None:
    def network(_: np.ndarray) -> list[np.ndarray]:
        scores = np.zeros((1, classes, 512, 512), np.float32)
        scores[:, classes * 15 // 21, :, 256:] = 1.0
        return [scores]

    matte = person_mattes(network)(photo(60, 100))
    assert matte is not None
    assert matte.shape == (1, 60, 100)
    assert float(matte[..., :49].max()) < 0.01
    assert float(matte[..., 51:].min()) > 0.99
    with pytest.raises(ValueError, match=r"must give \[1 c h w\]"):
        person_mattes(lambda _: [np.zeros((512, 512))])(photo(6, 6))


def test_missing_models_and_runtimes_are_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no ONNX model here"):
        open_network(tmp_path / "x.onnx")
    with pytest.raises(ValueError, match="must give boxes and confidences"):
        head_boxes(lambda _: [np.zeros((3, 4))])(photo(6, 6))
    (tmp_path / "x.onnx").write_bytes(b"")
    try:
        import onnxruntime  # noqa: F401 - whether it is there
    except ModuleNotFoundError:
        with pytest.raises(ModuleNotFoundError, match=r"pip install 'vultus\[onnx\]'"):
            open_network(tmp_path / "x.onnx")
