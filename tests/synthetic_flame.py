"""A made-up model with FLAME's layout: the real one is licensed and cannot be shipped."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse
import torch

from vultus.heads.flame import FlameData
from vultus.heads.flame_teeth import LOWER_LIP_RING, UPPER_LIP_RING

__all__ = ["MASK_NAMES", "synthetic_flame", "write_published_flame"]

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
_NUM_VERTICES, _NUM_FACES = 5023, 9976


def synthetic_flame(
    num_vertices: int = _NUM_VERTICES, num_identity: int = 5, num_expression: int = 4, seed: int = 0
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


def write_published_flame(model_path: Path, masks_path: Path, obj_path: Path) -> dict[str, Any]:
    """Write a made-up model as the three files that are published; return the model's arrays."""
    model = _published_model()
    masks = {name: np.arange(20 * i, 20 * i + 20) for i, name in enumerate(MASK_NAMES)}
    model_path.write_bytes(pickle.dumps(model, protocol=2))
    masks_path.write_bytes(pickle.dumps(masks, protocol=2))
    lines = ["v 0 0 0"] * _NUM_VERTICES
    lines += [f"vt {0.1 * i} {0.2 * i}" for i in range(4)]
    lines += ["f " + " ".join(f"{v + 1}/{k + 1}" for k, v in enumerate(f)) for f in model["f"]]
    obj_path.write_text("\n".join(lines), encoding="utf-8")
    return model


def _published_model() -> dict[str, Any]:
    """A dictionary with the fields, shapes and containers of the published pickle."""
    rng = np.random.default_rng(0)
    data = synthetic_flame(_NUM_VERTICES)
    shapes = np.zeros((_NUM_VERTICES, 3, 400), dtype=np.float32)
    shapes[..., :5] = data.identity_basis.permute(1, 2, 0).numpy()
    shapes[..., 300:304] = data.expression_basis.permute(1, 2, 0).numpy()
    return {
        "v_template": data.template.double().numpy(),
        "shapedirs": shapes,
        "posedirs": data.pose_basis.permute(1, 2, 0).double().numpy(),
        "J_regressor": scipy.sparse.csc_matrix(data.joint_regressor.double().numpy()),
        "kintree_table": np.array([[2**32 - 1, 0, 1, 1, 1], [0, 1, 2, 3, 4]], dtype=np.uint32),
        "weights": data.skinning_weights.double().numpy(),
        "f": rng.integers(0, _NUM_VERTICES, (_NUM_FACES, 3)).astype(np.uint32),
        "bs_style": "lbs",
    }
