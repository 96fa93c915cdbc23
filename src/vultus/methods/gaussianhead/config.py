"""Settings of GaussianHead. Defaults are the published schedule (80k steps)."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Literal

from vultus.gaussians.densify import DensifyConfig
from vultus.methods.gaussianhead.appearance import SH_DEGREE, ColorActivation
from vultus.methods.gaussianhead.derivation import DerivationMode
from vultus.methods.schedule import check_fit_settings
from vultus.optim.schedules import scale_steps

__all__ = [
    "PRESETS",
    "DrivingField",
    "GaussianHeadConfig",
    "LossWeights",
    "ModelConfig",
    "OptimConfig",
    "scale_schedule",
]

DrivingField = Literal[
    "expression_coeffs", "jaw_pose", "eye_pose", "neck_pose", "global_rotation", "translation"
]


@dataclass(frozen=True)
class ModelConfig:
    """What Gaussians there are, how they move and where their colour comes from."""

    driving: tuple[DrivingField, ...] = ("expression_coeffs", "jaw_pose", "eye_pose")
    """Fields of the pose that make up the driving vector, in this order; those that a capture lacks
    are left out. Published: the expression alone, which there holds everything. Rotations of head
    and neck tell what the frame of the head cannot: shoulders and light."""
    normalize_driving: bool = False
    """Bring the fields of the driving vector to mean zero and mean square one over the training
    moments; otherwise they are used raw, as published."""
    drives_with_view: bool = False
    """Join where the head is before the camera to the driving vector, by mean and mean square of
    the training images. In videos whose head rests it tells where shoulders are and from where
    light comes; published: no. Cameras that see from elsewhere are then taken for turns."""
    derivation: DerivationMode = "paper"
    """paper: rotations, trained on their spheres; official: as published, which scales axes and
    depends on the order of the Gaussians; baked_scale: the same with the factors stored; none."""
    num_derivations: int = 4
    """Copies of every position; each reads its share of the channels."""
    channels: int = 32
    """Of every plane."""
    resolutions: tuple[int, ...] = (64,)
    """Texels per axis of every tri-plane; features of several are added."""
    color_activation: ColorActivation = "none"
    """Between the layers of the colour decoder."""
    sample_at: Literal["deformed", "rest"] = "deformed"
    """Where the planes are read: where Gaussians are, or where they are at rest."""
    width: int = 256
    """Of the motion network's layers."""
    depth: int = 8
    """Number of its hidden layers; the input joins again after the fifth, or the last but one."""
    num_frequencies: int = 10
    """Of the encoded position."""
    has_tf32: bool = True
    """On a GPU, let the motion network's products round their factors to the 10 bits of TF32."""
    starts_at_rest: bool = True
    """Zero the motion network's last layers, so that nothing jumps when the warm-up ends. The
    published code does not."""
    scale_offsets: Literal["additive", "log"] = "additive"
    """Whether the network adds to scales or to their logarithms."""
    normalize_deformed_quats: bool = False
    """Normalise quaternions after the network has added to them; otherwise, as published, their
    norm scales Gaussians."""
    opacity_offsets: bool = True
    """Give every Gaussian a number that is added to the decoded opacity (before the sigmoid), so
    that opacities can be reset. The published model has none, and its reset no effect."""
    initial_opacity_offset: float = 0.0
    """What those numbers are at the start. Decoded opacities start near one half; Gaussians that
    are already on the surface may as well be opaque."""
    num_gaussians: int = 10_000
    """At the start."""
    initial_points: Literal["cube", "mesh"] = "cube"
    """Uniform in a cube, as published, or on the surface of the rig at rest."""
    cube_half_width: float = 1.3
    """Of the cube, in scene units."""
    scene: Literal["fixed", "head", "cameras"] = "fixed"
    """What scene units are: metres times ``scene_scale``; such that the rig at rest fills
    [-1, 1]; or such that cameras see from -1 to 1 at their mean distance."""
    scene_center: tuple[float, float, float] = (0.0, 0.0, 0.0)
    """Origin of the scene in the frame of the head (fixed and cameras)."""
    scene_scale: float = 1.0
    """Scene units per metre (fixed)."""
    extent: float | None = None
    """Size of the scene for density control, in scene units; by default that of the cameras."""
    near: float = 0.2
    """Gaussians nearer to the camera are not drawn, scene units."""
    sh_degree: int = 3
    """Highest degree of the colour that is evaluated; decoders always have 3. Few cameras cannot
    tell how colours change with the direction."""
    sh_degree_interval: int = 1_000
    """Steps after which the active degree grows by one."""
    view_directions: bool = True
    """Whether the colour decoder is told the direction from the camera, beside degrees 1 and up."""
    warm_up: int = 3_000
    """First step at which the motion network acts."""

    @property
    def skip_after(self) -> int:
        """Index of the layer of the motion network after which the input joins again."""
        return min(4, self.depth - 2)


