"""Launches of the kernels that look things up on a mesh, tied into autograd."""

from __future__ import annotations

from typing import Any

from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from vultus.kernels.surface_lookup._gpu_closest import closest, closest_backward
from vultus.kernels.surface_lookup._gpu_facing import face, face_backward
from vultus.kernels.triton_calls import check_tensors, contiguous
from vultus.kernels.triton_runtime import launch

__all__ = ["bound_barycentrics", "find_facing"]

_LANES, _WARPS = 128, 4


def bound_barycentrics(points: Tensor, vertices: Tensor, corners: Tensor) -> Tensor:
    """See ``vultus.kernels.surface_lookup.bound_barycentrics``.

    Raises:
        TypeError: If points and vertices are not float32 on one GPU.
        ValueError: If the vertices require a gradient, which is not computed.
    """
    _check_constant(vertices=vertices)
    check_tensors({"points": points, "vertices": vertices}, points.device)
    return _Closest.apply(points, vertices, corners)


def find_facing(
    barycentrics: Tensor,
    corners: Tensor,
    vertex_normals: Tensor,
    means: Tensor,
    camera_centers: Tensor,
) -> tuple[Tensor, Tensor]:
    """See ``vultus.kernels.surface_lookup.find_facing``.

    Raises:
        TypeError: If all but the corners are not float32 on one GPU.
        ValueError: If normals or centers require a gradient, which is not computed.
    """
    constants = {"vertex_normals": vertex_normals, "camera_centers": camera_centers}
    _check_constant(**constants)
    trained = {"barycentrics": barycentrics, "means": means}
    check_tensors(trained | constants, means.device)
    return _Face.apply(barycentrics, corners, vertex_normals, means, camera_centers)


def _check_constant(**tensors: Tensor) -> None:
    for name, tensor in tensors.items():
        if tensor.requires_grad:
            raise ValueError(f"{name} must be constant, got a tensor that requires a gradient")


def _blocks(num: int) -> int:
    return -(-num // _LANES)


class _Closest(Function):
    @staticmethod
    def forward(ctx: Any, points: Tensor, vertices: Tensor, corners: Tensor) -> Tensor:
        inputs = contiguous((points, vertices, corners))
        num, found = len(points), points.new_empty(points.shape)
        launch(closest, (_blocks(num),), *inputs, found, num, LANES=_LANES, num_warps=_WARPS)
        ctx.save_for_backward(*inputs)
        return found

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Any:
        points = ctx.saved_tensors[0]
        num, grad_points = len(points), points.new_empty(points.shape)
        launch(
            closest_backward, (_blocks(num),), *ctx.saved_tensors, grad.contiguous(), grad_points,
            num, LANES=_LANES, num_warps=_WARPS,
        )  # fmt: skip
        return grad_points, None, None


class _Face(Function):
    @staticmethod
    def forward(ctx: Any, *inputs: Tensor) -> Any:
        inputs = contiguous(inputs)
        _, _, vertex_normals, means, _ = inputs
        batch, num = means.shape[:2]
        normals, views = means.new_empty(means.shape), means.new_empty(means.shape)
        launch(
            face, (_blocks(num), batch), *inputs, normals, views, num, vertex_normals.shape[1],
            LANES=_LANES, num_warps=_WARPS,
        )  # fmt: skip
        ctx.save_for_backward(*inputs)
        return normals, views

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Any) -> Any:
        barycentrics, _, vertex_normals, means, _ = ctx.saved_tensors
        batch, num = means.shape[:2]
        grad_barycentrics = barycentrics.new_empty(barycentrics.shape)
        grad_means = means.new_empty(means.shape)
        launch(
            face_backward, (_blocks(num),), *ctx.saved_tensors, *contiguous(grads),
            grad_barycentrics, grad_means, num, vertex_normals.shape[1], batch,
            LANES=_LANES, num_warps=_WARPS,
        )  # fmt: skip
        return grad_barycentrics, None, None, grad_means, None
