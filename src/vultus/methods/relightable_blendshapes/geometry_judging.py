"""How well the personal mesh explains frames: silhouettes, and true normals and depth if known."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from vultus.data.frames import load_frame
from vultus.data.sequence import Frame, FrameRecord, HeadSequence, Split
from vultus.geometry.meshes import vertex_normals
from vultus.heads.base import HeadPose
from vultus.kernels.mesh_raster import Fragments, interpolate, rasterize_mesh
from vultus.methods.relightable_blendshapes.personal_mesh import PersonalMesh

__all__ = ["MeshScores", "judge_mesh", "judged_frames", "pictured_normals"]

_HELD_OUT: tuple[Split, ...] = ("test", "val")
_MOST_FRAMES = 64
_MILLIMETRES = 1000.0


@dataclass(frozen=True)
class MeshScores:
    """Means over frames; ``None`` where the capture does not know."""

    overlap: float | None
    """Intersection over union of mesh and matte."""
    normal_degrees: float | None
    """Angle between normals where both are seen."""
    depth_millimetres: float | None
    """Absolute difference of camera z there."""

    def facts(self) -> dict[str, float | None]:
        """Numbers by name."""
        return dict(vars(self))


def judged_frames(sequence: HeadSequence) -> tuple[Split, tuple[FrameRecord, ...]]:
    """Evenly chosen frames of a held-out split, or of the training where there is none."""
    split = _held_out(sequence)
    records = sequence.split(split)
    count = min(_MOST_FRAMES, len(records))
    rows = torch.linspace(0, len(records) - 1, count).round().long().tolist()
    return split, tuple(records[row] for row in rows)


@torch.no_grad()
def judge_mesh(
    mesh: PersonalMesh,
    offsets: Float[Tensor, "v 3"],
    sequence: HeadSequence,
    pose: HeadPose,
    records: Sequence[FrameRecord],
) -> MeshScores:
    """Compare a mesh with frames.

    Args:
        mesh: Of the subject.
        offsets: At rest.
        sequence: The capture.
        pose: Its track, on the device of the mesh.
        records: Which frames.
    """
    device = offsets.device
    sums: dict[str, list[float]] = {"overlap": [], "normal_degrees": [], "depth_millimetres": []}
    for record in records:
        frame = load_frame(sequence, record)
        vertices = mesh.pose(offsets, pose[record.timestep])
        fragments = rasterize_mesh(vertices, mesh.faces, record.camera.to(device))
        normals = pictured_normals(vertices, mesh, fragments).cpu()
        covered, depth = fragments.is_covered.cpu(), fragments.depth.cpu()
        for name, value in _compare(frame, covered, normals, depth).items():
            sums[name].append(value)
    return MeshScores(**{n: sum(v) / len(v) if v else None for n, v in sums.items()})


def pictured_normals(
    vertices: Float[Tensor, "b v 3"], mesh: PersonalMesh, fragments: Fragments
) -> Float[Tensor, "b 3 h w"]:
    """Interpolated normals of vertices, world axes, not unit; 0 where no face is seen."""
    return interpolate(vertex_normals(vertices, mesh.faces), mesh.faces, fragments)


def _held_out(sequence: HeadSequence) -> Split:
    for split in _HELD_OUT:
        if len(sequence.splits.get(split, ())) > 0:
            return split
    return "train"


def _compare(
    frame: Frame,
    covered: Bool[Tensor, "1 1 h w"],
    normals: Float[Tensor, "1 3 h w"],
    depth: Float[Tensor, "1 1 h w"],
) -> dict[str, float]:
    found = {}
    if frame.mask is not None:
        inside = frame.mask > 0.5
        union = (inside | covered).sum().clamp(min=1)
        found["overlap"] = float((inside & covered).sum() / union)
    if frame.normals is not None:
        cosine = torch.nn.functional.cosine_similarity(normals, frame.normals, dim=1)
        both = (covered & (frame.normals != 0).any(dim=1, keepdim=True))[:, 0]
        if bool(both.any()):
            angles = torch.rad2deg(cosine[both].clamp(-1.0, 1.0).acos())
            found["normal_degrees"] = float(angles.mean())
    if frame.depth is not None:
        both = covered & (frame.depth > 0)
        if bool(both.any()):
            difference = (depth - frame.depth)[both].abs()
            found["depth_millimetres"] = _MILLIMETRES * float(difference.mean())
    return found
