"""What the training loop knows about a reconstruction method, and the table of methods."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor

from vultus.data.frame_store import Batch
from vultus.data.sequence import HeadSequence
from vultus.gaussians.splat_files import Splats
from vultus.geometry.cameras import Camera
from vultus.heads.base import HeadModel, HeadPose
from vultus.render.output import RenderOutput

__all__ = ["FurtherMeasurement", "MethodFactory", "ReconstructionMethod"]


@runtime_checkable
class ReconstructionMethod(Protocol):
    """One subject's avatar under training.

    Batches of ``training_step`` lie on ``device``; what other methods take and return lies on the
    CPU, but for ``tensors``.
    """

    @property
    def device(self) -> torch.device:
        """Where the parameters are."""
        ...

    @property
    def head(self) -> HeadModel:
        """The rig that drives it."""
        ...

    @property
    def track(self) -> HeadPose:
        """The pose of every timestep, with what training has changed."""
        ...

    @property
    def optimizer(self) -> torch.optim.Optimizer:
        """Holds every trained parameter in a named group."""
        ...

    def render(self, pose: HeadPose, camera: Camera, step: int | None = None) -> RenderOutput:
        """Image of the avatar; ``step`` None means finished."""
        ...

    def phase(self, step: int) -> Hashable:
        """What decides which kernels a training step launches, apart from the primitives.

        Steps of one phase may replay one captured graph: in them, ``training_step`` and ``update``
        use ``step`` for nothing else.
        """
        ...

    def training_step(self, batch: Batch, step: int) -> tuple[RenderOutput, dict[str, Tensor]]:
        """Render a batch and return the weighted loss terms by name.

        Nothing in it may wait for a GPU, or copy to or from one.
        """
        ...

    def set_rates(self, step: int) -> None:
        """Give the optimiser the learning rates of a step."""
        ...

    def update(self, output: RenderOutput, step: int, skip: Tensor | None = None) -> None:
        """Steer gradients, step the optimiser, gather statistics; does not wait for a GPU.

        Args:
            output: What ``training_step`` returned; the backward pass has run.
            step: The same as there.
            skip: An integer on the device; where it is not zero, nothing may change.
        """
        ...

    def edits_at(self, step: int) -> bool:
        """Whether ``edit`` has something to do after a step."""
        ...

    def edit(self, step: int) -> None:
        """Add and remove primitives as is due after a step; may replace every parameter."""
        ...

    def tensors(self) -> dict[str, Tensor]:
        """Everything that an exact resume needs beside the optimiser, by name."""
        ...

    def load_tensors(self, tensors: Mapping[str, Tensor]) -> None:
        """Restore ``tensors()``; shapes decide the number of primitives."""
        ...

    def splats(self, pose: HeadPose | None) -> Splats:
        """Primitives for splat files: in the world for a pose, bound to faces without one."""
        ...

    def summary(self) -> dict[str, Any]:
        """Facts for logs and the run card (number of primitives)."""
        ...


class MethodFactory(Protocol):
    """Builds a method for a sequence."""

    def __call__(
        self, config: Any, sequence: HeadSequence, seed: int, device: torch.device
    ) -> ReconstructionMethod:
        """Initialise every parameter; deterministic in ``seed``."""
        ...


@runtime_checkable
class FurtherMeasurement(Protocol):
    """What a method measures of finished avatars beside the metrics of protocols.

    ``vultus ablate`` makes tables of it.
    """

    @property
    def file_name(self) -> str:
        """Where in a run what was measured lies; a file of JSON with the ``step``."""
        ...

    def applies(self, config: Any, sequence: HeadSequence) -> bool:
        """Whether avatars of these settings can be measured on a capture.

        Raises:
            ValueError: If the capture is meant for it, but is wrong.
            FileNotFoundError: If a file of the capture is missing.
        """
        ...

    def measure(
        self, avatar: ReconstructionMethod, sequence: HeadSequence, step: int
    ) -> dict[str, Any]:
        """What the file shall hold of an avatar that ``applies``, trained for so many steps."""
        ...

    def tables(self, facts: Mapping[str, Any]) -> dict[str, dict[str, float]]:
        """Numbers of the file by table and column."""
        ...
