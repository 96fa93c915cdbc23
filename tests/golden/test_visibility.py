"""Visibility and distances of the golden mesh (float64 brute force of another implementation)."""

import math

import pytest
import torch
from safetensors.torch import load_file

from triton_support import is_interpreting, triton_device
from vultus.kernels.ray_mesh import (
    Bvh,
    any_hit,
    first_hit,
    pack_visibility,
    unpack_visibility,
    vertex_visibility,
)

BIAS = 1e-5
"""Offset of the surface rays along the normal, as the fixture states."""


@pytest.fixture(scope="module")
def golden(golden_dir):
    return load_file(golden_dir / "relightable_blendshapes" / "visibility.safetensors")


@pytest.fixture(params=["ref", "cpu", pytest.param("gpu", marks=pytest.mark.triton)])
def backend(request):
    return request.param


def mesh(golden, backend: str) -> tuple[Bvh, torch.Tensor]:
    """The hierarchy, and a tensor whose dtype and device rays must have."""
    dtype = torch.float64 if backend == "ref" else torch.float32
    device = triton_device() if backend == "gpu" else torch.device("cpu")
    like = torch.zeros(0, dtype=dtype, device=device)
    faces = golden["mesh.faces"].long().to(like.device)
    return Bvh.build(golden["mesh.vertices"].to(like), faces), like


def sample(backend: str, step: int) -> slice:
    """Everything, except in Triton's interpreter, which takes seconds for a hundred rays."""
    return slice(None, None, step if backend == "gpu" and is_interpreting() else 1)


def light_directions(golden) -> torch.Tensor:
    """Texel centres of the map, row 0 at +y, turned by the fixture's matrix."""
    height, width = golden["in.envmap_hw"].tolist()
    rows = (torch.arange(height, dtype=torch.float64) + 0.5) * math.pi / height
    columns = (torch.arange(width, dtype=torch.float64) + 0.5) * 2 * math.pi / width
    elevation, azimuth = torch.meshgrid(math.pi / 2 - rows, columns, indexing="ij")
    ring = elevation.cos()
    directions = torch.stack([ring * azimuth.cos(), elevation.sin(), ring * azimuth.sin()], dim=-1)
    return directions.reshape(-1, 3) @ golden["in.rot_ray"].T


def assert_same_visibility(golden, name: str, visible: torch.Tensor, lights: slice) -> None:
    certain = golden[f"{name}.ambiguous"] == 0
    expected = golden[f"{name}.visible"]
    assert certain.float().mean() > 0.99
    assert torch.equal(visible.cpu().T[certain[lights]], expected[lights][certain[lights]])
    words = pack_visibility(expected.T.contiguous())
    assert torch.equal(words.T, golden[f"{name}.words"])
    assert torch.equal(unpack_visibility(words, expected.shape[0]).T, expected)


def test_surface_visibility_is_the_golden_one(golden, backend) -> None:
    bvh, like = mesh(golden, backend)
    normals = golden["mesh.vertex_normals"].to(like)
    part = sample(backend, 100)
    lights = light_directions(golden)[part].to(like)
    visible = vertex_visibility(bvh, bvh.vertices, normals, lights, BIAS, backend=backend)
    assert_same_visibility(golden, "surface", visible, part)


def test_volume_visibility_is_the_golden_one(golden, backend) -> None:
    bvh, like = mesh(golden, backend)
    points = golden["volume.origins"].to(like)
    part = sample(backend, 70)
    lights = light_directions(golden)[part].to(like)
    visible = vertex_visibility(bvh, points, None, lights, 0.0, backend=backend)
    assert_same_visibility(golden, "volume", visible, part)


def test_distances_and_faces_are_the_golden_ones(golden, backend) -> None:
    bvh, like = mesh(golden, backend)
    part = sample(backend, 19)
    origins, directions = (golden[f"dist.rays_{x}"][part].to(like) for x in "od")
    hits = first_hit(bvh, origins, directions, backend=backend)
    certain = golden["dist.ambiguous"][part] == 0
    assert torch.equal(hits.face.cpu()[certain], golden["dist.face"][part].long()[certain])
    tolerance = 1e-12 if backend == "ref" else 2e-5
    distance = hits.distance.double().cpu()
    expected = golden["dist.t"][part]
    torch.testing.assert_close(distance[certain], expected[certain], atol=tolerance, rtol=tolerance)
    occluded = any_hit(bvh, origins, directions, backend=backend).cpu()
    assert torch.equal(occluded[certain], torch.isfinite(expected)[certain])
