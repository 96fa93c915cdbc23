"""Generate heads for training, from explicit random numbers."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from vultus.methods.gsheadrelight.config import ObjectiveConfig, ViewConfig
from vultus.methods.gsheadrelight.gaussians import HeadGaussians
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
    "vary_conditions",
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
    light_gain: Float[Tensor, " b"]
    """Normal."""
    light_tint: Float[Tensor, "b 3"]
    """Normal, for each colour."""


class GeneratedBatch(NamedTuple):
    """Generated heads, and pictures of them."""

    images: Float[Tensor, "b 3 h h"]
    """In about [-1, 1]."""
    ws: Float[Tensor, "b n w"]
    gaussians: HeadGaussians
    anchors: Float[Tensor, "b n 3"]
    """Centres of the first level's nodes."""


def draw_generation(batch: int, random: torch.Generator) -> GenerationDraws:
    """Draw what ``generate_batch`` needs, on the device of ``random``."""

    def uniforms() -> Tensor:
        return torch.rand(batch, generator=random, device=random.device)

    def normals(*shape: int) -> Tensor:
        return torch.randn(batch, *shape, generator=random, device=random.device)

    yaw = normals()
    return GenerationDraws(
        pose_swap=uniforms(),
        camera=uniforms(),
        yaw=yaw,
        height=uniforms(),
        light_turn=uniforms(),
        light_gain=normals(),
        light_tint=normals(3),
    )


def vary_conditions(
    labels: Float[Tensor, "b 25"],
    lights: Float[Tensor, "b l"],
    draws: GenerationDraws,
    views: ViewConfig,
) -> tuple[Float[Tensor, "b 25"], Float[Tensor, "b l"]]:
    """Replace some cameras of the set by random ones; turn, strengthen and tint its lights.

    Args:
        labels: Cameras.
        lights: Labels in axes of the head.
        draws: Decide.
        views: How often and how far.

    Raises:
        ValueError: If lights of one channel are to be tinted.
    """
    free = random_cameras(labels, draws.yaw, draws.height, views)
    labels = torch.where((draws.camera < views.random_share)[:, None], free, labels)
    if views.light_turn > 0.0:
        turns = (2.0 * draws.light_turn - 1.0) * math.radians(views.light_turn)
        lights = light_to_labels(turn_around_up(labels_to_light(lights), turns))
    if views.light_gain > 0.0:
        lights = lights * (views.light_gain * draws.light_gain).exp()[:, None]
    if views.light_tint > 0.0:
        colored = labels_to_light(lights)
        if colored.shape[2] != 3:
            raise ValueError(f"lights must have 27 numbers to be tinted, got {lights.shape[1]}")
        # Without their mean, which is a gain.
        tints = draws.light_tint - draws.light_tint.mean(dim=1, keepdim=True)
        lights = light_to_labels(colored * (views.light_tint * tints).exp()[:, None])
    return labels, lights


def generate_batch(
    generator: Generator,
    z: Float[Tensor, "b z"],
    labels: Float[Tensor, "b 25"],
    lights: Float[Tensor, "b l"],
    swaps: Float[Tensor, " b"],
    objective: ObjectiveConfig,
    images_seen: int,
    background: Float[Tensor, 3] | None = None,
) -> GeneratedBatch:
    """Generate heads for training.

    Args:
        generator: What is trained.
        z: Latents.
        labels: Cameras.
        lights: Labels of lights, in axes of the head.
        swaps: Uniform in [0, 1); decide whose camera heads are conditioned on.
        objective: Schedules.
        images_seen: Moment of the training.
        background: Colour in [0, 1] behind heads, that of the real pictures; black if None.
    """
    progress = fade_progress(images_seen, objective.pose_swap_fade)
    share = (1.0 - progress) + progress * objective.pose_swap
    ws = generator.map(z, swap_with_predecessor(labels, swaps, share))
    gaussians, nodes = generator.gaussians_and_anchors(ws)
    has_scenery = objective.has_scenery(images_seen)
    pictures = generator.render(
        gaussians,
        labels_to_light(lights),
        labels,
        scenery=generator.scenery(ws) if has_scenery else None,
        background=background,
    )
    anchors = nodes.means[:, : generator.config.num_points]
    return GeneratedBatch(pictures.image, ws, gaussians, anchors)


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
    flat = (1.0 - height.square()).clamp(min=0.0).sqrt()
    # What looks at the origin has a rotation in closed form; look_at would wait for a GPU.
    outward = torch.stack([flat * yaw.sin(), height, flat * yaw.cos()], dim=1)
    right = torch.stack([yaw.cos(), torch.zeros_like(yaw), -yaw.sin()], dim=1)
    down = torch.linalg.cross(right, outward)
    top = torch.stack([right, down, -outward, views.distance * outward], dim=2)
    last_row = torch.eye(4, dtype=top.dtype, device=top.device)[3].expand(len(top), 1, 4)
    return torch.cat([top.flatten(1), last_row.flatten(1), labels[:, 16:]], dim=1)
