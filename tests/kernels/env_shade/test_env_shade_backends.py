"""Fast backends of shading against the reference in float64: values and gradients."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import pytest
import torch

from shade_scenes import ShadeScene, make_scene
from triton_support import compile_launch, is_interpreting, triton_device
from vultus.kernels.env_shade import Backend, Shading

EXACT = torch.zeros(0, dtype=torch.float64)
VALUES, GRADIENTS = 2e-5, 1e-4
"""Largest differences, relative to the largest value."""
FLOOR = 1e-30
"""What float32 need not represent."""


@pytest.fixture(params=["cpu", pytest.param("gpu", marks=pytest.mark.triton)])
def backend(request) -> Backend:
    return request.param


def single(backend: Backend) -> torch.Tensor:
    """A float32 tensor where the backend runs."""
    return torch.zeros(0, device=triton_device() if backend == "gpu" else "cpu")


def assert_agrees(scene: ShadeScene, backend: Backend, **options: bool) -> Shading:
    """Compare everything with the reference."""
    exact, mine = scene.to(EXACT), scene.to(single(backend))
    expected, actual = exact.shade("ref", **options), mine.shade(backend, **options)
    pairs = {
        name: (getattr(actual, name), getattr(expected, name), VALUES) for name in vars(expected)
    }
    expected_grads, actual_grads = exact.gradients(expected), mine.gradients(actual)
    for name, gradient in expected_grads.items():
        pairs[f"gradient of {name}"] = (actual_grads[name], gradient, GRADIENTS)
    for name, (a, b, tolerance) in pairs.items():
        assert a.shape == b.shape, name
        assert bool(torch.isfinite(a).all()), name
        if a.numel():
            difference = (a.detach().double().cpu() - b.detach()).abs().max()
            assert difference <= tolerance * b.abs().max() + FLOOR, f"{name}: {difference:.2e}"
    return actual


def test_random_scenes_agree(backend) -> None:
    shading = assert_agrees(make_scene(), backend)
    assert bool((shading.specular > 0).any())


@pytest.mark.parametrize("num", [0, 1, 64, 65])
def test_any_number_of_gaussians_agrees(backend, num) -> None:
    assert_agrees(make_scene(num=num, texels=9), backend)


@pytest.mark.parametrize("texels", [0, 1, 31, 32, 33])
def test_any_number_of_texels_agrees(backend, texels) -> None:
    assert_agrees(make_scene(num=5, texels=texels), backend)


@pytest.mark.parametrize("options", [{"has_specular": False}, {"has_back_faces": False}])
def test_variants_agree(backend, options) -> None:
    assert_agrees(make_scene(texels=12), backend, **options)


@pytest.mark.parametrize("strength", [0.0, 0.3])
def test_weak_shadows_agree(backend, strength) -> None:
    assert_agrees(replace(make_scene(texels=12), strength=strength), backend)


def test_scenes_without_shadows_agree(backend) -> None:
    assert_agrees(replace(make_scene(texels=12), has_shadows=False), backend)


def test_nothing_that_is_hidden_shines(backend) -> None:
    scene = make_scene(num=6, texels=40)
    hidden = replace(scene, visible=torch.zeros_like(scene.visible))
    shading = assert_agrees(hidden, backend)
    assert not bool(shading.color.any())


def test_the_last_bit_of_a_word_is_one_of_them(backend) -> None:
    scene = make_scene(num=6, texels=32)
    only_last = (torch.arange(32) == 31).to(torch.uint8).expand_as(scene.visible)
    shading = assert_agrees(replace(scene, visible=only_last.contiguous()), backend)
    assert bool((shading.diffuse > 0).any())


@pytest.mark.parametrize("roughness", [0.0, 1e-12, 1e-3, 1.0])
def test_mirrors_and_matte_surfaces_agree(backend, roughness) -> None:
    scene = make_scene(num=10, texels=12)
    shading = assert_agrees(
        replace(scene, roughness=torch.full_like(scene.roughness, roughness)), backend
    )
    assert bool(shading.specular.any()) == (roughness > 1e-11)


def test_lights_behind_the_surface_leave_it_black(backend) -> None:
    scene = make_scene(num=6, texels=8, frames=1)
    normals = scene.directions.mean(dim=1, keepdim=True).expand(-1, 6, -1)
    towards = torch.nn.functional.normalize(normals, dim=-1)
    away = replace(scene, normals=-towards, directions=towards[:, :1].expand(-1, 8, -1).clone())
    shading = assert_agrees(away, backend)
    assert not bool(shading.color.any())


def test_a_light_exactly_opposite_to_the_view_has_no_half_vector(backend) -> None:
    axis = torch.tensor([0.0, 0.0, 1.0], dtype=torch.float64)
    scene = make_scene(num=2, texels=1, frames=1)
    opposite = replace(
        scene,
        has_shadows=False,
        normals=axis.expand(1, 2, 3).clone(),
        views=-axis.expand(1, 2, 3).clone(),
        directions=axis.expand(1, 1, 3).clone(),
    )
    shading = assert_agrees(opposite, backend)
    assert bool((shading.specular > 0).all())


def test_views_and_lights_along_the_normal_agree(backend) -> None:
    """There the lobe has its maximum and gradients of n.h are largest."""
    scene = make_scene(num=3, texels=2, frames=1)
    axis = scene.directions[:, :1]
    along = axis.expand(-1, 3, -1).clone()
    assert_agrees(replace(scene, normals=along, views=along.clone()), backend)


def test_vectors_that_are_not_unit_agree(backend) -> None:
    scene = make_scene(num=10, texels=12)
    # Powers of two keep them representable.
    stretched = replace(scene, normals=0.5 * scene.normals, views=2.0 * scene.views)
    assert_agrees(stretched, backend)


def test_results_do_not_depend_on_the_number_of_threads() -> None:
    scene = make_scene(num=700, texels=12).to(torch.zeros(0))
    before = torch.get_num_threads()
    results = []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            shading = scene.shade("cpu")
            results.append((shading.color, *scene.gradients(shading).values()))
    finally:
        torch.set_num_threads(before)
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other, strict=True))


@pytest.mark.triton
def test_programs_may_take_several_blocks(monkeypatch) -> None:
    triton_device()
    from vultus.kernels.env_shade import gpu

    monkeypatch.setattr(gpu, "_MAX_PROGRAMS", 2)
    assert gpu._num_programs(3, 2) == 1
    assert_agrees(make_scene(num=140, texels=5), "gpu")


def test_memory_does_not_grow_with_gaussians_times_texels() -> None:
    pytest.importorskip("triton")
    from vultus.kernels.env_shade import gpu

    for blocks, batch in ((1094, 1), (2049, 1), (10**6, 1), (1094, 8)):
        programs = gpu._num_programs(blocks, batch)
        assert programs * batch <= gpu._MAX_PROGRAMS
        # Blocks are dealt out evenly: no program has many more than others.
        assert -(-blocks // programs) <= -(-blocks * batch // gpu._MAX_PROGRAMS) + 1


def test_backends_refuse_what_they_cannot_compute(backend) -> None:
    doubles = make_scene().to(single(backend).double())
    with pytest.raises(TypeError, match="normals must be float32"):
        doubles.shade(backend)


def test_the_gpu_is_not_replaced_where_there_is_none() -> None:
    pytest.importorskip("triton")
    if is_interpreting():
        pytest.skip("the interpreter takes tensors on the CPU")
    with pytest.raises(TypeError, match="normals must be on a GPU for backend gpu, got cpu"):
        make_scene().to(torch.zeros(0)).shade("gpu")


def recorded(scene: ShadeScene, **options: bool) -> dict[str, Any]:
    """What a forward and a backward pass would launch."""
    pytest.importorskip("triton")
    if is_interpreting():
        pytest.skip("interpreted functions cannot be compiled")
    from vultus.kernels.triton_runtime import recorded_launches

    with recorded_launches() as launches:
        scene.to(torch.zeros(0)).shade("gpu", **options).color.sum().backward()
    return {launch.kernel.fn.__name__: launch for launch in launches}


@pytest.mark.parametrize("capability", [80, 90])
@pytest.mark.parametrize("is_plain", [False, True])
def test_kernels_compile_without_spilling(capability, is_plain) -> None:
    scene = replace(make_scene(), has_shadows=not is_plain, strength=None if is_plain else 0.5)
    launches = recorded(scene, has_specular=not is_plain, has_back_faces=not is_plain)
    assert list(launches) == ["shade_texels", "shade_texels_backward"]
    for name, launch in launches.items():
        assert compile_launch(launch, capability).stack == 0, name


@pytest.mark.parametrize(
    ("kernel", "carried"),
    [
        ("shade_texels", "d0 d1 d2 s0 s1 s2"),
        (
            "shade_texels_backward",
            "by_a by_k by_light by_light by_light by_lobe by_normal by_normal by_normal n_weight "
            "v_weight",
        ),
    ],
)
def test_loops_over_texels_carry_all_sums(kernel, carried) -> None:
    """Triton may take a name that starts as another's tensor as unchanged; its interpreter not."""
    compiled = compile_launch(recorded(make_scene())[kernel], 90)
    found = re.search(r"scf\.for %bit .*? iter_args\((.*?)\) ->", compiled.ttir)
    assert found is not None
    names = re.findall(r"%([\w.]+) =", found[1])
    # Releases of Triton number parts of vectors differently.
    assert sorted(re.sub(r"(\.\d+)?(_\d+)?$", "", name) for name in names) == carried.split()
