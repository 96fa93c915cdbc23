"""Settings of Relightable Gaussian Blendshapes. Defaults are those of Gaussian Blendshapes."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Literal

from vultus.gaussians.densify import DensifyConfig
from vultus.methods.relightable_blendshapes.material_config import MaterialConfig, MaterialRates
from vultus.methods.relightable_blendshapes.mouth import Offset
from vultus.methods.schedule import check_fit_settings
from vultus.optim.schedules import scale_steps

__all__ = [
    "PRESETS",
    "LossWeights",
    "ModelConfig",
    "OptimConfig",
    "RelightableBlendshapesConfig",
    "scale_schedule",
]


@dataclass(frozen=True)
class ModelConfig:
    """What Gaussians there are, and what they follow."""

    appearance: Literal["sh", "pbr"] = "sh"
    """Where colours come from. sh: view-dependent colours of the base method, Gaussian Blendshapes;
    pbr: materials in a light that is found along with them, so that the avatar can be relit."""
    num_expressions: int | None = 50
    """How many of the head's expressions have blendshapes, the first ones; None: all. The others
    move joints only."""
    num_points: int = 50_000
    """Gaussians on the mesh at the start, about."""
    num_teeth_points: int = 5_000
    """Gaussians on each of the two strips of teeth at the start, about."""
    teeth: Literal["missing", "always", "never"] = "missing"
    """Whether strips stand for the teeth: where the head's mesh has none, always, or never."""
    teeth_offset: Offset | None = None
    """Moves the strips from their place in FLAME's mean head, metres; None: what the capture says
    (offset.txt), else the published default."""
    initial_opacity: float = 0.1
    """Opacity of every Gaussian at the start."""
    sh_degree: int = 3
    """Highest degree of the view-dependent colour."""
    sh_degree_interval: int = 1_000
    """Steps after which the active degree grows by one."""
    near: float = 0.01
    """Gaussians nearer to the camera are not drawn, metres."""
    official_quirks: bool = False
    """Follow the published program where it differs from its own description: pose correctives
    three times too large, rotations of faces by three steps, upper teeth that follow the back of
    FLAME's head instead of the skull's joint."""


@dataclass(frozen=True)
class LossWeights:
    """Weights of the loss terms (spec section 5.1); zero switches a term off."""

    ssim_weight: float = 0.2
    """Share of 1 - SSIM; the rest is L1."""
    alpha_weight: float = 10.0
    """Squared difference of opacity and mask, in captures with masks."""
    teeth_weight: float = 100.0
    """Squared distance of the strips' Gaussians to the mouth's cylinder, per square metre."""
    teeth_confinement: Literal["soft", "hard"] = "soft"
    """soft: the term above; hard: move them into the cylinder after every step."""
    lpips_weight: float = 0.0
    """LPIPS in features of VGG. Without the imported assets the term is off, which the log and the
    run's card say."""
    isotropy_weight: float = 0.0
    """Squared excess of the largest over the smallest scale."""


@dataclass(frozen=True)
class OptimConfig:
    """Adam's learning rates (spec section 6.1)."""

    position_lr_init: float = 1.6e-4
    """Times the extent; decays exponentially to the final value."""
    position_lr_final: float = 1.6e-6
    """Value at the end of that decay, times the extent, too."""
    position_lr_steps: int = 30_000
    """Steps of that decay."""
    extent: float = 1.0
    """Size of the scene in metres, for densification and the rate of positions."""
    feature_lr: float = 2.5e-3
    """Of colours of degree 0; higher degrees use a twentieth."""
    opacity_lr: float = 0.05
    """Of opacity logits."""
    scaling_lr: float = 5e-3
    """Of log-scales."""
    rotation_lr: float = 1e-3
    """Of quaternions."""
    position_delta_lr: float = 3.2e-7
    """This and the following: of what expressions add."""
    feature_delta_lr: float = 1.25e-3
    """Of what expressions add to colours of degree 0."""
    opacity_delta_lr: float = 5e-5
    """Of what expressions add to opacity logits."""
    scaling_delta_lr: float = 5e-4
    """Of what expressions add to log-scales."""
    rotation_delta_lr: float = 1e-4
    """Of what expressions add to rotations."""
    adam_epsilon: float = 1e-15
    """Added to the root of Adam's second moment."""


