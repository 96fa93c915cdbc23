"""What trainings of generators of images share: networks, their average, and what they draw."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, Generic, TypeVar

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from vultus.data.image_feed import Conditions
from vultus.methods.saved_tensors import check_saved_tensors
from vultus.nets.augmentation.control import AugmentationConfig, AugmentationControl
from vultus.nets.stylegan2.mapping import MappingNetwork

__all__ = ["ImageGan"]

_IMAGES_SEEN = "images_seen"
_Generator = TypeVar("_Generator", bound=nn.Module)
_Discriminator = TypeVar("_Discriminator", bound=nn.Module)


class ImageGan(ABC, Generic[_Generator, _Discriminator]):
    """Base of what the adversarial loop trains; methods add phases, losses and pictures."""

    def __init__(
        self,
        generator: _Generator,
        discriminator: _Discriminator,
        augmentation: AugmentationConfig,
        batch: int,
        conditions: Conditions,
        seed: int,
        device: torch.device,
    ) -> None:
        """Take networks with their first weights.

        Args:
            generator: Is trained.
            discriminator: Likewise.
            augmentation: Of what the discriminator sees.
            batch: Images of a step.
            conditions: Cameras to generate heads for, with their repetitions.
            seed: Decides the previewed people.
            device: Where the networks go.
        """
        self.generator = generator.to(device)
        self.discriminator = discriminator.to(device)
        self.average = copy.deepcopy(self.generator).eval().requires_grad_(False)
        self.augmentation = AugmentationControl(augmentation).to(device)
        self._labels = conditions.labels.to(device)
        self._batch = batch
        self._images_seen = 0
        self._seed = seed

    @property
    @abstractmethod
    def mapping(self) -> MappingNetwork:
        """The trained generator's network from latents to styles."""

    @property
    @abstractmethod
    def fades_end(self) -> int:
        """Images after which no schedule moves any more."""

    @property
    def knows_passes(self) -> bool:
        """Whether losses depend on which pass of a step it is."""
        return False

    @property
    def device(self) -> torch.device:
        """Where the networks are."""
        return self._labels.device

    def moment(self, images_seen: int) -> int:
        """What of the course of the training losses depend on."""
        return min(images_seen, self.fades_end)

    def update(self, records: Mapping[str, Tensor], step: int) -> None:
        """Track the mean style, and adapt the augmentation."""
        self.mapping.track_mean(records["mean_w"][None])
        self.augmentation.update(records["sign.real"], step, self._batch)
        self._images_seen = step * self._batch

    def tensors(self) -> dict[str, Tensor]:
        """State beside networks and optimisers."""
        seen = torch.tensor(self._images_seen)
        return {**self.augmentation.state_dict(), _IMAGES_SEEN: seen}

    def load_tensors(self, tensors: Mapping[str, Tensor]) -> None:
        """Restore ``tensors()``.

        Raises:
            ValueError: If one is missing, has another shape or type, or cannot be; names it.
        """
        own = self.tensors()
        check_saved_tensors(tensors, {}, own)
        if unknown := sorted(tensors.keys() - own.keys()):
            raise ValueError(f"checkpoint must not have {unknown[0]!r}, which nothing reads")
        seen = int(tensors[_IMAGES_SEEN])
        if seen < 0:
            raise ValueError(f"checkpoint must have {_IMAGES_SEEN!r} of at least 0, got {seen}")
        self.augmentation.load({n: t for n, t in tensors.items() if n != _IMAGES_SEEN})
        self._images_seen = seen

    def summary(self) -> dict[str, Any]:
        """Numbers for the log."""
        if self.augmentation.config.mode == "none":
            return {}
        return {"augmentation": float(self.augmentation.probability)}

    def _draw_rows(self, batch: int, random: torch.Generator) -> Int[Tensor, " b"]:
        """Conditions of the set."""
        return torch.randint(len(self._labels), (batch,), generator=random, device=self.device)

    def _draw_latents(self, batch: int, random: torch.Generator) -> Float[Tensor, "b z"]:
        shape = batch, self.mapping.z_dim
        return torch.randn(shape, generator=random, device=self.device)
