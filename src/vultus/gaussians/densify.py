"""Adaptive density control, free or bound to mesh faces: clone, split, prune, reset opacity.

Reference: Kerbl et al., 3D Gaussian Splatting, 2023, section 5.2; face binding and protection as in
GaussianAvatars and SurFhead (arXiv 2410.11682).
"""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import Parameter
from torch.nn.functional import normalize, pad

from vultus.gaussians.surfels import logit
from vultus.geometry.rotations import quaternion_rotate
from vultus.optim.adam import append_rows, keep_rows, replace_values
from vultus.optim.schedules import scale_steps

__all__ = ["AdaptiveDensity", "DensifyConfig", "DensityEdit", "protect_faces"]

_LOG = logging.getLogger(__name__)
_CHILDREN = 2
# Children of a split are this much smaller than their parent: 0.8 per child, as in 3DGS.
_SHRINKAGE = 0.8 * _CHILDREN
_NAMES = ("log_scales", "quats")
_SHORTEST_INTERVAL = 100
"""Of schedules that were shortened: the interval of 3DGS."""


@dataclass(frozen=True)
class DensifyConfig:
    """When and where primitives are added and removed. Defaults are SurFhead's 300k-step script.

    The defaults in SurFhead's code, for 600k steps, stand in brackets where they differ.
    """

    start_step: int = 5_000
    """Density is edited only after this step [10 000]."""
    stop_step: int = 150_000
    """From this step on nothing is accumulated or edited [600 000]."""
    interval: int = 1_000
    """Steps between edits [2 000]."""
    opacity_reset_interval: int = 30_000
    """Steps between opacity resets [60 000]. On a white background there is one at ``start_step``
    too. Primitives that are large in the world are pruned only after the first interval."""
    resets_opacity: bool = True
    """Whether opacities are reset at all; Gaussian Blendshapes never does."""
    gradient_threshold: float = 2e-4
    """Grow where the mean norm of the screen-space gradient reaches this (normalised device units
    per loss, as 3DGS measures it)."""
    gradient_mean: Literal["arithmetic", "geometric"] = "arithmetic"
    """What is compared with the threshold: the mean norm, or its square root (names of the official
    ``--densification_type``: arithmetic_mean, geometric_mean2). The root of a small number is much
    larger, so a threshold of 2e-4 for the mean is one of 0.014 for the root."""
    gradient_gain: float = 20.0
    """Factor on the gradient of the primitives that ``accumulate`` is told to amplify (teeth)."""
    dense_fraction: float = 0.01
    """Primitives up to this fraction of the scene extent are cloned, larger ones split."""
    prune_opacity: float = 0.05
    """Remove primitives fainter than this (0.005 in 3DGS and GaussianAvatars)."""
    prune_world_fraction: float = 0.1
    """Remove primitives larger than this fraction of the scene extent."""
    prune_screen_radius: float | None = None
    """Remove primitives whose radius was larger than this in some image, in pixels. The official
    code says 20, but clears its record just before the test, so the rule never acts; ``None`` is
    that behaviour."""
    reset_opacity: float = 0.01
    """A reset lowers opacities to at most this."""
    split_noise: Literal["world", "local"] = "world"
    """Unit of the offsets of a split's children from their parent: ``"world"`` draws them with the
    parent's world scale although positions are in triangle units, as the official code does (so
    children nearly coincide); ``"local"`` with its scale in triangle units."""
    max_primitives: int | None = None
    """Upper limit of the number of primitives. If growth would pass it, the candidates with the
    largest gradients grow, the earlier one of equals. ``None``: no limit."""

    def __post_init__(self) -> None:
        """Reject settings that contradict each other."""
        if self.interval < 1 or self.opacity_reset_interval < 1:
            raise ValueError(
                "interval and opacity_reset_interval must be at least 1, got "
                f"{self.interval} and {self.opacity_reset_interval}"
            )
        if self.stop_step < self.start_step:
            raise ValueError(
                f"stop_step must not be before start_step, got {self.stop_step} and "
                f"{self.start_step}"
            )
        if self.max_primitives is not None and self.max_primitives < 1:
            raise ValueError(f"max_primitives must be positive, got {self.max_primitives}")

    def scaled(self, factor: float) -> DensifyConfig:
        """Multiply every number of steps; see ``optim.schedules.scale_steps``.

        Intervals become no shorter than that of 3DGS: means of the gradient over fewer images are
        noise, of which primitives multiply without end.
        """
        interval = scale_steps(self.interval, factor)
        return replace(
            self,
            start_step=scale_steps(self.start_step, factor),
            stop_step=scale_steps(self.stop_step, factor),
            interval=max(interval, min(self.interval, _SHORTEST_INTERVAL)),
            opacity_reset_interval=scale_steps(self.opacity_reset_interval, factor),
        )


