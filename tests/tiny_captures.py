"""A capture of a few small pictures and settings that learn it in seconds."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Literal

import torch

from fakes import FakeHead
from vultus.data.readers import read_sequence
from vultus.data.sequence import HeadSequence
from vultus.data.studio.capture import film
from vultus.data.studio.config import StudioConfig
from vultus.data.studio.subject import Subject, plain_appearance
from vultus.gaussians.densify import DensifyConfig
from vultus.methods.surfhead.config import PRESETS, SurfHeadConfig

__all__ = ["TINY_STUDIO", "film_fake_head", "film_procedural_head", "tiny_surfhead"]

# Five moments: camera 1 and the last moment are held out, which leaves 8 pictures for training.
TINY_STUDIO = StudioConfig(
    frames=5, cameras=3, size=40, texture_size=128, samples=1, num_lights=16, test_share=0.2
)


def film_fake_head(out: Path) -> HeadSequence:
    """Film ``FakeHead`` with 720 faces."""
    head = FakeHead(rings=16, segments=24)
    appearance = plain_appearance(head, 0, 64)
    film(TINY_STUDIO, out, subject=Subject(head, torch.tensor([[0.4]]), appearance))
    return read_sequence(out, head=head)


def film_procedural_head(out: Path) -> HeadSequence:
    """Film the built-in head, which has eyeballs, teeth and a jaw."""
    film(TINY_STUDIO, out)
    return read_sequence(out)


def tiny_surfhead(
    rig: Literal["similarity", "jacobian", "jbs"] = "jbs", steps: int = 20, **changes: object
) -> SurfHeadConfig:
    """Settings that reach every part of a training in few steps: losses, colour, rig, density."""
    demo = PRESETS["demo"]
    config = replace(
        demo,
        model=replace(demo.model, rig=rig, sh_degree=1, sh_degree_interval=3),
        losses=replace(demo.losses, surfel_normal_from=4, distortion_from=2),
        # Colours must get somewhere in 20 steps.
        optim=replace(demo.optim, finetune_rig=True, position_lr_steps=steps, feature_lr=0.03),
        densify=DensifyConfig(
            start_step=3, stop_step=steps, interval=4, gradient_threshold=1e-3, prune_opacity=0.5
        ),
        steps=steps,
        checkpoint_every=5,
        log_every=1,
    )
    return replace(config, **changes)
