"""Specular colour of surfels: spherical-Gaussian lobes around fixed axes and a small network.

Symbols: ``n`` surfels, ``d`` features of each, ``t`` polar and ``p`` azimuthal rows of lobes.
A surfel's features give every lobe two amplitudes a and two sharpnesses, lambda and mu; lobes
answer to the reflected view direction, and the network turns the answers into a colour.

Reference: spec of SurFhead sections 3.3 and 4.5; Xu et al., Anisotropic Spherical Gaussians, 2013;
Yang et al., Spec-Gaussian, 2024, for the network.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import softplus

from vultus.optim.schedules import linear_decay

__all__ = [
    "LobeType",
    "SpecularConfig",
    "SpecularNetwork",
    "lobe_axes",
    "lobe_responses",
    "reflect",
    "specular_rate",
    "view_encoding",
]

LobeType = Literal["sg", "asg", "lasg"]
"""``sg``: isotropic lobes. ``asg``: anisotropic lobes over the sphere. ``lasg``: half as many, over
the upper half, under white light (one value for all three channels)."""

_AZIMUTHS = 8
_POLARS: dict[LobeType, int] = {"sg": 4, "asg": 4, "lasg": 2}
_POLAR_RANGE: dict[LobeType, float] = {"sg": math.pi, "asg": math.pi, "lasg": 0.5 * math.pi}
_CHANNELS: dict[LobeType, int] = {"sg": 3, "asg": 3, "lasg": 1}
_NUMBERS_PER_LOBE = 4
_RESPONSES_PER_LOBE = 2
_HIDDEN = 128
_ENCODED_FREQUENCIES = (1.0, 2.0)
# View direction, its encoding (sine and cosine), and the cosine to the normal.
_NUM_VIEW_INPUTS = 3 + 3 * 2 * len(_ENCODED_FREQUENCIES) + 1
# Keeps the reflection of a normal that is not unit length finite; published.
_LENGTH_EPSILON = 1e-8
# Amounts that the published code subtracts before the softplus, so that lobes start broad.
_SHARPNESS_SHIFT = 1.0


@dataclass(frozen=True)
class SpecularConfig:
    """Which surfels shine, how, and how that is learned."""

    lobes: Literal["none", "sg", "asg", "lasg"] = "lasg"
    """Kind of lobes (official ``--SGs --sg_type``); ``none`` leaves the surfels matte. The paper's
    final model has ``lasg``, its ablations ``asg``."""
    surfels: Literal["eyeballs", "teeth", "all"] = "eyeballs"
    """Which surfels shine (official ``--spec_only_eyeball``, ``--spec_only_teeth``, neither)."""
    num_features: int = 24
    """Features of each surfel (official ``--sg_degree``)."""
    start_step: int = 2_500
    """First step with specular colour; 500 in the 2025 release unless it runs 300k steps."""
    feature_lr: float = 0.0025
    """Of the surfels' features."""
    first_lr: float = 0.00025
    """Of the network, in its first step."""
    lr_init: float = 0.0025
    """Of the network after that, falling linearly from step 0 on..."""
    lr_final: float = 0.000125
    """...to this value..."""
    lr_steps: int = 300_000
    """...at this step (official ``--specular_lr_max_steps``)."""
    official_quirks: bool = False
    """Shade as the published code does, for its checkpoints: the local rotation is that of another
    surfel, the normal stays in the world while the view direction is canonical, and with the
    similarity rig nothing turns into the canonical frame."""

    def __post_init__(self) -> None:
        """Reject settings that cannot be meant."""
        if self.num_features < 1 or self.lr_steps < 1 or self.start_step < 0:
            raise ValueError(
                "specular.num_features and lr_steps must be at least 1 and start_step at least 0, "
                f"got {self.num_features}, {self.lr_steps} and {self.start_step}"
            )


