"""Other hair, other lips: change what labelled Gaussians of a finished avatar are made of.

Expressions change materials, too. An edit f of a material is therefore carried to what expressions
add by its derivative, so that it holds at rest exactly and elsewhere to first order: stored numbers
x become e(x) = activate^-1(f(activate(x))), and deltas d become e'(x) d.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.autograd import functional

from vultus.core.srgb import LUMINANCE, srgb_to_linear
from vultus.data.semantics import SEMANTIC_GROUPS, SemanticGroup
from vultus.methods.relightable_blendshapes.material_appearance import MaterialAppearance
from vultus.methods.relightable_blendshapes.material_relighting import material_appearance
from vultus.methods.relightable_blendshapes.model import RelightableBlendshapes

__all__ = ["MaterialEdit", "carry", "color_matrix", "count_labels", "edit_materials"]

_LEAST = 1e-3
"""Stored numbers are logits: materials stay this far from both ends of their range."""

Change = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class MaterialEdit:
    """What changes; the defaults change nothing."""

    color: tuple[float, float, float] | None = None
    """Display values (sRGB) of the mean albedo of what is edited; how bright one place is beside
    another stays."""
    hue: float = 0.0
    """Degrees by which colours go around the axis of greys, red to green to blue; luminance
    stays."""
    saturation: float = 1.0
    """Factor on the distance from grey of the same luminance; 0 takes all colour away."""
    albedo_scale: tuple[float, float, float] = (1.0, 1.0, 1.0)
    """Factors on linear red, green and blue, after hue and saturation."""
    roughness: float | None = None
    """All that is edited gets this one, from the avatar's least roughness to 1."""
    roughness_scale: float = 1.0
    """Factor."""
    specular: float | None = None
    """All that is edited gets this strength of the highlight, 0 to 1."""
    specular_scale: float = 1.0
    """Factor."""

    def __post_init__(self) -> None:
        """Reject what is no material, or says one thing twice."""
        if not math.isfinite(self.hue):
            raise ValueError(f"hue must be finite, got {self.hue}")
        if self.color is not None:
            if not all(0.0 <= value <= 1.0 for value in self.color):
                raise ValueError(f"color must lie in [0, 1], got {self.color}")
            if (self.hue % 360.0, self.saturation) != (0.0, 1.0):
                raise ValueError("color excludes hue and saturation")
        scales = {
            "saturation": self.saturation,
            "roughness_scale": self.roughness_scale,
            "specular_scale": self.specular_scale,
        }
        given = scales | {"albedo_scale": self.albedo_scale}
        for name, value in given.items():
            factors = value if isinstance(value, tuple) else (value,)
            if not all(0.0 <= factor < math.inf for factor in factors):
                raise ValueError(f"{name} must be 0 or more and finite, got {value}")
        for name in ("roughness", "specular"):
            value = getattr(self, name)
            if value is None:
                continue
            if not 0.0 <= value <= 1.0:
                raise ValueError(f"{name} must lie in [0, 1], got {value}")
            if scales[f"{name}_scale"] != 1.0:
                raise ValueError(f"{name} and {name}_scale exclude each other")

    @property
    def is_nothing(self) -> bool:
        """Whether everything stays as it is."""
        turned = replace(self, hue=self.hue % 360.0)
        return turned == MaterialEdit()

    @property
    def changes_albedo(self) -> bool:
        """Whether any colour changes."""
        scales = (self.saturation, *self.albedo_scale)
        return self.color is not None or self.hue % 360.0 != 0.0 or set(scales) != {1.0}

    def changes(self, min_roughness: float, mean_albedo: Float[Tensor, " 3"]) -> dict[str, Change]:
        """The function e of stored numbers, by attribute, of those that change.

        Args:
            min_roughness: Of the avatar.
            mean_albedo: Of what is edited.

        Raises:
            ValueError: If the roughness lies below the least one.
        """
        if self.roughness is not None and self.roughness < min_roughness:
            raise ValueError(
                f"roughness must be at least the avatar's least, {min_roughness}, got "
                f"{self.roughness}"
            )
        found: dict[str, Change] = {}
        if self.changes_albedo:
            matrix = color_matrix(self.hue, self.saturation)
            if self.color is not None:
                matrix = _recoloring(self.color, mean_albedo)
            matrix = torch.tensor(self.albedo_scale)[:, None] * matrix
            found["albedo"] = _stored(lambda albedo: albedo @ matrix.to(albedo).mT)
        if self.roughness is not None or self.roughness_scale != 1.0:
            change = _scaled_or_set(self.roughness, self.roughness_scale)
            found["roughness"] = _stored(change, min_roughness)
        if self.specular is not None or self.specular_scale != 1.0:
            found["specular"] = _stored(_scaled_or_set(self.specular, self.specular_scale))
        return found