def _published_density() -> DensifyConfig:
    return DensifyConfig(
        start_step=500,
        stop_step=15_000,
        interval=100,
        opacity_reset_interval=3_000,
        resets_opacity=False,
        # Five times that of 3DGS on the face, that of 3DGS on the teeth.
        gradient_threshold=1e-3,
        gradient_gain=5.0,
        prune_opacity=0.005,
    )


@dataclass(frozen=True)
class RelightableBlendshapesConfig:
    """Everything that decides a training."""

    model: ModelConfig = field(default_factory=ModelConfig)
    losses: LossWeights = field(default_factory=LossWeights)
    optim: OptimConfig = field(default_factory=OptimConfig)
    densify: DensifyConfig = field(default_factory=_published_density)
    materials: MaterialConfig = field(default_factory=MaterialConfig)
    """Materials and light, for --model.appearance pbr."""
    steps: int = 40_000
    """Optimisation steps; one image each."""
    checkpoint_every: int = 5_000
    """Steps between checkpoints."""
    keep_checkpoints: int = 2
    """How many of the last checkpoints stay; 0 keeps all. Commands on a run take any of them with
    --step."""
    evaluate_every: int = 0
    """0: only after the last step."""
    log_every: int = 50
    """Steps between lines of the metrics log."""
    backend: Literal["auto", "ref", "cpu", "gpu"] = "auto"
    """Rasterizer."""

    def __post_init__(self) -> None:
        """Reject settings that contradict each other."""
        check_fit_settings(self)
        model = self.model
        for name in ("num_points", "num_teeth_points", "sh_degree_interval"):
            if getattr(model, name) < 1:
                raise ValueError(f"model.{name} must be at least 1, got {getattr(model, name)}")
        if model.num_expressions is not None and model.num_expressions < 1:
            raise ValueError(f"model.num_expressions must be positive, got {model.num_expressions}")
        if not 0 < model.initial_opacity < 1:
            raise ValueError(
                f"model.initial_opacity must lie in (0, 1), got {model.initial_opacity}"
            )
        if not 0 <= model.sh_degree <= 3:
            raise ValueError(f"model.sh_degree must be 0 to 3, got {model.sh_degree}")
        if model.near <= 0 or self.optim.extent <= 0:
            raise ValueError(
                f"model.near and optim.extent must be positive, got {model.near} and "
                f"{self.optim.extent}"
            )


def scale_schedule(
    config: RelightableBlendshapesConfig, factor: float
) -> RelightableBlendshapesConfig:
    """Multiply every number of steps, so that a shorter training takes the same course.

    Intervals stay at least one step, those between edits of the density 100. Checkpoints and logs
    keep their intervals.

    Raises:
        ValueError: If the factor is not positive.
    """

    def times(steps: int) -> int:
        return scale_steps(steps, factor)

    model, optim = config.model, config.optim
    return replace(
        config,
        model=replace(model, sh_degree_interval=times(model.sh_degree_interval)),
        optim=replace(optim, position_lr_steps=times(optim.position_lr_steps)),
        densify=config.densify.scaled(factor),
        materials=config.materials.scaled(factor),
        steps=times(config.steps),
    )


def _with_losses(
    config: RelightableBlendshapesConfig, **changes: float
) -> RelightableBlendshapesConfig:
    return replace(config, losses=replace(config.losses, **changes))