def specular_rate(step: int, config: SpecularConfig) -> float:
    """Learning rate of the network; zero before its first step, when it is not used."""
    if step < config.start_step:
        return 0.0
    if step == config.start_step:
        return config.first_lr
    return linear_decay(step, config.lr_init, config.lr_final, config.lr_steps)


class SpecularNetwork(nn.Module):
    """Colour that surfels add to their diffuse one."""

    lobe_direction: Tensor
    lobe_tangent: Tensor
    lobe_bitangent: Tensor

    def __init__(
        self,
        lobe_type: LobeType,
        num_features: int = 24,
        generator: torch.Generator | None = None,
    ) -> None:
        """Draw the weights as published: uniform by fan-in, the last bias zero.

        Args:
            lobe_type: Kind of lobes.
            num_features: Features of each surfel.
            generator: Decides the weights; its device is that of the network.
        """
        super().__init__()
        self.lobe_type: LobeType = lobe_type
        num_lobes = _POLARS[lobe_type] * _AZIMUTHS
        device = None if generator is None else generator.device
        self.lobe_layer = nn.Linear(num_features, _NUMBERS_PER_LOBE * num_lobes, device=device)
        self.mlp = nn.Sequential(
            nn.Linear(_RESPONSES_PER_LOBE * num_lobes + _NUM_VIEW_INPUTS, _HIDDEN, device=device),
            nn.ReLU(),
            nn.Linear(_HIDDEN, _HIDDEN, device=device),
            nn.ReLU(),
            nn.Linear(_HIDDEN, _CHANNELS[lobe_type], device=device),
        )
        for name, axes in zip(
            ("lobe_direction", "lobe_tangent", "lobe_bitangent"), lobe_axes(lobe_type), strict=True
        ):
            self.register_buffer(name, axes.to(self.lobe_layer.weight), persistent=False)
        self._draw_weights(generator)

    @property
    def num_features(self) -> int:
        """Features of each surfel."""
        return self.lobe_layer.in_features

    @property
    def lobe_axes(
        self,
    ) -> tuple[Float[Tensor, "t p 3"], Float[Tensor, "t p 3"], Float[Tensor, "t p 3"]]:
        """Directions of the lobes and their tangents; see ``lobe_axes``."""
        return self.lobe_direction, self.lobe_tangent, self.lobe_bitangent

    def forward(
        self,
        features: Float[Tensor, "n d"],
        view_directions: Float[Tensor, "*b n 3"],
        normals: Float[Tensor, "*b n 3"],
    ) -> Float[Tensor, "*b n 3"]:
        """Shade surfels; values may be negative and are added to the diffuse colour unclamped.

        Args:
            features: Of each surfel, shared by all frames.
            view_directions: Unit, from the camera to the surfel.
            normals: Towards the camera, any length.
        """
        numbers = self.lobe_layer(features)
        numbers = numbers.unflatten(-1, (*self.lobe_direction.shape[:2], _NUMBERS_PER_LOBE))
        reflected, cosine = reflect(view_directions, normals)
        responses = lobe_responses(self.lobe_type, numbers, reflected, self.lobe_axes)
        inputs = [
            responses.flatten(start_dim=-3),
            cosine,
            view_directions,
            view_encoding(view_directions),
        ]
        colors = self.mlp(torch.cat(inputs, dim=-1))
        return colors.expand(*colors.shape[:-1], 3)

    def _draw_weights(self, generator: torch.Generator | None) -> None:
        layers = [module for module in self.modules() if isinstance(module, nn.Linear)]
        with torch.no_grad():
            for layer in layers:
                bound = layer.in_features**-0.5
                layer.weight.uniform_(-bound, bound, generator=generator)
                layer.bias.uniform_(-bound, bound, generator=generator)
            layers[-1].bias.zero_()


