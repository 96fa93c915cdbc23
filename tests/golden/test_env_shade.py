"""Shading by an environment map: golden values and gradients of another implementation."""

from __future__ import annotations

import math

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from triton_support import triton_device
from vultus.kernels.env_shade import Backend, Materials, Shading, Shadows, TexelLights, shade
from vultus.render.lighting.envmap import envmap_directions, envmap_solid_angles

VARIANTS = {
    "novis": {},
    "vis": {},
    "clamp": {"has_back_faces": False},
    "diffuse_only": {"has_specular": False},
}
FLOAT32_FORWARD = 3e-6
FLOAT32_GRADIENTS = {"albedo": 6e-6, "envmap": 6e-6}
FLOAT32_OTHER_GRADIENTS = 2.4e-4
"""Relative L2 differences: three times what the fixture says of another float32 implementation."""
FLOAT32_LOBE = 3e-5
"""Of the lobe alone: at roughness 0.15 it changes by 4 / 0.15^4 times as much as n.h."""


@pytest.fixture(params=["ref", "cpu", pytest.param("gpu", marks=pytest.mark.triton)])
def backend(request) -> Backend:
    return request.param


def empty_like_inputs(backend: Backend) -> Tensor:
    """A tensor whose dtype and device the inputs must have."""
    device = triton_device() if backend == "gpu" else torch.device("cpu")
    return torch.zeros(0, dtype=torch.float64 if backend == "ref" else torch.float32, device=device)


def texel_lights(directions: Tensor, envmap: Tensor, rotation: Tensor, angles: Tensor):
    return TexelLights((directions @ rotation.T)[None], (envmap.flatten(1) * angles.flatten()).T)


def assert_near(name: str, actual: Tensor, expected: Tensor, tolerance: float) -> None:
    difference = (actual.double().cpu() - expected).norm() / expected.norm().clamp(min=1e-30)
    assert difference <= tolerance, f"{name}: {difference:.2e}"


@pytest.mark.golden("relightable_blendshapes/envshade*.safetensors")
@pytest.mark.parametrize("variant", VARIANTS)
def test_radiance_and_gradients_are_the_golden_ones(golden, variant, backend) -> None:
    like = empty_like_inputs(backend)
    values = {k: golden[f"in.{k}"].to(like) for k in (
        "normal", "view_dir", "albedo", "roughness", "specular_albedo", "envmap", "light2obj",
    )}  # fmt: skip
    leaves = {k: v.clone().requires_grad_() for k, v in values.items() if k != "light2obj"}
    lights = texel_lights(
        golden["aux.light_dirs_obj0"].to(like),
        leaves["envmap"],
        values["light2obj"],
        golden["aux.solid_angles"].to(like),
    )
    shadows = None
    if variant == "vis":
        shadows = Shadows(
            golden["in.visibility_words"].T[None].contiguous().to(like.device),
            golden["in.faces"].long()[golden["in.nearest_triangle_id"]].to(like.device),
            golden["in.barycentric"].to(like),
        )
    materials = Materials(
        leaves["albedo"][None], leaves["roughness"][None, :, 0], leaves["specular_albedo"][None]
    )
    shading = shade(
        leaves["normal"][None], leaves["view_dir"][None], materials, lights, shadows,
        backend=backend, **VARIANTS[variant],
    )  # fmt: skip
    is_exact = like.dtype == torch.float64
    names = {"shading": "color", "diffuse_shading": "diffuse", "specular_shading": "specular"}
    for name, field in names.items():
        tolerance = FLOAT32_LOBE if field == "specular" else FLOAT32_FORWARD
        expected = golden[f"{variant}.{name}"]
        assert_near(name, getattr(shading, field)[0], expected, 1e-10 if is_exact else tolerance)
    upstream = [golden[f"in.grad_{k}"].to(like)[None] for k in ("shading", "diffuse_shading")]
    torch.autograd.backward([shading.color, shading.diffuse], upstream)
    for name, leaf in leaves.items():
        looser = FLOAT32_GRADIENTS.get(name, FLOAT32_OTHER_GRADIENTS)
        gradient = torch.zeros_like(leaf) if leaf.grad is None else leaf.grad
        assert_near(name, gradient, golden[f"{variant}.grad_{name}"], 1e-10 if is_exact else looser)


def relit(golden_dir, backend: Backend) -> tuple[dict[str, Tensor], Shading]:
    golden = load_file(golden_dir / "relightable_blendshapes" / "relight_frame.safetensors")
    model = load_file(golden_dir / "relightable_blendshapes" / "gaussian_blendshapes.safetensors")
    like = empty_like_inputs(backend)
    height, width = golden["light.env"].shape[1:]
    previous = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        directions, angles = envmap_directions(height, width), envmap_solid_angles(height, width)
    finally:
        torch.set_default_dtype(previous)
    lights = texel_lights(directions.flatten(0, 1), golden["light.env"], golden["light.M"], angles)
    shadows = Shadows(
        golden["vis.words"].T[None].contiguous().to(like.device),
        model["flame.faces"].long()[golden["bind.triangle"]].to(like.device),
        golden["bind.barycentric"].to(like),
    )
    gaussians = {k: golden[f"gauss.{k}"].to(like)[None] for k in (
        "normal", "view", "albedo", "roughness", "specular",
    )}  # fmt: skip
    materials = Materials(
        gaussians["albedo"], gaussians["roughness"][..., 0], gaussians["specular"]
    )
    return golden, shade(
        gaussians["normal"], gaussians["view"], materials,
        TexelLights(lights.directions.to(like), lights.irradiances.to(like)), shadows,
        backend=backend,
    )  # fmt: skip


def test_a_relit_frame_is_the_golden_one(golden_dir, backend) -> None:
    golden, shading = relit(golden_dir, backend)
    tolerance = 1e-9 if backend == "ref" else FLOAT32_FORWARD
    assert_near("color", shading.color[0], golden["out.linear"], tolerance)
    assert_near("diffuse", shading.diffuse[0], golden["out.diffuse_white"], tolerance)
    lobe_tolerance = 1e-9 if backend == "ref" else FLOAT32_LOBE
    assert_near("specular", shading.specular[0], golden["out.specular"], lobe_tolerance)


def test_white_surfaces_in_constant_light_leave_what_arrives(backend) -> None:
    like = empty_like_inputs(backend)
    directions = envmap_directions(16, 32).to(like)
    angles = envmap_solid_angles(16, 32).to(like)
    lights = texel_lights(directions.flatten(0, 1), torch.ones(3, 16, 32).to(like),
                          torch.eye(3).to(like), angles)  # fmt: skip
    generator = torch.Generator().manual_seed(3)
    normals = torch.nn.functional.normalize(torch.randn(1, 60, 3, generator=generator), dim=-1)
    white = torch.ones(1, 60, 3).to(like)
    shading = shade(normals.to(like), normals.to(like), Materials(white, white[..., 0], 0 * white),
                    lights, backend=backend, has_specular=False)  # fmt: skip
    assert 0.9954 <= shading.color.min()
    assert shading.color.max() <= 1.0049
    assert math.isclose(float(angles.sum()), 4 * math.pi, rel_tol=1e-6)