@dataclass(frozen=True)
class DensityEdit:
    """What an edit left behind. The optimiser already holds the new parameters."""

    parameters: dict[str, Parameter]
    extras: dict[str, Tensor]
    num_cloned: int
    num_split: int
    num_pruned: int
    """Without the parents of splits."""


class AdaptiveDensity:
    """Collects statistics while training runs, and edits primitives from time to time.

    Parameters are passed in and handed back, never kept. All state is in ``tensors()``.
    """

    def __init__(
        self, config: DensifyConfig, num_primitives: int, device: torch.device | str = "cpu"
    ) -> None:
        """Start with empty statistics of so many primitives."""
        self._config = config
        self._clear(num_primitives, device)

    def is_active(self, step: int) -> bool:
        """Whether statistics of this step can still matter."""
        return step < self._config.stop_step

    def grows_at(self, step: int) -> bool:
        """Whether ``edit`` clones, splits and prunes at this step (steps count from 1)."""
        config = self._config
        return self.is_active(step) and step > config.start_step and step % config.interval == 0

    def resets_at(self, step: int, *, is_white: bool) -> bool:
        """Whether ``edit`` resets opacities at this step; ``is_white`` is about the background."""
        config = self._config
        is_due = step > 0 and step % config.opacity_reset_interval == 0
        is_due |= is_white and step == config.start_step
        return config.resets_opacity and self.is_active(step) and is_due

    @torch.no_grad()
    def accumulate(
        self,
        screen_gradient: Float[Tensor, "*b n 2"],
        radii: Int[Tensor, "*b n"] | Float[Tensor, "*b n"],
        *,
        amplified: Bool[Tensor, " n"] | None = None,
        skip: Int[Tensor, " 1"] | None = None,
    ) -> None:
        """Add the statistics of one or more images. Primitives of radius 0 are not visible.

        Args:
            screen_gradient: Gradient of the loss of the *image* at the projected centre, times half
                the image size (d loss / d normalised device coordinates).
            radii: Extent on the screen in pixels.
            amplified: Where to multiply the gradient by ``gradient_gain``.
            skip: If not zero, nothing changes; decided where the tensors are, without waiting.
        """
        num = self._count.shape[0]
        norms = screen_gradient.detach().reshape(-1, num, 2).norm(dim=-1)
        if amplified is not None:
            norms = torch.where(amplified, norms * self._config.gradient_gain, norms)
        radii = radii.reshape(-1, num)
        visible = radii > 0
        if skip is not None:
            visible = visible & (skip == 0)
            radii = radii * (skip == 0)
        self._gradient += torch.where(visible, norms, 0.0).sum(dim=0)
        self._count += visible.sum(dim=0)
        # In place, so that a CUDA graph may capture it.
        torch.maximum(self._radius, radii.amax(dim=0).float(), out=self._radius)

    @torch.no_grad()
    def edit(
        self,
        step: int,
        parameters: Mapping[str, Parameter],
        extras: Mapping[str, Tensor],
        optimizer: torch.optim.Optimizer,
        *,
        world_scales: Float[Tensor, "n 2"] | Float[Tensor, "n 3"],
        extent: float,
        generator: torch.Generator,
        frozen: Bool[Tensor, " n"] | None = None,
        is_white: bool = False,
    ) -> DensityEdit | None:
        """Do what is due at a step; call it after the optimiser's step.

        The order is that of 3DGS: clone, split, prune, then the opacity reset. If primitives are
        bound, no face loses its last one; if they are free and all would go, as may happen soon
        after a reset, all stay and the log says so. Survivors keep their order; clones follow them,
        then the first and then the second children of all splits.

        Args:
            step: Steps taken, counted from 1.
            parameters: Everything with a row per primitive; among it ``log_scales``, ``quats``,
                ``local_means`` (bound) or ``means`` (free), and ``opacity_logits`` unless opacities
                are no parameters.
            extras: Other tensors with a row per primitive, which children inherit; ``face_index``
                if primitives are bound, and ``opacities`` if they are no parameters. Then
                resetting them is up to the caller.
            optimizer: Has a group of each parameter's name.
            world_scales: Standard deviations in world units.
            extent: Size of the scene in world units.
            generator: Draws the children's offsets.
            frozen: Primitives that neither clone nor split (eyeballs).
            is_white: Whether the background is white.

        Returns:
            ``None`` if nothing is due.

        Raises:
            ValueError: If a tensor is missing, or has other rows than the statistics.
        """
        grows, resets = self.grows_at(step), self.resets_at(step, is_white=is_white)
        if not (grows or resets):
            return None
        self._check(parameters, extras, world_scales)
        work = _Work(dict(parameters), dict(extras), optimizer)
        counts = (0, 0, 0)
        if grows:
            counts = self._grow_and_prune(step, work, world_scales, extent, generator, frozen)
        if resets and "opacity_logits" in work.parameters:
            logits = work.parameters["opacity_logits"]
            low = logits.clamp(max=logit(self._config.reset_opacity))
            work.parameters = replace_values(optimizer, work.parameters, "opacity_logits", low)
        return DensityEdit(work.parameters, work.extras, *counts)

    def tensors(self) -> dict[str, Tensor]:
        """All state, for checkpoints."""
        return {"gradient": self._gradient, "count": self._count, "radius": self._radius}

    def load_tensors(self, tensors: Mapping[str, Tensor]) -> None:
        """Restore ``tensors()``.

        Raises:
            ValueError: If one is missing.
        """
        missing = [name for name in self.tensors() if name not in tensors]
        if missing:
            raise ValueError(f"density statistics lack {missing[0]!r}; got {', '.join(tensors)}")
        self._gradient = tensors["gradient"].clone()
        self._count = tensors["count"].clone()
        self._radius = tensors["radius"].clone()

    def _clear(self, num: int, device: torch.device | str) -> None:
        self._gradient = torch.zeros(num, device=device)
        self._count = torch.zeros(num, dtype=torch.int64, device=device)
        self._radius = torch.zeros(num, device=device)

    def _check(
        self, parameters: Mapping[str, Tensor], extras: Mapping[str, Tensor], world_scales: Tensor
    ) -> None:
        named = {**parameters, **extras, "world_scales": world_scales}
        needed = [*_NAMES]
        needed.append("local_means" if "face_index" in extras else "means")
        if "opacities" not in extras:
            needed.append("opacity_logits")
        for name in needed:
            if name not in named:
                raise ValueError(f"density control needs {name!r}; got {', '.join(named)}")
        num = self._count.shape[0]
        for name, tensor in named.items():
            if tensor.shape[0] != num:
                raise ValueError(f"{name} must have {num} rows, got {tensor.shape[0]}")

    def _grow_and_prune(
        self,
        step: int,
        work: _Work,
        world_scales: Tensor,
        extent: float,
        generator: torch.Generator,
        frozen: Tensor | None,
    ) -> tuple[int, int, int]:
        """Clone, split and prune in place of ``work``; returns how many of each."""
        config = self._config
        largest = world_scales.amax(dim=1)
        grown = self._growing(frozen)
        clone = grown & (largest <= config.dense_fraction * extent)
        split = grown & ~clone
        num = grown.shape[0]
        self._append_children(work, clone, split, world_scales, generator)

        keep = pad(~split, (0, work.num_rows - num), value=True)
        rows = torch.cat([torch.arange(num, device=clone.device)[m] for m in (clone, split, split)])
        largest = torch.cat([largest, largest[rows]])
        largest[num + int(clone.sum()) :] /= _SHRINKAGE
        radius = pad(self._radius, (0, rows.shape[0]))
        work.keep(keep)
        largest, radius = largest[keep], radius[keep]

        prune = work.opacities() < config.prune_opacity
        if step > config.opacity_reset_interval:
            prune |= largest > config.prune_world_fraction * extent
            if config.prune_screen_radius is not None:
                prune |= radius > config.prune_screen_radius
        if "face_index" in work.extras:
            prune = protect_faces(prune, work.extras["face_index"])
        elif bool(prune.all()):
            _LOG.warning(
                "step %d: all %d primitives are too faint or too large and would be pruned; all "
                "stay",
                step,
                len(prune),
            )
            prune = torch.zeros_like(prune)
        work.keep(~prune)
        self._clear(work.num_rows, prune.device)
        return int(clone.sum()), int(split.sum()), int(prune.sum())

    def _growing(self, frozen: Tensor | None) -> Tensor:
        """Primitives with a large mean gradient, as many as the limit allows."""
        mean = self._gradient / self._count.clamp(min=1)
        if self._config.gradient_mean == "geometric":
            mean = mean.sqrt()
        if frozen is not None:
            mean = torch.where(frozen, 0.0, mean)
        grown = mean >= self._config.gradient_threshold
        if self._config.max_primitives is None:
            return grown
        # A clone and a split both add one primitive.
        room = max(self._config.max_primitives - mean.shape[0], 0)
        ranked = torch.where(grown, mean, -math.inf).argsort(descending=True, stable=True)
        allowed = torch.zeros_like(grown)
        allowed[ranked[:room]] = True
        return grown & allowed

    def _append_children(
        self,
        work: _Work,
        clone: Tensor,
        split: Tensor,
        world_scales: Tensor,
        generator: torch.Generator,
    ) -> None:
        """Append copies of clones, then the children of splits."""
        children = {name: torch.cat([p[split]] * _CHILDREN) for name, p in work.parameters.items()}
        deviations = world_scales
        if self._config.split_noise == "local":
            deviations = work.parameters["log_scales"].exp()
        deviations = torch.cat([deviations[split]] * _CHILDREN)
        # Drawn where the generator is, so that a seed means the same on every device.
        noise = torch.randn(deviations.shape, generator=generator, device=generator.device)
        noise = noise.to(deviations.device)
        # Surfels have no third axis: their children stay in the parent's plane.
        offsets = pad(noise * deviations, (0, 3 - deviations.shape[1]))
        means = "local_means" if "local_means" in children else "means"
        children[means] = children[means] + quaternion_rotate(
            normalize(children["quats"], dim=-1), offsets
        )
        children["log_scales"] = children["log_scales"] - math.log(_SHRINKAGE)
        work.append(
            {name: torch.cat([p[clone], children[name]]) for name, p in work.parameters.items()},
            {name: torch.cat([x[clone], x[split], x[split]]) for name, x in work.extras.items()},
        )


