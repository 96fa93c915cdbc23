"""Adam in which some parameters are rows of unit vectors that stay on their spheres.

A parameter of shape [..., d] in a group with ``manifold="sphere"`` is a point of a product of unit
spheres S^(d-1), one per row. Its second moment is one number per row, stored d times so that it has
the parameter's shape like every other moment.

Reference: Bécigneul and Ganea, Riemannian Adaptive Optimization Methods, ICLR 2019, section 4.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import Parameter
from torch.nn.functional import normalize

from vultus.optim.adam import GpuAdam

__all__ = ["RiemannianAdam", "RiemannianGpuAdam", "build_riemannian_adam", "sphere_adam_step"]

_SPHERE = "sphere"


@torch.no_grad()
def sphere_adam_step(
    points: Float[Tensor, "*b d"],
    gradient: Float[Tensor, "*b d"],
    mean: Float[Tensor, "*b d"],
    square: Float[Tensor, "*b d"],
    step: Float[Tensor, ""],
    rate: float | Float[Tensor, ""],
    *,
    betas: tuple[float, float] = (0.9, 0.999),
    epsilon: float = 1e-8,
    skip: Tensor | None = None,
) -> None:
    """Move unit vectors along their spheres; changes all tensors but the gradient in place.

    The gradient is projected to the tangent space, the step is taken there and normalised back to
    the sphere, and the first moment is projected to the new tangent space. A CUDA graph may capture
    it: nothing waits for the device.

    Args:
        points: Unit vectors.
        gradient: Of the loss in the surrounding space.
        mean: First moment, tangent.
        square: Second moment: the same number along the last dimension.
        step: Number of steps taken before.
        rate: Learning rate, also as a number on the device.
        betas: Decay of the two moments.
        epsilon: Added to the root of the second moment.
        skip: An integer on the device; if not zero, nothing changes.
    """
    step += 1 if skip is None else (skip[0] == 0).to(step.dtype)
    tangent = gradient - _dot(gradient, points) * points
    new_mean = betas[0] * mean + (1.0 - betas[0]) * tangent
    new_square = betas[1] * square + (1.0 - betas[1]) * _dot(tangent, tangent)
    # In single precision the second one would begin with an error of 1e-5.
    of_mean, of_square = (1.0 - beta ** step.double() for beta in betas)
    root = (new_square / of_square.to(square)).sqrt() + epsilon
    direction = new_mean / of_mean.to(mean) / root
    moved = normalize(points - rate * direction, dim=-1)
    new_mean = new_mean - _dot(new_mean, moved) * moved
    for old, new in ((points, moved), (mean, new_mean), (square, new_square)):
        old.copy_(new if skip is None else torch.where(skip[0] == 0, new, old))


class _SphereGroups(torch.optim.Adam):
    """Adam that leaves groups on spheres to ``sphere_adam_step``."""

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Update all parameters that have a gradient."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        on_spheres = [
            (index, group["params"][0], group["params"][0].grad)
            for index, group in enumerate(self.param_groups)
            if group.get("manifold") == _SPHERE and group["params"][0].grad is not None
        ]
        # The flat step does not see parameters without a gradient.
        for _, parameter, _ in on_spheres:
            parameter.grad = None
        super().step()
        for index, parameter, gradient in on_spheres:
            parameter.grad = gradient
            self._step_on_sphere(index, parameter, gradient)
        return loss

    def _step_on_sphere(self, index: int, parameter: Tensor, gradient: Tensor) -> None:
        group, state = self.param_groups[index], self._sphere_state(parameter)
        is_on_gpu = isinstance(self, GpuAdam)
        sphere_adam_step(
            parameter.detach(),
            gradient,
            state["exp_avg"],
            state["exp_avg_sq"],
            state["step"],
            self._rates[index] if is_on_gpu else group["lr"],
            betas=group["betas"],
            epsilon=group["sphere_eps"],
            skip=self.skip if is_on_gpu else None,
        )

    def _sphere_state(self, parameter: Tensor) -> dict[str, Tensor]:
        state = self.state[parameter]
        if not state:
            state["step"] = torch.zeros((), device=parameter.device)
            state["exp_avg"] = torch.zeros_like(parameter)
            state["exp_avg_sq"] = torch.zeros_like(parameter)
        return state


class RiemannianAdam(_SphereGroups):
    """PyTorch's Adam, with groups on spheres."""


class RiemannianGpuAdam(_SphereGroups, GpuAdam):
    """``GpuAdam``, with groups on spheres; can be captured into a CUDA graph like it."""


def build_riemannian_adam(
    parameters: Mapping[str, Parameter],
    learning_rates: Mapping[str, float],
    on_spheres: Collection[str],
    *,
    betas: tuple[float, float] = (0.9, 0.999),
    epsilon: float = 1e-15,
    sphere_epsilon: float = 1e-8,
    backend: Literal["auto", "torch", "gpu"] = "auto",
) -> torch.optim.Adam:
    """Make an optimiser whose groups are named after their single parameters.

    Edits of ``optim.adam`` keep the moments of both kinds in step.

    Args:
        parameters: What to train, all on one device.
        learning_rates: A rate for every parameter; rates of other names are ignored.
        on_spheres: Names of the parameters whose last dimension holds unit vectors.
        betas: Decay of the two moments.
        epsilon: Added to the root of the second moment of the others.
        sphere_epsilon: The same on spheres.
        backend: ``"auto"``: ``"gpu"``, which is ``RiemannianGpuAdam``, for parameters on a GPU.

    Raises:
        ValueError: If a parameter has no rate, or a vector on a sphere is not of unit length.
    """
    groups: list[dict[str, Any]] = []
    for name, parameter in parameters.items():
        if name not in learning_rates:
            raise ValueError(f"learning_rates lacks {name!r}; it has {', '.join(learning_rates)}")
        group = {"params": [parameter], "name": name, "lr": learning_rates[name]}
        if name in on_spheres:
            _check_unit(name, parameter)
            group |= {"manifold": _SPHERE, "sphere_eps": sphere_epsilon}
        groups.append(group)
    is_on_gpu = all(parameter.is_cuda for parameter in parameters.values())
    if backend == "gpu" or (backend == "auto" and is_on_gpu):
        return RiemannianGpuAdam(groups, betas, epsilon)
    return RiemannianAdam(groups, betas=betas, eps=epsilon, fused=True)


def _check_unit(name: str, parameter: Tensor) -> None:
    error = (parameter.detach().norm(dim=-1) - 1.0).abs()
    if error.numel() and float(error.max()) > 1e-3:
        raise ValueError(f"{name} must hold unit vectors, got a length off by {float(error.max())}")


def _dot(a: Tensor, b: Tensor) -> Tensor:
    return (a * b).sum(dim=-1, keepdim=True)
