"""Launches of the kernels for lobes, tied into autograd."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from vultus.kernels.specular_lobes import NUM_VIEW_INPUTS, BlendedTurns
from vultus.kernels.specular_lobes._gpu_lobes import answer, answer_backward
from vultus.kernels.triton_calls import contiguous, or_other
from vultus.kernels.triton_runtime import launch

__all__ = ["lobe_inputs"]

_LANES = 32
"""A warp each: some ten thousand surfels shine."""


def lobe_inputs(
    numbers: Tensor,
    means: Tensor,
    normals: Tensor,
    camera_centers: Tensor,
    chosen: Tensor,
    turns: BlendedTurns | Tensor,
    axes: tuple[Tensor, Tensor, Tensor],
    is_isotropic: bool,
) -> Tensor:
    """See ``vultus.kernels.specular_lobes.lobe_inputs``."""
    table = torch.cat([axis.reshape(-1, 3) for axis in axes], dim=1)
    if isinstance(turns, BlendedTurns):
        constants = (turns.rotation_logs, turns.face_index, turns.adjacency, turns.rigid_surfels)
        weights = turns.blend_weights
    else:
        constants, weights = (turns.detach(), None, None, None), None
    constants = (normals.detach(), camera_centers, chosen, table, *constants)
    return _Answer.apply(constants, is_isotropic, numbers, means, weights)


class _Answer(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, constants: tuple[Any, ...], is_isotropic: bool, *trained: Tensor | None
    ) -> Tensor:
        constants = contiguous(constants)
        numbers, means, weights = contiguous(trained)
        assert numbers is not None, "numbers"
        assert means is not None, "means"
        batch, (num, columns) = means.shape[0], numbers.shape
        inputs = numbers.new_empty(batch, num, columns // 2 + NUM_VIEW_INPUTS)
        launch(
            answer, (-(-num // _LANES), batch), *_arguments(constants, numbers, means, weights),
            inputs, *_sizes(constants, numbers, means), **_flags(constants, weights, is_isotropic),
        )  # fmt: skip
        ctx.save_for_backward(numbers, means, weights)
        ctx.constants, ctx.is_isotropic = constants, is_isotropic
        return inputs

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        numbers, means, weights = ctx.saved_tensors
        constants = ctx.constants
        grad_numbers, grad_means = torch.empty_like(numbers), torch.zeros_like(means)
        grad_weights = None if weights is None else torch.zeros_like(weights)
        launch(
            answer_backward, (-(-numbers.shape[0] // _LANES),),
            *_arguments(constants, numbers, means, weights), grads[0].contiguous(),
            grad_numbers, grad_means, *or_other((grad_weights,), means),
            *_sizes(constants, numbers, means), means.shape[0],
            **_flags(constants, weights, ctx.is_isotropic),
        )  # fmt: skip
        return None, None, grad_numbers, grad_means, grad_weights


def _arguments(
    constants: tuple[Any, ...], numbers: Tensor, means: Tensor, weights: Tensor | None
) -> tuple[Tensor, ...]:
    """What both kernels read first."""
    normals, centers, chosen, table, turns, face_index, adjacency, rigid = constants
    return (
        numbers, means, normals, centers, chosen, table, turns, *or_other((weights,), means),
        *or_other((face_index, adjacency, rigid), chosen),
    )  # fmt: skip


def _sizes(constants: tuple[Any, ...], numbers: Tensor, means: Tensor) -> tuple[int, int, int]:
    """Chosen surfels, all surfels, faces."""
    return numbers.shape[0], means.shape[1], constants[4].shape[1]


def _flags(
    constants: tuple[Any, ...], weights: Tensor | None, is_isotropic: bool
) -> dict[str, int]:
    return {
        "NUM_LOBES": constants[3].shape[0],
        "IS_ISOTROPIC": is_isotropic,
        "HAS_BLEND": weights is not None,
        "HAS_RIGID": constants[7] is not None,
        "LANES": _LANES,
    }
