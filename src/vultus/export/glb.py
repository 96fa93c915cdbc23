"""Triangle meshes as binary glTF 2.0 (GLB), with vertex colors or a texture."""

from __future__ import annotations

import io
import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from vultus.core.files import parse_json, write_bytes
from vultus.core.srgb import linear_to_srgb, srgb_to_linear
from vultus.geometry.meshes import TriangleMesh

__all__ = ["read_glb", "write_glb"]

# Numbers of the glTF 2.0 specification.
_MAGIC, _JSON, _BINARY = 0x46546C67, 0x4E4F534A, 0x004E4942
_DTYPES = {5120: "<i1", 5121: "<u1", 5122: "<i2", 5123: "<u2", 5125: "<u4", 5126: "<f4"}
_WIDTHS = {"SCALAR": 1, "VEC2": 2, "VEC3": 3, "VEC4": 4}
_FLOAT, _UINT32 = 5126, 5125
_VERTEX_BUFFER, _INDEX_BUFFER = 34962, 34963
_TRIANGLES = 4
_ATTRIBUTES = {"POSITION": (3,), "NORMAL": (3,), "COLOR_0": (3, 4), "TEXCOORD_0": (2,)}
"""What is read, and how many numbers a vertex may have of it."""


def write_glb(
    path: Path, mesh: TriangleMesh, texture: Float[Tensor, "3 h w"] | None = None
) -> None:
    """Write one unlit mesh: viewers then show the colors as they were captured.

    glTF has one index per corner, so vertices on seams of the texture are repeated.

    Args:
        path: Target file.
        mesh: Vertex colors are stored as linear light, as glTF wants them.
        texture: Display-encoded image for ``mesh.uv``, first row at the top; embedded as PNG.

    Raises:
        ValueError: If there is a texture but the mesh has no uv.
    """
    if texture is not None and mesh.uv is None:
        raise ValueError("mesh must have uv to carry a texture")
    mesh = _split_seams(mesh)
    builder = _Builder()
    attributes = {"POSITION": builder.add(mesh.vertices, _VERTEX_BUFFER, has_bounds=True)}
    if mesh.normals is not None:
        attributes["NORMAL"] = builder.add(mesh.normals, _VERTEX_BUFFER)
    if mesh.colors is not None:
        attributes["COLOR_0"] = builder.add(srgb_to_linear(mesh.colors), _VERTEX_BUFFER)
    if mesh.uv is not None:
        flipped = mesh.uv * mesh.uv.new_tensor([1.0, -1.0]) + mesh.uv.new_tensor([0.0, 1.0])
        attributes["TEXCOORD_0"] = builder.add(flipped, _VERTEX_BUFFER)
    primitive = {
        "attributes": attributes,
        "indices": builder.add(mesh.faces.reshape(-1, 1), _INDEX_BUFFER),
        "mode": _TRIANGLES,
        "material": 0,
    }
    surface: dict[str, Any] = {"metallicFactor": 0.0, "roughnessFactor": 1.0}
    document: dict[str, Any] = {
        "asset": {"version": "2.0", "generator": "vultus"},
        "extensionsUsed": ["KHR_materials_unlit"],
        "scene": 0,
        "scenes": [{"nodes": [0]}],
        "nodes": [{"mesh": 0}],
        "meshes": [{"primitives": [primitive]}],
        "materials": [{"pbrMetallicRoughness": surface, "extensions": {"KHR_materials_unlit": {}}}],
    }
    if texture is not None:
        surface["baseColorTexture"] = {"index": 0}
        document["images"] = [
            {"bufferView": builder.add_bytes(_png(texture)), "mimeType": "image/png"}
        ]
        document["textures"] = [{"source": 0}]
    write_bytes(path, builder.pack(document))


def _png(texture: Tensor) -> bytes:
    pixels = (texture.detach().clamp(0, 1) * 255).round().byte().permute(1, 2, 0).cpu().numpy()
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, format="PNG")
    return stream.getvalue()


