"""What gives Gaussians their colours: the part that separates this method's modes.

The model blends the attributes of an appearance like all others, poses the Gaussians, asks the
appearance for colours, draws them over black, and lets the appearance make the picture.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import Parameter
from torch.nn.functional import normalize

from vultus.geometry.cameras import Camera, camera_centers
from vultus.geometry.sh_rotation import rotate_color_sh
from vultus.geometry.spherical_harmonics import light_sh_basis, num_sh_terms
from vultus.heads.base import HeadPose
from vultus.methods.relightable_blendshapes.config import ModelConfig, OptimConfig
from vultus.methods.relightable_blendshapes.posing import PosedGaussians
from vultus.methods.relightable_blendshapes.start import StartPoints

__all__ = ["Appearance", "ShAppearance", "ShadedGaussians", "View"]

_INITIAL_COLOR_RANGE = 1.0 / 255.0
_REST_SHARE = 1.0 / 20.0


@dataclass(frozen=True)
class View:
    """What is looked at, from where, and when in training; tensors lie on the avatar's device."""

    pose: HeadPose
    camera: Camera
    """One per frame of the pose."""
    step: int | None = None
    """``None``: training is over."""
    timesteps: Int[Tensor, " b"] | None = None
    """Rows of the capture's track, where the pose is one of them."""


@dataclass(frozen=True)
class ShadedGaussians:
    """Colours of Gaussians in b frames, in the unit that they are drawn in."""

    colors: Float[Tensor, "b n 3"]
    layers: Mapping[str, Float[Tensor, "b n c"]] = field(default_factory=dict)
    """What else was found out about every Gaussian, to be drawn or kept in bounds."""


