"""Splats for viewers show what the avatar shows."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from vultus.data.sequence import HeadSequence
from vultus.kernels.gaussian_raster import rasterize_gaussians
from vultus.methods.gaussianhead.config import PRESETS
from vultus.methods.gaussianhead.model import GaussianHead


@pytest.mark.parametrize("normalized", [True, False])
def test_exported_splats_give_the_picture_of_the_avatar(
    sequence: HeadSequence, normalized: bool
) -> None:
    small = PRESETS["small"]
    model = replace(
        small.model,
        width=16,
        num_gaussians=200,
        resolutions=(16,),
        starts_at_rest=False,
        sh_degree=3,
        view_directions=True,
        normalize_deformed_quats=normalized,
        scale_offsets="log" if normalized else "additive",
    )
    avatar = GaussianHead(replace(small, model=model), sequence, 0)
    record = sequence.split("train")[0]
    pose = avatar.track[record.timestep]
    shown = avatar.render(pose, record.camera)
    splats = avatar.splats(pose)
    baked = rasterize_gaussians(
        splats.means[None],
        splats.quats[None],
        splats.log_scales.exp()[None],
        splats.opacity_logits.sigmoid()[None],
        record.camera,
        sh_coeffs=torch.cat([splats.sh_dc, splats.sh_rest], dim=1)[None],
        sh_degree=3,
        background=torch.tensor(sequence.background),
    )
    assert (shown.image - 1).abs().max() > 0.3, "nothing is in the picture"
    assert (shown.image - baked.image).abs().max() < 1e-3
    assert shown.median_depth is not None
    # The camera is 1 m from the middle of a head of 10 cm radius.
    assert shown.median_depth[shown.alpha > 0.9].mean() == pytest.approx(0.9, abs=0.05)
