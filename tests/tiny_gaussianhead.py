"""Settings that train a GaussianHead of a tiny capture in seconds."""

from __future__ import annotations

from dataclasses import replace

from vultus.gaussians.densify import DensifyConfig
from vultus.methods.gaussianhead.config import PRESETS, GaussianHeadConfig
from vultus.methods.gaussianhead.derivation import DerivationMode

__all__ = ["MODES", "tiny_gaussianhead"]

MODES: tuple[DerivationMode, ...] = ("paper", "official", "baked_scale", "none")


def tiny_gaussianhead(
    mode: DerivationMode = "paper", steps: int = 20, **changes: object
) -> GaussianHeadConfig:
    """Settings that reach every part of a training in few steps: colour, motion, density."""
    small = PRESETS["small"]
    model = replace(
        small.model,
        derivation=mode,
        width=16,
        num_gaussians=150,
        resolutions=(16,),
        warm_up=4,
        sh_degree_interval=2,
        opacity_offsets=mode != "official",
        initial_opacity_offset=0.0,
        starts_at_rest=False,
        sh_degree=3,
        view_directions=True,
    )
    config = replace(
        small,
        model=model,
        densify=DensifyConfig(
            start_step=3,
            stop_step=steps,
            interval=4,
            opacity_reset_interval=12,
            gradient_threshold=2e-4,
            prune_opacity=0.005,
        ),
        steps=steps,
        checkpoint_every=5,
        log_every=1,
    )
    return replace(config, **changes)
