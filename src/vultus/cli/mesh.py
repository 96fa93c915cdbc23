"""``vultus mesh``: fuse a triangle mesh of an avatar, and compare it with a scan."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import torch
import tyro

from vultus.cli.avatar_run import OpenRun, open_run, output_path
from vultus.cli.console import console, print_table
from vultus.cli.render import path_cameras
from vultus.core.files import write_json
from vultus.core.seeding import torch_generator
from vultus.data.sequence import Split
from vultus.export.avatar_mesh import fuse_mesh
from vultus.export.mesh_files import MESH_SUFFIXES, read_mesh, write_mesh
from vultus.geometry.cameras import Camera
from vultus.geometry.meshes import TriangleMesh
from vultus.metrics.seen_distance import seen_distance

__all__ = ["CompareOptions", "MeshOptions", "main"]


@dataclass(frozen=True)
class CompareOptions:
    """Measure the mesh against a scan where held-out cameras see them; in world millimetres."""

    scan: Path | None = None
    """True surface: .ply, .obj or .glb."""
    scale: float = 1.0
    """Metres per unit of the scan."""
    offset: tuple[float, float, float] = (0.0, 0.0, 0.0)
    """World position of the scan's origin, metres: world = scale * scan + offset."""
    split: Split = "val"
    """Whose cameras decide what counts."""
    floor: float | None = None
    """World height in metres below which nothing counts; for rigs without shoulders."""


@dataclass(frozen=True)
class MeshOptions:
    """Render depth of one pose from many sides, fuse it (TSDF) and extract the surface."""

    run: Path
    """Folder that train wrote."""
    out: Path | None = None
    """.ply, .obj or .glb; default: RUN/media/mesh.ply."""
    timestep: int = 0
    """Moment of the capture whose pose is fused."""
    resolution: int = 256
    """Voxels along the longest edge of the head's box."""
    views: int = 32
    """Rendered views around the head, beside the training cameras."""
    data: Path | None = None
    """Where the capture lies now, if it was moved."""
    device: str = "cpu"
    """What renders: cpu, cuda, cuda:N, or auto, which takes a GPU if there is one."""
    compare: CompareOptions = field(default_factory=CompareOptions)
    """Comparison with a scan."""
    dry_run: bool = False
    """Check everything, write nothing."""


def main(arguments: list[str]) -> None:
    """Fuse and write."""
    options = tyro.cli(MeshOptions, args=arguments, prog="vultus mesh", description=__doc__)
    opened = open_run(options.run, options.data, options.device)
    out = output_path(options.out, opened.folder.media_path / "mesh.ply", MESH_SUFFIXES)
    pose = opened.pose(options.timestep)
    scan = _read_scan(options.compare)
    judges = None if scan is None else opened.sequence.split(options.compare.split)
    around = path_cameras(opened, "turntable", options.views)
    if options.dry_run:
        console.print(f"would write {out}")
        return
    own = {r.camera_index: r.camera for r in opened.sequence.split("train")}
    sized = [camera.resized(around.width, around.height) for camera in own.values()]
    cameras = Camera.stack([around, *sized])
    mesh = fuse_mesh(opened.avatar, pose, cameras, options.resolution)
    write_mesh(out, mesh)
    console.print(f"mesh: {out} ({len(mesh.vertices)} vertices, {len(mesh.faces)} faces)")
    if scan is not None and judges is not None:
        distinct = {record.camera_index: record.camera for record in judges}
        _compare(opened, mesh, scan, Camera.stack([*distinct.values()]), options.compare)


def _read_scan(options: CompareOptions) -> TriangleMesh | None:
    if options.scan is None:
        return None
    scan = read_mesh(options.scan)
    return replace(scan, vertices=options.scale * scan.vertices + torch.tensor(options.offset))


def _compare(
    opened: OpenRun,
    mesh: TriangleMesh,
    scan: TriangleMesh,
    cameras: Camera,
    options: CompareOptions,
) -> None:
    """Measure, write ``mesh_evaluation.json`` into the run and print."""
    generator = torch_generator(opened.seed, "mesh.compare")
    found = seen_distance(mesh, scan, cameras, generator=generator, floor=options.floor)
    values = {
        "accuracy_mm": found.distance.accuracy,
        "completeness_mm": found.distance.completeness,
        "chamfer_mm": found.distance.chamfer,
        "f_score_1mm": found.distance.f_score,
        "share_of_mesh": found.share,
        "share_of_scan": found.reference_share,
    }
    path = opened.folder.path / "mesh_evaluation.json"
    write_json(path, {"step": opened.step, "cameras": len(cameras), **values, **_facts(options)})
    floor = "" if options.floor is None else f", above {options.floor:g} m"
    note = f"over what the {len(cameras)} cameras of {options.split!r} see{floor}: {path}"
    print_table("Mesh against scan", ("metric", "value"), [*values.items()], note)


def _facts(options: CompareOptions) -> dict[str, object]:
    return {**asdict(options), "scan": str(options.scan)}