def _split_seams(mesh: TriangleMesh) -> TriangleMesh:
    """Make vertices and texture coordinates share their indices."""
    if mesh.uv is None or mesh.uv_faces is None or torch.equal(mesh.faces, mesh.uv_faces):
        return mesh
    pairs = torch.stack([mesh.faces.reshape(-1), mesh.uv_faces.reshape(-1)], dim=-1)
    unique, corner = torch.unique(pairs, dim=0, return_inverse=True)
    vertex, faces = unique[:, 0], corner.reshape(-1, 3)
    return TriangleMesh(
        mesh.vertices[vertex],
        faces,
        None if mesh.colors is None else mesh.colors[vertex],
        None if mesh.normals is None else mesh.normals[vertex],
        mesh.uv[unique[:, 1]],
        faces,
    )


class _Builder:
    """Collects the binary chunk and the tables that point into it."""

    def __init__(self) -> None:
        self.blob = bytearray()
        self.views: list[dict[str, int]] = []
        self.accessors: list[dict[str, Any]] = []

    def add_bytes(self, data: bytes) -> int:
        self.views.append({"buffer": 0, "byteOffset": len(self.blob), "byteLength": len(data)})
        self.blob += data + bytes(-len(data) % 4)
        return len(self.views) - 1

    def add(self, values: Tensor, target: int, *, has_bounds: bool = False) -> int:
        is_index = target == _INDEX_BUFFER
        array = values.detach().cpu().numpy().astype("<u4" if is_index else "<f4")
        view = self.add_bytes(array.tobytes())
        self.views[view]["target"] = target
        accessor: dict[str, Any] = {
            "bufferView": view,
            "componentType": _UINT32 if is_index else _FLOAT,
            "count": len(array),
            "type": next(name for name, width in _WIDTHS.items() if width == array.shape[1]),
        }
        if has_bounds and len(array):
            accessor |= {"min": array.min(0).tolist(), "max": array.max(0).tolist()}
        self.accessors.append(accessor)
        return len(self.accessors) - 1

    def pack(self, document: dict[str, Any]) -> bytes:
        document["buffers"] = [{"byteLength": len(self.blob)}]
        document["bufferViews"], document["accessors"] = self.views, self.accessors
        text = json.dumps(document, separators=(",", ":")).encode()
        text += b" " * (-len(text) % 4)
        size = 12 + 8 + len(text) + 8 + len(self.blob)
        header = struct.pack("<III", _MAGIC, 2, size)
        chunks = struct.pack("<II", len(text), _JSON) + text
        return header + chunks + struct.pack("<II", len(self.blob), _BINARY) + bytes(self.blob)


