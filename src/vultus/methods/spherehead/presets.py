"""Named settings of SphereHead, and shorter or longer trainings."""

from __future__ import annotations

from dataclasses import replace

from vultus.data.image_choice import ChoiceConfig
from vultus.kernels.triplane_volume import VolumeSettings
from vultus.methods.adversarial import AdversarialSettings
from vultus.methods.spherehead.config import (
    DiscriminatorConfig,
    GeneratorConfig,
    ObjectiveConfig,
    SphereHeadConfig,
)
from vultus.optim.schedules import scale_steps

__all__ = ["PRESETS", "scale_schedule"]

_SMALL = SphereHeadConfig(
    generator=GeneratorConfig(
        z_dim=64,
        w_dim=64,
        channel_base=1024,
        channel_max=64,
        plane_size=32,
        plane_channels=16,
        sphere_channels=(64, 48),
        decoder_width=32,
        volume=VolumeSettings(coarse_samples=12, fine_samples=12),
        neural_size=32,
        has_camera_offset=False,
        super_resolution="2x_64",
        super_resolution_clamp=None,
    ),
    discriminator=DiscriminatorConfig(image_size=64, channel_base=1024, channel_max=64, clamp=None),
    objective=ObjectiveConfig(
        pose_swap_fade=40_000, blur_sigma=1.25, blur_fade=10_000, noise_fade=10_000
    ),
    choice=ChoiceConfig(),
    training=AdversarialSettings(
        images=200_000,
        batch=8,
        average_half_life=2_500,
        log_every=25,
        checkpoint_every=250,
        picture_every=250,
        evaluate_every=1000,
        evaluate_images=500,
    ),
)
_GPU_SMALL = SphereHeadConfig(
    generator=GeneratorConfig(
        z_dim=256,
        w_dim=256,
        channel_base=16384,
        channel_max=256,
        plane_size=128,
        sphere_channels=(256, 128),
        volume=VolumeSettings(coarse_samples=24, fine_samples=24),
        has_camera_offset=False,
        super_resolution="2x",
        super_resolution_clamp=None,
    ),
    discriminator=DiscriminatorConfig(
        image_size=128, channel_base=16384, channel_max=256, clamp=None
    ),
    objective=ObjectiveConfig(
        pose_swap_fade=400_000, blur_sigma=2.5, blur_fade=100_000, noise_fade=100_000
    ),
    choice=ChoiceConfig(),
    training=AdversarialSettings(
        images=2_000_000,
        pass_size=32,
        checkpoint_every=1000,
        picture_every=1000,
        evaluate_every=1000,
        schedule_every=100,
        use_tf32=True,
    ),
)
_DEMO = replace(
    _GPU_SMALL,
    generator=replace(
        _GPU_SMALL.generator,
        z_dim=128,
        w_dim=128,
        channel_base=8192,
        channel_max=160,
        plane_size=64,
        sphere_channels=(96, 96),
        neural_size=32,
        super_resolution="2x_64",
    ),
    discriminator=replace(_GPU_SMALL.discriminator, image_size=64, channel_base=8192),
    objective=ObjectiveConfig(
        # Who people of the studio are does not depend on where they are seen from.
        pose_swap=1.0,
        pose_swap_fade=20_000,
        blur_sigma=1.25,
        blur_fade=20_000,
        noise_fade=20_000,
        # Fewer pixels add up to the gradient.
        r1_weight=0.2,
        mask_r1_weight=0.2,
        mismatch_angle=30.0,
    ),
    training=replace(_GPU_SMALL.training, images=1_000_000, average_half_life=20_000),
)

PRESETS: dict[str, SphereHeadConfig] = {
    "official": SphereHeadConfig(),
    "small": _SMALL,
    "gpu-small": _GPU_SMALL,
    "demo": _DEMO,
}
"""512 pixels as published; 64 pixels on a CPU; 128 pixels on one GPU; 64 pixels on a GPU within
minutes. All but the first expect exact cameras, as those of the studio's collections, and learn no
camera offset."""


def scale_schedule(config: SphereHeadConfig, factor: float) -> SphereHeadConfig:
    """Multiply the length of a training and of all its fades.

    Raises:
        ValueError: If the factor is not positive.
    """

    def scaled(images: int) -> int:
        return scale_steps(images, factor)

    objective, training = config.objective, config.training
    return replace(
        config,
        objective=replace(
            objective,
            pose_swap_fade=scaled(objective.pose_swap_fade),
            blur_fade=scaled(objective.blur_fade),
            noise_fade=scaled(objective.noise_fade),
            neural_size_fade=scaled(objective.neural_size_fade),
        ),
        training=training.scaled(factor),
    )
