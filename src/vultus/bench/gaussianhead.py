"""Time of GaussianHead: pictures and their parts, and training steps."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import fields, replace
from typing import Any

import torch

from vultus.bench.gpu_timing import peak_memory
from vultus.bench.results import Row
from vultus.bench.steps import bench_steps, noise_capture
from vultus.bench.training import time_modes
from vultus.data.frame_store import FrameStore
from vultus.geometry.cameras import Camera
from vultus.heads.base import HeadPose
from vultus.methods.gaussianhead.config import PRESETS, OptimConfig
from vultus.methods.gaussianhead.derivation import DerivationMode
from vultus.methods.gaussianhead.model import GaussianHead
from vultus.methods.gaussianhead.posing import PosedGaussians
from vultus.render.gaussians import render_gaussians

__all__ = ["bench_gaussianhead"]

_EXPRESSION_SIZE = 46
"""Of the published videos."""
_STEP = 5_000
"""Everything moves, has all degrees of colour, and density is still watched."""
_RATE = 1e-8
"""Learning rates while timing: noise must not make Gaussians grow, every step does the same."""
_OPACITY_OFFSET = 2.0
"""Gaussians of a trained avatar are mostly opaque, decoded ones start at one half."""


def bench_gaussianhead(
    num: int,
    size: int,
    repeats: int,
    *,
    derivation: DerivationMode = "paper",
    device: torch.device | str = "cpu",
) -> list[Row]:
    """Time the preset ``paper`` with Gaussians on the surface of a head of FLAME's size.

    A picture is everything from a driving vector to an image. Its parts are timed alone.

    Args:
        num: Gaussians.
        size: Width and height of the images, which are noise for training.
        repeats: Timed pictures.
        derivation: Rule.
        device: On a GPU, calls are launched and captured.
    """
    avatar, frames = _avatar(num, size, derivation, device)
    facts = {"bench": "gaussianhead", "num": num, "size": size, "derivation": derivation}
    scene = f"GaussianHead, {num} Gaussians, {size} x {size}, {derivation}"
    parts = _parts(avatar, frames.camera[0].to(device))
    memory = peak_memory(parts["picture"]) if avatar.device.type == "cuda" else None
    rows = [
        Row(f"{scene}, pictures", name, mode, {"time": timing}, memory, facts)
        for (name, mode), timing in time_modes(parts, repeats, device).items()
    ]
    steps = bench_steps(lambda: _avatar(num, size, derivation, device), device=device, step=_STEP)
    trained = f"{scene}, training"
    kind = avatar.device.type
    rows += [
        Row(trained, kind, row.implementation, {"step": row.timing}, row.memory or None, facts)
        for row in steps
    ]
    return rows


def _parts(avatar: GaussianHead, world_camera: Camera) -> dict[str, Callable[[], object]]:
    """What is timed without gradients."""
    driving, motions = avatar.driven(avatar.track[0])
    motion, appearance = avatar.networks
    config, values = avatar.config.model, avatar.gaussians
    means = values["means"].detach()[None]
    with torch.no_grad():
        features = appearance.features(means, config.derivation, values.get("derivation"))
        posed, _ = avatar.rasterize(driving, motions, world_camera)
    camera = avatar.scene_camera(world_camera, motions)

    def draw(posed: PosedGaussians) -> object:
        return render_gaussians(
            posed.means, posed.quats, posed.scales, posed.opacities, camera,
            sh_coeffs=posed.sh_coeffs, sh_degree=config.sh_degree,
            normalize_quats=config.normalize_deformed_quats, near=config.near, outputs=(),
        )  # fmt: skip

    calls: dict[str, Callable[[], object]] = {
        "motion network": lambda: motion(means[0], driving),
        "derivation and planes": lambda: appearance.features(
            means, config.derivation, values.get("derivation")
        ),
        "decoders": lambda: appearance.decode(features, means),
        "rasterizer": lambda: draw(posed),
        "picture": lambda: avatar.rasterize(driving, motions, world_camera),
    }
    return {name: torch.no_grad()(call) for name, call in calls.items()}


def _avatar(
    num: int, size: int, derivation: DerivationMode, device: torch.device | str
) -> tuple[GaussianHead, FrameStore]:
    """GaussianHead as it may look after training, and images of noise."""
    sequence, frames = noise_capture(size, size)
    expressions = sequence.pose.tensors()["expression_coeffs"][:, :_EXPRESSION_SIZE]
    # The head rests, as in videos whose cameras move instead.
    sequence = replace(sequence, pose=HeadPose(expression_coeffs=expressions))
    paper = PRESETS["paper"]
    model = replace(
        paper.model,
        derivation=derivation,
        num_gaussians=num,
        initial_points="mesh",
        initial_opacity_offset=_OPACITY_OFFSET,
        scene="head",
        extent=1.0,
        starts_at_rest=False,
    )
    config = replace(
        paper, model=model, losses=replace(paper.losses, vgg_weight=0.0), optim=_standing_still()
    )
    avatar = GaussianHead(config, sequence, 0, device)
    tensors = avatar.tensors()
    # Untrained, the network would blow the Gaussians up.
    for name in ("mean", "quat", "scale"):
        for kind in ("weight", "bias"):
            tensors[f"motion.{name}_head.{kind}"] *= math.exp(-5.0)
    avatar.load_tensors(tensors)
    return avatar, frames


def _standing_still() -> OptimConfig:
    names = [field.name for field in fields(OptimConfig)]
    rates = [name for name in names if name.endswith(("_lr", "_lr_init", "_lr_final"))]
    slow: dict[str, Any] = dict.fromkeys(rates, _RATE)
    return OptimConfig(**slow)