def _small(steps: int, num_points: int) -> RelightableBlendshapesConfig:
    """Few Gaussians that start opaque, for machines without a GPU."""
    return RelightableBlendshapesConfig(
        model=ModelConfig(
            num_expressions=None,
            num_points=num_points,
            num_teeth_points=num_points // 20,
            initial_opacity=0.9,
            sh_degree=0,
        ),
        losses=LossWeights(alpha_weight=1.0),
        optim=OptimConfig(
            position_lr_steps=steps,
            feature_lr=1e-2,
            opacity_lr=1e-2,
            scaling_lr=2e-2,
            position_delta_lr=2e-5,
            feature_delta_lr=5e-3,
            rotation_delta_lr=3e-4,
            adam_epsilon=1e-8,
        ),
        # Points are dense enough for small images; growing them costs more than it gives.
        densify=DensifyConfig(start_step=0, stop_step=0),
        steps=steps,
        checkpoint_every=1_000,
    )


def _relightable(
    config: RelightableBlendshapesConfig, rates: MaterialRates | None = None
) -> RelightableBlendshapesConfig:
    """The same with materials, whose schedule fills the steps.

    Args:
        config: Of appearance sh.
        rates: Of a short training; ``None``: the published ones.
    """
    factor = config.steps / RelightableBlendshapesConfig().steps
    materials = MaterialConfig() if rates is None else MaterialConfig(rates=rates)
    model = replace(config.model, appearance="pbr")
    scaled = replace(materials.scaled(factor), rebind_interval=min(500, config.steps // 8))
    return replace(config, model=model, materials=scaled)


def _without_visibility(config: RelightableBlendshapesConfig) -> RelightableBlendshapesConfig:
    return replace(config, materials=replace(config.materials, visibility="none"))


def _with_fixed_materials(config: RelightableBlendshapesConfig) -> RelightableBlendshapesConfig:
    rates = replace(config.materials.rates, delta_factor=0.0)
    return replace(config, materials=replace(config.materials, rates=rates))


def _without_priors(config: RelightableBlendshapesConfig) -> RelightableBlendshapesConfig:
    """Nothing is known about materials; terms of the light stay."""
    weights = replace(
        config.materials.weights,
        roughness_prior=0.0,
        specular_prior=0.0,
        dull_specular=0.0,
        albedo_neighbors=0.0,
        material_neighbors=0.0,
        albedo_deltas=0.0,
        material_deltas=0.0,
    )
    return replace(config, materials=replace(config.materials, weights=weights))


def _ablations(
    name: str, config: RelightableBlendshapesConfig
) -> dict[str, RelightableBlendshapesConfig]:
    return {
        name: config,
        f"{name}-no-visibility": _without_visibility(config),
        f"{name}-fixed-materials": _with_fixed_materials(config),
        f"{name}-no-priors": _without_priors(config),
    }


_SHORT_RATES = MaterialRates(
    albedo_init=3e-2,
    albedo_final=3e-3,
    roughness=1e-2,
    specular=1e-2,
    light_init=3e-2,
    light_final=3e-3,
)

_SMALL, _TOY = _small(4_000, 10_000), _small(800, 5_000)
_INSTA = RelightableBlendshapesConfig()
_NERFBS = _with_losses(_INSTA, alpha_weight=1.0, lpips_weight=0.05)

PRESETS: dict[str, RelightableBlendshapesConfig] = {
    "insta512": _INSTA,
    "nerfbs512": _NERFBS,
    "small": _SMALL,
    "toy": _TOY,
    "nerfbs512-pbr": _relightable(_NERFBS),
    **_ablations("insta512-pbr", _relightable(_INSTA)),
    **_ablations("small-pbr", _relightable(_SMALL, _SHORT_RATES)),
    **_ablations("toy-pbr", _relightable(_TOY, _SHORT_RATES)),
}
"""Named settings; ``insta512`` and ``nerfbs512`` are the published ones for the two kinds of
captures, ``small`` and ``toy`` fit two CPU cores; ``-pbr`` has materials, ``-no-visibility`` lets
light pass through everything, expressions change no ``-fixed-materials``, and ``-no-priors`` knows
nothing about what labels are made of."""
