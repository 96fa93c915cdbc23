"""Descriptions of faces: what the network gets, and what it must give."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from tiny_onnx import write_mean_color_model
from vultus.data.cropping.face_descriptions import face_descriptions
from vultus.data.cropping.onnx_detectors import open_network


def test_faces_are_seen_one_by_one_with_signed_colors() -> None:
    seen: list[np.ndarray] = []

    def network(pixels: np.ndarray) -> list[np.ndarray]:
        seen.append(pixels)
        return [pixels.mean(axis=(2, 3)), np.zeros(7)]

    faces = torch.tensor([0.0, 0.25, 1.0])[:, None, None].expand(3, 20, 20)
    found = face_descriptions(network)(torch.stack([faces, faces.flip(0)]))
    assert [pixels.shape for pixels in seen] == [(1, 3, 112, 112)] * 2
    assert seen[0].dtype == np.float32
    assert found.tolist() == [
        pytest.approx([-1.0, -0.5, 1.0], abs=1e-6),
        pytest.approx([1.0, -0.5, -1.0], abs=1e-6),
    ]


@pytest.mark.parametrize(
    ("output", "match"),
    [
        (np.zeros((1, 3, 2)), r"must give \[1 d\], got \(1, 3, 2\)"),
        (np.zeros((2, 3)), r"must give \[1 d\], got \(2, 3\)"),
        (np.full((1, 3), np.nan), "finite"),
    ],
)
def test_other_networks_are_refused(output: np.ndarray, match: str) -> None:
    with pytest.raises(ValueError, match=match):
        face_descriptions(lambda _: [output])(torch.zeros(1, 3, 8, 8))


def test_a_model_of_a_file_describes_faces(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime", reason="needs the extra onnx")
    describe = face_descriptions(open_network(write_mean_color_model(tmp_path / "face.onnx")))
    faces = torch.rand(2, 3, 112, 112, generator=torch.Generator().manual_seed(0))
    expected = 2.0 * faces.mean(dim=(2, 3)) - 1.0
    assert torch.allclose(describe(faces), expected, atol=1e-5)
    (tmp_path / "face.onnx").write_bytes(b"no model")
    with pytest.raises(ValueError, match=r"face\.onnx: .*") as caught:
        open_network(tmp_path / "face.onnx")
    assert "\n" not in str(caught.value)
