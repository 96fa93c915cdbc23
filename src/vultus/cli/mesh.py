"""``vultus mesh``: fuse a triangle mesh of an avatar, and compare it with a scan."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Annotated

import torch
import tyro
from jaxtyping import Float
from torch import Tensor

from vultus.cli.avatar_run import OpenRun, open_run, output_path
from vultus.cli.console import console, print_table
from vultus.cli.option_parser import parse_arguments
from vultus.cli.render import path_cameras, random_cameras
from vultus.core.files import write_json
from vultus.core.seeding import torch_generator
from vultus.data.frames import load_frame
from vultus.data.sequence import Split
from vultus.export.avatar_mesh import FusionSettings, fuse_mesh
from vultus.export.mesh_files import MESH_SUFFIXES, read_mesh, write_mesh
from vultus.geometry.cameras import Camera
from vultus.geometry.meshes import TriangleMesh
from vultus.heads.expression_track import check_has_mesh
from vultus.metrics.seen_distance import seen_distance

__all__ = ["CompareOptions", "MeshOptions", "main"]

_LARGEST_ANGLE = 0.8
"""Of random views, radians; published."""


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
    views: int = 32
    """Rendered views around the head, beside the training cameras."""
    random_views: int = 0
    """More views at random in front of the face, up to 0.8 rad to the side, above and below
    (official --random_camera)."""
    use_masks: bool = False
    """Fuse the capture's own views of the moment, held-out cameras too, cut by their masks, instead
    of the training cameras."""
    fusion: Annotated[FusionSettings, tyro.conf.arg(name="")] = field(
        default_factory=FusionSettings
    )
    data: Path | None = None
    """Where the capture lies now, if it was moved."""
    step: int | None = None
    """Checkpoint to load, by its step; default: the last one."""
    device: str = "cpu"
    """What renders: cpu, cuda, cuda:N, or auto, which takes a GPU if there is one."""
    compare: CompareOptions = field(default_factory=CompareOptions)
    """Comparison with a scan."""
    dry_run: bool = False
    """Check everything, write nothing."""


def main(arguments: list[str]) -> None:
    """Fuse and write."""
    options = parse_arguments(MeshOptions, arguments, prog="vultus mesh", description=__doc__)
    opened = open_run(options.run, options.data, options.device, options.step)
    check_has_mesh(opened.avatar.head, "fusing a mesh")
    out = output_path(options.out, opened.folder.media_path / "mesh.ply", MESH_SUFFIXES)
    pose = opened.pose(options.timestep)
    scan = _read_scan(options.compare)
    judges = None if scan is None else opened.sequence.split(options.compare.split)
    cameras, masks = _views(opened, options)
    if options.dry_run:
        console.print(f"would fuse {len(cameras)} views and write {out}")
        return
    mesh = fuse_mesh(opened.avatar, pose, cameras, options.fusion, masks)
    write_mesh(out, mesh)
    console.print(f"mesh: {out} ({len(mesh.vertices)} vertices, {len(mesh.faces)} faces)")
    if scan is not None and judges is not None:
        distinct = {record.camera_index: record.camera for record in judges}
        _compare(opened, mesh, scan, Camera.stack([*distinct.values()]), options.compare)


def _views(
    opened: OpenRun, options: MeshOptions
) -> tuple[list[Camera], list[Float[Tensor, "1 h w"] | None]]:
    """Cameras with the masks of those that belong to the capture.

    Raises:
        ValueError: If counts are negative or the moment has no masks that were asked for.
    """
    for name in ("views", "random_views"):
        if getattr(options, name) < 0:
            value = getattr(options, name)
            raise ValueError(f"--{name.replace('_', '-')} must not be negative, got {value}")
    made = [path_cameras(opened, "turntable", options.views)] if options.views else []
    if options.random_views:
        generator = torch_generator(opened.seed, "mesh.views")
        made.append(random_cameras(opened, options.random_views, _LARGEST_ANGLE, generator))
    cameras = [batch[index] for batch in made for index in range(len(batch))]
    masks: list[Float[Tensor, "1 h w"] | None] = [None] * len(cameras)
    if options.use_masks:
        records = [r for r in opened.sequence.frames if r.timestep == options.timestep]
        for record in records:
            mask = load_frame(opened.sequence, record).mask
            if mask is None:
                raise ValueError(f"--use-masks: {record.image_path} has no mask")
            masks.append(mask[0])
    else:
        own = {r.camera_index: r for r in opened.sequence.split("train")}
        records = list(own.values())
        masks += [None] * len(records)
    return [*cameras, *(record.camera for record in records)], masks


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
