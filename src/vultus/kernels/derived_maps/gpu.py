"""Launches of the kernels for derived normals, tied into autograd."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from vultus.geometry.cameras import Camera
from vultus.kernels.derived_maps._gpu_normals import derive, derive_backward
from vultus.kernels.triton_calls import check_tensors, contiguous, or_other
from vultus.kernels.triton_runtime import launch

__all__ = ["derive_normals"]

_LANES, _WARPS = 256, 4


def derive_normals(
    camera: Camera, depth: Tensor | None, alpha: Tensor | None, view_normals: Tensor | None
) -> tuple[Tensor | None, Tensor | None]:
    """See ``vultus.kernels.derived_maps.derive_normals``."""
    if (depth is None) != (alpha is None):
        raise ValueError("depth and alpha must come together")
    if camera.world_to_camera.requires_grad or camera.intrinsics.requires_grad:
        raise ValueError("camera must not require a gradient in fused derived maps")
    given = {"depth": depth, "alpha": alpha, "view_normals": view_normals}
    device = camera.intrinsics.device
    check_tensors({"camera.world_to_camera": camera.world_to_camera, **given}, device)
    if depth is None and view_normals is None:
        return None, None
    return _Derive.apply(
        camera.world_to_camera, camera.intrinsics, (camera.height, camera.width),
        None if alpha is None else alpha.detach(), depth, view_normals,
    )  # fmt: skip


class _Derive(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, view: Tensor, intrinsics: Tensor, size: tuple[int, int], *maps: Any
    ) -> Any:
        view, intrinsics, alpha, depth, view_normals = contiguous((view, intrinsics, *maps))
        batch, (height, width) = view.shape[0], size
        new = (batch, 3, height, width)
        depth_normals = None if depth is None else view.new_empty(new)
        normals = None if view_normals is None else view.new_empty(new)
        launch(
            derive, (-(-height * width // _LANES), batch),
            *or_other((depth, alpha, view_normals), view), intrinsics, view,
            *or_other((depth_normals, normals), view), height, width,
            HAS_DEPTH=depth is not None, HAS_NORMALS=normals is not None,
            LANES=_LANES, num_warps=_WARPS,
        )  # fmt: skip
        ctx.save_for_backward(view, intrinsics, alpha, depth)
        ctx.size = size
        ctx.set_materialize_grads(False)
        return depth_normals, normals

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Any) -> Any:
        view, intrinsics, alpha, depth = ctx.saved_tensors
        of_depth, of_normals = contiguous(grads)
        batch, (height, width) = view.shape[0], ctx.size
        grad_depth = None if of_depth is None else view.new_empty(batch, 1, height, width)
        grad_view_normals = None if of_normals is None else torch.empty_like(of_normals)
        launch(
            derive_backward, (-(-height * width // _LANES), batch),
            *or_other((depth, alpha), view), intrinsics, view,
            *or_other((of_depth, of_normals, grad_depth, grad_view_normals), view), height, width,
            HAS_DEPTH=of_depth is not None, HAS_NORMALS=of_normals is not None,
            LANES=_LANES, num_warps=_WARPS,
        )  # fmt: skip
        return None, None, None, None, grad_depth, grad_view_normals
