"""Learning rates of every parameter at a step (spec sections 5.1 and 5.2)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from vultus.methods.gaussianhead.config import OptimConfig
from vultus.optim.schedules import exponential_decay

__all__ = ["LearningRates", "learning_rates"]

_REST_SHARE = 1.0 / 20.0


@dataclass(frozen=True)
class LearningRates:
    """Rates by the name of a parameter, or by the longest prefix of it that is listed."""

    by_prefix: Mapping[str, float]

    def of(self, name: str) -> float:
        """The rate of one parameter.

        Raises:
            KeyError: If no rate is meant for it.
        """
        fitting = [prefix for prefix in self.by_prefix if name.startswith(prefix)]
        if not fitting:
            raise KeyError(f"no learning rate is known for {name!r}")
        return self.by_prefix[max(fitting, key=len)]


def learning_rates(optim: OptimConfig, steps_taken: int) -> LearningRates:
    """Rates after so many steps."""
    scale = optim.spatial_lr_scale
    return LearningRates(
        {
            "means": exponential_decay(
                steps_taken,
                scale * optim.position_lr_init,
                scale * optim.position_lr_final,
                optim.position_lr_steps,
            ),
            "log_scales": scale * optim.scaling_lr,
            "quats": optim.rotation_lr,
            "derivation": optim.derivation_lr,
            "opacity_offsets": optim.opacity_offset_lr,
            "motion.": exponential_decay(
                steps_taken,
                scale * optim.motion_lr_init,
                optim.motion_lr_final,
                optim.motion_lr_steps,
            ),
            "appearance.planes.": exponential_decay(
                steps_taken, optim.plane_lr_init, optim.plane_lr_final, optim.plane_lr_steps
            ),
            "appearance.opacity_layers.": optim.opacity_lr,
            "appearance.color_layers.": optim.feature_lr,
            "appearance.dc_layer.": optim.feature_lr,
            "appearance.rest_layer.": optim.feature_lr * _REST_SHARE,
        }
    )
