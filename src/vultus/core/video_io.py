"""Films: H.264 out, any format that ffmpeg knows in, through the binary of ``imageio-ffmpeg``."""

from __future__ import annotations

import re
import subprocess
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import IO

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor
from torch.nn.functional import pad

from vultus.core.files import atomic_path
from vultus.core.image_io import to_bytes

__all__ = ["VideoInfo", "ffmpeg_path", "read_video_frames", "video_info", "write_video"]

_Frame = Float[Tensor, "3 h w"] | UInt8[Tensor, "3 h w"]

# Players guess the colour matrix from the size unless the file states it.
_ENCODE_OPTIONS = (
    *("-c:v", "libx264", "-pix_fmt", "yuv420p", "-movflags", "+faststart"),
    *("-vf", "scale=out_color_matrix=bt709:out_range=tv"),
    *("-colorspace", "bt709", "-color_primaries", "bt709", "-color_trc", "bt709"),
    *("-color_range", "tv", "-f", "mp4"),
)
# Every PPM picture states its size, which is the one after the rotation that phones ask for.
_DECODE_OPTIONS = ("-map", "0:v:0", "-fps_mode", "passthrough", "-f", "image2pipe", "-c:v", "ppm")
_DURATION = re.compile(r"Duration: (\d+):(\d\d):(\d\d(?:\.\d+)?)")
_FPS = re.compile(r"Video: .*?([\d.]+)(k?) fps")


@dataclass(frozen=True)
class VideoInfo:
    """What the header of a film says."""

    width: int
    height: int
    fps: float
    duration: float
    """Seconds."""


def ffmpeg_path() -> str:
    """Return the path of the ffmpeg binary.

    Raises:
        FileNotFoundError: If there is none for this platform.
    """
    # Here, so that everything but films works without it.
    import imageio_ffmpeg

    try:
        return imageio_ffmpeg.get_ffmpeg_exe()
    except RuntimeError as error:
        raise FileNotFoundError(
            "films need ffmpeg: install it, or set IMAGEIO_FFMPEG_EXE to its path"
        ) from error


def write_video(path: Path, frames: Iterable[_Frame], fps: float = 25.0, crf: int = 18) -> int:
    """Write an MP4 (H.264, yuv420p, BT.709) atomically, one frame at a time.

    A side of odd length is padded by repeating its last pixels, as the format needs even ones.

    Args:
        path: The file, ``.mp4``.
        frames: Display-encoded RGB, [0, 1] or bytes; all of one size.
        fps: Frames per second.
        crf: Rate factor of x264; 18 is visually lossless, larger is smaller.

    Returns:
        The number of frames.

    Raises:
        ValueError: If there is no frame, sizes differ, or the suffix is not ``.mp4``.
    """
    if path.suffix.lower() != ".mp4":
        raise ValueError(f"{path}: suffix must be .mp4")
    if fps <= 0:
        raise ValueError(f"fps must be positive, got {fps}")
    iterator = iter(frames)
    first = next(iterator, None)
    if first is None:
        raise ValueError(f"{path}: frames must not be empty")
    shape, count = tuple(first.shape), 0
    with atomic_path(path) as temporary, _encoder(temporary, path, shape, fps, crf) as pipe:
        for frame in chain([first], iterator):
            if tuple(frame.shape) != shape:
                got = tuple(frame.shape)
                raise ValueError(f"{path}: frame {count} has shape {got}, the first {shape}")
            pipe.write(_to_padded_bytes(frame))
            count += 1
    return count


def video_info(path: Path) -> VideoInfo:
    """Read size, rate and length of a film.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If ffmpeg cannot read it; names the file.
    """
    done = subprocess.run(
        [*_input_command(path, "info"), "-frames:v", "1", *_DECODE_OPTIONS, "-"],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=False,
    )
    log = done.stderr.decode(errors="replace")
    size = re.match(rb"P6\s+(\d+) (\d+)\s", done.stdout)
    fps, duration = _FPS.search(log), _DURATION.search(log)
    if done.returncode != 0 or size is None or fps is None or duration is None:
        raise ValueError(f"{path}: not a readable video: {_last_line(log)}")
    hours, minutes, seconds = (float(part) for part in duration.groups())
    return VideoInfo(
        width=int(size[1]),
        height=int(size[2]),
        fps=float(fps[1]) * (1000.0 if fps[2] else 1.0),
        duration=3600 * hours + 60 * minutes + seconds,
    )


