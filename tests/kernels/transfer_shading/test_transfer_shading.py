"""Colours from transfer vectors: the definition, and the kernel against it."""

from __future__ import annotations

import pytest
import torch
from jaxtyping import TypeCheckError
from torch import Tensor

from triton_support import compile_launch, is_interpreting, triton_device
from vultus.kernels.transfer_shading import Backend, shade_transfers

FRAMES, NUM, TERMS = 2, 131, 9


def draw_inputs(lights: int, vectors: int, colors: int) -> tuple[Tensor, Tensor, Tensor]:
    random = torch.Generator().manual_seed(lights)
    return (
        torch.rand(FRAMES, NUM, 3, generator=random),
        torch.randn(FRAMES, NUM, vectors * TERMS, generator=random),
        torch.randn(FRAMES, lights, TERMS, colors, generator=random),
    )


@pytest.mark.parametrize("vectors", [1, 3])
@pytest.mark.parametrize("colors", [1, 3])
def test_a_colour_is_albedo_times_the_product_of_transfer_and_light(
    vectors: int, colors: int
) -> None:
    albedo, transfer, light = (x.double() for x in draw_inputs(4, vectors, colors))
    shaded = shade_transfers(albedo, transfer, light)
    assert shaded.shape == (FRAMES, NUM, 12)
    for light_index, color in ((0, 0), (3, 1), (2, 2)):
        start = TERMS * (color % vectors)
        vector = transfer[1, 7, start : start + TERMS]
        product = vector.dot(light[1, light_index, :, color % colors])
        wanted = max(0.0, float(0.28209479177387814 * albedo[1, 7, color] * product))
        assert float(shaded[1, 7, 3 * light_index + color]) == pytest.approx(wanted, abs=1e-12)


@pytest.mark.triton
@pytest.mark.parametrize(
    ("lights", "vectors", "colors"), [(1, 1, 1), (1, 1, 3), (5, 3, 3), (3, 3, 1)]
)
def test_the_kernel_does_what_the_definition_says(lights: int, vectors: int, colors: int) -> None:
    device = triton_device()
    inputs = draw_inputs(lights, vectors, colors)
    wanted = shade_transfers(*inputs, backend="ref")
    found = shade_transfers(*(x.to(device) for x in inputs), backend="gpu")
    assert bool((wanted == 0.0).any())
    torch.testing.assert_close(found.cpu(), wanted, rtol=1e-5, atol=1e-6)


@pytest.mark.triton
def test_the_kernel_reads_parts_of_larger_tensors_and_keeps_what_is_not_a_number() -> None:
    device = triton_device()
    albedo, transfer, light = draw_inputs(1, 1, 3)
    transfer[0, 5, 2] = float("nan")
    together = torch.cat([albedo, transfer], dim=2).to(device)
    found = shade_transfers(together[..., :3], together[..., 3:], light.to(device), backend="gpu")
    wanted = shade_transfers(albedo, transfer, light, backend="ref")
    torch.testing.assert_close(found.cpu(), wanted, rtol=1e-5, atol=1e-6, equal_nan=True)
    assert bool(found[0, 5].isnan().all())
    assert int(found.isnan().sum()) == 3


@pytest.mark.triton
@pytest.mark.parametrize(("lights", "vectors", "colors"), [(1, 1, 1), (3, 3, 3), (2, 3, 1)])
def test_one_set_of_lights_serves_all_frames(lights: int, vectors: int, colors: int) -> None:
    device = triton_device()
    albedo, transfer, light = draw_inputs(lights, vectors, colors)
    repeated = light[:1].expand(FRAMES, -1, -1, -1)
    wanted = shade_transfers(albedo, transfer, repeated, backend="ref")
    shared = albedo, transfer, light[:1]
    torch.testing.assert_close(shade_transfers(*shared, backend="ref"), wanted)
    found = shade_transfers(*(x.to(device) for x in shared), backend="gpu")
    torch.testing.assert_close(found.cpu(), wanted, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("backend", ["ref", "gpu"])
def test_lights_of_other_frames_and_transfers_of_other_primitives_are_refused(
    backend: Backend,
) -> None:
    albedo, transfer, light = draw_inputs(1, 1, 3)
    three_frames = light[:1].expand(3, -1, -1, -1)
    for inputs in (
        (albedo, transfer, three_frames),
        (albedo, transfer[:, 1:], light),
        (albedo[:1], transfer, light),
    ):
        # Where shapes are checked, that complains first.
        with pytest.raises((ValueError, TypeCheckError), match=r"same frames|light|transfer"):
            shade_transfers(*inputs, backend=backend)


def test_wrong_shapes_and_gradients_are_refused() -> None:
    albedo, transfer, light = draw_inputs(1, 1, 3)
    with pytest.raises(ValueError, match="transfer must have 9 or 27 numbers"):
        shade_transfers(albedo, transfer[..., :8], light)
    with pytest.raises(TypeError, match="computes no gradients"):
        shade_transfers(albedo.requires_grad_(), transfer, light, backend="gpu")
    assert shade_transfers(albedo, transfer, light).requires_grad


@pytest.mark.parametrize("capability", [80, 90])
@pytest.mark.parametrize(("vectors", "colors"), [(1, 3), (3, 1)])
def test_the_kernel_compiles_and_keeps_transfers_in_registers(
    capability: int, vectors: int, colors: int
) -> None:
    pytest.importorskip("triton")
    if is_interpreting():
        pytest.skip("interpreted functions cannot be compiled")
    from vultus.kernels.triton_runtime import recorded_launches

    albedo, transfer, light = draw_inputs(8, vectors, colors)
    with recorded_launches() as launches:
        shade_transfers(albedo, transfer, light, backend="gpu")
        shade_transfers(albedo, transfer, light[:1], backend="gpu")
    assert [compile_launch(launch, capability).stack for launch in launches] == [0, 0]
