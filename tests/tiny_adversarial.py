"""A generator and a discriminator of a few numbers each, for tests of the loop."""

from __future__ import annotations

import copy
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from tiny_image_sets import labels_at, write_image_set
from vultus.core.run_folder import RunFolder
from vultus.data.image_choice import ChoiceConfig, choose_entries
from vultus.data.image_feed import ImageFeed, RealBatch
from vultus.data.image_set import open_image_set
from vultus.engine.adversarial import TrainingResult, train_adversarial
from vultus.engine.world import World, join_world
from vultus.methods.adversarial import AdversarialSettings, Pass, Phase, PhaseResult

SETTINGS = AdversarialSettings(
    images=96,
    batch=8,
    pass_size=2,
    average_half_life=16,
    average_ramp=None,
    log_every=2,
    checkpoint_every=4,
    picture_every=4,
)
_PIXELS = 3 * 16 * 16


@dataclass(frozen=True)
class ToyConfig:
    """Nothing to choose."""

    training: AdversarialSettings


class ToyGan:
    """Pictures are a linear map of four latents; judgements a linear map of pixels and camera."""

    def __init__(self, seed: int = 0, bad_step: int | None = None) -> None:
        torch.manual_seed(seed)
        self.generator: nn.Module = nn.Linear(4, _PIXELS)
        self.generator.register_buffer("center", torch.zeros(()))
        self.average = copy.deepcopy(self.generator).requires_grad_(False)
        self.discriminator: nn.Module = nn.Linear(_PIXELS + 25, 1)
        self.total = torch.zeros(())
        self.seen: list[tuple[str, int]] = []
        self.bad_step = bad_step

    @property
    def device(self) -> torch.device:
        return torch.device("cpu")

    @property
    def phases(self) -> tuple[Phase, ...]:
        return (
            Phase("generator", "generator"),
            Phase("discriminator", "discriminator"),
            Phase("penalty", "discriminator", 3),
        )

    def _judge(self, pictures: Tensor, labels: Tensor) -> Tensor:
        return self.discriminator(torch.cat([pictures, labels], dim=1))

    def losses(self, phase: Phase, work: Pass) -> PhaseResult:
        real, images_seen, random = work.real, work.images_seen, work.random
        self.seen.append((phase.name, images_seen))
        pictures = real.pixels[:, :3].flatten(1).float() / 255.0
        if phase.name == "penalty":
            pictures.requires_grad_()
            logits = self._judge(pictures, real.labels).sum()
            (gradient,) = torch.autograd.grad(logits, pictures, create_graph=True)
            return PhaseResult({"r1": gradient.square().sum(dim=1).mean()}, {})
        fake = self.generator(torch.randn(len(real), 4, generator=random))
        if phase.name == "generator":
            return PhaseResult(
                {"adversarial": softplus(-self._judge(fake, real.labels)).mean()}, {}
            )
        judged = self._judge(fake.detach(), real.labels)
        logits = self._judge(pictures, real.labels)
        losses = {"fake": softplus(judged).mean(), "real": softplus(-logits).mean()}
        if self.bad_step is not None and images_seen == (self.bad_step - 1) * len(real) * 4:
            losses["real"] = losses["real"] * float("nan")
        return PhaseResult(
            losses, {"center": fake.detach().mean(dim=0), "sign": logits.sign().mean()}
        )

    @property
    def knows_passes(self) -> bool:
        return False

    def moment(self, images_seen: int) -> int:
        return images_seen

    def update(self, records: Mapping[str, Tensor], step: int) -> None:
        self.generator.get_buffer("center").lerp_(records["center"].mean(), 0.1)
        self.total += records["sign"]

    def tensors(self) -> dict[str, Tensor]:
        return {"total": self.total}

    def load_tensors(self, tensors: Mapping[str, Tensor]) -> None:
        self.total = tensors["total"].clone()

    def show_real(self, real: RealBatch) -> Tensor:
        return real.pixels[:, :3].float() / 255.0

    def preview(self) -> dict[str, Tensor]:
        latents = torch.eye(4)
        return {"fakes": self.average(latents).detach().unflatten(1, (3, 16, 16)).sigmoid()}

    def sample(self, count: int, random: torch.Generator, *, is_free: bool = False) -> Tensor:
        latents = torch.randn(count, 4, generator=random)
        return self.average(latents).detach().unflatten(1, (3, 16, 16)).sigmoid()

    def measure(self, count: int, random: torch.Generator) -> dict[str, float]:
        return {"people": float(count)}

    def summary(self) -> dict[str, Any]:
        return {"total": float(self.total)}


def toy_feed(root: Path) -> ImageFeed:
    """Noise images, written once."""
    if not root.exists():
        write_image_set(root, labels_at([0.5 * k for k in range(6)]))
    images = open_image_set(root)
    return ImageFeed(images, choose_entries(images.labels, ChoiceConfig(), 0), 0)


def train_toy(
    folder: Path, run: Path, world: World | None = None, **changes: Any
) -> tuple[ToyGan, TrainingResult]:
    """Train, or continue, in a run folder."""
    settings = replace(SETTINGS, **changes)
    toy = ToyGan()
    if (world is None or world.is_first) and not (run / "config.json").exists():
        RunFolder.create(run, ToyConfig(settings), seed=0)
    if world is not None:
        world.wait()
    result = train_adversarial(toy, toy_feed(folder), settings, RunFolder(run), 0, world=world)
    return toy, result


def main() -> None:
    """Train as one of the processes of ``torchrun``."""
    with join_world(torch.device("cpu")) as (world, _):
        train_toy(Path(sys.argv[1]), Path(sys.argv[2]), world)


if __name__ == "__main__":
    main()
