"""How a discriminator sees images at a moment of the training: blurred at first, transformed."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from vultus.methods.spherehead.config import ObjectiveConfig
from vultus.methods.spherehead.discriminator import Discriminator
from vultus.methods.spherehead.images import HeadImages
from vultus.nets.augmentation.control import AugmentationControl
from vultus.nets.gaussian_blur import blur_images
from vultus.nets.stylegan2.filters import resize_antialiased
from vultus.optim.schedules import fade_progress

__all__ = ["Judge", "real_images", "transform_heads"]


@dataclass(frozen=True)
class Judge:
    """A discriminator with what is done to images before it sees them."""

    discriminator: Discriminator
    config: ObjectiveConfig
    images_seen: int
    """Moment of the training."""
    augmentation: AugmentationControl | None = None
    """None transforms nothing."""
    random: torch.Generator | None = None
    """For transformations and for noise on labels."""

    def features(self, images: HeadImages) -> Float[Tensor, "b d 4 4"]:
        """Reduce images to features."""
        sigma = _blur_sigma(self.config, self.images_seen)
        images = replace(images, image=blur_images(images.image, sigma))
        if self.augmentation is not None:
            assert self.random is not None
            images = transform_heads(images, self.augmentation, self.random)
        return self.discriminator.features(images)

    def compare(
        self, features: Float[Tensor, "b d 4 4"], labels: Float[Tensor, "b 25"]
    ) -> Float[Tensor, "b 1"]:
        """Judge features of images that are said to have these cameras; positive means real."""
        noise = None
        if self.discriminator.config.label_noise > 0.0:
            noise = torch.randn(labels.shape, generator=self.random, device=labels.device)
        return self.discriminator.compare(features, labels, noise)

    def __call__(self, images: HeadImages, labels: Float[Tensor, "b 25"]) -> Float[Tensor, "b 1"]:
        """Judge images; positive means real."""
        return self.compare(self.features(images), labels)


def real_images(
    image: Float[Tensor, "b 3 h w"],
    mask: Float[Tensor, "b 1 _h _w"] | None,
    config: ObjectiveConfig,
    images_seen: int,
    neural_size: int,
    parts: Float[Tensor, "b k _ _"] | None = None,
) -> HeadImages:
    """Bring real images to what a discriminator sees, but for the blur of the full image.

    Args:
        image: In [-1, 1].
        mask: In [0, 1].
        config: Blur.
        images_seen: Moment of the training.
        neural_size: Side of generated raw images, masks and semantic maps.
        parts: Shares of semantic classes.
    """
    raw = resize_antialiased(image, neural_size)
    raw = blur_images(raw, _blur_sigma(config, images_seen))
    small_mask = None if mask is None else resize_antialiased(mask, neural_size)
    small_parts = None if parts is None else resize_antialiased(parts, neural_size)
    return HeadImages(image, raw, small_mask, small_parts)


def transform_heads(
    images: HeadImages, control: AugmentationControl, random: torch.Generator
) -> HeadImages:
    """Transform all images of a head alike; colours of masks stay, and outside there is no head."""
    batch, _, _, size = images.image.shape
    transforms = control.draw(batch, size, random)
    if transforms is None:
        return images
    return replace(
        images,
        image=transforms.pictures(images.image),
        raw_image=None if images.raw_image is None else transforms.pictures(images.raw_image),
        mask=None if images.mask is None else transforms.masks(images.mask),
        parsing=None if images.parsing is None else transforms.masks(images.parsing),
    )


def _blur_sigma(config: ObjectiveConfig, images_seen: int) -> float:
    return config.blur_sigma * (1.0 - fade_progress(images_seen, config.blur_fade))