def lobe_axes(
    lobe_type: LobeType,
) -> tuple[Float[Tensor, "t p 3"], Float[Tensor, "t p 3"], Float[Tensor, "t p 3"]]:
    """Directions of the lobes and the two tangents of each, float64.

    Azimuths include both 0 and 2 pi, so the first and the last column coincide; checkpoints count
    on it.
    """
    polar = torch.linspace(0.0, _POLAR_RANGE[lobe_type], _POLARS[lobe_type], dtype=torch.float64)
    azimuth = torch.linspace(0.0, 2.0 * math.pi, _AZIMUTHS, dtype=torch.float64)
    polar, azimuth = torch.meshgrid(polar, azimuth, indexing="ij")

    def unit_vectors(angle: Tensor) -> Tensor:
        ring = angle.sin()
        return torch.stack([azimuth.cos() * ring, azimuth.sin() * ring, angle.cos()], dim=-1)

    directions, tangents = unit_vectors(polar), unit_vectors(polar + 0.5 * math.pi)
    return directions, tangents, torch.linalg.cross(directions, tangents)


def reflect(
    view_directions: Float[Tensor, "*b n 3"], normals: Float[Tensor, "*b n 3"]
) -> tuple[Float[Tensor, "*b n 3"], Float[Tensor, "*b n 1"]]:
    """Mirror view directions at normals.

    Returns:
        Unit reflections 2 (-v n) n + v, and (-v n), which is the cosine for unit normals.
    """
    cosine = -(view_directions * normals).sum(dim=-1, keepdim=True)
    mirrored = 2.0 * cosine * normals + view_directions
    length = torch.linalg.vector_norm(mirrored, dim=-1, keepdim=True)
    return mirrored / (length + _LENGTH_EPSILON), cosine


def lobe_responses(
    lobe_type: LobeType,
    numbers: Float[Tensor, "n t p 4"],
    reflected: Float[Tensor, "*b n 3"],
    axes: tuple[Float[Tensor, "t p 3"], Float[Tensor, "t p 3"], Float[Tensor, "t p 3"]],
) -> Float[Tensor, "*b n t p 2"]:
    """Evaluate every lobe in the reflected direction.

    With sharpnesses l = softplus(lambda - 1) and m = softplus(mu - 1):
    anisotropic G = a max(0, o w) exp(-l (o w_l)² - m (o w_m)²); isotropic
    G = m exp(l (o w - 1)), the same in both channels.

    Args:
        lobe_type: Kind of lobes.
        numbers: Of each lobe: two amplitudes, lambda, mu.
        reflected: Unit directions o.
        axes: ``lobe_axes``.

    Reference: Xu et al. 2013, eq. 1; Wang et al. 2009, eq. 1.
    """
    direction, tangent, bitangent = (_dot_all(reflected, axis) for axis in axes)
    amplitude, sharpness = numbers[..., :2], softplus(numbers[..., 2:] - _SHARPNESS_SHIFT)
    first, second = sharpness.unbind(dim=-1)
    if lobe_type == "sg":
        response = second * torch.exp(first * (direction.clamp(-1.0, 1.0) - 1.0))
        return response[..., None].expand(*response.shape, _RESPONSES_PER_LOBE)
    falloff = torch.exp(-first * tangent.square() - second * bitangent.square())
    return amplitude * (direction.relu() * falloff)[..., None]


def view_encoding(directions: Float[Tensor, "*b n 3"]) -> Float[Tensor, "*b n 12"]:
    """Sines of (x, 2x, y, 2y, z, 2z), then their cosines."""
    # No tensor of frequencies: its copy to the GPU could not be part of a captured graph.
    scaled = [frequency * directions for frequency in _ENCODED_FREQUENCIES]
    angles = torch.stack(scaled, dim=-1).flatten(start_dim=-2)
    return torch.cat([angles.sin(), angles.cos()], dim=-1)


def _dot_all(vectors: Float[Tensor, "*b n 3"], axes: Float[Tensor, "t p 3"]) -> Tensor:
    return torch.einsum("...nc,tpc->...ntp", vectors, axes)
