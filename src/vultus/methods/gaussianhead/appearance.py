"""Opacity and colour of Gaussians, decoded from a tri-plane (spec sections 3.3 to 3.5)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import linear

from vultus.geometry.spherical_harmonics import num_sh_terms
from vultus.kernels.derived_triplane import sample_derived
from vultus.kernels.dispatch import are_for_kernels
from vultus.methods.gaussianhead.derivation import (
    DerivationMode,
    check_derivation,
    derive_positions,
    official_stretches,
)
from vultus.nets.linear import draw_linear_weights
from vultus.nets.triplane import plane_shapes, sample_scales

__all__ = ["SH_DEGREE", "Appearance", "AppearanceNetwork", "ColorActivation"]

ColorActivation = Literal["none", "relu"]

SH_DEGREE = 3
"""Published decoders are made for this degree."""
_HIDDEN = 64
_COLOR_FEATURES = 48
_DIRECTIONS = 3
_PLANE_RANGE = (0.1, 0.5)
_SHARED_MODES = ("official", "baked_scale")
"""The published sampler gives the last share of the channels to every copy."""


@dataclass(frozen=True)
class Appearance:
    """Decoded Gaussians of b frames."""

    opacity_logits: Float[Tensor, "b n"]
    sh_coeffs: Float[Tensor, "b n k 3"]


class AppearanceNetwork(nn.Module):
    """Tri-planes, and decoders of what is read there."""

    def __init__(
        self,
        generator: torch.Generator,
        *,
        resolutions: Sequence[tuple[int, int, int]] = ((64, 64, 64),),
        channels: int = 32,
        num_derivations: int = 4,
        color_activation: ColorActivation = "none",
    ) -> None:
        """Draw planes and weights.

        Args:
            generator: Decides them.
            resolutions: Of the x, y and z axis, for every tri-plane; their features are added.
            channels: Of every plane.
            num_derivations: Copies of each position; each reads its share of the channels.
            color_activation: Between the two layers of the colour decoder. Published: none, so
                they are one linear map.

        Raises:
            ValueError: If the copies do not share the channels equally.
        """
        super().__init__()
        if num_derivations < 1 or channels % num_derivations:
            raise ValueError(
                f"num_derivations must divide {channels} channels, got {num_derivations}"
            )
        self.num_derivations = num_derivations
        self.color_activation: ColorActivation = color_activation
        self.planes = nn.ModuleList(
            nn.ParameterList(
                torch.empty(1, channels, *shape).uniform_(*_PLANE_RANGE, generator=generator)
                for shape in plane_shapes(resolution)
            )
            for resolution in resolutions
        )
        self.opacity_layers = nn.ModuleList(
            nn.Linear(inputs, outputs, bias=False)
            for inputs, outputs in (
                (channels, _HIDDEN),
                (_HIDDEN, _HIDDEN),
                (_HIDDEN, 1 + channels),
            )
        )
        self.color_layers = nn.ModuleList(
            nn.Linear(inputs, outputs, bias=False)
            for inputs, outputs in ((channels + _DIRECTIONS, _HIDDEN), (_HIDDEN, _COLOR_FEATURES))
        )
        self.dc_layer = nn.Linear(_COLOR_FEATURES, 3)
        self.rest_layer = nn.Linear(_COLOR_FEATURES, 3 * (num_sh_terms(SH_DEGREE) - 1))
        draw_linear_weights(self, generator)

    def forward(
        self,
        means: Float[Tensor, "b n 3"],
        directions: Float[Tensor, "b n 3"],
        mode: DerivationMode,
        derivation: Float[Tensor, "n k _"] | None,
    ) -> Appearance:
        """Decode Gaussians.

        Args:
            means: Where to sample, in the unit box of the planes.
            directions: Unit, from the camera.
            mode: How positions are derived.
            derivation: Values for it.
        """
        return self.decode(self.features(means, mode, derivation), directions)

    def features(
        self,
        means: Float[Tensor, "b n 3"],
        mode: DerivationMode,
        derivation: Float[Tensor, "n k _"] | None,
    ) -> Float[Tensor, "b n c"]:
        """Read the planes at all copies of the positions and join what they read."""
        if are_for_kernels(means):
            return self._by_kernel(means, mode, derivation)
        return self._by_sampler(means, mode, derivation)

    def decode(
        self, features: Float[Tensor, "b n c"], directions: Float[Tensor, "b n 3"]
    ) -> Appearance:
        """Turn features into opacities and colours."""
        first, second, last = self.opacity_layers
        hidden = second(first(features).sigmoid()).sigmoid()
        weights = torch.cat([self.dc_layer.weight, self.rest_layer.weight])
        biases = torch.cat([self.dc_layer.bias, self.rest_layer.bias])
        if self.color_activation == "none":
            return self._decode_linearly(hidden, directions, weights, biases)
        decoded = last(hidden)
        joined = torch.cat([decoded[..., 1:], directions], dim=-1)
        hidden = self.color_layers[1](self.color_layers[0](joined).relu())
        # Coefficient by coefficient, colour channels fastest.
        coefficients = linear(hidden, weights, biases).unflatten(-1, (-1, 3))
        return Appearance(decoded[..., 0], coefficients)

    def _decode_linearly(
        self, hidden: Tensor, directions: Tensor, weights: Tensor, biases: Tensor
    ) -> Appearance:
        """Decode what the opacity decoder's last layer is given.

        All that follows is linear without an activation: the matrices are multiplied first, which
        leaves a third of the work per Gaussian.
        """
        *_, last = (_weight(layer) for layer in self.opacity_layers)
        of_joined, second = (_weight(layer) for layer in self.color_layers)
        of_joined = weights @ second @ of_joined
        split = [of_joined.shape[1] - _DIRECTIONS, _DIRECTIONS]
        of_geometry, of_direction = of_joined.split(split, dim=1)
        of_hidden = of_geometry @ last[1:]
        coefficients = torch.addmm(
            linear(directions.flatten(0, 1), of_direction, biases),
            hidden.flatten(0, 1),
            of_hidden.t(),
        )
        shape = (*hidden.shape[:2], -1, 3)
        return Appearance(linear(hidden, last[:1])[..., 0], coefficients.view(shape))

    def _by_sampler(self, means: Tensor, mode: DerivationMode, derivation: Tensor | None) -> Tensor:
        """Read with PyTorch's own sampler, which defines what is read."""
        points = derive_positions(means, mode, derivation)
        copies, batch, num = points.shape[:3]
        groups = [[self._share(plane, mode, copies) for plane in scale] for scale in self._scales()]
        sampled = sample_scales(groups, points.reshape(copies, batch * num, 3))
        return sampled.transpose(0, 1).reshape(batch, num, -1)

    def _by_kernel(self, means: Tensor, mode: DerivationMode, derivation: Tensor | None) -> Tensor:
        """Read in one launch per scale, on a GPU."""
        check_derivation(mode, derivation)
        is_shared = mode in _SHARED_MODES
        copies = 1 if mode == "none" else self.num_derivations
        if mode == "official" and derivation is not None:
            derivation = official_stretches(derivation)
        sampled = [
            sample_derived(
                scale,
                means,
                derivation,
                share=scale[0].shape[1] // copies,
                is_shared=is_shared,
            )
            for scale in self._scales()
        ]
        return sampled[0] if len(sampled) == 1 else torch.stack(sampled).sum(dim=0)

    def _scales(self) -> list[list[Tensor]]:
        return [list(scale) for scale in self.planes]  # pyright: ignore[reportArgumentType]

    def _share(self, plane: Tensor, mode: DerivationMode, copies: int) -> Tensor:
        """The channels that each copy of a position reads, as groups."""
        if mode in _SHARED_MODES:
            share = plane.shape[1] // self.num_derivations
            return plane[:, -share:].expand(copies, -1, -1, -1)
        return plane[0].unflatten(0, (copies, -1))


def _weight(layer: nn.Module) -> Tensor:
    assert isinstance(layer, nn.Linear)
    return layer.weight
