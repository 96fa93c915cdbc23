"""Visibility of probes in packed words: traced, golden, and packed on a GPU."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import load_file

from triton_support import compile_launch, is_interpreting, triton_device
from vultus.kernels.env_shade import Backend, trace_words
from vultus.kernels.ray_mesh import Bvh, pack_visibility, unpack_visibility
from vultus.render.lighting.envmap import envmap_directions


@pytest.fixture(params=["ref", "cpu", pytest.param("gpu", marks=pytest.mark.triton)])
def backend(request) -> Backend:
    return request.param


@pytest.mark.parametrize("name", ["surface", "volume"])
def test_words_are_the_golden_ones(golden_dir, backend, name) -> None:
    golden = load_file(golden_dir / "relightable_blendshapes" / "visibility.safetensors")
    device = triton_device() if backend == "gpu" else torch.device("cpu")
    like = torch.zeros(0, dtype=torch.float64 if backend == "ref" else torch.float32, device=device)
    height, width = golden["in.envmap_hw"].tolist()
    directions = envmap_directions(height, width).flatten(0, 1).double() @ golden["in.rot_ray"].T
    bvh = Bvh.build(golden["mesh.vertices"].to(like), golden["mesh.faces"].long().to(device))
    # The interpreter takes seconds for a hundred rays.
    is_slow = backend == "gpu" and is_interpreting()
    part, some = slice(None, None, 40 if is_slow else 1), slice(None, None, 7 if is_slow else 1)
    points, normals = golden["volume.origins"], None
    if name == "surface":
        points, normals = golden["mesh.vertices"], golden["mesh.vertex_normals"][some].to(like)
    lights = directions[part].to(like)
    words = trace_words(bvh, points[some].to(like), normals, lights, backend=backend)
    assert words.dtype == torch.int32
    visible = unpack_visibility(words, len(lights)).cpu().T
    certain = golden[f"{name}.ambiguous"][part, some] == 0
    assert torch.equal(visible[certain], golden[f"{name}.visible"][part, some][certain])
    if not is_slow:
        is_same = words.cpu().T == golden[f"{name}.words"]
        assert is_same.float().mean() > 0.95


@pytest.mark.triton
@pytest.mark.parametrize("lights", [1, 31, 32, 33, 70])
@pytest.mark.parametrize("points", [0, 1, 65])
def test_flags_are_packed_on_a_gpu_as_elsewhere(points, lights) -> None:
    from vultus.kernels.env_shade import gpu

    generator = torch.Generator().manual_seed(lights)
    flags = torch.randint(0, 3, (points, lights), generator=generator).to(torch.uint8)
    words = gpu.pack_words(flags.to(triton_device()))
    assert torch.equal(words.cpu(), pack_visibility(flags))


def test_the_packing_kernel_compiles() -> None:
    pytest.importorskip("triton")
    if is_interpreting():
        pytest.skip("interpreted functions cannot be compiled")
    from vultus.kernels.env_shade import gpu
    from vultus.kernels.triton_runtime import recorded_launches

    with recorded_launches() as launches:
        gpu.pack_words(torch.zeros(100, 512, dtype=torch.uint8))
    (launch,) = launches
    assert compile_launch(launch, 90).stack == 0
