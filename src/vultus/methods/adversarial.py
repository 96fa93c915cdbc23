"""What the adversarial loop knows about a generator, and the settings all of them share."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal, NamedTuple, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor, nn

from vultus.data.image_choice import ChoiceConfig
from vultus.data.image_feed import Conditions, RealBatch
from vultus.data.image_set import AlphaUse
from vultus.methods.schedule import check_schedule
from vultus.optim.schedules import scale_steps

__all__ = [
    "AdversarialConfig",
    "AdversarialMethod",
    "AdversarialSettings",
    "Pass",
    "Phase",
    "PhaseResult",
]


@dataclass(frozen=True)
class AdversarialSettings:
    """Length, batches, learning rates and what is written when."""

    images: int = 25_000_000
    """Real images to show in all, repetitions included."""
    batch: int = 32
    """Images of a step, over all processes."""
    pass_size: int = 4
    """Images of one forward and backward pass, which divides the batch. Processes share the passes
    of a step, so their number changes no result but for rounding."""
    generator_rate: float = 0.0025
    """Learning rate of the generator, before the correction for lazy regularisation."""
    discriminator_rate: float = 0.002
    """Learning rate of the discriminator, before the correction for lazy regularisation."""
    betas: tuple[float, float] = (0.0, 0.99)
    """Adam's decays, before the correction for lazy regularisation."""
    epsilon: float = 1e-8
    """Added to the root of Adam's second moment."""
    generator_clip: float | None = None
    """Largest norm of the generator's gradient; None for no limit."""
    discriminator_clip: float | None = None
    """Largest norm of the discriminator's gradient; None for no limit."""
    average_half_life: int = 10_000
    """Images after which a weight counts half in the averaged generator, which is what is shown."""
    average_ramp: float | None = 0.05
    """The half-life is at most this share of the images seen; None for no such limit."""
    log_every: int = 125
    """Steps between lines of the metrics log, which hold means over these steps."""
    checkpoint_every: int = 6250
    """Steps between checkpoints, a multiple of ``log_every``."""
    keep_checkpoints: int = 2
    """The last ones that stay; 0 keeps all."""
    picture_every: int = 6250
    """Steps between sheets of generated images, a multiple of ``log_every``; 0 for none but at the
    end."""
    evaluate_every: int = 6250
    """Steps between measurements of the distance between generated and real images, a multiple of
    ``log_every``; 0 for none but at the end."""
    evaluate_images: int = 2000
    """Images of each kind in a measurement; 0 for no measurement."""
    schedule_every: int = 1
    """Steps for which fades stand still. On a GPU, passes are captured into CUDA graphs anew
    whenever a fade has moved."""
    use_tf32: bool = False
    """On a GPU, multiply matrices and convolve in TensorFloat-32: faster, 10 bits of mantissa."""

    def __post_init__(self) -> None:
        """Reject contradictions."""
        if self.batch < 1 or self.pass_size < 1 or self.batch % self.pass_size:
            raise ValueError(f"pass_size must divide batch, got {self.pass_size} and {self.batch}")
        if self.images < self.batch:
            raise ValueError(f"images must be at least one batch of {self.batch}: {self.images}")
        check_schedule(self)
        if self.schedule_every < 1:
            raise ValueError(f"schedule_every must be at least 1, got {self.schedule_every}")
        for name in ("checkpoint_every", "picture_every", "evaluate_every"):
            every = getattr(self, name)
            if every < 0 or every % self.log_every:
                raise ValueError(
                    f"{name} must be a multiple of log_every, got {every} and {self.log_every}"
                )

    def check_group(self, group_size: int) -> None:
        """Raise unless passes consist of whole groups, in which a discriminator compares images.

        Raises:
            ValueError: If ``pass_size`` is above ``group_size`` and no multiple of it.
        """
        if self.pass_size % min(group_size, self.pass_size):
            raise ValueError(
                "training.pass_size must be a multiple of discriminator.group_size or below it, "
                f"got {self.pass_size} and {group_size}"
            )

    @property
    def steps(self) -> int:
        """Optimisation steps."""
        return self.images // self.batch

    def scaled(self, factor: float) -> AdversarialSettings:
        """Multiply the length of the training, and of how long fades stand still."""
        return replace(
            self,
            images=max(scale_steps(self.images, factor), self.batch),
            schedule_every=max(scale_steps(self.schedule_every, factor), 1),
        )

    def moment(self, step: int) -> int:
        """Steps after which fades are where they are in a step, counted from 1."""
        return (step - 1) // self.schedule_every * self.schedule_every

    @property
    def num_passes(self) -> int:
        """Forward and backward passes of a step."""
        return self.batch // self.pass_size


