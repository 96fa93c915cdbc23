"""The Triton kernels against the PyTorch forms that define them, in float64."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from triton_support import compile_launch, is_interpreting, triton_device
from vultus.heads import skinning
from vultus.kernels.joint_skinning import pose_joints, skin_vertices

triton_test = pytest.mark.triton
HEAD = skinning.HEAD_JOINT_PARENTS
TREES = {"head": HEAD, "chain": (-1, 0, 1), "forest": (-1, -1, 1, 0, 1, 3), "root": (-1,)}
NUM_VERTICES = 150


@pytest.fixture
def device() -> torch.device:
    return triton_device()


def draw(*shape: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def drawn_angles(num_joints: int) -> Tensor:
    """Frames: any angles; none; tiny; on both sides of where the series end; almost half turns."""
    axes = torch.nn.functional.normalize(draw(6, num_joints, 3, seed=1), dim=2)
    sizes = torch.tensor([1.3, 0.0, 1e-4, 0.0315, 0.0317, 3.1415]).double()
    return axes * sizes[:, None, None]


def single(value: Tensor, device: torch.device) -> Tensor:
    return value.detach().float().to(device).requires_grad_(value.requires_grad)


def error(actual: Tensor | None, expected: Tensor | None) -> float:
    assert actual is not None
    assert expected is not None
    # A joint that does not turn has no gradient at all.
    size = expected.abs().max().clamp(min=1)
    return float((actual.cpu().double() - expected).abs().max() / size)


@triton_test
@pytest.mark.parametrize("tree", TREES)
@pytest.mark.parametrize("used", [("transforms",), ("features",), ("transforms", "features")])
def test_posed_joints_and_their_gradients_are_those_of_the_definition(device, tree, used):
    parents = TREES[tree]
    if len(parents) == 1 and "features" in used:
        pytest.skip("a root alone drives no correctives")
    angles = drawn_angles(len(parents)).requires_grad_()
    joints = draw(len(angles), len(parents), 3, seed=2).requires_grad_()
    expected = skinning.pose_joints(angles, joints, parents)
    leaves = single(angles, device), single(joints, device)
    actual = pose_joints(*leaves, parents)
    for name in used:
        found, value = getattr(actual, name), getattr(expected, name)
        assert error(found.detach(), value.detach()) < 2e-6, name
        weights = draw(*value.shape, seed=3)
        (value * weights).sum().backward(retain_graph=True)
        (found * weights.to(found)).sum().backward(retain_graph=True)
    assert (joints.grad is None) == ("transforms" not in used)
    for leaf, exact in zip(leaves, (angles, joints), strict=True):
        assert leaf.grad is not None
        wanted = torch.zeros_like(exact) if exact.grad is None else exact.grad
        for found, value in zip(leaf.grad, wanted, strict=True):
            assert error(found, value) < 1e-5


@triton_test
@pytest.mark.parametrize("has_translation", [False, True])
def test_skinned_vertices_and_their_gradients_are_those_of_the_definition(device, has_translation):
    vertices = draw(2, NUM_VERTICES, 3, seed=4).requires_grad_()
    transforms = draw(2, len(HEAD), 3, 4, seed=5).requires_grad_()
    weights = draw(NUM_VERTICES, len(HEAD), seed=6).softmax(dim=1)
    translation = draw(2, 3, seed=7).requires_grad_() if has_translation else None
    expected = skinning.linear_blend_skinning(vertices, transforms, weights, translation)
    exact = [tensor for tensor in (vertices, transforms, translation) if tensor is not None]
    leaves = [single(tensor, device) for tensor in exact]
    actual = skin_vertices(
        leaves[0], leaves[1], single(weights, device), leaves[2] if has_translation else None
    )
    assert error(actual.detach(), expected.detach()) < 2e-6
    cotangent = draw(*expected.shape, seed=8)
    (expected * cotangent).sum().backward()
    (actual * cotangent.to(actual)).sum().backward()
    for found, value in zip(leaves, exact, strict=True):
        assert error(found.grad, value.grad) < 1e-5


@triton_test
def test_only_what_is_asked_for_gets_a_gradient(device):
    vertices = single(draw(1, 70, 3, seed=4).requires_grad_(), device)
    transforms, weights = single(draw(1, 5, 3, 4, seed=5), device), torch.rand(70, 5, device=device)
    skin_vertices(vertices, transforms, weights, None).sum().backward()
    expected = (weights @ transforms[..., :3].sum(dim=2).reshape(5, 3))[None]
    torch.testing.assert_close(vertices.grad, expected)
    assert transforms.grad is None


@triton_test
def test_trained_weights_are_refused(device):
    with pytest.raises(ValueError, match="weights must be constants"):
        skin_vertices(
            torch.zeros(1, 4, 3, device=device),
            torch.zeros(1, 5, 3, 4, device=device),
            torch.zeros(4, 5, device=device, requires_grad=True),
            None,
        )


@pytest.mark.parametrize("capability", [80, 90])
def test_kernels_compile_without_spilling(capability):
    pytest.importorskip("triton")
    if is_interpreting():
        pytest.skip("interpreted functions cannot be compiled")
    from vultus.kernels.triton_runtime import recorded_launches

    angles = torch.zeros(1, len(HEAD), 3, requires_grad=True)
    with recorded_launches() as launches:
        posed = pose_joints(angles, torch.zeros(1, len(HEAD), 3), HEAD)
        vertices = posed.features.sum() + torch.zeros(1, NUM_VERTICES, 3)
        weights = torch.zeros(NUM_VERTICES, len(HEAD))
        skin_vertices(vertices, posed.transforms, weights, torch.zeros(1, 3)).sum().backward()
    assert [launch.kernel.fn.__name__ for launch in launches] == [
        "pose", "skin", "skin_backward", "pose_backward",
    ]  # fmt: skip
    for launch in launches:
        # Sines of large angles, which do not occur, would need a table.
        assert compile_launch(launch, capability).stack <= 48, launch.kernel.fn.__name__
