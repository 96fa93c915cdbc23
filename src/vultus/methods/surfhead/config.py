"""Settings of SurfHead. Defaults are the paper's script (300k steps, NeRSemble)."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Literal

from vultus.gaussians.densify import DensifyConfig
from vultus.methods.schedule import check_fit_settings
from vultus.methods.surfhead.specular import SpecularConfig
from vultus.optim.schedules import scale_steps

__all__ = [
    "PRESETS",
    "LossWeights",
    "ModelConfig",
    "OptimConfig",
    "SurfHeadConfig",
    "scale_schedule",
]


@dataclass(frozen=True)
class ModelConfig:
    """How surfels hang on the mesh and what colour they have."""

    rig: Literal["similarity", "jacobian", "jbs"] = "jbs"
    """Transport of surfels from rest to pose: by the triangle's similarity, by its deformation
    gradient, or by blended gradients of the triangle and its three neighbours (official flags:
    none, --DTF, --DTF --train_kinematic)."""
    third_edge: Literal["sqrt_area", "unit"] = "sqrt_area"
    """Normal edge of the deformation gradient: 2025 release or 2024 release."""
    sh_degree: int = 3
    """Highest degree of the view-dependent colour."""
    sh_degree_interval: int = 1000
    """Steps after which the active degree grows by one."""
    detach_eyeball_geometry: bool = True
    """Keep eyeball surfels where the mesh puts them: no position, rotation or blending gradient."""
    freeze_boundary_blending: bool = True
    """No blend-weight gradient on the neck's cut."""
    rotate_sh_directions: bool = False
    """Evaluate colours for view directions turned back into the rest pose, so that a turned head
    keeps the colours that it learned for a side. The official code never does (its --rotSH has no
    effect)."""
    jacobian_gradient: bool = False
    """Let the rasterizer's gradient reach the Jacobians; the official code never does."""
    blend: Literal["learned", "distance"] = "learned"
    """Blend weights of jbs: learned, or fixed by the distances to the four faces at rest (official
    --train_kinematic_dist, an ablation)."""
    blend_self_logit: float = 0.9
    """Probability whose logit starts the blend weight of a surfel's own face (others 0.05)."""
    initial_opacity: float = 0.1
    """Opacity of every surfel at the start. Near one, triangles that no camera sees stay closed and
    thin data cannot hide errors behind see-through surfels."""
    initial_shape: Literal["round", "triangle"] = "round"
    """Round surfels as published, or surfels with the proportions of their triangles, which do not
    stick out of the outline of the head."""
    initial_scale: float = 1.0
    """Standard deviation of every surfel at the start: in triangle sizes (round), or in standard
    deviations of the points of its triangle (triangle)."""
    mouth_starts_dark: bool = False
    """Start the surfels of the mouth's inside black instead of grey: few cameras look into it."""
    pose_cache_mib: int = 1024
    """Memory for posed triangles while the rig is frozen."""


@dataclass(frozen=True)
class LossWeights:
    """Weights of the loss terms (spec section 5); zero switches a term off."""

    ssim_weight: float = 0.2
    """Share of 1 - SSIM; the rest is L1."""
    alpha_weight: float = 0.0
    """Absolute difference of opacity and mask, in captures with masks. Otherwise whatever the rig
    has and the masks lack (shoulders below a cut) is painted in the colour of the background."""
    eye_alpha_weight: float = 0.1
    """Pull eyeball opacities to one."""
    blend_weight_weight: float = 0.0
    """Keep neighbours' blend weights below 0.1."""
    normal_norm_weight: float = 0.01
    """Keep transported normals at unit length (jacobian and jbs)."""
    surfel_normal_weight: float = 0.05
    """Rendered normals against normals of the depth map."""
    surfel_normal_from: int = 70_000
    """First step of the term above."""
    depth_smoothness_weight: float = 0.0
    """Keep inverse depth smooth where the image is (official --lambda_ids)."""
    distortion_weight: float = 100.0
    """Depth distortion of 2DGS."""
    distortion_from: int = 30_000
    """First step of the term above."""
    xyz_weight: float = 1e-2
    """Keep surfels within ``xyz_threshold`` triangle sizes of their triangle."""
    xyz_threshold: float = 1.0
    """That limit, in triangle sizes."""
    metric_xyz: bool = False
    """Apply that limit along each axis of the face's frame, in metres (official --metric_xyz)."""
    scale_weight: float = 1.0
    """Keep surfels below ``scale_threshold`` triangle sizes."""
    scale_threshold: float = 0.6
    """That limit, in triangle sizes."""
    metric_scale: bool = False
    """Measure scales in metres (official --metric_scale)."""
    mask_normals: bool = True
    """Compare normals on the foreground only (official --rm_bg)."""


