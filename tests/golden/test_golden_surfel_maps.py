"""Maps that ``render_surfels`` derives, against the published ones (float64 backend)."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from tolerances import assert_close
from vultus.geometry.cameras import Camera
from vultus.geometry.depth import depth_to_normals
from vultus.render.surfels import render_surfels

Golden = dict[str, Tensor]
SCENES = "raster2d/surfel_scene_*.safetensors"


def scene_camera(golden: Golden) -> Camera:
    width, height = golden["in.size_wh"].tolist()
    intrinsics = torch.eye(3).double()
    for axis, size in enumerate((width, height)):
        intrinsics[axis, axis] = size / (2 * golden["in.tanfov_xy"][axis])
        intrinsics[axis, 2] = size / 2
    return Camera(golden["in.w2c"][None].double(), intrinsics[None], width, height)


@pytest.mark.golden(SCENES)
def test_normals_and_depth_of_a_rendering_agree(golden: Golden) -> None:
    inputs = [
        golden[f"in.{name}"][None].double() for name in ("means3D", "rotations_wxyz", "scales")
    ]
    jacobians = golden.get("in.jacobians")
    output = render_surfels(
        *inputs,
        golden["in.opacities"][None, :, 0].double(),
        scene_camera(golden),
        features=golden["in.colors"][None].double(),
        jacobians=None if jacobians is None else jacobians[None].double(),
        background=golden["in.bg"].double(),
        convention="2dgs" if jacobians is None else "surfhead",
        cull="3sigma",
        backend="ref",
    )
    for ours, theirs in (
        (output.image, "rgb"),
        (output.normals, "normal_world"),
        (output.depth, "depth_expected"),
        (output.median_depth, "depth_median"),
    ):
        assert ours is not None
        assert_close(
            ours[0],
            golden[f"out.{theirs}"].double(),
            looser=1e4,
            reason="the fixture's inputs and outputs are stored in float32",
        )


@pytest.mark.golden(SCENES)
@pytest.mark.parametrize("kind", ["median", "expected"])
def test_depth_normals_agree_after_the_published_half_pixel(golden: Golden, kind: str) -> None:
    # The published code back-projects half a pixel off the centres that it rasterizes.
    camera = scene_camera(golden)
    intrinsics = camera.intrinsics.clone()
    intrinsics[:, :2, 2] += 0.5
    depth, alpha = golden[f"out.depth_{kind}"].double(), golden["out.allmap"][1:2].double()
    published = golden[f"out.surf_normal_{kind}"].double()
    normals = depth_to_normals(depth[None], replace(camera, intrinsics=intrinsics))
    assert_close(
        alpha * normals[0],
        published,
        looser=1e4,
        reason="the fixture may be stored in float32",
    )
    # What the half pixel amounts to.
    ours = alpha * depth_to_normals(depth[None], camera)[0]
    assert float((ours - published).abs().mean()) < 1e-3