@runtime_checkable
class AdversarialConfig(Protocol):
    """The part of a method's config that commands read."""

    @property
    def image_size(self) -> int:
        """Side of the images."""
        ...

    @property
    def needs_masks(self) -> bool:
        """Whether image sets must say what is the person."""
        ...

    @property
    def alpha(self) -> AlphaUse:
        """What becomes of the alpha channel of images."""
        ...

    @property
    def needs_parts(self) -> bool:
        """Whether image sets must have semantic maps, and masks with them."""
        ...

    @property
    def light_channels(self) -> Literal[0, 1, 3]:
        """Channels of the lights that image sets must state; 0 for none."""
        ...

    @property
    def choice(self) -> ChoiceConfig:
        """What of the images is used."""
        ...

    @property
    def training(self) -> AdversarialSettings:
        """Length, batches, learning rates and what is written when."""
        ...


@dataclass(frozen=True)
class Phase:
    """A part of a step that trains one network."""

    name: str
    network: Literal["generator", "discriminator"]
    interval: int = 1
    """It runs in every such step, at as many times the gradient (lazy regularisation)."""


@dataclass(frozen=True)
class Pass:
    """What one forward and backward pass of a phase works on; a step has several passes."""

    real: RealBatch
    """Real images; generated ones are as many."""
    first: int
    """Place of the first image among those of the step."""
    step_conditions: Conditions
    """How all real images of the step are taken."""
    images_seen: int
    """Real images of the steps before, or where fades stand still, of those before they did."""
    random: torch.Generator
    """Random numbers of this pass, on the device."""
    step_random: torch.Generator
    """Random numbers that are the same in all passes of the phase in this step: with them, a pass
    knows what the others generate."""

    def __len__(self) -> int:
        """Number of real images."""
        return len(self.real)

    def own(self, of_step: Tensor) -> Tensor:
        """Rows of this pass among those of a step."""
        return of_step[self.first : self.first + len(self)]


class PhaseResult(NamedTuple):
    """What one pass gives."""

    losses: dict[str, Tensor]
    """Weighted terms, means over the pass; their sum is minimised."""
    records: dict[str, Tensor]
    """Other means over the pass; numbers are logged."""


@runtime_checkable
class AdversarialMethod(Protocol):
    """A generator and its discriminator under training, on one device."""

    @property
    def device(self) -> torch.device:
        """Where the networks are."""
        ...

    @property
    def generator(self) -> nn.Module:
        """What is trained."""
        ...

    @property
    def average(self) -> nn.Module:
        """Its moving average, a copy at the start."""
        ...

    @property
    def discriminator(self) -> nn.Module:
        """What judges."""
        ...

    @property
    def phases(self) -> tuple[Phase, ...]:
        """Parts of a step, in their order."""
        ...

    @property
    def knows_passes(self) -> bool:
        """Whether ``losses`` depend on ``Pass.first``: on which pass of a step it is."""
        ...

    def losses(self, phase: Phase, work: Pass) -> PhaseResult:
        """Compute the loss of one pass of one of ``phases``; nothing in it waits for a GPU."""
        ...

    def moment(self, images_seen: int) -> Hashable:
        """What of the course of the training ``losses`` depends on: the same after all fades."""
        ...

    def update(self, records: Mapping[str, Tensor], step: int) -> None:
        """Take in the means over all passes of a step: running statistics, adaptive strengths."""
        ...

    def tensors(self) -> dict[str, Tensor]:
        """Everything that an exact resume needs beside networks and optimisers, by name."""
        ...

    def load_tensors(self, tensors: Mapping[str, Tensor]) -> None:
        """Restore ``tensors()``."""
        ...

    def show_real(self, real: RealBatch) -> Float[Tensor, "b 3 h w"]:
        """Real images in [0, 1], on the same ground as those of ``sample``."""
        ...

    def preview(self) -> dict[str, Float[Tensor, "n c h w"]]:
        """Pictures of the averaged generator in [0, 1], by kind; always the same people."""
        ...

    def sample(
        self, count: int, random: torch.Generator, *, is_free: bool = False
    ) -> Float[Tensor, "b 3 h w"]:
        """Images in [0, 1] of the averaged generator, at random cameras of the set.

        Args:
            count: Number of images.
            random: The source of all random numbers, on the device.
            is_free: Condition heads on other cameras than those that show them.
        """
        ...

    def measure(self, count: int, random: torch.Generator) -> dict[str, float]:
        """Numbers of the method's own about the averaged generator.

        Args:
            count: People to look at.
            random: The source of all random numbers, on the device.
        """
        ...

    def summary(self) -> dict[str, Any]:
        """Numbers for the log and the run card."""
        ...
