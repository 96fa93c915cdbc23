"""Normals of vertices in Triton. A lane walks through the faces of its vertex."""

# ruff: noqa: D417 -- sizes explain themselves.
from __future__ import annotations

from torch import Tensor

from vultus.kernels.triton_calls import check_tensors
from vultus.kernels.triton_math import add3, cross3, dot3
from vultus.kernels.triton_matrices import load_vector, store_vector, subtract3
from vultus.kernels.triton_runtime import constexpr, jit, launch, tl
from vultus.kernels.vertex_normals import IncidentFaces

__all__ = ["incident_normals"]

_LANES = 32
"""A warp: it walks as far as the vertex with most faces."""
_MIN_NORM = tl.constexpr(1e-20)


def incident_normals(vertices: Tensor, incident: IncidentFaces) -> Tensor:
    """See ``vultus.kernels.vertex_normals.incident_normals``.

    Raises:
        TypeError: If the vertices are not float32 on a GPU.
    """
    check_tensors({"vertices": vertices}, vertices.device)
    points = vertices.detach().contiguous()
    batch, num = points.shape[:2]
    normals = points.new_empty(points.shape)
    launch(
        sum_faces, (-(-num // _LANES), batch), points, incident.starts, incident.corners, normals,
        num, LANES=_LANES,
    )  # fmt: skip
    return normals


@jit
def sum_faces(points, starts, corners, normals, num, LANES: constexpr):
    """Vertices of one frame.

    Args:
        points: [b v 3].
        starts: See ``IncidentFaces``; also ``corners``.
        normals: Written, [b v 3].
    """
    index = (tl.program_id(0) * LANES + tl.arange(0, LANES)).to(tl.int64)
    frame = tl.program_id(1).to(tl.int64)
    mask = index < num
    place = tl.load(starts + index, mask=mask, other=0)
    end = tl.load(starts + index + 1, mask=mask, other=0)
    own = points + 3 * frame * num
    zero = tl.zeros((LANES,), tl.float32)
    total = (zero, zero, zero)
    for _ in range(tl.max(end - place, axis=0)):
        is_face = place < end
        a = tl.load(corners + 3 * place, mask=is_face, other=0)
        b = tl.load(corners + 3 * place + 1, mask=is_face, other=0)
        c = tl.load(corners + 3 * place + 2, mask=is_face, other=0)
        corner = load_vector(own, 3 * a, is_face)
        first = subtract3(load_vector(own, 3 * b, is_face), corner)
        second = subtract3(load_vector(own, 3 * c, is_face), corner)
        total = add3(total, cross3(first, second))
        place += 1
    norm = tl.maximum(tl.sqrt(dot3(total, total)), _MIN_NORM)
    unit = (total[0] / norm, total[1] / norm, total[2] / norm)
    store_vector(normals, 3 * (frame * num + index), unit, mask)