def color_matrix(hue: float, saturation: float) -> Float[Tensor, "3 3"]:
    """Turn and stretch linear colours (columns); greys and luminance stay.

    The turn is a rotation about the axis of greys, followed by a step along it that gives luminance
    back.

    Args:
        hue: Degrees, red to green to blue.
        saturation: Factor on the distance from grey.
    """
    angle = math.radians(hue)
    along = torch.full((3, 3), 1.0 / 3.0)
    across = torch.eye(3) - along
    # Cross product with the axis (1, 1, 1).
    cross = torch.tensor([[0.0, -1.0, 1.0], [1.0, 0.0, -1.0], [-1.0, 1.0, 0.0]])
    turned = along + math.cos(angle) * across + math.sin(angle) / math.sqrt(3.0) * cross
    to_grey = torch.tensor(LUMINANCE).expand(3, 3)
    return to_grey + saturation * (turned - to_grey @ turned)


def count_labels(avatar: RelightableBlendshapes) -> dict[SemanticGroup, int]:
    """Number of Gaussians of each group that has any."""
    counts = torch.bincount(
        material_appearance(avatar).labels, minlength=len(SEMANTIC_GROUPS)
    ).tolist()
    return {name: count for name, count in zip(SEMANTIC_GROUPS, counts, strict=True) if count}


@torch.no_grad()
def edit_materials(
    avatar: RelightableBlendshapes, labels: tuple[SemanticGroup, ...], edit: MaterialEdit
) -> int:
    """Change an avatar's materials in place.

    Args:
        avatar: Finished, with materials.
        labels: Of the Gaussians that change: what the nearest point of the mesh is.
        edit: What changes.

    Returns:
        How many Gaussians changed.

    Raises:
        ValueError: If no Gaussian has one of the labels, or the roughness is below the least.
    """
    appearance = material_appearance(avatar)
    rows = torch.cat([_rows_of(appearance, label) for label in dict.fromkeys(labels)])
    mean_albedo = avatar.gaussians["albedo"][rows].sigmoid().mean(dim=0)
    changes = edit.changes(appearance.config.min_roughness, mean_albedo)
    for name, change in changes.items():
        neutral, deltas = avatar.gaussians[name], avatar.gaussians[f"{name}_deltas"]
        stored, added = carry(change, neutral[rows], deltas[rows])
        neutral[rows], deltas[rows] = stored, added
    return len(rows)


def carry(
    change: Change, stored: Float[Tensor, "n c"], deltas: Float[Tensor, "n c k"]
) -> tuple[Float[Tensor, "n c"], Float[Tensor, "n c k"]]:
    """Change stored numbers row by row, and what expressions add by the derivative there."""
    jacobian = functional.jacobian(lambda rows: change(rows).sum(dim=0), stored)
    assert isinstance(jacobian, Tensor)
    return change(stored), torch.einsum("inj,njk->nik", jacobian, deltas)


def _stored(change: Change, least: float = 0.0) -> Change:
    """A change of materials in [least, 1] as one of stored numbers."""

    def changed(stored: Tensor) -> Tensor:
        material = change(least + (1.0 - least) * stored.sigmoid())
        return ((material - least) / (1.0 - least)).clamp(_LEAST, 1.0 - _LEAST).logit()

    return changed


def _recoloring(
    color: tuple[float, float, float], mean_albedo: Float[Tensor, " 3"]
) -> Float[Tensor, "3 3"]:
    """Luminance over the mean luminance, times a colour."""
    shares = torch.tensor(LUMINANCE)
    return srgb_to_linear(torch.tensor(color))[:, None] * shares / (shares @ mean_albedo.cpu())


def _scaled_or_set(value: float | None, scale: float) -> Change:
    if value is None:
        return lambda material: scale * material
    return lambda material: torch.full_like(material, value)


def _rows_of(appearance: MaterialAppearance, label: SemanticGroup) -> Int[Tensor, " n"]:
    rows = (appearance.labels == SEMANTIC_GROUPS.index(label)).nonzero()[:, 0]
    if not len(rows):
        raise ValueError(f"label must be one that Gaussians have, none is {label!r}")
    return rows
