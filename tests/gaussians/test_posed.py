from __future__ import annotations

import pytest
import torch
from torch import Tensor

from tolerances import assert_close
from vultus.gaussians.posed import ellipse_axes, posed_splats, thicken
from vultus.gaussians.splat_files import Splats
from vultus.geometry.rotations import quaternion_to_matrix

NUM = 50


def random(*shape: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(NUM, *shape, generator=generator, dtype=torch.float64)


def posed(jacobians: Tensor | None) -> Splats:
    return posed_splats(
        random(3), random(4, seed=1), random(2, seed=2).exp(), random(),
        random(1, 3), random(15, 3), jacobians,
    )  # fmt: skip


def covariances(splats: Splats) -> Tensor:
    frames = quaternion_to_matrix(splats.quats)
    num_scales = splats.log_scales.shape[1]
    axes = frames[..., :num_scales] * splats.log_scales.exp()[:, None]
    return axes @ axes.mT


def test_axes_keep_the_covariance_of_skewed_tangents() -> None:
    tangents = random(3, 2)
    quats, scales = ellipse_axes(tangents)
    axes = quaternion_to_matrix(quats)[..., :2] * scales[:, None]
    assert_close(axes @ axes.mT, tangents @ tangents.mT)
    assert (scales[:, 0] >= scales[:, 1]).all()


def test_third_axis_is_the_normal() -> None:
    tangents = random(3, 2)
    quats, _ = ellipse_axes(tangents)
    normal = quaternion_to_matrix(quats)[..., 2]
    assert_close((normal[:, None] @ tangents)[:, 0], torch.zeros(NUM, 2, dtype=torch.float64))


def test_tangents_that_collapse_still_give_a_rotation() -> None:
    tangents = random(3, 2)
    tangents[0] = 0.0
    tangents[1, :, 1] = 2.0 * tangents[1, :, 0]
    quats, scales = ellipse_axes(tangents)
    assert_close(quats.norm(dim=-1), torch.ones(NUM, dtype=torch.float64))
    assert float(scales[1, 1]) == pytest.approx(0.0, abs=1e-12)


def test_jacobians_carry_the_covariance() -> None:
    jacobians = random(3, 3, seed=5)
    flat = covariances(posed(None))
    assert_close(covariances(posed(jacobians)), jacobians @ flat @ jacobians.mT)


def test_identity_jacobians_change_no_covariance() -> None:
    identity = torch.eye(3, dtype=torch.float64).expand(NUM, 3, 3)
    assert_close(covariances(posed(identity)), covariances(posed(None)))


def test_scales_of_zero_stay_finite_in_the_file() -> None:
    collapsed = posed(torch.zeros(NUM, 3, 3, dtype=torch.float64))
    assert collapsed.log_scales.isfinite().all()


def test_thick_splats_have_a_third_tiny_scale() -> None:
    thick = thicken(posed(None), thickness=1e-4)
    assert thick.log_scales.shape == (NUM, 3)
    assert_close(thick.log_scales[:, 2].exp(), torch.full((NUM,), 1e-4, dtype=torch.float64))
    assert torch.equal(thick.log_scales[:, :2], posed(None).log_scales)
    with pytest.raises(ValueError, match="must have 2 scales, got 3"):
        thicken(thick)
