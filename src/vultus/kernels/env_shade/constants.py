"""Numbers that all backends share."""

__all__ = ["MIN_HALF_SQUARED", "MIN_LOBE_DIVISOR", "NORMAL_REFLECTANCE"]

NORMAL_REFLECTANCE = 0.04
"""Of dielectrics at normal incidence."""
MIN_LOBE_DIVISOR = 1e-9
"""Least pi t^2, as in diff_envshade: without it mirrors would be infinitely bright."""
MIN_HALF_SQUARED = 1e-12
"""Least |l + v|^2 that has a direction in float32."""
