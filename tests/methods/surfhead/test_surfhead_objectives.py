"""SurfHead's image terms, on maps that are known."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from tolerances import assert_close
from triton_support import triton_device
from vultus.data.frame_store import Batch
from vultus.geometry.cameras import Camera
from vultus.methods.surfhead import objectives
from vultus.methods.surfhead.config import LossWeights, SurfHeadConfig
from vultus.methods.surfhead.objectives import image_terms, surfel_terms
from vultus.methods.surfhead.transport import PosedSurfels
from vultus.render.output import RenderOutput


@pytest.fixture
def output() -> RenderOutput:
    alpha = torch.full((1, 1, 2, 2), 0.25)
    none = torch.zeros(1, 0, dtype=torch.int64)
    return RenderOutput(torch.zeros(1, 3, 2, 2), alpha, none, torch.zeros(1, 0, 2))


@pytest.fixture
def batch() -> Batch:
    camera = Camera(torch.eye(4)[None], torch.eye(3)[None], 2, 2)
    mask = torch.tensor([[[[1.0, 0.0], [0.0, 0.0]]]])
    return Batch(torch.zeros(1, dtype=torch.int64), camera, torch.zeros(1, 3, 2, 2), mask)


def test_alpha_is_pulled_to_the_mask(output: RenderOutput, batch: Batch) -> None:
    terms = image_terms(output, batch, LossWeights(alpha_weight=0.5), False, False)
    assert float(terms["alpha"]) == pytest.approx(0.5 * (0.75 + 3 * 0.25) / 4)


def test_without_masks_or_weight_there_is_no_alpha_term(output: RenderOutput, batch: Batch) -> None:
    weights = LossWeights(alpha_weight=0.5)
    assert image_terms(output, replace(batch, mask=None), weights, False, False) == {}
    assert image_terms(output, batch, LossWeights(), False, False) == {}


EVERY_WEIGHT = LossWeights(alpha_weight=0.1, blend_weight_weight=0.2, depth_smoothness_weight=0.3)
NUM = 9


def draw(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def surfels(device: torch.device | str = "cpu") -> dict[str, Tensor]:
    return {
        "local_means": draw(NUM, 3, seed=0).to(device),
        "log_scales": draw(NUM, 2, seed=1).to(device),
        "opacity_logits": draw(NUM, seed=2).to(device),
        "blend_weight_logits": draw(NUM, 4, seed=3).to(device),
    }


def placed(device: torch.device | str = "cpu", *, has_jacobians: bool = True) -> PosedSurfels:
    jacobians = draw(1, NUM, 3, 3, seed=4).to(device) if has_jacobians else None
    quats, scales = draw(1, NUM, 4, seed=5).to(device), torch.ones(1, NUM, 2, device=device)
    return PosedSurfels(draw(1, NUM, 3, seed=6).to(device), quats, scales, jacobians)


def terms_of(
    losses: LossWeights, device: torch.device | str = "cpu", *, has_eyes: bool = True,
    has_jacobians: bool = True,
) -> dict[str, Tensor]:  # fmt: skip
    eyeballs = (torch.arange(NUM) % 2 == 0).to(device) if has_eyes else None
    radii = (torch.arange(NUM) % 3).int()[None].to(device)
    sizes = draw(NUM, seed=7).abs().to(device)
    where = placed(device, has_jacobians=has_jacobians)
    config = replace(SurfHeadConfig(), losses=losses)
    return surfel_terms(surfels(device), where, radii, eyeballs, sizes, config)


def test_surfels_have_terms_for_what_there_is_and_what_has_a_weight() -> None:
    every = {"xyz", "scale", "eye_alpha", "blend_weight", "normal_norm"}
    assert set(terms_of(EVERY_WEIGHT)) == every
    assert set(terms_of(EVERY_WEIGHT, has_eyes=False)) == every - {"eye_alpha"}
    assert set(terms_of(EVERY_WEIGHT, has_jacobians=False)) == every - {"normal_norm"}
    nothing = replace(
        EVERY_WEIGHT, eye_alpha_weight=0.0, blend_weight_weight=0.0, normal_norm_weight=0.0
    )
    assert set(terms_of(nothing)) == {"xyz", "scale"}


def test_only_eyeballs_are_pulled_to_opaque() -> None:
    opacities = surfels()["opacity_logits"].sigmoid()
    expected = 0.1 * ((opacities[::2] - 1) ** 2).mean()
    assert_close(terms_of(EVERY_WEIGHT)["eye_alpha"], expected)


@pytest.mark.triton
def test_kernels_give_the_same_terms_under_the_same_names(output, batch, monkeypatch) -> None:
    device = triton_device()
    maps = {
        "normals": draw(1, 3, 2, 2, seed=8),
        "depth_normals": draw(1, 3, 2, 2, seed=9),
        "distortion": draw(1, 1, 2, 2, seed=10).abs(),
        "depth": draw(1, 1, 2, 2, seed=11).abs(),
    }
    rendered = replace(output, **maps).to(device)
    assert batch.mask is not None
    data = replace(batch, rgb=batch.rgb.to(device), mask=batch.mask.to(device))
    found = []
    for is_fused in (True, False):
        monkeypatch.setattr(objectives, "are_for_kernels", lambda *_, fused=is_fused: fused)
        terms = image_terms(rendered, data, EVERY_WEIGHT, True, True)
        found.append(terms | terms_of(EVERY_WEIGHT, device))
    assert len(found[1]) == 9
    assert set(found[0]) == set(found[1])
    for name, theirs in found[1].items():
        assert_close(found[0][name], theirs)