def read_glb(path: Path) -> TriangleMesh:
    """Read all triangles of a GLB as one mesh, in the meshes' own axes.

    Vertex data that only some parts have is dropped, and so are textures.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is not a GLB, or uses moved nodes, compression or sparse data.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist")
    data = path.read_bytes()
    try:
        document, blob = _chunks(data)
        for node in document.get("nodes", []):
            if {"matrix", "translation", "rotation", "scale"}.intersection(node):
                raise ValueError("nodes with a transform are not supported")
        primitives = [p for mesh in document["meshes"] for p in mesh["primitives"]]
        if not primitives:
            raise ValueError("it holds no mesh")
        if any(p.get("mode", _TRIANGLES) != _TRIANGLES or "extensions" in p for p in primitives):
            raise ValueError("only uncompressed triangles are supported")
        return _merge([_read_primitive(document, blob, p) for p in primitives])
    except KeyError as error:
        raise ValueError(f"{path}: not a GLB that can be read: {error} is missing") from error
    # The tables refer to each other by key and index; a wrong type anywhere ends here.
    except (ValueError, IndexError, TypeError, AttributeError, struct.error) as error:
        raise ValueError(f"{path}: not a GLB that can be read: {error}") from error


def _chunks(data: bytes) -> tuple[dict[str, Any], bytes]:
    magic, version, size = struct.unpack_from("<III", data)
    if magic != _MAGIC or version != 2:
        raise ValueError("no glTF 2.0 header")
    if size > len(data):
        raise ValueError(f"{len(data)} of {size} bytes")
    length, kind = struct.unpack_from("<II", data, 12)
    if kind != _JSON:
        raise ValueError("the first chunk must be JSON")
    document = parse_json(data[20 : 20 + length], "the first chunk")
    if not isinstance(document, dict):
        raise ValueError(f"the first chunk must be an object, got {type(document).__name__}")
    start = 20 + length
    if start + 8 > size:
        return document, b""
    length, kind = struct.unpack_from("<II", data, start)
    return document, data[start + 8 : start + 8 + length] if kind == _BINARY else b""


def _read_accessor(document: dict[str, Any], blob: bytes, index: int) -> np.ndarray:
    accessor = document["accessors"][_whole(index, "an accessor's index")]
    if "sparse" in accessor:
        raise ValueError("sparse data is not supported")
    view = document["bufferViews"][_whole(accessor["bufferView"], "bufferView")]
    dtype, width = np.dtype(_DTYPES[accessor["componentType"]]), _WIDTHS[accessor["type"]]
    start = sum(_whole(table.get("byteOffset", 0), "byteOffset") for table in (view, accessor))
    size = dtype.itemsize * width
    stride = _whole(view.get("byteStride", size), "byteStride", size)
    count = _whole(accessor["count"], "count")
    if count and start + (count - 1) * stride + size > len(blob):
        raise ValueError("the binary chunk ends early")
    if not count:
        return np.empty((0, width), dtype)
    array = np.ndarray((count, width), dtype, blob, start, (stride, dtype.itemsize)).copy()
    if accessor.get("normalized") and dtype.kind in "iu":
        return (array / np.iinfo(dtype).max).astype(np.float32)
    return array


def _whole(value: object, name: str, least: int = 0) -> int:
    if type(value) is not int or value < least:
        raise ValueError(f"{name} must be a whole number from {least} on, got {value!r:.40}")
    return value


def _read_primitive(
    document: dict[str, Any], blob: bytes, primitive: dict[str, Any]
) -> TriangleMesh:
    named: dict[str, Tensor] = {}
    for name, index in primitive["attributes"].items():
        if name not in _ATTRIBUTES:
            continue
        array = _read_accessor(document, blob, index)
        if array.shape[1] not in _ATTRIBUTES[name]:
            raise ValueError(f"{name} has {array.shape[1]} numbers a vertex")
        named[name] = torch.from_numpy(array.astype(np.float32))
    lengths = {name: len(values) for name, values in named.items()}
    count = lengths["POSITION"]
    if set(lengths.values()) != {count}:
        raise ValueError(f"attributes must be of one length, got {lengths}")
    faces = _read_faces(document, blob, primitive, count)
    colors, uv = named.get("COLOR_0"), named.get("TEXCOORD_0")
    if uv is not None:
        uv = torch.stack([uv[:, 0], 1 - uv[:, 1]], dim=-1)
    return TriangleMesh(
        named["POSITION"],
        faces,
        None if colors is None else linear_to_srgb(colors[:, :3]),
        named.get("NORMAL"),
        uv,
        None if uv is None else faces,
    )


def _read_faces(
    document: dict[str, Any], blob: bytes, primitive: dict[str, Any], count: int
) -> Tensor:
    """Corners of triangles; without indices, vertices follow each other."""
    indices = np.arange(count)
    if "indices" in primitive:
        indices = _read_accessor(document, blob, primitive["indices"])
    if indices.dtype.kind not in "iu" or indices.size % 3:
        raise ValueError(f"{indices.size} indices of type {indices.dtype} make no triangles")
    return torch.from_numpy(indices.astype(np.int64)).reshape(-1, 3)


def _merge(parts: list[TriangleMesh]) -> TriangleMesh:
    if len(parts) == 1:
        return parts[0]
    sizes = [0, *(len(part.vertices) for part in parts[:-1])]
    offsets = torch.tensor(sizes).cumsum(0).tolist()
    faces = torch.cat([part.faces + offset for part, offset in zip(parts, offsets, strict=True)])

    def joined(name: str) -> Tensor | None:
        tensors = [getattr(part, name) for part in parts]
        return None if any(tensor is None for tensor in tensors) else torch.cat(tensors)

    vertices, uv = torch.cat([part.vertices for part in parts]), joined("uv")
    uv_faces = None if uv is None else faces
    return TriangleMesh(vertices, faces, joined("colors"), joined("normals"), uv, uv_faces)
