"""One texture atlas for the ICT head, whose UDIM tiles and eye textures overlap otherwise."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from vultus.heads.ict_data import ICT_MATERIALS, IctData

__all__ = ["ATLAS_CELLS", "atlas_uv"]

_THIRD = 1.0 / 3.0
ATLAS_CELLS: dict[str, tuple[float, float, float]] = {
    "M_Face": (0.0, _THIRD, 2.0 * _THIRD),
    "M_BackHead": (2.0 * _THIRD, 2.0 * _THIRD, _THIRD),
    "M_GumsTongue": (2.0 * _THIRD, _THIRD, _THIRD),
    "M_Teeth": (0.0, 0.0, _THIRD),
    "M_ScleraLeft": (_THIRD, 0.0, _THIRD),
    "M_ScleraRight": (_THIRD, 0.0, _THIRD),
    "M_IrisLeft": (2.0 * _THIRD, 0.0, _THIRD),
    "M_IrisRight": (2.0 * _THIRD, 0.0, _THIRD),
}
"""Lower left corner and side of each material's square; both eyes share theirs."""


def atlas_uv(data: IctData) -> tuple[Float[Tensor, "t 2"], Int[Tensor, "f 3"]]:
    """Move every material's tile to its square of the atlas.

    A texture coordinate that two materials share becomes two.

    Returns:
        Texture coordinates in [0, 1] and, per face, their indices.
    """
    num_materials = len(ICT_MATERIALS)
    key = data.uv_faces * num_materials + data.face_material[:, None]
    unique, uv_faces = torch.unique(key, return_inverse=True)
    cells = torch.tensor([ATLAS_CELLS[name] for name in ICT_MATERIALS])[unique % num_materials]
    uv = data.uv[torch.div(unique, num_materials, rounding_mode="floor")]
    within_tile = torch.stack([uv[:, 0] - uv[:, 0].floor(), uv[:, 1]], dim=1)
    return cells[:, :2] + cells[:, 2:] * within_tile, uv_faces
