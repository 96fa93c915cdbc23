"""Gaussian surfels bound to a mesh: stored values, activated values, one surfel per face."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import normalize

from vultus.geometry.deformation import triangle_frames

__all__ = [
    "SURFEL_PARAMETERS",
    "Surfels",
    "fill_triangles",
    "initial_surfels",
    "logit",
]

_INITIAL_OPACITY = 0.1
# Start of a raw colour coefficient: uniform in [0, this], as in GaussianAvatars.
_INITIAL_COLOR_RANGE = 1.0 / 255.0
# In squared triangle sizes; keeps the logarithm of a degenerate triangle finite.
_MIN_VARIANCE = 1e-8


@dataclass(frozen=True)
class Surfels:
    """Stored values of n surfels; the properties are the activated ones.

    Positions, rotations and scales are in the frame of the parent triangle, lengths in units of its
    size. The optional fields are ``None`` where a model has no such feature.
    """

    local_means: Float[Tensor, "n 3"]
    log_scales: Float[Tensor, "n 2"]
    quats: Float[Tensor, "n 4"]
    """wxyz, any norm."""
    opacity_logits: Float[Tensor, " n"]
    sh_dc: Float[Tensor, "n 1 3"]
    sh_rest: Float[Tensor, "n r 3"]
    """Degrees 1 and up: r = (degree + 1)² - 1."""
    face_index: Int[Tensor, " n"]
    """The parent triangle."""
    blend_weight_logits: Float[Tensor, "n 4"] | None = None
    """Of the parent and its three neighbours (Jacobian blend skinning)."""
    specular_features: Float[Tensor, "n d"] | None = None

    @staticmethod
    def from_dict(values: Mapping[str, Tensor]) -> Surfels:
        """Pick the fields out of a dictionary; other entries are ignored.

        Raises:
            ValueError: If a field that every surfel needs is missing.
        """
        optional = ("blend_weight_logits", "specular_features")
        names = [field.name for field in fields(Surfels)]
        missing = [name for name in names if name not in values and name not in optional]
        if missing:
            raise ValueError(f"surfels lack {missing[0]!r}; got {', '.join(values)}")
        return Surfels(**{name: values[name] for name in names if name in values})

    def tensors(self) -> dict[str, Tensor]:
        """The fields that are set, by name."""
        named = ((field.name, getattr(self, field.name)) for field in fields(self))
        return {name: tensor for name, tensor in named if tensor is not None}

    def __len__(self) -> int:
        """Number of surfels."""
        return self.local_means.shape[0]

    @property
    def scales(self) -> Float[Tensor, "n 2"]:
        """Standard deviations along the two tangents, in triangle sizes."""
        return self.log_scales.exp()

    @property
    def unit_quats(self) -> Float[Tensor, "n 4"]:
        """Wxyz."""
        return normalize(self.quats, dim=-1)

    @property
    def opacities(self) -> Float[Tensor, " n"]:
        """In [0, 1]."""
        return self.opacity_logits.sigmoid()

    @property
    def sh_coeffs(self) -> Float[Tensor, "n k 3"]:
        """All degrees; colour = 0.5 + sum."""
        return torch.cat([self.sh_dc, self.sh_rest], dim=1)

    @property
    def sh_degree(self) -> int:
        """Highest degree of the colour."""
        return round((1 + self.sh_rest.shape[1]) ** 0.5) - 1


SURFEL_PARAMETERS = tuple(field.name for field in fields(Surfels) if field.name != "face_index")
"""Names of what can be trained; everything but the binding."""


def initial_surfels(
    num_faces: int,
    sh_degree: int,
    generator: torch.Generator,
    *,
    num_specular_features: int = 0,
) -> dict[str, Tensor]:
    """Place one surfel in the middle of every face, as large as the face, grey and faint.

    Raw colour coefficients are random in [0, 1/255], the higher degrees zero; opacities are 0.1.

    Args:
        num_faces: Faces of the mesh.
        sh_degree: Highest degree of the colour, 0 to 3.
        generator: Decides the colours; its device is that of the result.
        num_specular_features: Length of ``specular_features`` (zeros); 0 leaves them out.

    Returns:
        Fields of ``Surfels`` by name, without blend weights.

    Reference: SurFhead, arXiv 2410.11682, public release; GaussianAvatars, section 3.2.
    """
    device = generator.device
    colors = torch.rand((num_faces, 1, 3), generator=generator, device=device)
    quats = torch.zeros(num_faces, 4, device=device)
    quats[:, 0] = 1.0
    values = {
        "local_means": torch.zeros(num_faces, 3, device=device),
        "log_scales": torch.zeros(num_faces, 2, device=device),
        "quats": quats,
        "opacity_logits": torch.full((num_faces,), logit(_INITIAL_OPACITY), device=device),
        "sh_dc": colors * _INITIAL_COLOR_RANGE,
        "sh_rest": torch.zeros(num_faces, (sh_degree + 1) ** 2 - 1, 3, device=device),
        "face_index": torch.arange(num_faces, device=device),
    }
    if num_specular_features:
        values["specular_features"] = torch.zeros(num_faces, num_specular_features, device=device)
    return values


def fill_triangles(
    vertices: Float[Tensor, "v 3"], faces: Int[Tensor, "f 3"], spread: float
) -> dict[str, Tensor]:
    """Give one surfel per face the shape of its face, thin faces thin surfels.

    The two axes are those of the covariance of points spread evenly over the triangle. A round
    surfel of the triangle's size sticks out of every outline of the mesh; this one follows it.

    Args:
        vertices: Mesh at rest.
        faces: Triangles.
        spread: Standard deviations of the surfel in units of those of the triangle's points.

    Returns:
        ``quats`` and ``log_scales`` in the frames and sizes of ``triangle_frames``.
    """
    frames = triangle_frames(vertices, faces)
    offsets = vertices[faces] - frames.centers[:, None]
    flat = (offsets @ frames.rotations)[..., :2] / frames.scales[:, None, None]
    # Points evenly spread over a triangle have a twelfth of the sum over its corners.
    covariance = flat.mT @ flat / 12.0
    half_sum = 0.5 * (covariance[:, 0, 0] + covariance[:, 1, 1])
    half_difference = 0.5 * (covariance[:, 0, 0] - covariance[:, 1, 1])
    across = covariance[:, 0, 1]
    root = torch.hypot(half_difference, across)
    variances = torch.stack([half_sum + root, half_sum - root], dim=-1)
    # The first axis lies at half the angle of (half_difference, across); quaternions hold halves.
    half_angle = 0.25 * torch.atan2(across, half_difference)
    quats = torch.zeros(faces.shape[0], 4)
    quats[:, 0], quats[:, 3] = half_angle.cos(), half_angle.sin()
    log_scales = 0.5 * variances.clamp(min=_MIN_VARIANCE).log() + math.log(spread)
    return {"quats": quats, "log_scales": log_scales}


def logit(probability: float) -> float:
    """Inverse of the sigmoid, for constants."""
    return float(torch.tensor(probability, dtype=torch.float64).logit())