@runtime_checkable
class Appearance(Protocol):
    """Colours of blended, posed Gaussians.

    Nothing but ``initial``, ``gaussians_changed``, ``splat_colors``, ``tensors``, ``check`` and
    ``load`` may wait for a GPU.
    """

    def initial(self, start: StartPoints, generator: torch.Generator) -> dict[str, Tensor]:
        """Neutral attributes of Gaussians at their start, [n ...]; all of them get deltas."""
        ...

    def constants(self, neutral: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """What is never trained and children inherit, a row for each Gaussian; no names of anchors.

        Args:
            neutral: Attributes at the start, those of ``initial`` among them.
        """
        ...

    def parameters(self) -> dict[str, Parameter]:
        """What is trained beside the Gaussians' attributes (a light), by names of its own."""
        ...

    def rates(self, step: int) -> dict[str, float]:
        """Learning rates of attributes, of their ``_deltas``, and of ``parameters``."""
        ...

    def start_step(self, step: int) -> None:
        """Do what graphs of training steps do not hold; called before each of them."""
        ...

    def phase(self, step: int) -> Hashable:
        """What of ``step`` decides which kernels run; see ``ReconstructionMethod.phase``."""
        ...

    def looks_anew_at(self, step: int) -> bool:
        """Whether ``gaussians_changed`` is due after a step though their number is the same."""
        ...

    def gaussians_changed(
        self, gaussians: Mapping[str, Tensor], constants: Mapping[str, Tensor]
    ) -> None:
        """Look at the Gaussians anew: there are others, or they have moved.

        Args:
            gaussians: Neutral attributes and deltas.
            constants: The rows of ``constants`` among others.
        """
        ...

    def shade(
        self, blended: Mapping[str, Tensor], posed: PosedGaussians, view: View
    ) -> ShadedGaussians:
        """Find the colours.

        Args:
            blended: All attributes of every frame, [b n ...], not activated.
            posed: The same Gaussians in the world.
            view: Of the frames.
        """
        ...

    def picture(
        self, drawn: Float[Tensor, "b 3 h w"], alpha: Float[Tensor, "b 1 h w"], view: View
    ) -> Float[Tensor, "b 3 h w"]:
        """Put what was drawn over black before the background; display values."""
        ...

    def terms(
        self, gaussians: Mapping[str, Tensor], shaded: ShadedGaussians, view: View
    ) -> dict[str, Tensor]:
        """Weighted loss terms of a training step beside those of the picture.

        Args:
            gaussians: Neutral attributes and deltas.
            shaded: What ``shade`` returned.
            view: Of the step.
        """
        ...

    def splat_colors(
        self, blended: Mapping[str, Tensor], posed: PosedGaussians, pose: HeadPose
    ) -> Float[Tensor, "b n k 3"]:
        """Colours for files, in spherical harmonics of directions in the world.

        Args:
            blended: As in ``shade``.
            posed: As in ``shade``.
            pose: Of the frames.
        """
        ...

    def tensors(self) -> dict[str, Tensor]:
        """What an exact resume needs beside the Gaussians; ``parameters`` are part of it."""
        ...

    def check(self, tensors: Mapping[str, Tensor], num_gaussians: int) -> None:
        """Raise ``ValueError`` unless ``load`` can restore what so many Gaussians came with."""
        ...

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """Restore ``tensors``, which were checked, after ``gaussians_changed``."""
        ...


class ShAppearance:
    """Colours of Gaussian Blendshapes: max(0, 0.5 + SH) for directions in the rest pose."""

    def __init__(
        self, model: ModelConfig, optim: OptimConfig, background: Float[Tensor, " 3"]
    ) -> None:
        """Take the settings; the background decides the device."""
        self._model = model
        self._optim = optim
        self._background = background[:, None, None]

    def active_degree(self, step: int | None) -> int:
        """Degree of colour at a step; the full degree once training is over."""
        if step is None:
            return self._model.sh_degree
        return min(step // self._model.sh_degree_interval, self._model.sh_degree)

    def initial(self, start: StartPoints, generator: torch.Generator) -> dict[str, Tensor]:
        """Grey, without view dependence."""
        num = start.points.shape[0]
        colors = _INITIAL_COLOR_RANGE * torch.rand(num, 1, 3, generator=generator)
        values = {"sh_dc": colors}
        num_rest = num_sh_terms(self._model.sh_degree) - 1
        return values | {"sh_rest": torch.zeros(num, num_rest, 3)} if num_rest else values

    def constants(self, neutral: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """There are none."""
        return {}

    def parameters(self) -> dict[str, Parameter]:
        """Colours are all there is."""
        return {}

    def rates(self, step: int) -> dict[str, float]:
        """See ``Appearance.rates``; they do not change."""
        optim = self._optim
        return {
            "sh_dc": optim.feature_lr,
            "sh_rest": optim.feature_lr * _REST_SHARE,
            "sh_dc_deltas": optim.feature_delta_lr,
            "sh_rest_deltas": optim.feature_delta_lr,
        }

    def start_step(self, step: int) -> None:
        """There is nothing to do."""

    def phase(self, step: int) -> Hashable:
        """The active degree."""
        return self.active_degree(step)

    def looks_anew_at(self, step: int) -> bool:
        """Never."""
        return False

    def gaussians_changed(
        self, gaussians: Mapping[str, Tensor], constants: Mapping[str, Tensor]
    ) -> None:
        """Nothing depends on their number."""

    def shade(
        self, blended: Mapping[str, Tensor], posed: PosedGaussians, view: View
    ) -> ShadedGaussians:
        """Evaluate colours for view directions that are turned back into the rest pose.

        This is what the published program gets by turning the coefficients.
        """
        degree = self.active_degree(view.step)
        if degree == 0:
            # The one constant term: 1 / sqrt(4 pi).
            direction = blended["sh_dc"].new_zeros(1, 1, 3)
        else:
            centers = camera_centers(view.camera)[:, None]
            direction = normalize(posed.means - centers, dim=-1)
            direction = (posed.rotations * direction[..., :, None]).sum(dim=-2)
        x, y, z = direction.unbind(dim=-1)
        # A half turn about z changes the signs of odd orders, which is how the two bases differ; a
        # tensor of signs would be a copy to the GPU.
        basis = light_sh_basis(torch.stack([-x, -y, z], dim=-1), degree)[..., None]
        colors = basis[..., :1, :] * blended["sh_dc"]
        colors = colors.sum(dim=-2)
        if degree > 0:
            rest = blended["sh_rest"][:, :, : num_sh_terms(degree) - 1]
            colors = colors + (basis[..., 1:, :] * rest).sum(dim=-2)
        return ShadedGaussians((colors + 0.5).clamp(min=0.0))

    def picture(
        self, drawn: Float[Tensor, "b 3 h w"], alpha: Float[Tensor, "b 1 h w"], view: View
    ) -> Float[Tensor, "b 3 h w"]:
        """Composite over the capture's background in display values."""
        return drawn + (1.0 - alpha) * self._background

    def terms(
        self, gaussians: Mapping[str, Tensor], shaded: ShadedGaussians, view: View
    ) -> dict[str, Tensor]:
        """There are none."""
        return {}

    def splat_colors(
        self, blended: Mapping[str, Tensor], posed: PosedGaussians, pose: HeadPose
    ) -> Float[Tensor, "b n k 3"]:
        """Coefficients turned with their Gaussians."""
        parts = [blended[name] for name in ("sh_dc", "sh_rest") if name in blended]
        return rotate_color_sh(torch.cat(parts, dim=2), posed.rotations)

    def tensors(self) -> dict[str, Tensor]:
        """Colours are attributes of the Gaussians."""
        return {}

    def check(self, tensors: Mapping[str, Tensor], num_gaussians: int) -> None:
        """There is nothing to check."""

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """There is nothing to load."""