@dataclass(frozen=True)
class OptimConfig:
    """Adam's learning rates (spec section 6)."""

    position_lr_init: float = 0.005
    """Times the extent of the cameras; decays exponentially to the final value."""
    position_lr_final: float = 5e-5
    """Value at the end of that decay, times the extent, too."""
    position_lr_steps: int = 300_000
    """Steps of that decay."""
    feature_lr: float = 0.0025
    """Degree 0; higher degrees use a twentieth."""
    opacity_lr: float = 0.05
    """Of opacity logits."""
    scaling_lr: float = 0.017
    """Of log-scales."""
    rotation_lr: float = 0.001
    """Of quaternions."""
    blend_weight_lr: float = 0.001
    """Of blend weights (jbs)."""
    adam_epsilon: float = 1e-15
    """Added to the root of Adam's second moment. The published value turns any gradient, however
    faint, into a full step: surfels behind others drift. About 1e-8 lets them rest."""
    finetune_rig: bool = True
    """Also optimise the rig parameters of training timesteps."""
    expression_lr: float = 1e-3
    """Of expression coefficients."""
    pose_lr: float = 1e-5
    """Global, neck, jaw and eye rotations."""
    translation_lr: float = 1e-6
    """Of the head's translation."""


@dataclass(frozen=True)
class SurfHeadConfig:
    """Everything that decides a SurfHead training."""

    model: ModelConfig = field(default_factory=ModelConfig)
    losses: LossWeights = field(default_factory=LossWeights)
    optim: OptimConfig = field(default_factory=OptimConfig)
    densify: DensifyConfig = field(default_factory=DensifyConfig)
    specular: SpecularConfig = field(default_factory=SpecularConfig)
    steps: int = 300_000
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
        if not 0 < self.model.initial_opacity < 1 or self.model.initial_scale <= 0:
            raise ValueError(
                "model.initial_opacity must lie in (0, 1) and model.initial_scale be positive, got "
                f"{self.model.initial_opacity} and {self.model.initial_scale}"
            )
        if not 0 <= self.model.sh_degree <= 3:
            raise ValueError(f"model.sh_degree must be 0 to 3, got {self.model.sh_degree}")


def scale_schedule(config: SurfHeadConfig, factor: float) -> SurfHeadConfig:
    """Multiply every number of steps, so that a shorter training takes the same course.

    Intervals stay at least one step, those between edits of the density 100. Checkpoints and logs
    keep their intervals.

    Raises:
        ValueError: If the factor is not positive.
    """

    def times(steps: int) -> int:
        return scale_steps(steps, factor)

    losses, specular = config.losses, config.specular
    return replace(
        config,
        model=replace(config.model, sh_degree_interval=times(config.model.sh_degree_interval)),
        losses=replace(
            losses,
            surfel_normal_from=times(losses.surfel_normal_from),
            distortion_from=times(losses.distortion_from),
        ),
        optim=replace(config.optim, position_lr_steps=times(config.optim.position_lr_steps)),
        densify=config.densify.scaled(factor),
        specular=replace(
            specular, start_step=times(specular.start_step), lr_steps=times(specular.lr_steps)
        ),
        steps=times(config.steps),
    )


def _short(steps: int) -> SurfHeadConfig:
    """Scale the paper's schedule to few steps for machines without a GPU."""
    return SurfHeadConfig(
        model=ModelConfig(
            sh_degree=0,
            initial_opacity=0.9,
            initial_shape="triangle",
            initial_scale=1.6,
            mouth_starts_dark=True,
        ),
        losses=LossWeights(
            alpha_weight=0.1,
            surfel_normal_from=steps // 2,
            distortion_from=steps // 3,
            distortion_weight=10.0,
        ),
        optim=OptimConfig(
            position_lr_steps=steps,
            opacity_lr=0.005,
            rotation_lr=1e-4,
            adam_epsilon=1e-8,
            finetune_rig=False,
        ),
        # One surfel a face is dense enough for small images; growing them costs more than it gives.
        densify=DensifyConfig(start_step=0, stop_step=0),
        specular=SpecularConfig(lobes="none"),
        steps=steps,
        checkpoint_every=500,
    )


def _ablations() -> dict[str, SurfHeadConfig]:
    """The series of the paper's ablations, each with what the one before it has."""
    specular = SpecularConfig(lobes="asg")
    base = SurfHeadConfig(specular=specular)
    vanilla = _rig(base, "similarity")
    without_eyes = replace(
        base,
        model=replace(base.model, detach_eyeball_geometry=False),
        losses=replace(base.losses, eye_alpha_weight=0.0),
        specular=SpecularConfig(lobes="none"),
    )
    return {
        "vanilla": replace(vanilla, losses=replace(vanilla.losses, normal_norm_weight=0.0)),
        "vanilla-jacobian": _rig(base, "jacobian"),
        "vanilla-jacobian-jbs": base,
        "vanilla-jacobian-jbs-no-eyes": without_eyes,
    }


def _rig(config: SurfHeadConfig, rig: Literal["similarity", "jacobian", "jbs"]) -> SurfHeadConfig:
    return replace(config, model=replace(config.model, rig=rig))


PRESETS: dict[str, SurfHeadConfig] = {
    "paper": SurfHeadConfig(),
    **_ablations(),
    "demo": _rig(_short(2_500), "jacobian"),
    "small": _short(6_000),
    "small-jacobian": _rig(_short(6_000), "jacobian"),
    "small-similarity": _rig(_short(6_000), "similarity"),
}
"""Named settings; ``paper`` is the published final model, the ``vanilla`` series its ablations,
``demo`` and ``small`` fit two CPU cores."""
