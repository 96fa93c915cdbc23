"""Named settings of GSHeadRelight, and shorter or longer trainings."""

from __future__ import annotations

from dataclasses import replace

from vultus.data.image_choice import ChoiceConfig
from vultus.methods.adversarial import AdversarialSettings
from vultus.methods.gsheadrelight.config import (
    DiscriminatorConfig,
    GeneratorConfig,
    GSHeadRelightConfig,
    ObjectiveConfig,
    ViewConfig,
)
from vultus.nets.augmentation.control import AugmentationConfig
from vultus.nets.augmentation.draws import TransformConfig
from vultus.optim.schedules import scale_steps

__all__ = ["PRESETS", "scale_schedule"]

_FFHQ = GSHeadRelightConfig()
_AFHQ = replace(
    _FFHQ,
    objective=ObjectiveConfig(center_weight=10.0, pose_swap=0.8, background="scenery"),
    views=ViewConfig(random_share=0.0),
    augmentation=AugmentationConfig(mode="adaptive", transforms=TransformConfig(flip=0.0)),
    training=replace(_FFHQ.training, images=15_000_000, pass_size=4),
)
_SMALL = GSHeadRelightConfig(
    generator=GeneratorConfig(
        z_dim=256,
        w_dim=256,
        channels=(256, 256, 256, 128, 64, 64),
        transformer_layers=4,
        attention_heads=4,
        table_size=256,
        background_points=0,
        image_size=128,
    ),
    discriminator=DiscriminatorConfig(
        image_size=128, channel_base=16384, channel_max=256, clamp=None
    ),
    objective=ObjectiveConfig(pose_swap_fade=400_000, blur_sigma=2.5, blur_fade=100_000),
    choice=ChoiceConfig(),
    training=AdversarialSettings(
        images=2_000_000,
        pass_size=32,
        generator_clip=20.0,
        discriminator_clip=5.0,
        checkpoint_every=1000,
        picture_every=1000,
        evaluate_every=1000,
        schedule_every=100,
        use_tf32=True,
    ),
)
_TOY = GSHeadRelightConfig(
    generator=GeneratorConfig(
        z_dim=32,
        w_dim=32,
        num_points=32,
        channels=(32, 32, 32, 16),
        transformer_layers=2,
        attention_heads=4,
        num_neighbors=8,
        table_size=32,
        background_points=0,
        image_size=32,
    ),
    discriminator=DiscriminatorConfig(image_size=32, channel_base=512, channel_max=32, clamp=None),
    objective=ObjectiveConfig(
        compactness_neighbors=8, pose_swap_fade=20_000, blur_sigma=0.6, blur_fade=5_000
    ),
    choice=ChoiceConfig(),
    training=AdversarialSettings(
        images=64_000,
        batch=16,
        pass_size=16,
        generator_clip=20.0,
        discriminator_clip=5.0,
        average_half_life=2_500,
        log_every=25,
        checkpoint_every=500,
        picture_every=500,
        evaluate_every=500,
        evaluate_images=500,
    ),
)
_DEMO = replace(
    _SMALL,
    generator=replace(
        _SMALL.generator,
        z_dim=128,
        w_dim=128,
        channels=(128, 128, 128, 96, 64),
        transformer_layers=3,
        table_size=128,
        image_size=64,
        # Who people of the studio are does not depend on where they are seen from.
        is_conditioned=False,
        gradient_precision="bfloat16",
    ),
    discriminator=replace(_SMALL.discriminator, image_size=64, channel_base=8192, channel_max=192),
    objective=replace(
        _SMALL.objective,
        pose_swap_fade=30_000,
        blur_sigma=1.25,
        blur_fade=30_000,
    ),
    # Random cameras are none of the set's.
    views=replace(_SMALL.views, random_share=0.0),
    training=replace(_SMALL.training, images=1_000_000, average_half_life=20_000),
)

PRESETS: dict[str, GSHeadRelightConfig] = {
    "ffhq512": _FFHQ,
    "afhq512": _AFHQ,
    "small": _SMALL,
    "demo": _DEMO,
    "toy": _TOY,
}
"""Faces of 512 pixels as published; cats with GSGAN's settings for them; 128 pixels on one GPU; 64
pixels on a GPU and 32 on a CPU, within minutes."""


def scale_schedule(config: GSHeadRelightConfig, factor: float) -> GSHeadRelightConfig:
    """Multiply the length of a training and of all its fades.

    Raises:
        ValueError: If the factor is not positive.
    """
    objective, training = config.objective, config.training
    return replace(
        config,
        objective=replace(
            objective,
            pose_swap_fade=scale_steps(objective.pose_swap_fade, factor),
            blur_fade=scale_steps(objective.blur_fade, factor),
            scenery_start=scale_steps(objective.scenery_start, factor),
        ),
        training=training.scaled(factor),
    )
