"""Rays of camera labels."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import normalize

from vultus.data.camera_labels import labels_to_camera
from vultus.geometry.cameras import pixel_directions

__all__ = ["label_rays"]


def label_rays(
    labels: Float[Tensor, "b 25"], size: int
) -> tuple[Float[Tensor, "b r 3"], Float[Tensor, "b r 3"]]:
    """Origins and unit directions through the pixels of square images, row by row."""
    to_world = labels[:, :16].unflatten(1, (4, 4))
    local = pixel_directions(labels_to_camera(labels, size)).flatten(1, 2)
    directions = normalize(local @ to_world[:, :3, :3].transpose(1, 2), dim=-1)
    return to_world[:, None, :3, 3].expand_as(directions), directions
