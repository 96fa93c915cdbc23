"""A head that is known by expression coefficients alone: no mesh, nothing to pose."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from vultus.heads.base import HeadModel, HeadPose, ParameterSpec, Topology
from vultus.heads.blendshapes import check_pose
from vultus.heads.regions import complete_regions

__all__ = ["ExpressionTrack", "check_has_mesh"]


class ExpressionTrack(nn.Module):
    """What a tracker says about a face whose model is not at hand.

    The world is the frame of the head, so that cameras move around it. Numbers of two trackers mean
    different things even where there are equally many; names, if known, tell.
    """

    rest: Tensor
    weights: Tensor

    def __init__(self, num_expressions: int, expression_names: Sequence[str] = ()) -> None:
        """Say how many coefficients a frame has.

        Args:
            num_expressions: From 1.
            expression_names: One name per coefficient, or none at all.

        Raises:
            ValueError: If there is no coefficient, or the number of names is another one.
        """
        super().__init__()
        if num_expressions < 1:
            raise ValueError(f"num_expressions must be positive, got {num_expressions}")
        if expression_names and len(expression_names) != num_expressions:
            raise ValueError(
                f"expression_names must be {num_expressions} or none, got {len(expression_names)}"
            )
        self._num_expressions = num_expressions
        self._names = tuple(expression_names)
        self.register_buffer("rest", torch.empty(0, 3))
        self.register_buffer("weights", torch.empty(0, 1))
        none = torch.empty(0, 3, dtype=torch.int64)
        self._topology = Topology(none, torch.empty(0, 2), none, complete_regions({}, 0))

    @property
    def name(self) -> str:
        """``"expression"``."""
        return "expression"

    @property
    def version(self) -> str:
        """Number of coefficients."""
        return str(self._num_expressions)

    @property
    def parameters_spec(self) -> tuple[ParameterSpec, ...]:
        """The coefficients."""
        return (ParameterSpec("expression_coeffs", self._num_expressions),)

    @property
    def expression_names(self) -> tuple[str, ...]:
        """As given."""
        return self._names

    @property
    def topology(self) -> Topology:
        """Nothing; every region is empty."""
        return self._topology

    @property
    def neutral(self) -> Float[Tensor, "0 3"]:
        """No vertices."""
        return self.rest

    @property
    def joint_names(self) -> tuple[str, ...]:
        """The root alone."""
        return ("root",)

    @property
    def joint_parents(self) -> tuple[int, ...]:
        """The root has none."""
        return (-1,)

    @property
    def skinning_weights(self) -> Float[Tensor, "0 1"]:
        """No vertices."""
        return self.weights

    def vertices(self, pose: HeadPose) -> Float[Tensor, "b 0 3"]:
        """Check a pose; there is nothing to move.

        Raises:
            ValueError: If the pose has another number of coefficients.
        """
        check_pose(pose, self.parameters_spec)
        return self.rest.expand(len(pose), -1, -1)


def check_has_mesh(head: HeadModel, purpose: str) -> None:
    """Raise for a head without faces.

    Args:
        head: Any head.
        purpose: What needs the mesh, for the message.

    Raises:
        ValueError: ``<purpose> needs a head with a mesh, ...``.
    """
    if head.topology.faces.shape[0] == 0:
        raise ValueError(
            f"{purpose} needs a head with a mesh, the capture's is {head.name!r}, "
            f"{head.version} coefficients alone"
        )
