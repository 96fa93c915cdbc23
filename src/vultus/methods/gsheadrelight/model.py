"""GSHeadRelight under training: both networks, their average, and what each phase minimises."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from vultus.core.seeding import torch_generator
from vultus.data.camera_labels import labels_around
from vultus.data.image_feed import Conditions, RealBatch
from vultus.methods.adversarial import Pass, Phase, PhaseResult
from vultus.methods.gsheadrelight.config import GSHeadRelightConfig
from vultus.methods.gsheadrelight.discriminator import Discriminator
from vultus.methods.gsheadrelight.generation import (
    GeneratedBatch,
    draw_generation,
    generate_batch,
    vary_conditions,
)
from vultus.methods.gsheadrelight.generator import Generator
from vultus.methods.gsheadrelight.lights import labels_to_light, turn_around_up
from vultus.methods.gsheadrelight.objectives import (
    Judge,
    darkness_loss,
    discriminator_losses,
    generator_losses,
    gradient_penalties,
    real_pictures,
)
from vultus.methods.gsheadrelight.rendering import Pictures, ShadeMode, nearness, shading
from vultus.methods.image_gan import ImageGan
from vultus.metrics.side_light import correlation, side_brightness
from vultus.nets.ranges import from_signed
from vultus.nets.stylegan2.mapping import MappingNetwork

__all__ = ["GSHeadRelight"]

_NUM_PREVIEWED = 8
_PREVIEW_YAWS = (-40.0, -15.0, 15.0, 40.0)
_PREVIEW_LIGHTS = 4
_MEASURED_AT_ONCE = 16
_SIDE_TERM = 3
"""Of a light: X, to the right of a frontal picture."""


class _Scenes(NamedTuple):
    """What the generated heads of all passes of a step are seen from and lit by."""

    labels: Float[Tensor, "n 25"]
    lights: Float[Tensor, "n l"]
    swaps: Float[Tensor, " n"]


class GSHeadRelight(ImageGan[Generator, Discriminator]):
    """What the adversarial loop trains."""

    def __init__(
        self,
        config: GSHeadRelightConfig,
        conditions: Conditions,
        seed: int,
        device: torch.device,
    ) -> None:
        """Draw the weights.

        Args:
            config: All settings.
            conditions: Cameras and lights to generate heads for, with their repetitions.
            seed: Decides the weights and the previewed people.
            device: Where the networks go.

        Raises:
            ValueError: If lights are missing, or of another length than the generator's.
        """
        wanted = config.generator.transfer_dim
        if conditions.lights is None or conditions.lights.shape[1] != wanted:
            found = None if conditions.lights is None else conditions.lights.shape[1]
            raise ValueError(f"conditions must have lights of {wanted} numbers, got {found}")
        self.config = config
        of_generator = torch_generator(seed, "gsheadrelight.generator")
        of_discriminator = torch_generator(seed, "gsheadrelight.discriminator")
        super().__init__(
            Generator(config.generator, of_generator),
            Discriminator(config.discriminator, of_discriminator),
            config.augmentation,
            config.training.batch,
            conditions,
            seed,
            device,
        )
        self._lights = conditions.lights.to(device)

    @property
    def mapping(self) -> MappingNetwork:
        """The trained generator's network from latents to styles."""
        return self.generator.mapping

    @property
    def fades_end(self) -> int:
        """Images after which no schedule moves any more."""
        objective = self.config.objective
        fades = [objective.pose_swap_fade, objective.blur_fade]
        if objective.background == "scenery":
            fades.append(objective.scenery_start)
        return max(fades)

    @property
    def knows_passes(self) -> bool:
        """Images are compared with the cameras and lights of the whole step."""
        return True

    @property
    def phases(self) -> tuple[Phase, ...]:
        """Parts of a step, in their order."""
        objective = self.config.objective
        phases = [Phase("generator", "generator"), Phase("discriminator", "discriminator")]
        if objective.r1_weight > 0.0:
            phases.append(Phase("penalty", "discriminator", objective.r1_every))
        return tuple(phases)

    def losses(self, phase: Phase, work: Pass) -> PhaseResult:
        """Compute the loss of one pass; see ``objectives``.

        Pictures are compared with the cameras and lights of the whole step: these are known to
        every pass, so nothing has to be exchanged.
        """
        objective, random = self.config.objective, work.random
        judge = Judge(self.discriminator, objective, work.images_seen, self.augmentation, random)
        ground = self._draw_ground(random)
        if phase.name == "generator":
            return self._generator_losses(judge, work, ground)
        real, known = self._real_pictures(work.real, ground), work.step_conditions
        assert known.lights is not None
        if phase.name == "penalty":
            losses = gradient_penalties(judge, real, known.labels, known.lights, work.first)
            return PhaseResult(losses, {})
        scenes = self._draw_scenes(work)
        with torch.no_grad():
            made = self._generate(scenes, work, ground)
        result = discriminator_losses(
            judge,
            made.images,
            work.own(scenes.labels),
            work.own(scenes.lights),
            real,
            known.labels,
            known.lights,
            work.first,
        )
        result.records["mean_w"] = made.ws[:, 0].mean(dim=0)
        return result

    @torch.no_grad()
    def show_real(self, real: RealBatch) -> Float[Tensor, "b 3 h w"]:
        """Real images over black, or with their background where scenery is generated."""
        return from_signed(self._real_pictures(real, None))

    @torch.no_grad()
    def preview(self) -> dict[str, Float[Tensor, "n c h w"]]:
        """Eight people of the averaged generator: from four sides, in a light that turns, unlit.

        And how deep they are: what is nearer is brighter.
        """
        random = torch_generator(self._seed, "gsheadrelight.preview", self.device)
        count = _NUM_PREVIEWED
        views = labels_around(self._labels, torch.tensor((0.0, *_PREVIEW_YAWS))).to(self.device)
        front = views[:1].expand(count, -1)
        ws = self.average.map(self._draw_latents(count, random), front)
        lights = labels_to_light(self._draw_conditions(count, random)[1])
        # What turns should come from a side.
        slanted = int(lights[:, _SIDE_TERM].abs().mean(dim=1).argmax())
        angles = torch.arange(_PREVIEW_LIGHTS, device=self.device) * (math.tau / _PREVIEW_LIGHTS)
        turning = turn_around_up(lights[slanted].expand(_PREVIEW_LIGHTS, -1, -1), angles)

        def row(view: Tensor, light: Tensor, mode: ShadeMode = "lit") -> Tensor:
            pictures = self._render(ws, light, view.expand(count, -1), mode)
            return from_signed(pictures.image).cpu()

        unlit = self._render(ws, lights, front, "albedo")
        return {
            "fakes": torch.cat([row(view, lights) for view in views[1:]]),
            "fakes_lit": torch.cat(
                [row(views[0], light.expand(count, -1, -1)) for light in turning]
            ),
            "fakes_albedo": from_signed(unlit.image).cpu(),
            "fakes_depth": nearness(unlit, front).expand(-1, 3, -1, -1).cpu(),
        }

    @torch.no_grad()
    def sample(
        self, count: int, random: torch.Generator, *, is_free: bool = False
    ) -> Float[Tensor, "b 3 h w"]:
        """Random people at random cameras and in the lights that these had, untruncated."""
        z = self._draw_latents(count, random)
        labels, lights = self._draw_conditions(count, random)
        condition = self._draw_conditions(count, random)[0] if is_free else labels
        ws = self.average.map(z, condition)
        return from_signed(self._render(ws, labels_to_light(lights), labels).image)

    @torch.no_grad()
    def measure(self, count: int, random: torch.Generator) -> dict[str, float]:
        """``side_light``: correlation of the side that light comes from with the brighter side.

        Frontal pictures of random people in random lights of the set; 1 is best.
        """
        front = labels_around(self._labels, torch.zeros(1)).to(self.device)
        wanted, found = [], []
        for first in range(0, count, _MEASURED_AT_ONCE):
            people = min(_MEASURED_AT_ONCE, count - first)
            labels = front.expand(people, -1)
            ws = self.average.map(self._draw_latents(people, random), labels)
            light = labels_to_light(self._draw_conditions(people, random)[1])
            pictures = self._render(ws, light, labels)
            mono = light.mean(dim=2)
            wanted.append(mono[:, _SIDE_TERM] / mono[:, 0])
            found.append(side_brightness(from_signed(pictures.image), pictures.alpha))
        return {"side_light": float(correlation(torch.cat(wanted), torch.cat(found)))}

    def _generator_losses(self, judge: Judge, work: Pass, ground: Tensor | None) -> PhaseResult:
        scenes = self._draw_scenes(work)
        made = self._generate(scenes, work, ground)
        result = generator_losses(
            judge, made.images, scenes.labels, scenes.lights, made.anchors, work.first
        )
        if (weight := self.config.objective.darkness_weight) > 0.0:
            light = labels_to_light(work.own(scenes.lights))
            result.losses["darkness"] = weight * darkness_loss(shading(made.gaussians, light))
        return result

    def _draw_scenes(self, work: Pass) -> _Scenes:
        """Draw for all passes of the step, so that each knows what the others show."""
        count, random = len(work.step_conditions.labels), work.step_random
        labels, lights = self._draw_conditions(count, random)
        draws = draw_generation(count, random)
        labels, lights = vary_conditions(labels, lights, draws, self.config.views)
        return _Scenes(labels, lights, draws.pose_swap)

    def _draw_conditions(
        self, batch: int, random: torch.Generator
    ) -> tuple[Float[Tensor, "b 25"], Float[Tensor, "b l"]]:
        """Cameras of the set, each with its light."""
        rows = self._draw_rows(batch, random)
        return self._labels[rows], self._lights[rows]

    def _draw_ground(self, random: torch.Generator) -> Float[Tensor, 3] | None:
        """The colour behind the heads of a pass; None for black, or where there is scenery."""
        if self.config.objective.background != "random":
            return None
        return torch.rand(3, generator=random, device=self.device)

    def _generate(self, scenes: _Scenes, work: Pass, ground: Tensor | None) -> GeneratedBatch:
        return generate_batch(
            self.generator,
            self._draw_latents(len(work), work.random),
            work.own(scenes.labels),
            work.own(scenes.lights),
            work.own(scenes.swaps),
            self.config.objective,
            work.images_seen,
            ground,
        )

    def _real_pictures(
        self, real: RealBatch, ground: Float[Tensor, 3] | None
    ) -> Float[Tensor, "b 3 h w"]:
        objective, pixels = self.config.objective, real.pixels.float() / 255.0
        alpha = pixels[:, 3:]
        if objective.background == "scenery":
            alpha = torch.ones_like(pixels[:, :1])
        return real_pictures(pixels[:, :3], alpha, ground, objective.parity)

    def _render(
        self,
        ws: Float[Tensor, "b n w"],
        light: Float[Tensor, "b 9 c"],
        labels: Float[Tensor, "b 25"],
        mode: ShadeMode = "lit",
    ) -> Pictures:
        """Pictures of the averaged generator at this moment of the training."""
        has_scenery = self.config.objective.has_scenery(self._images_seen)
        scenery = self.average.scenery(ws) if has_scenery else None
        return self.average.render(
            self.average.gaussians(ws), light, labels, mode=mode, scenery=scenery
        )
