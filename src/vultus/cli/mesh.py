"""``vultus mesh``: fuse a triangle mesh of an avatar."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import tyro

from vultus.cli.avatar_run import open_run, output_path
from vultus.cli.console import console
from vultus.cli.render import path_cameras
from vultus.export.avatar_mesh import fuse_mesh
from vultus.export.mesh_files import MESH_SUFFIXES, write_mesh
from vultus.geometry.cameras import Camera

__all__ = ["MeshOptions", "main"]


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
    dry_run: bool = False
    """Check everything, write nothing."""


def main(arguments: list[str]) -> None:
    """Fuse and write."""
    options = tyro.cli(MeshOptions, args=arguments, prog="vultus mesh", description=__doc__)
    opened = open_run(options.run, options.data)
    out = output_path(options.out, opened.folder.media_path / "mesh.ply", MESH_SUFFIXES)
    pose = opened.pose(options.timestep)
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