def read_video_frames(path: Path) -> Iterator[UInt8[Tensor, "3 h w"]]:
    """Decode a film frame by frame to RGB bytes.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If ffmpeg cannot read it to its end; names the file.
    """
    command = [*_input_command(path, "error"), *_DECODE_OPTIONS, "-"]
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log
        )
        assert process.stdout is not None
        count = 0
        try:
            while (frame := _read_ppm(process.stdout)) is not None:
                yield frame
                count += 1
            process.wait()
        finally:
            process.kill()  # Does nothing unless the caller stopped early.
            process.stdout.close()
            process.wait()
        if process.returncode != 0 or count == 0:
            raise ValueError(f"{path}: not a readable video: {_last_line(_read_log(log))}")


def _input_command(path: Path, verbosity: str) -> list[str]:
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist")
    # "file:" keeps ffmpeg from taking a name for an option or a network address.
    options = ["-hide_banner", "-nostdin", "-v", verbosity, "-xerror"]
    return [ffmpeg_path(), *options, "-i", f"file:{path}"]


@contextmanager
def _encoder(
    target: Path, path: Path, shape: tuple[int, ...], fps: float, crf: int
) -> Iterator[IO[bytes]]:
    """Run ffmpeg with its input open for raw frames; errors speak of ``path``."""
    _, height, width = shape
    size = f"{width + width % 2}x{height + height % 2}"
    command = [ffmpeg_path(), "-hide_banner", "-v", "error", "-y", "-f", "rawvideo"]
    command += ["-pix_fmt", "rgb24", "-s", size, "-r", repr(fps), "-i", "-"]
    command += [*_ENCODE_OPTIONS, "-crf", str(crf), f"file:{target}"]
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=log
        )
        assert process.stdin is not None
        try:
            yield process.stdin
            process.stdin.close()
        except BrokenPipeError as error:
            process.wait()
            raise ValueError(f"{path}: ffmpeg failed: {_last_line(_read_log(log))}") from error
        except BaseException:
            process.kill()
            raise
        finally:
            _close_quietly(process.stdin)
            process.wait()
        if process.returncode != 0:
            raise ValueError(f"{path}: ffmpeg failed: {_last_line(_read_log(log))}")


def _close_quietly(pipe: IO[bytes]) -> None:
    """Close a pipe whose reader may be gone, with data still in the buffer."""
    try:
        pipe.close()
    except BrokenPipeError:
        return


def _to_padded_bytes(frame: Tensor) -> bytes:
    pixels = frame.detach().cpu()
    pixels = pixels if pixels.dtype == torch.uint8 else to_bytes(pixels)
    height, width = pixels.shape[1:]
    if height % 2 or width % 2:
        amounts = (0, width % 2, 0, height % 2)
        pixels = pad(pixels[None].float(), amounts, mode="replicate")[0].to(torch.uint8)
    return pixels.permute(1, 2, 0).contiguous().numpy().tobytes()


def _read_ppm(stream: IO[bytes]) -> Tensor | None:
    """Read one picture; None at the end of the stream, or where it was cut."""
    if stream.readline() != b"P6\n":
        return None
    width, height = map(int, stream.readline().split())
    stream.readline()  # the largest value, 255
    data = stream.read(3 * width * height)
    if len(data) < 3 * width * height:
        return None
    pixels = np.frombuffer(bytearray(data), np.uint8).reshape(height, width, 3)
    return torch.from_numpy(pixels).permute(2, 0, 1).contiguous()


def _read_log(log: IO[bytes]) -> str:
    log.seek(0)
    return log.read().decode(errors="replace")


def _last_line(log: str) -> str:
    lines = [line.strip() for line in log.splitlines() if line.strip()]
    return lines[-1] if lines else "no frames"
