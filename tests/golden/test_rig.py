"""SurfHead's transport of surfels against the recorded official modules."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import load_file

from vultus.geometry.rotations import quaternion_to_matrix
from vultus.methods.surfhead.jacobian_blending import blend_weights
from vultus.methods.surfhead.transport import BoundSurfels, RestMesh, pose_faces, transport

# Third edge of the deformation gradient in the two public states of the official code.
RELEASES = {"rig_2024": "unit", "rig_2025": "sqrt_area"}
TOLERANCE = 1e-5


@pytest.fixture(params=sorted(RELEASES))
def release(request, golden_dir):
    path = golden_dir / "surfhead" / f"{request.param}.safetensors"
    if not path.exists():
        pytest.skip(f"{path.name} is not in the golden folder")
    return load_file(path), RELEASES[request.param]


def leaves(tensors):
    names = ("in.xyz_local", "in.blend_weight_logit", "in.verts_posed")
    return {name: tensors[name].clone().requires_grad_() for name in names}


def run(tensors, third_edge, rig, inputs, rigid=None):
    rest = RestMesh.build(tensors["in.verts_cano"], tensors["in.faces"].long(), third_edge)
    surfels = BoundSurfels(
        tensors["in.binding"].long(),
        inputs["in.xyz_local"],
        tensors["in.rotation_wxyz"],
        tensors["in.scaling_log"].exp(),
        blend_weights(inputs["in.blend_weight_logit"]),
    )
    posed = pose_faces(inputs["in.verts_posed"][None], rest, rig)
    mask = None if rigid is None else torch.isin(surfels.face_index, rigid)
    return rest, posed, transport(surfels, rest, posed, mask)


def close(actual, expected, tolerance=TOLERANCE):
    torch.testing.assert_close(actual, expected, atol=tolerance, rtol=tolerance)


def check_gradients(tensors, key, inputs, means):
    (means * tensors["w.xyz"]).sum().backward()
    for name, leaf in inputs.items():
        recorded = tensors.get(f"{key}.grad_xyz.{name.removeprefix('in.')}")
        if recorded is not None:
            close(leaf.grad / recorded.abs().max(), recorded / recorded.abs().max(), 2e-5)


def test_neighbours_of_a_face_come_in_the_official_order(release):
    tensors, third_edge = release
    rest, _, _ = run(tensors, third_edge, "jacobian", leaves(tensors))
    assert torch.equal(rest.adjacency, tensors["face_adjacency"].long())


def test_similarity_mode_follows_the_posed_triangle(release):
    tensors, third_edge = release
    if third_edge == "sqrt_area":
        pytest.skip("the 2025 release takes the canonical frame by mistake")
    _, _, world = run(tensors, third_edge, "similarity", leaves(tensors))
    close(world.means[0].detach(), tensors["sim.get_xyz"])
    close(world.scales[0].detach(), tensors["sim.get_scaling"])
    expected = quaternion_to_matrix(tensors["sim.get_rotation_wxyz"])
    close(quaternion_to_matrix(world.quats[0]).detach(), expected)


def test_jacobian_mode_equals_the_official_one(release):
    tensors, third_edge = release
    inputs = leaves(tensors)
    _, posed, world = run(tensors, third_edge, "jacobian", inputs)
    close(posed.jacobians[0].detach(), tensors["dtf.jacobian"])
    close(world.means[0].detach(), tensors["dtf.get_xyz"])
    close(world.normals()[0].detach(), tensors["dtf.normal_fixed_indexing"])
    check_gradients(tensors, "dtf", inputs, world.means[0])


@pytest.mark.parametrize("key", ["jbs", "jbs_eye"])
def test_blended_mode_equals_the_official_one(release, key):
    tensors, third_edge = release
    inputs = leaves(tensors)
    rigid = tensors["in.mask_f_eyeballs"].long() if key == "jbs_eye" else None
    _, _, world = run(tensors, third_edge, "jbs", inputs, rigid)
    close(world.jacobians[0].detach(), tensors[f"{key}.blended_jacobian"])
    close(world.means[0].detach(), tensors[f"{key}.get_blended_xyz"])
    close(world.normals()[0].detach(), tensors[f"{key}.normal_fixed_indexing"])
    check_gradients(tensors, key, inputs, world.means[0])
