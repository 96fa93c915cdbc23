"""Settings of materials and light: stage 2 of Relightable Gaussian Blendshapes.

Defaults are those of our specification, whose sections stand in brackets.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from vultus.methods.relightable_blendshapes.materials import INITIAL_ROUGHNESS
from vultus.methods.relightable_blendshapes.shading import Tonemap
from vultus.optim.schedules import scale_steps

__all__ = ["MaterialConfig", "MaterialRates", "MaterialWeights", "VisibilityMode"]

VisibilityMode = Literal["cached", "live", "none"]
"""Whether shadows of training frames are traced once and kept, traced in every step, or left out:
the published variant without visibility."""


@dataclass(frozen=True)
class MaterialRates:
    """Adam's learning rates of materials and light (spec section 6.3)."""

    albedo_init: float = 5e-3
    """Of albedo; decays..."""
    albedo_final: float = 5e-4
    """...to this value."""
    roughness: float = 2e-3
    """Of roughness."""
    specular: float = 2e-3
    """Of the strength of highlights."""
    delta_factor: float = 0.2
    """Rates of what expressions change, as a share of those above."""
    light_init: float = 1e-2
    """Of the light; decays..."""
    light_final: float = 1e-3
    """...to this value."""
    decay_steps: int = 40_000
    """Albedo and light decay over so many steps, straight in the logarithm."""

    def __post_init__(self) -> None:
        """Reject what cannot decay or would climb."""
        for name in ("albedo_init", "albedo_final", "light_init", "light_final"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be positive, got {getattr(self, name)}")
        for name in ("roughness", "specular", "delta_factor"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"{name} must not be negative, got {getattr(self, name)}")
        if self.decay_steps < 1:
            raise ValueError(f"decay_steps must be at least 1, got {self.decay_steps}")


@dataclass(frozen=True)
class MaterialWeights:
    """Weights of the loss terms of materials and light (spec section 5.3)."""

    white_light: float = 0.01
    """Colour of the light on a white surface."""
    roughness_prior: float = 0.01
    """Roughness of skin away from what is usual."""
    specular_prior: float = 0.003
    """Highlights of skin away from what is usual."""
    dull_specular: float = 0.01
    """Of hair, brows and cloth."""
    albedo_neighbors: float = 2e-3
    """Differences of albedo between near Gaussians of one label."""
    material_neighbors: float = 5e-3
    """Of roughness and specular."""
    albedo_deltas: float = 1e-3
    """What expressions change of albedo."""
    material_deltas: float = 1e-2
    """Of roughness and specular."""
    light_variation: float = 1e-3
    """Differences of neighbouring texels of the light."""
    light_energy: float = 1e-4
    """Strength of the light."""


@dataclass(frozen=True)
class MaterialConfig:
    """How Gaussians are lit."""

    geometry: Path | None = None
    """The ``geometry.safetensors`` of ``vultus geometry``: the subject's own mesh, and the light to
    start from; None: the head model's mesh in even light. Commands on the run read it again."""
    light_file: Path | None = None
    """Map of surroundings (.hdr, .exr), or light.json of a capture that knows its light, that the
    light starts as instead, in the frame that the capture's light stands still in. Commands on the
    run read it again."""
    train_light: bool = True
    """Find the light; otherwise it stays what it started as, such as a light probe."""
    visibility: VisibilityMode = "cached"
    """Shadows of training frames: cached, traced once and kept; live, traced in every step; or
    none."""
    visibility_file: Path | None = None
    """File that keeps traced shadows from one training of a capture to the next; None: not kept."""
    map_rows: int = 16
    """Rows of the trained light, which is twice as wide."""
    min_roughness: float = 0.3
    """Least roughness: lobes narrower than texels flicker (spec section 3.4)."""
    tonemap: Tonemap = "srgb"
    """How radiance becomes display values: srgb; studio, the film of the virtual studio; none;
    or gaussian, sRGB before Gaussians are drawn."""
    initial_light: float = 1.0
    """Radiance from everywhere at the start, where no geometry stage has found any."""
    light_start: int = 500
    """Light is trained after this step."""
    specular_start: int = 1_000
    """Gaussians shine after this step."""
    shadow_ramp: int = 2_000
    """Shadows reach their strength at this step."""
    rebind_interval: int = 500
    """Steps between searches for the nearest points of the mesh; edits search, too."""
    binding_gradients: bool = True
    """Let shading move Gaussians along the surface by where they look normals up (spec section
    3.6)."""
    rates: MaterialRates = field(default_factory=MaterialRates)
    weights: MaterialWeights = field(default_factory=MaterialWeights)

    def __post_init__(self) -> None:
        """Reject settings that contradict each other."""
        if self.map_rows < 1 or self.rebind_interval < 1:
            raise ValueError(
                "map_rows and rebind_interval must be at least 1, got "
                f"{self.map_rows} and {self.rebind_interval}"
            )
        if not self.initial_light > 0:
            raise ValueError(f"initial_light must be positive, got {self.initial_light}")
        if not 0 <= self.min_roughness < INITIAL_ROUGHNESS:
            raise ValueError(
                f"min_roughness must lie in [0, {INITIAL_ROUGHNESS}), where roughness starts, got "
                f"{self.min_roughness}"
            )
        for name in ("light_start", "specular_start", "shadow_ramp"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must not be negative, got {getattr(self, name)}")

    def is_light_trained(self, step: int | None) -> bool:
        """Whether the light changes in a training step, counted from 1; never after training."""
        return self.train_light and step is not None and step > self.light_start

    def has_specular(self, step: int | None) -> bool:
        """Whether Gaussians shine in a training step; ``None``: training is over."""
        return step is None or step > self.specular_start

    def scaled(self, factor: float) -> MaterialConfig:
        """Multiply every number of steps; see ``optim.schedules.scale_steps``."""
        return replace(
            self,
            light_start=scale_steps(self.light_start, factor),
            specular_start=scale_steps(self.specular_start, factor),
            shadow_ramp=scale_steps(self.shadow_ramp, factor),
            rebind_interval=scale_steps(self.rebind_interval, factor),
            rates=replace(self.rates, decay_steps=scale_steps(self.rates.decay_steps, factor)),
        )
