"""Losses of both networks, as functions of a batch.

With D the judgement and sp the softplus, the generator minimises sp(-D(fake)), the discriminator
sp(D(fake)) + sp(-D(real)). Both also minimise how badly pictures and their cameras, and pictures
and their lights, find each other among those of the batch; the discriminator on real pictures.

Reference: GSHeadRelight, 2025; Hyun and Heo, GSGAN, 2024 (camera, anchors).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import cross_entropy, normalize, softplus

from vultus.methods.adversarial import PhaseResult
from vultus.methods.gsheadrelight.config import ObjectiveConfig, Parity
from vultus.methods.gsheadrelight.discriminator import Discriminator, Judgement
from vultus.nets.augmentation.control import AugmentationControl
from vultus.nets.gaussian_blur import blur_images
from vultus.nets.point_blocks import nearest_neighbors
from vultus.optim.schedules import fade_progress

__all__ = [
    "Judge",
    "center_loss",
    "compactness_loss",
    "contrastive_loss",
    "darkness_loss",
    "discriminator_losses",
    "generator_losses",
    "gradient_penalties",
    "real_pictures",
]


@dataclass(frozen=True)
class Judge:
    """A discriminator at a moment of the training: at first it sees blurred pictures."""

    discriminator: Discriminator
    config: ObjectiveConfig
    images_seen: int
    augmentation: AugmentationControl | None = None
    """None transforms nothing."""
    random: torch.Generator | None = None
    """For transformations."""

    def __call__(
        self,
        images: Float[Tensor, "b 3 h h"],
        labels: Float[Tensor, "n 25"],
        lights: Float[Tensor, "n l"],
    ) -> Judgement:
        """Judge pictures; cameras and lights may be those of all pictures of a step."""
        progress = fade_progress(self.images_seen, self.config.blur_fade)
        images = blur_images(images, self.config.blur_sigma * (1.0 - progress))
        if self.augmentation is not None:
            assert self.random is not None
            transforms = self.augmentation.draw(len(images), images.shape[-1], self.random)
            images = images if transforms is None else transforms.pictures(images)
        return self.discriminator(images, labels, lights)

    def comparisons(self, judgement: Judgement, first: int = 0) -> dict[str, Tensor]:
        """Weighted losses of the comparisons with cameras and lights.

        Args:
            judgement: Of some pictures, and of cameras and lights among which theirs are.
            first: Place of the first picture's camera and light.
        """
        config = self.config
        camera, light = (
            contrastive_loss(images, labels, config.temperature, first)
            for images, labels in (
                (judgement.image_camera, judgement.camera),
                (judgement.image_light, judgement.light),
            )
        )
        return {"camera": config.camera_weight * camera, "light": config.light_weight * light}


def generator_losses(
    judge: Judge,
    images: Float[Tensor, "b 3 h h"],
    labels: Float[Tensor, "n 25"],
    lights: Float[Tensor, "n l"],
    anchors: Float[Tensor, "b a 3"],
    first: int = 0,
) -> PhaseResult:
    """Weighted terms of the generator.

    Args:
        judge: The discriminator at a moment.
        images: Generated pictures in about [-1, 1].
        labels: Cameras of all that are compared.
        lights: Labels of their lights.
        anchors: Centres of the first level's nodes.
        first: Place of the first picture among those that are compared.
    """
    judgement = judge(images, labels, lights)
    config = judge.config
    compactness = compactness_loss(anchors, config.compactness_neighbors)
    losses = {
        "adversarial": softplus(-judgement.logits).mean(),
        **judge.comparisons(judgement, first),
        "center": config.center_weight * center_loss(anchors),
        "compactness": config.compactness_weight * compactness,
    }
    return PhaseResult(losses, {})


def discriminator_losses(
    judge: Judge,
    fake: Float[Tensor, "b 3 h h"],
    fake_labels: Float[Tensor, "b 25"],
    fake_lights: Float[Tensor, "b l"],
    real: Float[Tensor, "c 3 h h"],
    real_labels: Float[Tensor, "n 25"],
    real_lights: Float[Tensor, "n l"],
    first: int = 0,
) -> PhaseResult:
    """Weighted terms of the discriminator; mean logits and signs as records.

    Args:
        judge: The discriminator at a moment.
        fake: Generated pictures; nothing flows back to them.
        fake_labels: Their cameras.
        fake_lights: Labels of their lights.
        real: Of ``real_pictures``.
        real_labels: Cameras of all real pictures that are compared.
        real_lights: Labels of their lights.
        first: Place of the first real picture among those.
    """
    of_fake = judge(fake.detach(), fake_labels, fake_lights)
    of_real = judge(real, real_labels, real_lights)
    losses = {
        "fake": softplus(of_fake.logits).mean(),
        "real": softplus(-of_real.logits).mean(),
        **judge.comparisons(of_real, first),
    }
    logits = {"fake": of_fake.logits.detach(), "real": of_real.logits.detach()}
    records = {f"logit.{name}": value.mean() for name, value in logits.items()}
    records |= {f"sign.{name}": value.sign().mean() for name, value in logits.items()}
    return PhaseResult(losses, records)


def gradient_penalties(
    judge: Judge,
    real: Float[Tensor, "b 3 h h"],
    labels: Float[Tensor, "n 25"],
    lights: Float[Tensor, "n l"],
    first: int = 0,
) -> dict[str, Tensor]:
    """Half the squared gradient of the judgement of real pictures, weighted; and the comparisons.

    Args:
        judge: The discriminator at a moment.
        real: Of ``real_pictures``.
        labels: Cameras of all real pictures that are compared.
        lights: Labels of their lights.
        first: Place of the first picture among those.

    Reference: Mescheder et al., Which Training Methods for GANs do actually Converge?, 2018.
    """
    leaf = real.detach().requires_grad_()
    judgement = judge(leaf, labels, lights)
    (gradient,) = torch.autograd.grad(judgement.logits.sum(), leaf, create_graph=True)
    square = gradient.square().sum(dim=(1, 2, 3)).mean()
    losses = {"r1": 0.5 * judge.config.r1_weight * square}
    if judge.config.penalty_compares:
        losses |= judge.comparisons(judgement, first)
    return losses


def contrastive_loss(
    images: Float[Tensor, "b d"],
    labels: Float[Tensor, "n d"],
    temperature: float,
    first: int = 0,
) -> Float[Tensor, ""]:
    """How badly descriptions of images find those of their own labels among all.

    Args:
        images: Descriptions of some images.
        labels: Descriptions of labels, in the same order; others may be before and after.
        temperature: Divides the cosines.
        first: Place of the first image's label.

    Reference: van den Oord et al., Representation Learning with Contrastive Predictive Coding,
    2018, eq. 4, with cosines.
    """
    cosines = normalize(images, dim=1) @ normalize(labels, dim=1).T
    own = torch.arange(first, first + len(images), device=images.device)
    return cross_entropy(cosines / temperature, own)


def center_loss(anchors: Float[Tensor, "b n 3"]) -> Float[Tensor, ""]:
    """Mean square of the heads' mean positions."""
    return anchors.mean(dim=1).square().mean()


