"""Films keep their frames, colours, size and rate."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from vultus.core.video_io import read_video_frames, video_info, write_video


def _flat(color: tuple[float, float, float], height: int = 32, width: int = 48) -> Tensor:
    return torch.tensor(color)[:, None, None].expand(3, height, width)


def test_colours_and_order_of_frames_survive(tmp_path: Path) -> None:
    colors = [(0.8, 0.2, 0.2), (0.1, 0.6, 0.3), (0.2, 0.3, 0.9), (0.5, 0.5, 0.5), (1.0, 1.0, 1.0)]
    assert write_video(tmp_path / "a.mp4", [_flat(c) for c in colors], fps=10.0) == len(colors)
    frames = list(read_video_frames(tmp_path / "a.mp4"))
    assert len(frames) == len(colors)
    for frame, color in zip(frames, colors, strict=True):
        # A wrong colour matrix or range is off by 8/255 and more.
        error = (frame.float() / 255 - _flat(color)).abs().max()
        assert float(error) < 5 / 255


def test_size_rate_and_length_are_in_the_header(tmp_path: Path) -> None:
    write_video(tmp_path / "a.mp4", (_flat((0.5, 0.5, 0.5)) for _ in range(12)), fps=24.0)
    info = video_info(tmp_path / "a.mp4")
    assert (info.width, info.height) == (48, 32)
    assert info.fps == pytest.approx(24.0, abs=0.01)
    assert info.duration == pytest.approx(0.5, abs=0.02)


def test_odd_sizes_are_padded_by_repeating_the_border(tmp_path: Path) -> None:
    frame = torch.zeros(3, 33, 47)
    frame[:, -1], frame[:, :, -1] = 1.0, 1.0
    write_video(tmp_path / "a.mp4", [frame], crf=0)
    (read,) = read_video_frames(tmp_path / "a.mp4")
    assert read.shape == (3, 34, 48)
    assert int(read[:, 33].min()) > 230
    assert int(read[:, :, 47].min()) > 230
    assert int(read[:, :32, :46].max()) < 25


def test_bytes_and_floats_give_the_same_film(tmp_path: Path) -> None:
    pixels = torch.randint(0, 256, (3, 32, 32), generator=torch.Generator().manual_seed(0))
    write_video(tmp_path / "a.mp4", [pixels.to(torch.uint8)])
    write_video(tmp_path / "b.mp4", [pixels / 255])
    assert (tmp_path / "a.mp4").read_bytes() == (tmp_path / "b.mp4").read_bytes()


def test_an_error_in_the_source_leaves_no_film(tmp_path: Path) -> None:
    def frames():
        yield _flat((0.0, 0.0, 0.0))
        raise RuntimeError("renderer failed")

    with pytest.raises(RuntimeError, match="renderer failed"):
        write_video(tmp_path / "a.mp4", frames())
    assert list(tmp_path.iterdir()) == []


def test_frames_that_cannot_be_a_film_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    with pytest.raises(ValueError, match=r"a\.mp4: frames must not be empty"):
        write_video(path, [])
    with pytest.raises(ValueError, match=r"frame 1 has shape \(3, 16, 16\), the first \(3, 32"):
        write_video(path, [_flat((0.0, 0.0, 0.0)), torch.zeros(3, 16, 16)])
    with pytest.raises(ValueError, match=r"fps must be positive"):
        write_video(path, [], fps=0.0)
    with pytest.raises(ValueError, match=r"a\.avi: suffix must be \.mp4"):
        write_video(tmp_path / "a.avi", [])
    assert list(tmp_path.iterdir()) == []


def test_files_that_are_no_films_are_refused_in_one_line(tmp_path: Path) -> None:
    write_video(tmp_path / "whole.mp4", [_flat((0.5, 0.5, 0.5))] * 3)
    data = (tmp_path / "whole.mp4").read_bytes()
    path = tmp_path / "bad.mp4"
    for content in (b"", b"not a film" * 100, data[: len(data) // 4]):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"bad\.mp4: not a readable video") as caught:
            list(read_video_frames(path))
        assert "\n" not in str(caught.value)
        with pytest.raises(ValueError, match=r"bad\.mp4: not a readable video"):
            video_info(path)
    with pytest.raises(FileNotFoundError, match=r"gone\.mp4 does not exist"):
        video_info(tmp_path / "gone.mp4")
