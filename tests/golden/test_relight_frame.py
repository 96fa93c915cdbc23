"""One relit frame through the method's own functions: every intermediate is the golden one."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from tolerances import assert_close
from vultus.data.relighting import light_to_world
from vultus.geometry.cameras import Camera, camera_centers
from vultus.geometry.meshes import vertex_normals
from vultus.kernels.env_shade import Materials
from vultus.kernels.ray_mesh import pack_visibility, unpack_visibility
from vultus.methods.relightable_blendshapes.environment import raw_to_radiance
from vultus.methods.relightable_blendshapes.materials import activate_materials
from vultus.methods.relightable_blendshapes.mesh_binding import bind_to_mesh
from vultus.methods.relightable_blendshapes.shading import (
    Visibility,
    encode_radiance,
    shade_gaussians,
)
from vultus.methods.relightable_blendshapes.visibility import OccluderMesh
from vultus.render.lighting.texels import TexelGrid


@pytest.fixture(scope="module")
def frame(golden_dir) -> dict[str, Tensor]:
    """Inputs and results of the frame, with what it takes from the golden rig; all float64."""
    folder = golden_dir / "relightable_blendshapes"
    rig = load_file(folder / "gaussian_blendshapes.safetensors")
    names = ("flame.faces", "param.xyz", "frame1.out.xyz", "frame1.in.exp", "acc.expr_mask_tensor")
    tensors = load_file(folder / "relight_frame.safetensors") | {n: rig[n] for n in names}
    return {n: t.double() if t.is_floating_point() else t for n, t in tensors.items()}


def camera_of(frame: dict[str, Tensor]) -> Camera:
    matrix = torch.eye(4, dtype=torch.float64)
    matrix[:3, :3], matrix[:3, 3] = frame["in.w2c_R"], frame["in.w2c_t"]
    return Camera(matrix[None], torch.eye(3, dtype=torch.float64)[None], 64, 64)


def blended(frame: dict[str, Tensor], name: str) -> Tensor:
    """Spec 4.1: neutral plus masked deltas; materials have no initial deltas."""
    weights = frame["frame1.in.exp"][0, :50] * frame["acc.expr_mask_tensor"]
    return (frame[f"in.{name}"] + (frame[f"in.{name}_b"] * weights[:, None]).sum(dim=-1))[None]


def blended_materials(frame: dict[str, Tensor]) -> Materials:
    # The file keeps the least roughness in float32; the frame was made with 0.3 itself.
    min_roughness = round(float(frame["in.r_min"]), 6)
    stored = (blended(frame, name) for name in ("albedo", "roughness", "specular"))
    return activate_materials(*stored, min_roughness=min_roughness)


def test_the_light_is_the_golden_one(frame) -> None:
    camera = camera_of(frame)
    assert_close(light_to_world(camera, "camera_opengl")[0], frame["light.M"])
    assert_close(camera_centers(camera)[0], frame["light.camera_center"])
    assert_close(raw_to_radiance(frame["in.env_raw"]), frame["light.env"])


def test_the_binding_is_the_golden_one(frame) -> None:
    faces = frame["flame.faces"].long()
    binding = bind_to_mesh(frame["param.xyz"], frame["mesh.canonical"], faces)
    assert torch.equal(binding.face_index, frame["bind.triangle"])
    assert_close(binding.barycentrics, frame["bind.barycentric"])
    normals = vertex_normals(frame["mesh.posed"], faces)
    assert_close(normals, frame["mesh.posed_normals"])
    assert_close(binding.normals(normals[None])[0], frame["gauss.normal"])


def test_materials_are_the_golden_ones(frame) -> None:
    materials = blended_materials(frame)
    assert_close(materials.albedo[0], frame["gauss.albedo"])
    assert_close(materials.roughness[0], frame["gauss.roughness"][:, 0])
    assert_close(materials.specular[0], frame["gauss.specular"])


@pytest.mark.parametrize("is_traced", [False, True])
def test_the_radiance_of_the_whole_chain_is_the_golden_one(frame, is_traced) -> None:
    faces, camera = frame["flame.faces"].long(), camera_of(frame)
    normals = vertex_normals(frame["mesh.posed"][None], faces)
    binding = bind_to_mesh(frame["param.xyz"], frame["mesh.canonical"], faces)
    grid = TexelGrid.build(16, 32, torch.float64)
    radiance = raw_to_radiance(frame["in.env_raw"])
    lights = grid.lights(radiance, light_to_world(camera, "camera_opengl"))
    words = frame["vis.words"].T[None].contiguous()
    if is_traced:
        occluder = OccluderMesh.build(frame["mesh.canonical"], faces, "ref")
        traced = occluder.trace(frame["mesh.posed"][None], normals, lights.directions)
        visible, is_ambiguous = unpack_visibility(traced[0], 512), frame["vis.ambiguous"].T == 1
        # Another tracer may see such rays otherwise; all others must be the same.
        settled = pack_visibility(torch.where(is_ambiguous, frame["vis.bits"].T, visible))
        assert is_ambiguous.float().mean() < 0.1
        assert torch.equal(settled[None], words)
    shading, _ = shade_gaussians(
        frame["frame1.out.xyz"][None], camera_centers(camera), binding, normals,
        blended_materials(frame), lights, Visibility(words),
    )  # fmt: skip
    expected = {"color": "linear", "diffuse": "diffuse_white", "specular": "specular"}
    for field, name in expected.items():
        found = getattr(shading, field)[0]
        torch.testing.assert_close(found, frame[f"out.{name}"], rtol=1e-9, atol=0)
    encoded = encode_radiance(shading.color[0])
    torch.testing.assert_close(encoded, frame["out.srgb_per_gaussian"], rtol=1e-9, atol=0)
