"""The Triton kernels of posed Gaussians against the PyTorch form that defines them, in float64."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from triton_support import compile_launch, is_interpreting, triton_device
from vultus.geometry.rotations import axis_angle_to_matrix
from vultus.kernels.joint_skinning import skin_gaussians
from vultus.methods.relightable_blendshapes.posing import Anchors, FrameMotion, pose_gaussians

triton_test = pytest.mark.triton

NUM_JOINTS = 5
NAMES = ("means", "quats", "log_scales", "opacity_logits")


@pytest.fixture
def device() -> torch.device:
    return triton_device()


def draw(*shape: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def attributes_of(batch: int, num: int) -> dict[str, Tensor]:
    """One quaternion is too short to have a direction."""
    shapes = {"means": (3,), "quats": (4,), "log_scales": (3,), "opacity_logits": ()}
    drawn = {name: draw(batch, num, *s, seed=i) for i, (name, s) in enumerate(shapes.items())}
    drawn["quats"][0, 0] *= 1e-9
    return {name: value.requires_grad_() for name, value in drawn.items()}


def motion_of(batch: int, num_features: int) -> FrameMotion:
    """Joints turn by less than a quarter each, but all of a frame by any angle about any axis."""
    turns = axis_angle_to_matrix(0.4 * draw(batch, NUM_JOINTS, 3, seed=5))
    axes = torch.nn.functional.normalize(draw(batch, 3, seed=6), dim=1)
    whole = axis_angle_to_matrix(axes * torch.linspace(0.3, math.pi, batch)[:, None].double())
    offsets = draw(batch, NUM_JOINTS, 3, 1, seed=7)
    return FrameMotion(
        expression=draw(batch, 1, seed=8),
        transforms=torch.cat([whole[:, None] @ turns, offsets], dim=-1),
        features=draw(batch, num_features, seed=9),
        eyelids=draw(batch, 2, seed=10),
    )


def anchors_of(num: int, num_features: int) -> Anchors:
    return Anchors(
        skinning_weights=draw(num, NUM_JOINTS, seed=11).softmax(dim=1),
        expression_mask=draw(num, 1, seed=12),
        mean_deltas=draw(num, 3, 1, seed=13),
        quat_deltas=draw(num, 4, 1, seed=14),
        pose_shapes=draw(num, 3, num_features, seed=15),
        eyelid_shapes=draw(num, 3, 2, seed=16),
    )


def skinned(values: list[Tensor], anchors: Anchors, motion: FrameMotion) -> tuple[Tensor, ...]:
    def single(tensor: Tensor) -> Tensor:
        return tensor.float().to(values[0].device)

    return skin_gaussians(
        (values[0], values[1], values[2], values[3]),
        single(motion.transforms),
        single(anchors.skinning_weights),
        (single(anchors.pose_shapes), single(motion.features)),
        (single(anchors.eyelid_shapes), single(motion.eyelids)),
    )


@triton_test
@pytest.mark.parametrize(("batch", "num", "num_features"), [(1, 3, 0), (4, 150, 36), (2, 128, 1)])
def test_posed_gaussians_and_their_gradients_are_those_of_the_definition(
    device, batch, num, num_features
):
    exact = attributes_of(batch, num)
    anchors, motion = anchors_of(num, num_features), motion_of(batch, num_features)
    expected = pose_gaussians(exact, anchors, motion)
    leaves = [exact[name].detach().float().to(device).requires_grad_() for name in NAMES]
    actual = skinned(leaves, anchors, motion)
    wanted = (
        expected.means, expected.quats, expected.scales, expected.opacities, expected.rotations
    )  # fmt: skip
    for i, (found, value) in enumerate(zip(actual, wanted, strict=True)):
        size = value.abs().max().clamp(min=1)
        assert (found.cpu().double() - value).abs().max() < 1e-5 * size
        if not value.requires_grad:
            assert not found.requires_grad
            continue
        cotangent = draw(*value.shape, seed=20 + i)
        (value * cotangent).sum().backward(retain_graph=True)
        (found * cotangent.to(found)).sum().backward(retain_graph=True)
    for leaf, name in zip(leaves, NAMES, strict=True):
        grad = exact[name].grad
        assert grad is not None
        assert leaf.grad is not None
        # Those of short quaternions are large: every Gaussian counts for itself.
        exact_rows, rows = (
            each.reshape(batch, num, -1).double().cpu() for each in (grad, leaf.grad)
        )
        size = exact_rows.abs().amax(dim=2, keepdim=True).clamp(min=1)
        assert ((rows - exact_rows).abs() / size).max() < 2e-5, name


@triton_test
def test_constants_that_require_gradients_are_refused(device):
    values = [tensor.detach().float().to(device) for tensor in attributes_of(1, 2).values()]
    anchors, motion = anchors_of(2, 0), motion_of(1, 0)
    motion.transforms.requires_grad_()
    with pytest.raises(ValueError, match="transforms must be constant"):
        skinned(values, anchors, motion)


@pytest.mark.parametrize("capability", [80, 90])
@pytest.mark.parametrize("num_features", [0, 36])
def test_kernels_compile_without_spilling(capability, num_features):
    pytest.importorskip("triton")
    if is_interpreting():
        pytest.skip("interpreted functions cannot be compiled")
    from vultus.kernels.triton_runtime import recorded_launches

    values = [tensor.detach().float().requires_grad_() for tensor in attributes_of(1, 99).values()]
    with recorded_launches() as launches:
        posed = skinned(values, anchors_of(99, num_features), motion_of(1, num_features))[:4]
        torch.autograd.backward(posed, [torch.ones_like(each) for each in posed])
    names = [launch.kernel.fn.__name__ for launch in launches]
    assert names == ["skin_attributes", "skin_attributes_backward"]
    for launch in launches:
        assert compile_launch(launch, capability).stack == 0, launch.kernel.fn.__name__
