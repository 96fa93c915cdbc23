"""Visibility of probes in packed words: against golden ones."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import load_file

from triton_support import is_interpreting, triton_device
from vultus.kernels.env_shade import Backend, trace_words
from vultus.kernels.ray_mesh import Bvh, unpack_visibility
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
