"""A made-up model with FLAME's layout: the real one is licensed and cannot be shipped."""

from __future__ import annotations

import torch

from vultus.heads.flame import FlameData
from vultus.heads.flame_teeth import LOWER_LIP_RING, UPPER_LIP_RING

__all__ = ["MASK_NAMES", "synthetic_flame"]

MASK_NAMES = (
    "face",
    "neck",
    "scalp",
    "boundary",
    "right_eyeball",
    "left_eyeball",
    "right_ear",
    "left_ear",
    "forehead",
    "eye_region",
    "nose",
    "lips",
    "right_eye_region",
    "left_eye_region",
)


def synthetic_flame(
    num_vertices: int = 5023, num_identity: int = 5, num_expression: int = 4, seed: int = 0
) -> FlameData:
    """Random numbers of the right shapes; 14 masks of 20 consecutive vertices each."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int, scale: float) -> torch.Tensor:
        return scale * torch.randn(*shape, generator=generator)

    template = normal(num_vertices, 3, scale=0.1)
    if num_vertices > max(*UPPER_LIP_RING, *LOWER_LIP_RING):
        x = torch.linspace(0.02, -0.02, len(UPPER_LIP_RING))
        for ring, height in ((UPPER_LIP_RING, 0.004), (LOWER_LIP_RING, -0.004)):
            rows = [x, torch.full_like(x, height), 0.08 - 10.0 * x.square()]
            template[list(ring)] = torch.stack(rows, dim=1)
    weights = torch.rand(num_vertices, 5, generator=generator)
    regressor = torch.rand(5, num_vertices, generator=generator)
    faces = torch.arange(num_vertices - 2)[:, None] + torch.arange(3)
    return FlameData(
        template=template,
        identity_basis=normal(num_identity, num_vertices, 3, scale=0.01),
        expression_basis=normal(num_expression, num_vertices, 3, scale=0.01),
        pose_basis=normal(36, num_vertices, 3, scale=0.001),
        joint_regressor=regressor / regressor.sum(dim=1, keepdim=True),
        skinning_weights=weights / weights.sum(dim=1, keepdim=True),
        faces=faces,
        uv=torch.rand(num_vertices, 2, generator=generator),
        uv_faces=faces,
        masks={name: torch.arange(20 * i, 20 * i + 20) for i, name in enumerate(MASK_NAMES)},
        version="synthetic",
    )