@dataclass(frozen=True)
class LossWeights:
    """Weights of the loss terms (spec section 5); zero switches a term off."""

    ssim_weight: float = 0.2
    """Share of 1 - SSIM; the rest is L1."""
    vgg_weight: float = 0.01
    """Distance of VGG16's features. Without the imported asset ``vgg16`` the term is off, which the
    log and the run's card say."""
    alpha_weight: float = 0.0
    """Absolute difference of opacity and mask, in captures with masks."""


@dataclass(frozen=True)
class OptimConfig:
    """Adam's learning rates (spec section 5.2)."""

    spatial_lr_scale: float = 5.0
    """Factor on the rates of positions (both), scales, and the motion network (initial)."""
    position_lr_init: float = 1.6e-4
    """Of positions at rest, before the factor; decays exponentially..."""
    position_lr_final: float = 1.6e-6
    """...to this value, also before the factor..."""
    position_lr_steps: int = 30_000
    """...in so many steps."""
    motion_lr_init: float = 1.6e-4
    """Of the motion network, before the factor; decays exponentially..."""
    motion_lr_final: float = 1.6e-6
    """Without the factor."""
    motion_lr_steps: int = 80_000
    """Steps of that decay."""
    scaling_lr: float = 1e-3
    """Of log-scales, before the factor."""
    rotation_lr: float = 1e-3
    """Of quaternions."""
    plane_lr_init: float = 1e-3
    """Of the features on the tri-planes; decays exponentially..."""
    plane_lr_final: float = 1.6e-6
    """...to this value..."""
    plane_lr_steps: int = 80_000
    """...in so many steps."""
    opacity_lr: float = 1e-4
    """Of the opacity decoder."""
    feature_lr: float = 1e-3
    """Of the colour decoder; its layer for degrees 1 and up has a twentieth."""
    derivation_lr: float = 1e-3
    """Of what turns a position into its copies."""
    opacity_offset_lr: float = 0.05
    """Of the numbers that are added to decoded opacities."""
    adam_epsilon: float = 1e-15
    """Added to the root of Adam's second moment; 1e-8 on spheres."""


@dataclass(frozen=True)
class GaussianHeadConfig:
    """Everything that decides a GaussianHead training."""

    model: ModelConfig = field(default_factory=ModelConfig)
    losses: LossWeights = field(default_factory=LossWeights)
    optim: OptimConfig = field(default_factory=OptimConfig)
    densify: DensifyConfig = field(
        default_factory=lambda: DensifyConfig(
            start_step=500,
            stop_step=15_000,
            interval=100,
            opacity_reset_interval=3_000,
            prune_opacity=0.005,
        )
    )
    prune_by: Literal["interval", "last"] = "interval"
    """Which decoded opacity decides about pruning: the largest since the last edit, or, as
    published, that of the last image. What is hidden at one moment may be needed at another."""
    steps: int = 80_000
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
        for name in ("width", "num_frequencies", "num_gaussians", "sh_degree_interval"):
            if getattr(model, name) < 1:
                raise ValueError(f"model.{name} must be at least 1, got {getattr(model, name)}")
        if not model.driving:
            raise ValueError("model.driving must name at least one field of the pose")
        if not model.resolutions or min(model.resolutions) < 2:
            raise ValueError(f"model.resolutions must be at least 2, got {model.resolutions}")
        if model.num_derivations < 1 or model.channels % model.num_derivations:
            raise ValueError(
                f"model.num_derivations must divide model.channels ({model.channels}), got "
                f"{model.num_derivations}"
            )
        if not 0 <= model.sh_degree <= SH_DEGREE:
            raise ValueError(f"model.sh_degree must be 0 to {SH_DEGREE}, got {model.sh_degree}")
        if model.depth < 2:
            raise ValueError(f"model.depth must be at least 2, got {model.depth}")
        if model.scene_scale <= 0 or model.near <= 0:
            raise ValueError(
                "model.scene_scale and model.near must be positive, got "
                f"{model.scene_scale} and {model.near}"
            )


def scale_schedule(config: GaussianHeadConfig, factor: float) -> GaussianHeadConfig:
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
        model=replace(
            model,
            sh_degree_interval=times(model.sh_degree_interval),
            warm_up=times(model.warm_up),
        ),
        optim=replace(
            optim,
            position_lr_steps=times(optim.position_lr_steps),
            motion_lr_steps=times(optim.motion_lr_steps),
            plane_lr_steps=times(optim.plane_lr_steps),
        ),
        densify=config.densify.scaled(factor),
        steps=times(config.steps),
    )


