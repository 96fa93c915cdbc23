"""Splat files in the PLY layouts of 3DGS, 2DGS, GaussianAvatars and SurfHead.

Properties are looked up by name, in any order. ``f_rest_i`` is channel-major: i = c r + k for
colour c and coefficient k of r. Written files have the order of the published writers, float32
throughout.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from vultus.core.ply_io import read_ply_tables, write_ply_tables
from vultus.gaussians.surfels import Surfels

__all__ = ["Splats", "read_splats", "splats_to_surfels", "surfels_to_splats", "write_splats"]

# Degrees 0 to 4 of the colour.
_REST_COUNTS = tuple(3 * ((degree + 1) ** 2 - 1) for degree in range(5))
# Logits beyond float32's sigmoid; some published models hold infinite ones.
_MAX_LOGIT = 20.0


@dataclass(frozen=True)
class Splats:
    """Stored values of n Gaussians, as files have them.

    With ``face_index`` they are bound to a mesh: positions, rotations and scales are in the frame
    of a triangle. Without, they are in the world.
    """

    means: Float[Tensor, "n 3"]
    log_scales: Float[Tensor, "n s"]
    """Two for surfels, three for Gaussians with a volume."""
    quats: Float[Tensor, "n 4"]
    """wxyz, any norm."""
    opacity_logits: Float[Tensor, " n"]
    sh_dc: Float[Tensor, "n 1 3"]
    sh_rest: Float[Tensor, "n r 3"]
    """r = (degree + 1)² - 1."""
    blend_weight_logits: Float[Tensor, "n 4"] | None = None
    specular_features: Float[Tensor, "n d"] | None = None
    face_index: Int[Tensor, " n"] | None = None

    def __len__(self) -> int:
        """Number of Gaussians."""
        return self.means.shape[0]


def read_splats(path: Path) -> Splats:
    """Read a splat file; infinite logits are clamped to +-20.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is not a PLY file, lacks a property, or holds values that cannot be
            meant; names the file.
    """
    columns = read_ply_tables(path, last="vertex")["vertex"].columns
    try:
        # Signalling NaN and numbers beyond float32 are found by their values.
        with np.errstate(invalid="ignore", over="ignore"):
            return _splats_from_columns({n: c.astype(np.float64) for n, c in columns.items()})
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def write_splats(path: Path, splats: Splats) -> None:
    """Write a splat file, atomically; finite float32 values come back exactly.

    Raises:
        FileNotFoundError: If the folder does not exist.
    """
    columns: dict[str, Tensor] = _named(("x", "y", "z"), splats.means)
    columns |= _named(("nx", "ny", "nz"), torch.zeros_like(splats.means))
    if splats.blend_weight_logits is not None:
        columns |= _numbered("blend_weight_", splats.blend_weight_logits)
    columns |= _numbered("f_dc_", splats.sh_dc.flatten(1))
    columns |= _numbered("f_rest_", splats.sh_rest.transpose(1, 2).flatten(1))
    columns["opacity"] = splats.opacity_logits
    columns |= _numbered("scale_", splats.log_scales)
    columns |= _numbered("rot_", splats.quats)
    if splats.specular_features is not None:
        columns |= _numbered("f_sg_", splats.specular_features)
    if splats.face_index is not None:
        columns["binding_0"] = splats.face_index
    arrays = {name: column.detach().cpu().numpy() for name, column in columns.items()}
    write_ply_tables(path, arrays)


def splats_to_surfels(splats: Splats) -> Surfels:
    """Take splats of a SurfHead file as surfels of a mesh.

    Raises:
        ValueError: If they are not bound to faces or have three scales.
    """
    if splats.face_index is None:
        raise ValueError("splats must be bound to faces to become surfels; binding_0 is missing")
    if splats.log_scales.shape[1] != 2:
        raise ValueError(
            f"surfels have 2 scales, got {splats.log_scales.shape[1]}: models of GaussianAvatars "
            "use other triangle frames and cannot be taken as surfels"
        )
    shared = {f.name: getattr(splats, f.name) for f in fields(Splats) if f.name != "means"}
    return Surfels(local_means=splats.means, **shared)


def surfels_to_splats(surfels: Surfels) -> Splats:
    """Take surfels of a mesh as the splats of a SurfHead file, bound to faces."""
    shared = {f.name: getattr(surfels, f.name) for f in fields(Splats) if f.name != "means"}
    return Splats(means=surfels.local_means, **shared)


def _splats_from_columns(table: Mapping[str, np.ndarray]) -> Splats:
    num_scales = _count(table, "scale_")
    if num_scales not in (2, 3):
        raise ValueError(f"splats must have 2 or 3 scales, got {num_scales}")
    num_rest = _count(table, "f_rest_")
    if num_rest not in _REST_COUNTS:
        known = ", ".join(map(str, _REST_COUNTS))
        raise ValueError(f"splats must have {known} properties f_rest_*, got {num_rest}")
    num_blend, num_specular = _count(table, "blend_weight_"), _count(table, "f_sg_")
    if num_blend not in (0, 4):
        raise ValueError(f"splats must have 0 or 4 blend weights, got {num_blend}")
    rest = _block(table, _names("f_rest_", num_rest))
    return Splats(
        means=_block(table, ("x", "y", "z")),
        log_scales=_block(table, _names("scale_", num_scales)),
        quats=_block(table, _names("rot_", 4)),
        opacity_logits=_logits(table, ("opacity",))[:, 0],
        sh_dc=_block(table, _names("f_dc_", 3))[:, None],
        sh_rest=rest.reshape(rest.shape[0], 3, num_rest // 3).transpose(1, 2),
        blend_weight_logits=_logits(table, _names("blend_weight_", 4)) if num_blend else None,
        specular_features=_block(table, _names("f_sg_", num_specular)) if num_specular else None,
        face_index=_faces(table["binding_0"]) if "binding_0" in table else None,
    )


def _count(table: Mapping[str, np.ndarray], prefix: str) -> int:
    return sum(name.startswith(prefix) for name in table)


def _names(prefix: str, count: int) -> tuple[str, ...]:
    return tuple(f"{prefix}{number}" for number in range(count))


def _named(names: tuple[str, ...], values: Tensor) -> dict[str, Tensor]:
    return dict(zip(names, values.unbind(dim=1), strict=True))


def _numbered(prefix: str, values: Tensor) -> dict[str, Tensor]:
    return _named(_names(prefix, values.shape[1]), values)


def _stacked(table: Mapping[str, np.ndarray], names: tuple[str, ...]) -> np.ndarray:
    missing = [name for name in names if name not in table]
    if missing:
        raise ValueError(f"splats lack the property {missing[0]!r}")
    num = len(next(iter(table.values())))
    return np.stack([table[name] for name in names], axis=1) if names else np.empty((num, 0))


def _block(table: Mapping[str, np.ndarray], names: tuple[str, ...]) -> Tensor:
    values = torch.from_numpy(_stacked(table, names).astype(np.float32))
    faulty = (~values.isfinite()).any(dim=0).nonzero()
    if faulty.numel():
        raise ValueError(f"property {names[int(faulty[0])]!r} must be finite everywhere")
    return values


def _logits(table: Mapping[str, np.ndarray], names: tuple[str, ...]) -> Tensor:
    stacked = _stacked(table, names)
    clamped = np.where(np.isinf(stacked), np.sign(stacked) * _MAX_LOGIT, stacked)
    return _block(dict(zip(names, clamped.T, strict=True)), names)


def _faces(column: np.ndarray) -> Tensor:
    is_index = (column >= 0) & (column < 2**31) & (column % 1 == 0)
    if not is_index.all():
        raise ValueError("property 'binding_0' must hold whole face numbers from 0 on")
    return torch.from_numpy(column.astype(np.int64))
