"""FLAME and its teeth against outputs of the official modules."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import load_file

from synthetic_flame import MASK_NAMES
from vultus.heads.base import HeadPose
from vultus.heads.flame import FlameData, FlameHead
from vultus.heads.flame_teeth import LOWER_LIP_RING, UPPER_LIP_RING, build_teeth, teeth_faces

TOLERANCE = 1e-5
FIELDS = {
    "identity_coeffs": "shape",
    "expression_coeffs": "expr",
    "global_rotation": "rotation",
    "neck_pose": "neck",
    "jaw_pose": "jaw",
    "eye_pose": "eyes",
    "translation": "translation",
    "static_offset": "static_offset",
}


@pytest.fixture(scope="module")
def golden(golden_dir):
    return load_file(golden_dir / "surfhead" / "flame_lbs.safetensors")


@pytest.fixture(scope="module")
def teeth(golden_dir):
    return load_file(golden_dir / "surfhead" / "teeth.safetensors")


@pytest.fixture
def head(golden):
    shapes = golden["flame.shapedirs"].permute(2, 0, 1)
    num_identity = golden["in.shape"].shape[1]
    num_vertices = shapes.shape[1]
    data = FlameData(
        template=golden["flame.v_template"],
        identity_basis=shapes[:num_identity],
        expression_basis=shapes[num_identity:],
        pose_basis=golden["flame.posedirs"].reshape(36, num_vertices, 3),
        joint_regressor=golden["flame.J_regressor"],
        skinning_weights=golden["flame.lbs_weights"],
        faces=torch.tensor([[0, 1, 2]]),
        uv=torch.zeros(3, 2),
        uv_faces=torch.tensor([[0, 1, 2]]),
        masks={name: torch.tensor([0]) for name in MASK_NAMES},
        version="golden",
    )
    return FlameHead(data, teeth="none")


@pytest.fixture
def pose(golden):
    return HeadPose(**{field: golden[f"in.{name}"].clone() for field, name in FIELDS.items()})


def test_posed_vertices_are_the_official_ones(head, pose, golden):
    torch.testing.assert_close(
        head.vertices(pose), golden["out.verts"], rtol=TOLERANCE, atol=TOLERANCE
    )


def test_canonical_vertices_are_the_official_ones(head, pose, golden):
    torch.testing.assert_close(
        head.canonical_vertices(pose), golden["out.verts_cano"], rtol=TOLERANCE, atol=TOLERANCE
    )


def test_gradients_of_all_parameters_are_the_official_ones(head, pose, golden):
    for tensor in pose.tensors().values():
        tensor.requires_grad_()
    (head.vertices(pose) * golden["w.verts"]).sum().backward()
    for field, name in FIELDS.items():
        if f"grad.{name}" in golden:
            torch.testing.assert_close(
                getattr(pose, field).grad, golden[f"grad.{name}"], rtol=TOLERANCE, atol=TOLERANCE
            )


def test_teeth_are_the_official_ones(teeth):
    template, identity_basis = torch.zeros(5023, 3), torch.zeros(3, 5023, 3)
    for ring, name in ((UPPER_LIP_RING, "lip_upper"), (LOWER_LIP_RING, "lip_lower")):
        assert list(ring) == teeth[f"in.{name}_ids"].tolist()
        template[list(ring)] = teeth[f"in.{name}_xyz"]
        # The fixture's last two columns are expressions, which the teeth do not follow.
        identity_basis[:, list(ring)] = teeth[f"in.{name}_shapedirs"][..., :3].permute(2, 0, 1)
    mesh = build_teeth(template, identity_basis, keep_published_fault=True)
    exact = {"rtol": 0.0, "atol": 1e-6}
    torch.testing.assert_close(mesh.vertices, teeth["out.teeth_xyz"], **exact)
    torch.testing.assert_close(
        mesh.identity_basis, teeth["out.teeth_shapedirs"][..., :3].permute(2, 0, 1), **exact
    )
    torch.testing.assert_close(mesh.skinning_weights, teeth["out.teeth_lbs_weights"], **exact)
    torch.testing.assert_close(mesh.uv, teeth["out.teeth_uv"], **exact)
    assert torch.equal(mesh.faces, teeth["out.teeth_faces_local"].long())


def test_corrected_teeth_differ_in_the_one_wrong_face(teeth):
    differs = (teeth_faces() != teeth["out.teeth_faces_local"]).any(dim=1)
    assert teeth_faces()[differs].tolist() == [[101, 116, 115]]
