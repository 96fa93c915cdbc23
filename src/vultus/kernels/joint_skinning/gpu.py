"""Launches of the kernels for joints and skinned vertices, tied into autograd."""

from __future__ import annotations

from typing import Any

from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from vultus.kernels.joint_skinning import PosedJoints
from vultus.kernels.joint_skinning._gpu_gaussians import skin_attributes, skin_attributes_backward
from vultus.kernels.joint_skinning._gpu_joints import pose, pose_backward
from vultus.kernels.joint_skinning._gpu_vertices import skin, skin_backward
from vultus.kernels.triton_calls import check_tensors, contiguous, empty_like
from vultus.kernels.triton_runtime import launch

__all__ = ["pose_joints", "skin_gaussians", "skin_vertices"]

_FRAMES = 32
"""Per warp, of joints."""
_VERTICES = 64
"""Per warp: few, to reach all of a GPU; more, to leave less to add up."""
_GAUSSIANS, _GAUSSIAN_WARPS = 128, 4
_MAX_COLUMNS = 8

_Tensors = tuple[Tensor, ...]


def pose_joints(axis_angles: Tensor, joints: Tensor, parents: tuple[int, ...]) -> PosedJoints:
    """See ``vultus.kernels.joint_skinning.pose_joints``."""
    return PosedJoints(*_Pose.apply(axis_angles, joints, parents))


def skin_vertices(
    vertices: Tensor, transforms: Tensor, weights: Tensor, translation: Tensor | None
) -> Tensor:
    """See ``vultus.kernels.joint_skinning.skin_vertices``.

    Raises:
        ValueError: If the weights require a gradient, which is not computed.
    """
    if weights.requires_grad:
        raise ValueError("weights must be constants, got a tensor that requires a gradient")
    return _Skin.apply(vertices, transforms, weights, translation)


