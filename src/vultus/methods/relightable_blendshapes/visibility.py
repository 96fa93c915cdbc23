"""Which texels each vertex of the posed mesh sees: traced frame by frame, and kept in a file.

The mesh is refitted, not rebuilt, for every frame. Bits of a training frame depend on its pose
alone, so that they can be traced once before materials are trained. Figures in brackets are
sections of our specification.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int, Int32
from safetensors import SafetensorError, safe_open
from torch import Tensor

from vultus.core.files import atomic_path, parse_json
from vultus.core.progress import track
from vultus.kernels.env_shade import Backend, trace_words
from vultus.kernels.ray_mesh import Bvh

__all__ = [
    "CacheKey",
    "OccluderMesh",
    "VisibilityCache",
    "visibility_ramp",
]

_WORD_BITS = 32
_WORDS = "words"
_ALIGNMENT = 8
"""Of the data behind a safetensors header."""


@dataclass(frozen=True)
class OccluderMesh:
    """The mesh that hides light, ready to be posed.

    Probes are all its vertices; those that no face names see light but hide none, as the strips
    that carry the teeth do [3.5].
    """

    bvh: Bvh
    """Of the mesh at rest."""
    backend: Backend = "auto"

    @classmethod
    def build(
        cls,
        rest_vertices: Float[Tensor, "v 3"],
        occluders: Int[Tensor, "f 3"],
        backend: Backend = "auto",
    ) -> OccluderMesh:
        """Prepare the hierarchy; waits for a GPU."""
        return cls(Bvh.build(rest_vertices.detach(), occluders), backend)

    def trace(
        self,
        vertices: Float[Tensor, "b v 3"],
        normals: Float[Tensor, "b v 3"],
        directions: Float[Tensor, "b t 3"],
        probes: Int[Tensor, " p"] | None = None,
    ) -> Int32[Tensor, "b v w"]:
        """Trace vertices of b poses; a CUDA graph may capture it.

        Args:
            vertices: Posed.
            normals: Unit; texels below their horizon are hidden.
            directions: Towards the texels, turned into the frame of the vertices.
            probes: Vertices to look at, best with neighbours close in space; ``None`` for all. The
                others are told to see nothing.
        """
        posed = vertices.detach()
        frames = zip(posed, normals.detach(), directions, strict=True)
        words = [
            trace_words(
                self.bvh.refit(points, check_values=False), points, up, lights,
                rows=probes, check_values=False, backend=self.backend,
            )
            for points, up, lights in frames
        ]  # fmt: skip
        return words[0][None] if len(words) == 1 else torch.stack(words)


@dataclass(frozen=True)
class CacheKey:
    """What traced bits depend on."""

    num_frames: int
    num_probes: int
    num_texels: int
    digest: str
    """Of rest vertices, faces, poses and directions of the light."""

    @property
    def num_words(self) -> int:
        """Words per probe."""
        return -(-self.num_texels // _WORD_BITS)

    @staticmethod
    def hash_of(*tensors: Tensor) -> str:
        """Digest of numbers and shapes; the same on any device."""
        digest = hashlib.sha256()
        for tensor in tensors:
            digest.update(str(tuple(tensor.shape)).encode())
            digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
        return digest.hexdigest()[:32]


@dataclass(frozen=True)
class VisibilityCache:
    """Words of all frames of a track in one memory-mapped safetensors file [4.11]."""

    path: Path
    key: CacheKey

    @classmethod
    def build(
        cls, path: Path, key: CacheKey, trace: Callable[[int], Int32[Tensor, "v w"]]
    ) -> VisibilityCache:
        """Trace every frame into a file, which appears when it is complete.

        Args:
            path: The file; an old one is replaced.
            key: What the words are of.
            trace: Gives the words of a frame.

        Raises:
            ValueError: If a frame's words have another shape than the key says.
        """
        shape = (key.num_frames, key.num_probes, key.num_words)
        header = _header(key, shape)
        with atomic_path(path) as temporary:
            temporary.write_bytes(header)
            words = np.memmap(temporary, np.int32, "r+", len(header), shape)
            for frame in track(range(key.num_frames), key.num_frames, "tracing shadows", "frames"):
                traced = trace(frame)
                if tuple(traced.shape) != shape[1:]:
                    raise ValueError(
                        f"words must have shape {shape[1:]}, got {tuple(traced.shape)}"
                    )
                words[frame] = traced.cpu().numpy()
            words.flush()
        return cls(path, key)

    @classmethod
    def open(cls, path: Path, key: CacheKey) -> VisibilityCache:
        """Open a file that was built of the same frames.

        Raises:
            FileNotFoundError: If there is none.
            ValueError: If it is no such file, or of other frames.
        """
        if not path.is_file():
            raise FileNotFoundError(f"{path} does not exist")
        try:
            with safe_open(path, "pt") as file:
                found = parse_json((file.metadata() or {}).get("key", "null"), "its key")
        except (SafetensorError, ValueError) as error:
            raise ValueError(f"{path}: not a file of visibility: {error}") from error
        if found != asdict(key):
            raise ValueError(f"{path}: must be of {asdict(key)}, is of {found}")
        return cls(path, key)

    def frame(self, index: int) -> Int32[Tensor, "v w"]:
        """Words of one frame, read from the file."""
        with safe_open(self.path, "pt") as file:
            return file.get_slice(_WORDS)[index]

    def frames(self) -> Iterator[Int32[Tensor, "v w"]]:
        """Words of all frames in turn."""
        with safe_open(self.path, "pt") as file:
            words = file.get_slice(_WORDS)
            for index in range(self.key.num_frames):
                yield words[index]

    def load(self, device: torch.device | str = "cpu") -> Int32[Tensor, "frames v w"]:
        """Words of all frames on a device, where steps choose among them."""
        with safe_open(self.path, "pt", device=str(device)) as file:
            return file.get_tensor(_WORDS)


def _header(key: CacheKey, shape: tuple[int, int, int]) -> bytes:
    """The start of a safetensors file with one tensor, whose data follow.

    The library writes whole tensors only, and words of a long film do not fit memory.
    """
    num_bytes = 4 * int(np.prod(shape, dtype=np.int64))
    entry = {"dtype": "I32", "shape": list(shape), "data_offsets": [0, num_bytes]}
    metadata = {"key": json.dumps(asdict(key))}
    text = json.dumps({"__metadata__": metadata, _WORDS: entry}).encode()
    text += b" " * (-len(text) % _ALIGNMENT)
    return len(text).to_bytes(8, "little") + text


def visibility_ramp(step: int, ramp_steps: int) -> float:
    """Strength of shadows at a step: from 0 to 1 in a straight line, then 1 [6.3].

    Raises:
        ValueError: If ``ramp_steps`` is negative.
    """
    if ramp_steps < 0:
        raise ValueError(f"ramp_steps must not be negative, got {ramp_steps}")
    return min(max(step, 0) / ramp_steps, 1.0) if ramp_steps else 1.0
