"""Adam with one named group per parameter, and edits of parameters together with their moments.

Primitives are rows of several parameters. When rows are added or removed, the optimiser's moments
must follow; the functions here do both, find groups by name, and never guess from tensor lengths.
Each returns a new dictionary of parameters and leaves the one passed in as it was.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Literal

import torch
from jaxtyping import Bool
from torch import Tensor
from torch.nn import Parameter

from vultus.kernels.fused_adam import AdamTensors, adam_step

__all__ = [
    "GpuAdam",
    "append_rows",
    "build_adam",
    "keep_rows",
    "replace_values",
    "set_learning_rate",
]

# Adam's epsilon in 3DGS and everything built on it: gradients of small splats are tiny.
_EPSILON = 1e-15
# State tensors with a row per primitive; ``step`` is a count per parameter and stays.
_MOMENTS = ("exp_avg", "exp_avg_sq")


class GpuAdam(torch.optim.Adam):
    """Adam whose step is one kernel for the parameters of all groups.

    Groups and state are laid out as in ``torch.optim.Adam``. Learning rates and step counts are
    read on the device, so that a CUDA graph may capture ``step`` after it has run once; whoever
    replays the graph calls ``upload_rates`` after changing a rate. While ``skip`` is set and not
    zero on the device, ``step`` changes nothing.
    """

    skip: Tensor | None = None

    def __init__(
        self, groups: list[dict[str, Any]], betas: tuple[float, float], epsilon: float
    ) -> None:
        """Take groups of parameters that are all on one device."""
        super().__init__(groups, betas=betas, eps=epsilon, fused=True)
        device = self.param_groups[0]["params"][0].device
        self._uploaded: list[float] = []
        self._rates = torch.zeros(len(self.param_groups), device=device)

    def upload_rates(self) -> None:
        """Copy the learning rates of the groups to the device if one has changed."""
        rates = [float(group["lr"]) for group in self.param_groups]
        if rates != self._uploaded:
            self._rates.copy_(torch.tensor(rates), non_blocking=True)
            self._uploaded = rates

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Update all parameters that have a gradient."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        if not (self._rates.is_cuda and torch.cuda.is_current_stream_capturing()):
            self.upload_rates()
        used = list(self._used())
        if not used:
            return loss
        rates = self._rates
        if [index for index, _ in used] != list(range(len(rates))):
            rates = torch.stack([rates[index] for index, _ in used])
        group = self.param_groups[0]
        tensors = [each for _, each in used]
        adam_step(
            tensors,
            rates,
            betas=group["betas"],
            epsilon=group["eps"],
            skip=self.skip,
            backend="gpu",
        )
        return loss

    def _used(self) -> Iterator[tuple[int, AdamTensors]]:
        """Index of the group, and tensors, of parameters with a gradient."""
        for index, group in enumerate(self.param_groups):
            for parameter in group["params"]:
                if parameter.grad is None or parameter.numel() == 0:
                    continue
                state = self._state_of(parameter)
                mean, square = (state[name] for name in _MOMENTS)
                yield index, AdamTensors(parameter, parameter.grad, mean, square, state["step"])

    def _state_of(self, parameter: Tensor) -> dict[str, Tensor]:
        state = self.state[parameter]
        if not state:
            state["step"] = torch.zeros((), device=parameter.device)
            state.update({name: torch.zeros_like(parameter) for name in _MOMENTS})
        elif state["step"].device != parameter.device:  # restored from a file
            state.update({name: value.to(parameter.device) for name, value in state.items()})
        return state


def build_adam(
    parameters: Mapping[str, Parameter],
    learning_rates: Mapping[str, float],
    *,
    betas: tuple[float, float] = (0.9, 0.999),
    epsilon: float = _EPSILON,
    backend: Literal["auto", "torch", "gpu"] = "auto",
) -> torch.optim.Adam:
    """Make an optimiser whose groups are named after their single parameters.

    On the CPU this is PyTorch's fused Adam: 26k rows of 59 floats take 0.6 ms on two cores, 2.6 ms
    with ``foreach`` (median of 40 steps).

    Args:
        parameters: What to train.
        learning_rates: A rate for every parameter; rates of other names are ignored.
        betas: Decay of the two moments.
        epsilon: Added to the root of the second moment.
        backend: ``"auto"``: ``"gpu"``, which is ``GpuAdam``, for parameters on a GPU.

    Raises:
        ValueError: If a parameter has no rate.
    """
    missing = [name for name in parameters if name not in learning_rates]
    if missing:
        raise ValueError(f"learning_rates lacks {missing[0]!r}; it has {', '.join(learning_rates)}")
    groups = [
        {"params": [parameter], "name": name, "lr": learning_rates[name]}
        for name, parameter in parameters.items()
    ]
    is_on_gpu = all(parameter.is_cuda for parameter in parameters.values())
    if backend == "gpu" or (backend == "auto" and is_on_gpu):
        return GpuAdam(groups, betas, epsilon)
    return torch.optim.Adam(groups, betas=betas, eps=epsilon, fused=True)


def set_learning_rate(optimizer: torch.optim.Optimizer, name: str, rate: float) -> None:
    """Change the rate of one parameter.

    Raises:
        ValueError: If no group has the name.
    """
    _group(optimizer, name)["lr"] = rate


def append_rows(
    optimizer: torch.optim.Optimizer,
    parameters: Mapping[str, Parameter],
    new_rows: Mapping[str, Tensor],
) -> dict[str, Parameter]:
    """Add primitives at the end; their moments start at zero.

    Args:
        optimizer: Holds a group of each name.
        parameters: All parameters with a row per primitive.
        new_rows: Rows for every one of them.

    Raises:
        ValueError: If the names differ or a group is missing.
    """
    if parameters.keys() != new_rows.keys():
        raise ValueError(
            f"new_rows must name the same parameters: {', '.join(parameters)}; "
            f"got {', '.join(new_rows)}"
        )

    def append(name: str, value: Tensor, is_moment: bool) -> Tensor:
        rows = new_rows[name].detach().to(value)
        return torch.cat([value, torch.zeros_like(rows) if is_moment else rows])

    return _edit(optimizer, parameters, append)


def keep_rows(
    optimizer: torch.optim.Optimizer,
    parameters: Mapping[str, Parameter],
    mask: Bool[Tensor, " n"],
) -> dict[str, Parameter]:
    """Remove the primitives where the mask is False; the others keep order and moments.

    Raises:
        ValueError: If a group is missing.
    """
    return _edit(optimizer, parameters, lambda _name, value, _is_moment: value[mask])


def replace_values(
    optimizer: torch.optim.Optimizer,
    parameters: Mapping[str, Parameter],
    name: str,
    values: Tensor,
    *,
    reset_moments: bool = True,
) -> dict[str, Parameter]:
    """Overwrite one parameter; with ``reset_moments`` Adam forgets how it came there.

    Raises:
        ValueError: If the shape changes or the group is missing.
    """
    if values.shape != parameters[name].shape:
        raise ValueError(
            f"{name} must keep shape {tuple(parameters[name].shape)}, got {tuple(values.shape)}"
        )

    def replace(_name: str, value: Tensor, is_moment: bool) -> Tensor:
        if is_moment:
            return torch.zeros_like(value) if reset_moments else value
        return values.detach().clone().to(value)

    return {**parameters, **_edit(optimizer, {name: parameters[name]}, replace)}


def _edit(
    optimizer: torch.optim.Optimizer,
    parameters: Mapping[str, Parameter],
    function: Callable[[str, Tensor, bool], Tensor],
) -> dict[str, Parameter]:
    """Apply ``function(name, value, is_moment)`` to parameters and their moments."""
    groups = {name: _group(optimizer, name) for name in parameters}
    edited = {}
    for name, old in parameters.items():
        new = Parameter(function(name, old.detach(), False), requires_grad=old.requires_grad)
        state = optimizer.state.pop(old, None)
        if state:
            moments = {key: function(name, state[key], True) for key in _MOMENTS}
            optimizer.state[new] = {**state, **moments}
        groups[name]["params"] = [new]
        edited[name] = new
    return edited


def _group(optimizer: torch.optim.Optimizer, name: str) -> dict:
    for group in optimizer.param_groups:
        if group.get("name") == name:
            return group
    known = ", ".join(str(group.get("name")) for group in optimizer.param_groups)
    raise ValueError(f"the optimizer has no group {name!r}; it has {known}")