def _with_model(config: GaussianHeadConfig, **changes: object) -> GaussianHeadConfig:
    return replace(config, model=replace(config.model, **changes))


def _official() -> GaussianHeadConfig:
    """Train as the published code does, derivation included."""
    config = _with_model(
        GaussianHeadConfig(),
        derivation="official",
        starts_at_rest=False,
        opacity_offsets=False,
    )
    return replace(config, prune_by="last")


def _small(steps: int) -> GaussianHeadConfig:
    """Few Gaussians on the rig's surface and narrow networks, for machines without a GPU."""
    return GaussianHeadConfig(
        model=ModelConfig(
            driving=(
                "expression_coeffs",
                "jaw_pose",
                "eye_pose",
                "neck_pose",
                "global_rotation",
            ),
            normalize_driving=True,
            width=64,
            depth=4,
            num_frequencies=6,
            scale_offsets="log",
            normalize_deformed_quats=True,
            initial_opacity_offset=3.0,
            num_gaussians=6_000,
            initial_points="mesh",
            scene="head",
            extent=1.0,
            sh_degree=0,
            view_directions=False,
            warm_up=steps // 20,
        ),
        losses=LossWeights(vgg_weight=0.0, alpha_weight=0.1),
        optim=OptimConfig(
            position_lr_steps=steps,
            motion_lr_init=8e-4,
            motion_lr_final=1e-5,
            motion_lr_steps=steps,
            rotation_lr=3e-3,
            plane_lr_init=3e-2,
            plane_lr_final=1e-3,
            plane_lr_steps=steps,
            opacity_lr=3e-3,
            feature_lr=1e-2,
            adam_epsilon=1e-8,
        ),
        densify=DensifyConfig(start_step=0, stop_step=0),
        steps=steps,
        checkpoint_every=1_000,
    )


def _small_video(steps: int) -> GaussianHeadConfig:
    """The same for videos without a rig: Gaussians start in a cube and must find the surface."""
    config = _with_model(
        _small(steps),
        driving=("expression_coeffs",),
        drives_with_view=True,
        num_gaussians=5_000,
        initial_points="cube",
        cube_half_width=0.7,
        initial_opacity_offset=-1.0,
        scene="cameras",
    )
    # Neither resets nor a limit of sizes, which come with them: the training is too short.
    never = 2 * steps
    densify = DensifyConfig(
        start_step=0,
        stop_step=3 * steps // 5,
        interval=steps // 16,
        opacity_reset_interval=never,
        prune_opacity=0.03,
        max_primitives=7_000,
    )
    return replace(config, densify=densify)


def _video(steps: int) -> GaussianHeadConfig:
    """The published model for videos without a rig on a GPU, in a scene as large as its planes."""
    return GaussianHeadConfig(
        model=ModelConfig(
            driving=("expression_coeffs",),
            normalize_driving=True,
            drives_with_view=True,
            scale_offsets="log",
            normalize_deformed_quats=True,
            initial_opacity_offset=-1.0,
            cube_half_width=0.7,
            scene="cameras",
            extent=1.0,
            sh_degree_interval=steps // 20,
            warm_up=steps // 20,
        ),
        losses=LossWeights(vgg_weight=0.0, alpha_weight=0.1),
        optim=OptimConfig(
            position_lr_steps=steps,
            motion_lr_steps=steps,
            plane_lr_init=1e-2,
            plane_lr_final=1e-4,
            plane_lr_steps=steps,
            opacity_lr=1e-3,
            feature_lr=3e-3,
            adam_epsilon=1e-8,
        ),
        densify=DensifyConfig(
            start_step=steps // 40,
            stop_step=3 * steps // 5,
            interval=steps // 40,
            opacity_reset_interval=2 * steps,
            prune_opacity=0.02,
            max_primitives=15_000,
        ),
        steps=steps,
    )


PRESETS: dict[str, GaussianHeadConfig] = {
    "paper": GaussianHeadConfig(),
    "official": _official(),
    "no-derivation": _with_model(GaussianHeadConfig(), derivation="none"),
    "video": _video(20_000),
    "video-official": _with_model(_video(20_000), derivation="official"),
    "video-no-derivation": _with_model(_video(20_000), derivation="none"),
    "small": _small(5_000),
    "small-video": _small_video(4_500),
    "small-video-official": _with_model(_small_video(4_500), derivation="official"),
    "small-video-no-derivation": _with_model(_small_video(4_500), derivation="none"),
    "small-official": _with_model(_small(5_000), derivation="official"),
    "small-no-derivation": _with_model(_small(5_000), derivation="none"),
}
"""Named settings; those that begin with ``small`` fit two CPU cores."""
