"""SphereHead under training: both networks, their average, and what each phase minimises."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from vultus.core.seeding import torch_generator
from vultus.data.camera_labels import labels_around
from vultus.data.image_feed import Conditions, RealBatch
from vultus.data.semantics import class_shares, parsing_colors
from vultus.methods.adversarial import Pass, Phase, PhaseResult
from vultus.methods.image_gan import ImageGan
from vultus.methods.spherehead.config import SphereHeadConfig
from vultus.methods.spherehead.discriminator import Discriminator
from vultus.methods.spherehead.generation import (
    GeneratedBatch,
    draw_generation,
    generate_batch,
    neural_size_at,
)
from vultus.methods.spherehead.generator import Generator
from vultus.methods.spherehead.images import HeadImages
from vultus.methods.spherehead.judging import Judge, real_images
from vultus.methods.spherehead.objectives import (
    DensityDraws,
    density_losses,
    discriminator_losses,
    generator_losses,
    gradient_penalties,
    mismatched_labels,
    turned_away_labels,
)
from vultus.methods.spherehead.random_images import render_people
from vultus.metrics.mirroring import mirroring_scores
from vultus.nets.ranges import from_signed, signed_from_bytes
from vultus.nets.stylegan2.filters import resize_antialiased
from vultus.nets.stylegan2.mapping import MappingNetwork

__all__ = ["SphereHead"]

_DENSITY_POINTS = {"smooth": 1000, "monotonic": 2000}
_LABEL_CANDIDATES = 8
_NUM_PREVIEWED = 8
_PREVIEW_YAWS = (0.0, 45.0, 90.0, 180.0)
_MEASURED_AT_ONCE = 16


class SphereHead(ImageGan[Generator, Discriminator]):
    """What the adversarial loop trains."""

    def __init__(
        self,
        config: SphereHeadConfig,
        conditions: Conditions,
        seed: int,
        device: torch.device,
    ) -> None:
        """Draw the weights.

        Args:
            config: All settings.
            conditions: Cameras to generate heads for, with their repetitions.
            seed: Decides the weights and the previewed people.
            device: Where the networks go.
        """
        self.config = config
        of_generator = torch_generator(seed, "spherehead.generator")
        of_discriminator = torch_generator(seed, "spherehead.discriminator")
        super().__init__(
            Generator(config.generator, of_generator),
            Discriminator(config.discriminator, of_discriminator),
            config.augmentation,
            config.training.batch,
            conditions,
            seed,
            device,
        )

    @property
    def mapping(self) -> MappingNetwork:
        """The trained generator's network from latents to styles."""
        return self.generator.backbone.mapping

    @property
    def fades_end(self) -> int:
        """Images after which no schedule moves any more."""
        objective = self.config.objective
        fades = [objective.blur_fade, objective.noise_fade]
        if objective.pose_swap is not None:
            fades.append(objective.pose_swap_fade)
        if objective.neural_size_final is not None:
            fades.append(objective.neural_size_fade)
        return max(fades)

    @property
    def phases(self) -> tuple[Phase, ...]:
        """Parts of a step, in their order."""
        objective = self.config.objective
        phases = [Phase("generator", "generator")]
        if objective.density_weight > 0.0:
            phases.append(Phase("density", "generator", objective.density_every))
        phases.append(Phase("discriminator", "discriminator"))
        weights = [objective.r1_weight, objective.mask_r1_weight]
        if self.config.needs_parts:
            weights.append(objective.parsing_r1_weight)
        if max(weights) > 0.0:
            phases.append(Phase("penalty", "discriminator", objective.r1_every))
        return tuple(phases)

    def losses(self, phase: Phase, work: Pass) -> PhaseResult:
        """Compute the loss of one pass; see ``objectives``."""
        real, images_seen, random = work.real, work.images_seen, work.random
        if phase.name == "density":
            return PhaseResult(self._density_losses(len(real), images_seen, random), {})
        control = self.augmentation
        judge = Judge(self.discriminator, self.config.objective, images_seen, control, random)
        if phase.name == "generator":
            labels = self._draw_labels(len(real), random)
            made = self._generate(labels, images_seen, random)
            return generator_losses(judge, made.images, made.offsets, labels)
        seen = self._real_images(real, images_seen)
        if phase.name == "penalty":
            return PhaseResult(gradient_penalties(judge, seen, real.labels), {})
        labels = self._draw_labels(len(real), random)
        with torch.no_grad():
            made = self._generate(labels, images_seen, random)
        wrong = self._wrong_labels(real.labels, random)
        result = discriminator_losses(judge, made.images, labels, seen, real.labels, wrong)
        result.records["mean_w"] = made.ws[:, 0].mean(dim=0)
        return result

    def show_real(self, real: RealBatch) -> Float[Tensor, "b 3 h w"]:
        """Real images with all that is on them."""
        return real.pixels[:, :3].float() / 255.0

    @torch.no_grad()
    def preview(self) -> dict[str, Float[Tensor, "n c h w"]]:
        """Eight people of the averaged generator, a row for each view: front to back."""
        random = torch_generator(self._seed, "spherehead.preview", self.device)
        rows = self._views(_NUM_PREVIEWED, _PREVIEW_YAWS, random)
        pictures = {"fakes": [from_signed(row.image) for row in rows]}
        pictures["fakes_raw"] = [from_signed(r.raw_image) for r in rows if r.raw_image is not None]
        pictures["fakes_mask"] = [row.mask.clamp(0, 1) for row in rows if row.mask is not None]
        pictures["fakes_parts"] = [
            parsing_colors(row.parsing) for row in rows if row.parsing is not None
        ]
        return {name: torch.cat(parts).cpu() for name, parts in pictures.items() if parts}

    @torch.no_grad()
    def measure(self, count: int, random: torch.Generator) -> dict[str, float]:
        """``mirroring``: how much the back of heads repeats the face, see ``mirroring_scores``."""
        scores = []
        for first in range(0, count, _MEASURED_AT_ONCE):
            people = min(_MEASURED_AT_ONCE, count - first)
            front, back = self._views(people, (0.0, 180.0), random)
            size = front.image.shape[-1]
            assert front.mask is not None
            assert back.mask is not None
            masks = (resize_antialiased(mask, size) for mask in (front.mask, back.mask))
            scores.append(mirroring_scores(front.image, back.image, *masks))
        return {"mirroring": float(torch.cat(scores).mean())}

    @torch.no_grad()
    def sample(
        self, count: int, random: torch.Generator, *, is_free: bool = False
    ) -> Float[Tensor, "b 3 h w"]:
        """Random people at random cameras, without truncation."""
        z, labels = self._draw_latents(count, random), self._draw_labels(count, random)
        condition = self._draw_labels(count, random) if is_free else labels
        size = self.neural_size
        return render_people(self.average, z, labels, condition, random, neural_size=size)

    def summary(self) -> dict[str, Any]:
        """Numbers for the log."""
        return {"neural_size": self.neural_size, **super().summary()}

    @property
    def neural_size(self) -> int:
        """Side of the rendered feature image at this moment."""
        initial = self.config.generator.neural_size
        return neural_size_at(initial, self.config.objective, self._images_seen)

    def _draw_labels(self, batch: int, random: torch.Generator) -> Float[Tensor, "b 25"]:
        return self._labels[self._draw_rows(batch, random)]

    def _wrong_labels(self, labels: Tensor, random: torch.Generator) -> Tensor | None:
        objective = self.config.objective
        if objective.mismatch_weight == 0.0:
            return None
        if objective.mismatch_angle == 0.0 and len(labels) > 1:
            return mismatched_labels(labels, random)
        drawn = self._draw_labels(len(labels) * _LABEL_CANDIDATES, random)
        candidates = drawn.unflatten(0, (len(labels), _LABEL_CANDIDATES))
        return turned_away_labels(labels, candidates, objective.mismatch_angle)

    def _generate(
        self, labels: Tensor, images_seen: int, random: torch.Generator
    ) -> GeneratedBatch:
        objective, initial = self.config.objective, self.config.generator.neural_size
        z = self._draw_latents(len(labels), random)
        draws = draw_generation(self.generator, len(labels), objective, images_seen, random)
        size = neural_size_at(initial, objective, images_seen)
        return generate_batch(
            self.generator, z, labels, draws, objective, images_seen, size, random
        )

    def _real_images(self, real: RealBatch, images_seen: int) -> HeadImages:
        initial, objective = self.config.generator.neural_size, self.config.objective
        image = signed_from_bytes(real.pixels[:, :3])
        mask = None if real.masks is None else real.masks.float() / 255.0
        parts = None
        if real.parts is not None:
            parts = class_shares(real.parts, self.config.discriminator.parsing_classes)
        size = neural_size_at(initial, objective, images_seen)
        return real_images(image, mask, objective, images_seen, size, parts)

    def _density_losses(
        self, batch: int, images_seen: int, random: torch.Generator
    ) -> dict[str, Tensor]:
        objective = self.config.objective
        labels, z = self._draw_labels(batch, random), self._draw_latents(batch, random)

        def draws(count: int) -> DensityDraws:
            # One number decides for the whole pass, as published.
            swap = torch.rand(1, generator=random, device=self.device).expand(batch)
            shape = batch, count, 3
            points = torch.rand(shape, generator=random, device=self.device)
            moves = torch.randn(shape, generator=random, device=self.device)
            noise = torch.randn(batch, 2 * count, generator=random, device=self.device)
            return DensityDraws(swap, points, moves, noise)

        kinds = ["smooth"] if objective.density_kind == "smooth" else ["monotonic", "smooth"]
        drawn = [draws(_DENSITY_POINTS[kind]) for kind in kinds]
        return density_losses(self.generator, z, labels, drawn, objective, images_seen, random)

    def _views(
        self, count: int, yaws: Sequence[float], random: torch.Generator
    ) -> list[HeadImages]:
        """Random people of the averaged generator, conditioned on the frontal view of all.

        Args:
            count: Number of people.
            yaws: Of the cameras, in degrees, the frontal one first.
            random: Draws people and rays.
        """
        z = self._draw_latents(count, random)
        views = labels_around(self._labels, torch.tensor(yaws)).to(self.device)
        ws = self.average.map(z, views[:1].expand(count, -1))
        planes = self.average.planes(ws)
        size = self.neural_size
        rows = []
        for view in views:
            draws = self.average.draw(count, random, neural_size=size)
            shifted, _ = self.average.offset_labels(z, view.expand(count, -1))
            rows.append(self.average.render(planes, ws, shifted, draws, neural_size=size))
        return rows
