"""Write and read triangle meshes; the suffix of the path decides the format."""

from __future__ import annotations

from pathlib import Path

from vultus.export.glb import read_glb, write_glb
from vultus.export.obj import read_obj, write_obj
from vultus.export.ply import read_ply, write_ply
from vultus.geometry.meshes import TriangleMesh

__all__ = ["MESH_SUFFIXES", "read_mesh", "write_mesh"]

_FORMATS = {
    ".ply": (read_ply, write_ply),
    ".obj": (read_obj, write_obj),
    ".glb": (read_glb, write_glb),
}
MESH_SUFFIXES = tuple(_FORMATS)


def write_mesh(path: Path, mesh: TriangleMesh) -> None:
    """Write a mesh as ``.ply``, ``.obj`` or ``.glb``.

    Raises:
        ValueError: If the suffix is another one.
        FileNotFoundError: If the folder does not exist.
    """
    _, write = _FORMATS[_suffix(path)]
    write(path, mesh)


def read_mesh(path: Path) -> TriangleMesh:
    """Read a mesh from ``.ply``, ``.obj`` or ``.glb``.

    Raises:
        ValueError: If the suffix is another one, the file cannot be read, or vertices are not
            finite.
        FileNotFoundError: If there is no such file.
    """
    read, _ = _FORMATS[_suffix(path)]
    mesh = read(path)
    if not bool(mesh.vertices.isfinite().all()):
        raise ValueError(f"{path}: vertices must be finite")
    return mesh


def _suffix(path: Path) -> str:
    suffix = path.suffix.lower()
    if suffix not in _FORMATS:
        raise ValueError(f"{path}: a mesh file must end in {', '.join(_FORMATS)}")
    return suffix