class _Work:
    """Parameters and extras on their way through an edit; the optimiser follows."""

    def __init__(
        self,
        parameters: dict[str, Parameter],
        extras: dict[str, Tensor],
        optimizer: torch.optim.Optimizer,
    ) -> None:
        self.parameters = parameters
        self.extras = extras
        self._optimizer = optimizer

    @property
    def num_rows(self) -> int:
        return self.parameters["quats"].shape[0]

    def opacities(self) -> Tensor:
        logits = self.parameters.get("opacity_logits")
        return self.extras["opacities"] if logits is None else logits.sigmoid()

    def append(self, rows: dict[str, Tensor], extras: dict[str, Tensor]) -> None:
        self.parameters = append_rows(self._optimizer, self.parameters, rows)
        self.extras = {name: torch.cat([x, extras[name]]) for name, x in self.extras.items()}

    def keep(self, mask: Tensor) -> None:
        self.parameters = keep_rows(self._optimizer, self.parameters, mask)
        self.extras = {name: x[mask] for name, x in self.extras.items()}


def protect_faces(prune: Bool[Tensor, " n"], face_index: Int[Tensor, " n"]) -> Bool[Tensor, " n"]:
    """Spare all primitives of a face that would otherwise lose every one of them."""
    index = face_index.long()
    total = torch.bincount(index)
    pruned = torch.bincount(index[prune], minlength=total.shape[0])
    return prune & (pruned < total)[index]