def skin_gaussians(
    attributes: _Tensors,
    transforms: Tensor,
    weights: Tensor,
    before: tuple[Tensor, Tensor],
    after: tuple[Tensor, Tensor],
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """See ``vultus.kernels.joint_skinning.skin_gaussians``.

    Raises:
        TypeError: If not all is float32 on one GPU.
        ValueError: If anything but the attributes requires a gradient, which is not computed.
    """
    constants = {
        "transforms": transforms, "weights": weights, "before[0]": before[0],
        "before[1]": before[1], "after[0]": after[0], "after[1]": after[1],
    }  # fmt: skip
    for name, tensor in constants.items():
        if tensor.requires_grad:
            raise ValueError(f"{name} must be constant, got a tensor that requires a gradient")
    trained = {f"attributes[{i}]": tensor for i, tensor in enumerate(attributes)}
    check_tensors(trained | constants, transforms.device)
    return _SkinGaussians.apply(contiguous([*constants.values()]), *attributes)


class _Pose(Function):
    @staticmethod
    def forward(ctx: Any, axis_angles: Tensor, joints: Tensor, parents: tuple[int, ...]) -> Any:
        axis_angles, joints = axis_angles.contiguous(), joints.contiguous()
        batch, num = joints.shape[:2]
        transforms = joints.new_empty(batch, num, 3, 4)
        features = joints.new_empty(batch, 9 * (num - 1))
        launch(
            pose, (-(-batch // _FRAMES),), axis_angles, joints, transforms, features, batch,
            PARENTS=parents, NUM_JOINTS=num, LANES=_FRAMES,
        )  # fmt: skip
        # An output must not be an attribute: it would keep its own graph alive.
        ctx.save_for_backward(axis_angles, joints, transforms)
        ctx.parents = parents
        ctx.set_materialize_grads(False)
        return transforms, features

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_transforms: Tensor | None, grad_features: Tensor | None) -> Any:
        axis_angles, joints, transforms = ctx.saved_tensors
        batch, num = joints.shape[:2]
        grad_angles, grad_joints = joints.new_empty(batch, num, 3), joints.new_empty(batch, num, 3)
        launch(
            pose_backward, (-(-batch // _FRAMES),), axis_angles, joints, transforms,
            joints if grad_transforms is None else grad_transforms.contiguous(),
            joints if grad_features is None else grad_features.contiguous(),
            grad_angles, grad_joints, batch,
            PARENTS=ctx.parents, NUM_JOINTS=num, HAS_TRANSFORMS=grad_transforms is not None,
            HAS_FEATURES=grad_features is not None, LANES=_FRAMES,
        )  # fmt: skip
        return grad_angles, grad_joints, None


class _Skin(Function):
    @staticmethod
    def forward(
        ctx: Any, vertices: Tensor, transforms: Tensor, weights: Tensor, translation: Tensor | None
    ) -> Any:
        vertices, transforms = vertices.contiguous(), transforms.contiguous()
        weights = weights.contiguous()
        batch, num = vertices.shape[:2]
        posed = vertices.new_empty(batch, num, 3)
        launch(
            skin, (-(-num // _VERTICES), batch), vertices, transforms, weights,
            vertices if translation is None else translation.contiguous(), posed, num,
            HAS_TRANSLATION=translation is not None, NUM_JOINTS=weights.shape[1], LANES=_VERTICES,
        )  # fmt: skip
        ctx.save_for_backward(vertices, transforms, weights)
        return posed

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Any:
        vertices, transforms, weights = ctx.saved_tensors
        batch, num = vertices.shape[:2]
        num_joints, num_blocks = weights.shape[1], -(-num // _VERTICES)
        needs_vertices, needs_transforms, _, needs_translation = ctx.needs_input_grad
        needs_sums = needs_transforms or needs_translation
        grad_vertices = vertices.new_empty(batch, num, 3)
        width = batch * (12 * num_joints + 3)
        partial_sums = vertices.new_empty((num_blocks, width) if needs_sums else 1)
        launch(
            skin_backward, (num_blocks, batch), vertices, transforms, weights, grad.contiguous(),
            grad_vertices, partial_sums, num, batch,
            NEEDS_SUMS=needs_sums, NUM_JOINTS=num_joints, LANES=_VERTICES,
        )  # fmt: skip
        grad_transforms = grad_translation = None
        if needs_sums:
            sums = partial_sums.sum(dim=0)
            transforms_end = 12 * batch * num_joints
            grad_transforms = sums[:transforms_end].view(batch, num_joints, 3, 4)
            grad_translation = sums[transforms_end:].view(batch, 3)
        return (
            grad_vertices if needs_vertices else None,
            grad_transforms if needs_transforms else None,
            None,
            grad_translation if needs_translation else None,
        )


class _SkinGaussians(Function):
    @staticmethod
    def forward(ctx: Any, constants: _Tensors, *attributes: Tensor) -> Any:
        means, quats, log_scales, opacity_logits = contiguous(attributes)
        transforms, weights, shapes_before, _, shapes_after, _ = constants
        batch, num = means.shape[:2]
        results = empty_like((means, quats, log_scales, opacity_logits))
        rotations = means.new_empty(batch, num, 3, 3)
        num_before, num_after = shapes_before.shape[2], shapes_after.shape[2]
        launch(
            skin_attributes, (-(-num // _GAUSSIANS), batch), means, quats, log_scales,
            opacity_logits, *constants, *results, rotations, num,
            NUM_BEFORE=num_before, COLUMNS_BEFORE=_columns(num_before),
            NUM_AFTER=num_after, COLUMNS_AFTER=_columns(num_after),
            NUM_JOINTS=weights.shape[1], LANES=_GAUSSIANS, num_warps=_GAUSSIAN_WARPS,
        )  # fmt: skip
        _, _, scales, opacities = results
        ctx.save_for_backward(quats, transforms, weights, scales, opacities)
        ctx.mark_non_differentiable(rotations)
        return *results, rotations

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Any) -> Any:
        saved = ctx.saved_tensors
        quats, weights = saved[0], saved[2]
        batch, num = quats.shape[:2]
        given = contiguous(grads[:4])
        results = empty_like(given)
        launch(
            skin_attributes_backward, (-(-num // _GAUSSIANS), batch), *saved, *given, *results,
            num, NUM_JOINTS=weights.shape[1], LANES=_GAUSSIANS, num_warps=_GAUSSIAN_WARPS,
        )  # fmt: skip
        return None, *results


def _columns(num_shapes: int) -> int:
    """Shapes that are looked at together: at most as many as memory delivers at once."""
    return min(_MAX_COLUMNS, 1 << max(0, num_shapes - 1).bit_length())
