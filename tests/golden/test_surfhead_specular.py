"""SurfHead's specular network and its shading frames against the recorded official modules."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from vultus.methods.surfhead.jacobian_blending import blend_weights
from vultus.methods.surfhead.official.specular_weights import (
    specular_from_official,
    specular_to_official,
)
from vultus.methods.surfhead.shading import canonical_rotations, shading_of
from vultus.methods.surfhead.specular import (
    SpecularNetwork,
    lobe_axes,
    lobe_responses,
    reflect,
    view_encoding,
)
from vultus.methods.surfhead.transport import BoundSurfels, RestMesh, pose_faces, transport

SPECULAR = pytest.mark.golden("surfhead/specular_*.safetensors")
RIG = pytest.mark.golden("surfhead/rig_*.safetensors")


def close(actual: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(actual, expected, rtol=1e-5, atol=1e-5)


def network_of(golden: dict[str, Tensor]) -> SpecularNetwork:
    state = {name[3:]: value for name, value in golden.items() if name.startswith("sd.")}
    return specular_from_official(state)


@SPECULAR
def test_lobe_axes(golden: dict[str, Tensor]) -> None:
    axes = lobe_axes(network_of(golden).lobe_type)
    for name, found in zip(("omega", "omega_lambda", "omega_mu"), axes, strict=True):
        close(found.float(), golden[f"buf.{name}"][0])


@SPECULAR
def test_reflection_and_view_encoding(golden: dict[str, Tensor]) -> None:
    close(reflect(golden["in.viewdir"], golden["in.normal"])[0], golden["mid.reflect_dir"])
    close(view_encoding(golden["in.viewdir"]), golden["mid.view_pe"])


@SPECULAR
def test_lobe_responses(golden: dict[str, Tensor]) -> None:
    recorded = golden["mid.lobe_response"]
    numbers = golden["mid.gaussian_feature"].unflatten(-1, (*recorded.shape[1:3], 4))
    lobe_type = network_of(golden).lobe_type
    axes = tuple(axis.float() for axis in lobe_axes(lobe_type))
    close(lobe_responses(lobe_type, numbers, golden["mid.reflect_dir"], axes), recorded)
    if "sg.mid.lobe_response" in golden:
        found = lobe_responses("sg", numbers, golden["mid.reflect_dir"], axes)
        close(found, golden["sg.mid.lobe_response"])


@SPECULAR
def test_colors_and_all_gradients(golden: dict[str, Tensor]) -> None:
    network = network_of(golden)
    features = golden["in.features"].clone().requires_grad_()
    directions = golden["in.viewdir"].clone().requires_grad_()
    colors = network(features, directions, golden["in.normal"])
    close(colors.detach(), golden["out.rgb"])
    (colors * golden["w.rgb"]).sum().backward()
    gradients = {name: p.grad for name, p in network.named_parameters()}
    found = specular_to_official(gradients) | {
        "features": features.grad,
        "viewdir": directions.grad,
    }
    recorded = {n[5:]: value for n, value in golden.items() if n.startswith("grad.")}
    assert found.keys() == recorded.keys()
    for name, gradient in found.items():
        scale = recorded[name].abs().max()
        close(gradient / scale, recorded[name] / scale)


@SPECULAR
def test_official_names_there_and_back(golden: dict[str, Tensor]) -> None:
    network = network_of(golden)
    state = {name[3:]: value for name, value in golden.items() if name.startswith("sd.")}
    back = specular_to_official(network.state_dict())
    assert back.keys() == state.keys()
    assert all(torch.equal(back[name], state[name]) for name in state)


def posed_rig(golden: dict[str, Tensor], rig: str, eyes_are_rigid: bool = False):
    third_edge = "sqrt_area" if "dtf.E_posed" in golden else "unit"
    rest = RestMesh.build(golden["in.verts_cano"], golden["in.faces"].long(), third_edge)
    surfels = BoundSurfels(
        golden["in.binding"].long(),
        golden["in.xyz_local"],
        golden["in.rotation_wxyz"],
        golden["in.scaling_log"].exp(),
        blend_weights(golden["in.blend_weight_logit"]),
    )
    posed = pose_faces(golden["in.verts_posed"][None], rest, rig)
    eyeballs = torch.isin(surfels.face_index, golden["in.mask_f_eyeballs"].long())
    return surfels, rest, posed, eyeballs if eyes_are_rigid else None


@RIG
@pytest.mark.parametrize("key", ["dtf", "jbs", "jbs_eye"])
def test_canonical_rotations_are_the_official_polar_factors(
    golden: dict[str, Tensor], key: str
) -> None:
    rig = "jacobian" if key == "dtf" else "jbs"
    surfels, rest, posed, rigid = posed_rig(golden, rig, key == "jbs_eye")
    found = canonical_rotations(surfels, rest, posed, rigid)[0]
    if key == "dtf":
        expected = golden["dtf.polar_R"][surfels.face_index]
    else:
        expected = golden[f"{key}.blended_R"]
    close(found, expected)


@RIG
@pytest.mark.parametrize("key", ["dtf", "jbs", "jbs_eye"])
def test_shading_normals_with_and_without_the_official_mistake(
    golden: dict[str, Tensor], key: str
) -> None:
    rig = "jacobian" if key == "dtf" else "jbs"
    surfels, rest, posed, rigid = posed_rig(golden, rig, key == "jbs_eye")
    placed = transport(surfels, rest, posed, rigid)
    camera = torch.tensor([[0.3, 0.2, 4.0]])
    every = torch.arange(len(surfels.face_index))
    arguments = (surfels, rest, posed, placed, camera, every, rigid)
    directions = torch.nn.functional.normalize(placed.means[0] - camera, dim=-1)
    rotations = canonical_rotations(surfels, rest, posed, rigid)[0]

    def facing(normals: Tensor) -> Tensor:
        return torch.where((normals * directions).sum(-1, keepdim=True) > 0, -normals, normals)

    fixed = shading_of(*arguments)
    expected = facing(golden[f"{key}.normal_fixed_indexing"])
    close((rotations @ fixed.normals[0, :, :, None])[..., 0], expected)
    close((rotations @ fixed.view_directions[0, :, :, None])[..., 0], directions)

    quirky = shading_of(*arguments, official_quirks=True)
    close(quirky.normals[0], facing(golden[f"{key}.get_normal_official_indexing"]))
    close(quirky.view_directions, fixed.view_directions)
