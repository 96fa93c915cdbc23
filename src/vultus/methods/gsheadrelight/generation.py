"""Generate heads for training, from explicit random numbers."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from vultus.data.camera_labels import look_at_labels
from vultus.methods.gsheadrelight.config import GSHeadRelightConfig, ViewConfig
from vultus.methods.gsheadrelight.generator import Generator
from vultus.methods.gsheadrelight.lights import labels_to_light, light_to_labels, turn_around_up
from vultus.nets.stylegan2.mapping import swap_with_predecessor
from vultus.optim.schedules import fade_progress

__all__ = [
    "GeneratedBatch",
    "GenerationDraws",
    "draw_generation",
    "generate_batch",
    "random_cameras",
]


class GenerationDraws(NamedTuple):
    """Random numbers of a batch; uniform ones are in [0, 1)."""

    pose_swap: Float[Tensor, " b"]
    """Uniform; decides on swaps."""
    camera: Float[Tensor, " b"]
    """Uniform; decides on random cameras."""
    yaw: Float[Tensor, " b"]
    """Normal."""
    height: Float[Tensor, " b"]
    """Uniform."""
    light_turn: Float[Tensor, " b"]
    """Uniform."""


class GeneratedBatch(NamedTuple):
    """Generated heads, and what their pictures are said to show."""

    images: Float[Tensor, "b 3 h h"]
    """In about [-1, 1]."""
    labels: Float[Tensor, "b 25"]
    """Cameras."""
    lights: Float[Tensor, "b l"]
    """Labels of the lights."""
    anchors: Float[Tensor, "b n 3"]
    """Centres of the first level's nodes."""
    ws: Float[Tensor, "b n w"]


def draw_generation(batch: int, random: torch.Generator) -> GenerationDraws:
    """Draw what ``generate_batch`` needs, on the device of ``random``."""

    def uniforms() -> Tensor:
        return torch.rand(batch, generator=random, device=random.device)

    normals = torch.randn(batch, generator=random, device=random.device)
    return GenerationDraws(uniforms(), uniforms(), normals, uniforms(), uniforms())


def generate_batch(
    generator: Generator,
    z: Float[Tensor, "b z"],
    labels: Float[Tensor, "b 25"],
    lights: Float[Tensor, "b l"],
    draws: GenerationDraws,
    config: GSHeadRelightConfig,
    images_seen: int,
    background: Float[Tensor, 3] | None = None,
) -> GeneratedBatch:
    """Generate heads for training.

    Args:
        generator: What is trained.
        z: Latents.
        labels: Cameras of the set, some of which are replaced by random ones.
        lights: Labels of lights of the set, in axes of the head.
        draws: Decide on cameras, swaps and turns of the lights.
        config: Shares, and schedules.
        images_seen: Moment of the training.
        background: Colour in [0, 1] behind heads, that of the real pictures; black if None.
    """
    views, objective = config.views, config.objective
    free = random_cameras(labels, draws.yaw, draws.height, views)
    labels = torch.where((draws.camera < views.random_share)[:, None], free, labels)
    light = labels_to_light(lights)
    if views.light_turn > 0.0:
        turns = (2.0 * draws.light_turn - 1.0) * math.radians(views.light_turn)
        light = turn_around_up(light, turns)
    progress = fade_progress(images_seen, objective.pose_swap_fade)
    share = (1.0 - progress) + progress * objective.pose_swap
    ws = generator.map(z, swap_with_predecessor(labels, draws.pose_swap, share))
    gaussians, nodes = generator.gaussians_and_anchors(ws)
    return GeneratedBatch(
        images=generator.render(gaussians, light, labels, background=background).image,
        labels=labels,
        lights=light_to_labels(light),
        anchors=nodes.means[:, : generator.config.num_points],
        ws=ws,
    )


def random_cameras(
    labels: Float[Tensor, "b 25"],
    normals: Float[Tensor, " b"],
    uniforms: Float[Tensor, " b"],
    views: ViewConfig,
) -> Float[Tensor, "b 25"]:
    """Cameras that look at the origin from before a head, with the intrinsics of labels.

    Args:
        labels: One for each camera.
        normals: Decide on the angles around the head.
        uniforms: Decide on the heights.
        views: Spread of both.
    """
    yaw = math.radians(views.yaw_deviation) * normals
    height = (views.height_center + (1.0 - 2.0 * uniforms) * views.height_range) / 90.0
    made = look_at_labels(yaw, height, target=labels.new_zeros(3), radius=views.distance, focal=1.0)
    return torch.cat([made[:, :16], labels[:, 16:]], dim=1)
