"""Geometry against values that the published SurfHead code computed."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from tolerances import assert_close
from vultus.geometry.cameras import Camera, camera_centers, fov_to_focal, opengl_to_opencv
from vultus.geometry.deformation import (
    deformation_gradients,
    edge_matrices,
    face_adjacency,
    inverse_edge_matrices,
    polar_decomposition,
    triangle_frames,
)
from vultus.geometry.depth import depth_to_normals
from vultus.geometry.rotations import matrix_to_quaternion
from vultus.geometry.spherical_harmonics import evaluate_color_sh

Golden = dict[str, Tensor]

# The two public states of the code differ in the third edge; only one of them stores E_posed.
RIGS = "surfhead/rig_*.safetensors"


def rig(golden: Golden) -> tuple[Tensor, Tensor, Tensor, str]:
    third_edge = "sqrt_area" if "dtf.E_posed" in golden else "unit"
    return golden["in.verts_cano"], golden["in.verts_posed"], golden["in.faces"].long(), third_edge


@pytest.mark.golden(RIGS)
def test_neighbours_come_in_the_published_order(golden: Golden) -> None:
    assert torch.equal(face_adjacency(golden["in.faces"].long()), golden["face_adjacency"].long())


@pytest.mark.golden(RIGS)
def test_frames_at_rest_agree(golden: Golden) -> None:
    rest, _, faces, _ = rig(golden)
    frames = triangle_frames(rest, faces)
    assert_close(frames.rotations, golden["dtf.face_orien_mat_cano"])
    assert_close(frames.scales, golden["dtf.face_scaling_cano"][:, 0])


@pytest.mark.golden("surfhead/rig_2024.safetensors")
def test_posed_frames_agree(golden: Golden) -> None:
    _, posed, faces, _ = rig(golden)
    frames = triangle_frames(posed, faces)
    assert_close(frames.rotations, golden["sim.face_orien_mat"])
    assert_close(frames.scales, golden["sim.face_scaling"][:, 0])
    assert_close(frames.centers, golden["sim.face_center"])
    expected = golden["sim.face_orien_quat_wxyz"]
    quats = matrix_to_quaternion(frames.rotations)
    sign = (quats * expected).sum(-1, keepdim=True).sign()
    assert_close(sign * quats, expected)


@pytest.mark.golden(RIGS)
def test_deformation_gradients_and_their_factors_agree(golden: Golden) -> None:
    rest, posed, faces, third_edge = rig(golden)
    inverse = inverse_edge_matrices(rest, faces, third_edge)
    scale = golden["dtf.E_inv"].abs().amax(dim=(1, 2), keepdim=True)
    assert_close(inverse / scale, golden["dtf.E_inv"] / scale)
    if "dtf.E_posed" in golden:
        assert_close(edge_matrices(posed, faces, third_edge), golden["dtf.E_posed"])
    jacobians = deformation_gradients(posed, faces, inverse, third_edge)
    assert_close(jacobians, golden["dtf.jacobian"])
    rotations, stretches = polar_decomposition(golden["dtf.jacobian"])
    assert_close(rotations, golden["dtf.polar_R"])
    assert_close(stretches, golden["dtf.polar_U"])


@pytest.mark.golden("surfhead/sh_eval*.safetensors")
def test_color_harmonics_have_the_published_signs_and_order(golden: Golden) -> None:
    coefficients = golden["in.sh"].transpose(1, 2)
    for degree in range(4):
        colors = evaluate_color_sh(coefficients, golden["in.dirs"], degree)
        assert_close(colors, golden[f"out.deg{degree}"])


def published_camera(golden: Golden) -> Camera:
    """The camera of the fixture, 550 x 802 with a horizontal field of view of 0.31."""
    camera_to_world = opengl_to_opencv(golden["in.transform_matrix_opengl"].float())
    focal = fov_to_focal(0.31, 550)
    intrinsics = torch.tensor([[focal, 0, 275.0], [0, focal, 401.0], [0, 0, 1]])
    return Camera(torch.linalg.inv(camera_to_world)[None], intrinsics[None], 550, 802)


@pytest.mark.golden("surfhead/losses_misc*.safetensors")
def test_opengl_matrices_become_the_published_view(golden: Golden) -> None:
    camera = published_camera(golden)
    assert_close(camera.world_to_camera[0], golden["out.world_view_transform"].T)
    assert_close(camera_centers(camera)[0], golden["out.camera_center"])


@pytest.mark.golden("surfhead/losses_misc*.safetensors")
def test_normals_of_depth_agree_after_the_published_half_pixel(golden: Golden) -> None:
    # The published code back-projects integer pixels around (w / 2, h / 2): half a pixel off the
    # centres that its rasterizer uses. The fixture keeps the horizontal field of view of 0.31.
    depth = golden["in.depth"]
    height, width = depth.shape[1:]
    focal = fov_to_focal(0.31, width)
    intrinsics = torch.tensor(
        [[focal, 0, 0.5 * width + 0.5], [0, focal, 0.5 * height + 0.5], [0, 0, 1]]
    )
    world_to_camera = published_camera(golden).world_to_camera
    camera = Camera(world_to_camera, intrinsics[None], width, height)
    normals = depth_to_normals(depth[None], camera)[0].permute(1, 2, 0)
    assert_close(
        normals,
        golden["out.depth_to_normal_24x20"],
    )
