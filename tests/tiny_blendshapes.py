"""Settings that train Gaussian blendshapes of a tiny capture in seconds."""

from __future__ import annotations

from dataclasses import replace

from vultus.gaussians.densify import DensifyConfig
from vultus.methods.relightable_blendshapes.config import PRESETS, RelightableBlendshapesConfig

__all__ = ["tiny_blendshapes"]


def tiny_blendshapes(steps: int = 20, **changes: object) -> RelightableBlendshapesConfig:
    """Settings that reach every part of a training in few steps: colour, deltas, density, teeth."""
    toy = PRESETS["toy"]
    model = replace(
        toy.model,
        num_points=300,
        num_teeth_points=30,
        # The built-in head has teeth; strips are tested beside them.
        teeth="always",
        sh_degree=1,
        sh_degree_interval=3,
    )
    config = replace(
        toy,
        model=model,
        # Colours must get somewhere in 20 steps.
        optim=replace(toy.optim, position_lr_steps=steps, feature_lr=0.03),
        densify=DensifyConfig(
            start_step=3,
            stop_step=steps,
            interval=4,
            resets_opacity=False,
            gradient_threshold=1e-3,
            gradient_gain=5.0,
            prune_opacity=0.3,
        ),
        steps=steps,
        checkpoint_every=5,
        log_every=1,
    )
    return replace(config, **changes)
