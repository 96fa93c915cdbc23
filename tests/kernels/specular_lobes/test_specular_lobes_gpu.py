"""The Triton kernels of specular lobes against the PyTorch forms that define them, in float64."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from triton_support import compile_launch, is_interpreting, triton_device
from vultus.geometry.rotations import axis_angle_to_matrix
from vultus.kernels.specular_lobes import BlendedTurns, lobe_inputs
from vultus.methods.surfhead.shading import Shading
from vultus.methods.surfhead.specular import (
    LobeType,
    lobe_axes,
    lobe_responses,
    reflect,
    view_encoding,
)

triton_test = pytest.mark.triton
FRAMES, SURFELS, FACES = 2, 45, 9
CHOSEN = torch.arange(0, SURFELS, 1)[torch.arange(SURFELS) % 7 != 2]


def draw(*shape: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def scene(lobe_type: LobeType) -> dict[str, Any]:
    lobes = lobe_axes(lobe_type)[0].shape[:2].numel()
    logs = draw(FRAMES, FACES, 3, seed=5)
    logs[:, 0], logs[:, 1] = 0.0, 1e-3 * logs[:, 1]
    face_index = torch.arange(SURFELS) % FACES
    weights = draw(SURFELS, 4, seed=4).softmax(dim=1)
    weights[:12, 1:] = 0.0
    return {
        "numbers": 2 * draw(len(CHOSEN), 4 * lobes, seed=1),
        "means": draw(FRAMES, SURFELS, 3, seed=2),
        "normals": 2 * draw(FRAMES, SURFELS, 3, seed=3),
        "centers": 3 * draw(FRAMES, 3, seed=6),
        "weights": weights,
        "logs": logs,
        "face_index": face_index,
        "adjacency": torch.stack([(torch.arange(FACES) + k) % FACES for k in range(4)], dim=1),
        "rigid": torch.arange(SURFELS) % 4 == 1,
    }


def expected_inputs(lobe_type: LobeType, s: dict[str, Any], turns: Tensor | None) -> Tensor:
    """By the functions of the method."""
    if turns is None:
        logs = s["logs"][:, s["adjacency"][s["face_index"][CHOSEN]]]
        blended = (s["weights"][CHOSEN][..., None] * logs).sum(dim=-2)
        blended = torch.where(s["rigid"][CHOSEN][:, None], logs[..., 0, :], blended)
        turns = axis_angle_to_matrix(blended)
    offsets = s["means"][:, CHOSEN] - s["centers"][:, None]
    directions = torch.nn.functional.normalize(offsets, dim=-1)
    normals = s["normals"][:, CHOSEN]
    is_behind = (directions.detach() * normals).sum(dim=-1, keepdim=True) > 0
    shading = Shading(
        (directions[..., None, :] @ turns)[..., 0, :],
        (torch.where(is_behind, -normals, normals)[..., None, :] @ turns)[..., 0, :],
    )
    axes = lobe_axes(lobe_type)
    reflected, cosine = reflect(shading.view_directions, shading.normals)
    numbers = s["numbers"].unflatten(-1, (*axes[0].shape[:2], 4))
    answers = lobe_responses(lobe_type, numbers, reflected, axes).flatten(start_dim=-3)
    view = shading.view_directions
    return torch.cat([answers, cosine, view, view_encoding(view)], dim=-1)


def actual_inputs(lobe_type: LobeType, s: dict[str, Any], turns: Tensor | None) -> Tensor:
    directions, tangents, bitangents = (axis.to(s["means"]) for axis in lobe_axes(lobe_type))
    return lobe_inputs(
        s["numbers"], s["means"], s["normals"], s["centers"], CHOSEN.to(s["means"].device),
        turns if turns is not None else BlendedTurns(
            s["weights"], s["logs"], s["face_index"], s["adjacency"], s["rigid"]
        ),
        (directions, tangents, bitangents),
        is_isotropic=lobe_type == "sg",
    )  # fmt: skip


@triton_test
@pytest.mark.parametrize("has_blend", [True, False])
@pytest.mark.parametrize("lobe_type", ["sg", "asg", "lasg"])
def test_inputs_and_their_gradients_are_those_of_the_definition(lobe_type, has_blend):
    device = triton_device()
    trained = ("numbers", "means", "weights") if has_blend else ("numbers", "means")
    exact = scene(lobe_type)
    turns = None
    if not has_blend:
        turns = axis_angle_to_matrix(draw(FRAMES, len(CHOSEN), 3, seed=8))
    mine = {n: t.float() if t.is_floating_point() else t for n, t in exact.items()}
    mine = {n: t.to(device) for n, t in mine.items()}
    for name in trained:
        exact[name].requires_grad_()
        mine[name].requires_grad_()
    expected = expected_inputs(lobe_type, exact, turns)
    actual = actual_inputs(lobe_type, mine, None if turns is None else turns.float().to(device))
    assert (actual.cpu().double() - expected).abs().max() < 1e-5 * expected.abs().max()
    weights = draw(*expected.shape, seed=9)
    (expected * weights).sum().backward()
    (actual * weights.to(actual)).sum().backward()
    for name in trained:
        difference = mine[name].grad.cpu().double() - exact[name].grad
        assert difference.abs().max() < 3e-5 * exact[name].grad.abs().max(), name


@triton_test
def test_numbers_of_another_kind_of_lobes_are_refused():
    values = {n: t.float() if t.is_floating_point() else t for n, t in scene("lasg").items()}
    with pytest.raises(ValueError, match="must have 4 columns per lobe"):
        actual_inputs("asg", values, None)


@pytest.mark.parametrize("capability", [80, 90])
@pytest.mark.parametrize("lobe_type", ["sg", "lasg"])
def test_kernels_compile_without_spilling(capability, lobe_type):
    pytest.importorskip("triton")
    if is_interpreting():
        pytest.skip("interpreted functions cannot be compiled")
    from vultus.kernels.triton_runtime import recorded_launches

    values = {n: t.float() if t.is_floating_point() else t for n, t in scene(lobe_type).items()}
    values["means"].requires_grad_()
    with recorded_launches() as launches:
        actual_inputs(lobe_type, values, None).sum().backward()
    names = [launch.kernel.fn.__name__ for launch in launches]
    assert names == ["answer", "answer_backward"]
    for launch in launches:
        # Sines of large angles, which do not occur, would need a table.
        assert compile_launch(launch, capability).stack <= 48, launch.kernel.fn.__name__
