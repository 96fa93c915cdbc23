"""Estimate the light of pictures whose surfaces are known, as labels for generators.

A matte surface with normal n and albedo a shows a Σ_k A_k Y_k(n) l_k: linear in the light l, with
the factors A of a cosine lobe. Shadows, gloss and wrong normals do not fit; pixels that they spoil
are given less weight, step by step.

Reference: Basri and Jacobs, Lambertian Reflectance and Linear Subspaces, 2003.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import normalize

from vultus.core.srgb import srgb_to_linear
from vultus.data.light_labels import label_axes
from vultus.geometry.spherical_harmonics import COSINE_LOBE, light_sh_basis

__all__ = ["EstimatedLight", "NormalAxes", "decode_normals", "estimate_light"]

NormalAxes = Literal["camera", "world"]
"""Of the numbers in a picture of normals: x right, y up and z towards the camera; or the head's."""

_DEGREE = 2
_LEAST_PIXELS = 50
_LEAST_COVER = 0.9
_BRIGHTEST, _DARKEST_ALBEDO = 0.97, 0.02
"""Encoded colours above say too little of the radiance, linear albedos below of the light."""
_ROUNDS = 12
_RIDGE = 0.005
"""Of all coefficients but the constant, against the mean squared albedo: a picture shows one side
of a head, which says little about some lights. Best among 0.001 to 0.1 for people of the studio."""


class EstimatedLight(NamedTuple):
    """A light, and how well it explains a picture."""

    light: Float[Tensor, "9 3"]
    """Linear, in axes of the camera, see ``data.light_labels``."""
    explained: float
    """Share of the variance of the pixels' radiance: 1 is all of it."""


def decode_normals(
    picture: Float[Tensor, "3 h w"], axes: NormalAxes, label: Float[Tensor, " 25"]
) -> Float[Tensor, "3 h w"]:
    """Bring a picture of normals, 0.5 + 0.5 n, to the axes of light labels.

    Args:
        picture: In [0, 1].
        axes: What red, green and blue stand for.
        label: The camera.
    """
    normals = 2.0 * picture - 1.0
    if axes == "camera":
        right, up, toward = normals.unbind(dim=0)
        return torch.stack([right, -toward, up])
    return torch.einsum("ij,jhw->ihw", label_axes(label[None])[0].to(normals), normals)


def estimate_light(
    rgb: Float[Tensor, "3 h w"],
    normals: Float[Tensor, "3 h w"],
    mask: Float[Tensor, "1 h w"],
    albedo: Float[Tensor, "3 h w"] | None = None,
) -> EstimatedLight:
    """Fit a light to a picture.

    Args:
        rgb: Display-encoded.
        normals: X to the right, Y into the scene, Z up; of any length, 0 where they are unknown.
        mask: Coverage; only what is fully covered counts.
        albedo: Linear; None takes 1 for all, so that the light has the colour and brightness of
            what it falls on.

    Raises:
        ValueError: If too few pixels can be used.
    """
    reflected = torch.ones_like(rgb) if albedo is None else albedo
    is_known = (mask[0] > _LEAST_COVER) & (normals.norm(dim=0) > 0.5)
    is_known &= (rgb.amax(dim=0) < _BRIGHTEST) & (reflected.amin(dim=0) > _DARKEST_ALBEDO)
    count = int(is_known.sum())
    if count < _LEAST_PIXELS:
        raise ValueError(
            f"{_LEAST_PIXELS} pixels must be covered, neither too bright nor too dark and have "
            f"normals, got {count}"
        )
    directions = normalize(normals[:, is_known].T.double(), dim=1)
    terms = light_sh_basis(directions, _DEGREE) * torch.tensor(COSINE_LOBE, dtype=torch.float64)
    radiance = srgb_to_linear(rgb[:, is_known]).double()
    reflected = reflected[:, is_known].double()
    fits = [_robust_fit(a, terms, seen) for a, seen in zip(reflected, radiance, strict=True)]
    light = torch.stack(fits, dim=1)
    misfit = radiance - reflected * (terms @ light).T
    spread = radiance - radiance.mean(dim=1, keepdim=True)
    explained = 1.0 - misfit.square().sum() / spread.square().sum().clamp(min=1e-12)
    return EstimatedLight(light.float(), float(explained))


def _robust_fit(
    albedo: Float[Tensor, " p"], terms: Float[Tensor, "p 9"], seen: Float[Tensor, " p"]
) -> Float[Tensor, " 9"]:
    """Least squares in which what fits worse than most counts less (Cauchy's weights)."""
    reflected = albedo[:, None] * terms
    strength = torch.full_like(terms[0], _RIDGE * float(albedo.square().mean()))
    strength[0] = 0.0
    weights, light = torch.ones_like(seen), torch.zeros_like(terms[0])
    for _ in range(_ROUNDS):
        weighted = reflected * weights[:, None]
        matrix = weighted.T @ reflected + weights.sum() * strength.diag()
        light = torch.linalg.solve(matrix, weighted.T @ seen)
        misfit = (seen - reflected @ light).abs()
        scale = 2.4 * misfit.median().clamp(min=1e-9)
        weights = 1.0 / (1.0 + (misfit / scale).square())
    return light