def compactness_loss(anchors: Float[Tensor, "b n 3"], num_neighbors: int) -> Float[Tensor, ""]:
    """Mean squared difference between coordinates of points and of their nearest ones."""
    neighbors = nearest_neighbors(anchors, num_neighbors)
    index = neighbors.flatten(1)[..., None].expand(-1, -1, 3)
    near = anchors.gather(1, index).unflatten(1, neighbors.shape[1:])
    return (near - anchors[:, :, None]).square().mean()


def darkness_loss(shading: Float[Tensor, "b n 3"]) -> Float[Tensor, ""]:
    """Mean square of brightness below black, which pictures cut off and so cannot correct.

    Args:
        shading: Of ``rendering.shading``.
    """
    return shading.clamp(max=0.0).square().mean()


def real_pictures(
    rgb: Float[Tensor, "b 3 h w"],
    alpha: Float[Tensor, "b 1 h w"],
    background: Float[Tensor, 3] | Float[Tensor, "b 3"] | None = None,
    parity: Parity = "fixed",
) -> Float[Tensor, "b 3 h w"]:
    """Composite real pictures, in [0, 1], over a colour; the result is in [-1, 1].

    Args:
        rgb: Colours, not multiplied by alpha.
        alpha: Coverage.
        background: Black if None, as behind generated heads.
        parity: ``"official"`` multiplies colours and alpha in [-1, 1], so that what is transparent
            is inverted and edges become grey.

    Raises:
        ValueError: If a background is given with official parity, which has none.
    """
    if parity == "official":
        if background is not None:
            raise ValueError("background must be None with official parity")
        return (2.0 * rgb - 1.0) * (2.0 * alpha - 1.0)
    mixed = rgb * alpha
    if background is not None:
        mixed = mixed + background.expand(len(rgb), 3)[:, :, None, None] * (1.0 - alpha)
    return 2.0 * mixed - 1.0
