"""Shading by an environment map: golden values and gradients of another implementation."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from triton_support import triton_device
from vultus.geometry.mesh_sampling import closest_points
from vultus.kernels.env_shade import (
    Backend,
    Materials,
    Shading,
    Shadows,
    TexelLights,
    shade,
    trace_words,
)
from vultus.kernels.ray_mesh import Bvh, pack_visibility, unpack_visibility
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


def lights_of(directions: Tensor, envmap: Tensor, rotation: Tensor, angles: Tensor) -> TexelLights:
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
    lights = lights_of(
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


@pytest.fixture(scope="module")
def frame(golden_dir) -> dict[str, Tensor]:
    """The relit frame, with what it takes from the golden rig."""
    folder = golden_dir / "relightable_blendshapes"
    rig = load_file(folder / "gaussian_blendshapes.safetensors")
    names = ("flame.faces", "param.xyz")
    return load_file(folder / "relight_frame.safetensors") | {name: rig[name] for name in names}


def shade_frame(
    frame: dict[str, Tensor], shadows: Shadows, like: Tensor, backend: Backend
) -> Shading:
    height, width = frame["light.env"].shape[1:]
    rows = math.pi * (torch.arange(height + 1, dtype=torch.float64) / height)
    angles = (rows[:-1].cos() - rows[1:].cos())[:, None].expand(-1, width) * 2 * math.pi / width
    irradiances = (frame["light.env"] * angles).flatten(1).T.to(like)
    names = ("normal", "view", "albedo", "roughness", "specular")
    normal, view, albedo, roughness, specular = (frame[f"gauss.{k}"].to(like)[None] for k in names)
    return shade(
        normal, view, Materials(albedo, roughness[..., 0], specular),
        TexelLights(frame_directions(frame).to(like)[None], irradiances), shadows, backend=backend,
    )  # fmt: skip


def frame_directions(frame: dict[str, Tensor]) -> Tensor:
    """Towards the texels, in the head's frame, without rounding to float32."""
    height, width = frame["light.env"].shape[1:]
    elevation = math.pi * (0.5 - (torch.arange(height, dtype=torch.float64) + 0.5) / height)
    azimuth = 2 * math.pi * (torch.arange(width, dtype=torch.float64) + 0.5) / width
    elevation, azimuth = torch.meshgrid(elevation, azimuth, indexing="ij")
    ring = elevation.cos()
    xyz = torch.stack([ring * azimuth.cos(), elevation.sin(), ring * azimuth.sin()], dim=-1)
    return xyz.flatten(0, 1) @ frame["light.M"].T


def assert_golden_radiance(frame: dict[str, Tensor], shading: Shading, is_exact: bool) -> None:
    names = {"linear": "color", "diffuse_white": "diffuse", "specular": "specular"}
    for name, field in names.items():
        tolerance = FLOAT32_LOBE if field == "specular" else FLOAT32_FORWARD
        expected = frame[f"out.{name}"]
        assert_near(name, getattr(shading, field)[0], expected, 1e-9 if is_exact else tolerance)


def test_a_relit_frame_is_the_golden_one(frame, backend) -> None:
    like = empty_like_inputs(backend)
    shadows = Shadows(
        frame["vis.words"].T[None].contiguous().to(like.device),
        frame["flame.faces"].long()[frame["bind.triangle"]].to(like.device),
        frame["bind.barycentric"].to(like),
    )
    assert_golden_radiance(frame, shade_frame(frame, shadows, like, backend), backend == "ref")


@pytest.mark.parametrize("kind", ["ref", "cpu"])
def test_a_relit_frame_may_be_bound_and_traced_anew(frame, kind) -> None:
    like, faces = empty_like_inputs(kind), frame["flame.faces"].long()
    surface = closest_points(frame["param.xyz"].double(), frame["mesh.canonical"], faces)
    assert torch.equal(surface.face_index, frame["bind.triangle"])
    assert_near("barycentrics", surface.barycentrics, frame["bind.barycentric"], 1e-9)
    posed, normals = frame["mesh.posed"].to(like), frame["mesh.posed_normals"].to(like)
    directions = frame_directions(frame).to(like)
    words = trace_words(Bvh.build(posed, faces), posed, normals, directions, backend=kind)
    visible, is_ambiguous = unpack_visibility(words, 512), frame["vis.ambiguous"].T == 1
    assert is_ambiguous.float().mean() < 0.1
    # Another tracer may see such rays otherwise; all others must be the same.
    settled = pack_visibility(torch.where(is_ambiguous, frame["vis.bits"].T, visible))
    assert torch.equal(settled, frame["vis.words"].T)
    shadows = Shadows.at(surface, faces, settled[None])
    moved = replace(shadows, weights=shadows.weights.to(like))
    assert_golden_radiance(frame, shade_frame(frame, moved, like, kind), kind == "ref")


def test_white_surfaces_in_constant_light_leave_what_arrives(backend) -> None:
    like = empty_like_inputs(backend)
    directions = envmap_directions(16, 32).to(like)
    angles = envmap_solid_angles(16, 32).to(like)
    lights = lights_of(directions.flatten(0, 1), torch.ones(3, 16, 32).to(like),
                          torch.eye(3).to(like), angles)  # fmt: skip
    generator = torch.Generator().manual_seed(3)
    normals = torch.nn.functional.normalize(torch.randn(1, 60, 3, generator=generator), dim=-1)
    white = torch.ones(1, 60, 3).to(like)
    shading = shade(normals.to(like), normals.to(like), Materials(white, white[..., 0], 0 * white),
                    lights, backend=backend, has_specular=False)  # fmt: skip
    assert 0.9954 <= shading.color.min()
    assert shading.color.max() <= 1.0049
    assert math.isclose(float(angles.sum()), 4 * math.pi, rel_tol=1e-6)
