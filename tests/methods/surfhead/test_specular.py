from __future__ import annotations

import math
from typing import get_args

import pytest
import torch
from torch import Tensor

from tolerances import assert_close
from vultus.methods.surfhead.specular import (
    LobeType,
    SpecularConfig,
    SpecularNetwork,
    lobe_axes,
    lobe_responses,
    reflect,
    specular_rate,
)

LOBE_TYPES = get_args(LobeType)


def unit(*shape: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    vectors = torch.randn(*shape, 3, generator=generator, dtype=torch.float64)
    return torch.nn.functional.normalize(vectors, dim=-1)


@pytest.mark.parametrize("lobe_type", LOBE_TYPES)
def test_every_lobe_has_a_right_handed_frame(lobe_type: LobeType) -> None:
    frame = torch.stack(lobe_axes(lobe_type), dim=-1)
    assert_close(frame.mT @ frame, torch.eye(3, dtype=torch.float64).expand_as(frame))
    assert_close(torch.linalg.det(frame), torch.ones(frame.shape[:2], dtype=torch.float64))


def test_a_reflection_at_a_unit_normal_keeps_the_length_and_mirrors_the_angle() -> None:
    directions, normals = unit(50), unit(50, seed=1)
    reflected, cosine = reflect(directions, normals)
    assert_close(reflected.norm(dim=-1), torch.ones(50, dtype=torch.float64), looser=1e3,
                 reason="the published length has 1e-8 added")  # fmt: skip
    assert_close((reflected * normals).sum(-1), cosine[:, 0], looser=1e3, reason="as above")


def test_isotropic_lobes_peak_in_their_direction_with_the_amplitude_of_the_second_sharpness() -> (
    None
):
    axes = lobe_axes("sg")
    numbers = torch.zeros(1, *axes[0].shape[:2], 4, dtype=torch.float64)
    numbers[..., 2], numbers[..., 3] = 3.0, 0.5
    chosen = axes[0][2, 3]
    response = lobe_responses("sg", numbers, chosen[None], axes)[0]
    assert_close(response[2, 3], torch.full((2,), math.log1p(math.exp(-0.5)), dtype=torch.float64))
    angle = math.acos(float((axes[0][1, 3] * chosen).sum()))
    ratio = math.exp(math.log1p(math.exp(2.0)) * (math.cos(angle) - 1.0))
    assert_close(response[1, 3] / response[2, 3], torch.full((2,), ratio, dtype=torch.float64))


def test_anisotropic_lobes_fall_off_differently_along_their_tangents() -> None:
    direction, tangent, bitangent = lobe_axes("asg")
    numbers = torch.tensor([2.0, -1.0, 4.0, 0.0], dtype=torch.float64).expand(1, 4, 8, 4)
    tilt = 0.4
    for axis, sharpness in ((tangent, 3.0), (bitangent, -1.0)):
        looking = math.cos(tilt) * direction[1, 2] + math.sin(tilt) * axis[1, 2]
        found = lobe_responses("asg", numbers, looking[None], (direction, tangent, bitangent))
        falloff = math.exp(-math.log1p(math.exp(sharpness)) * math.sin(tilt) ** 2)
        expected = torch.tensor([2.0, -1.0], dtype=torch.float64) * math.cos(tilt) * falloff
        assert_close(found[0, 1, 2], expected)


def test_anisotropic_lobes_do_not_answer_from_behind() -> None:
    axes = lobe_axes("lasg")
    numbers = torch.ones(1, *axes[0].shape[:2], 4, dtype=torch.float64)
    response = lobe_responses("lasg", numbers, -axes[0][0, 0][None], axes)
    assert float(response[0, 0].abs().max()) == 0.0


@pytest.mark.parametrize("lobe_type", LOBE_TYPES)
def test_frames_of_a_batch_are_shaded_independently(lobe_type: LobeType) -> None:
    network = SpecularNetwork(lobe_type, 6, torch.Generator().manual_seed(0)).double()
    features = torch.randn(20, 6, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    directions, normals = unit(3, 20), unit(3, 20, seed=1)
    together = network(features, directions, normals)
    assert together.shape == (3, 20, 3)
    for frame in range(3):
        assert_close(together[frame], network(features, directions[frame], normals[frame]))


def test_white_light_has_one_value_for_all_channels() -> None:
    network = SpecularNetwork("lasg", 6, torch.Generator().manual_seed(0)).double()
    colors = network(torch.ones(20, 6, dtype=torch.float64), unit(20), unit(20, seed=1))
    assert bool((colors == colors[:, :1]).all())
    assert float(colors.detach().std()) > 0


@pytest.mark.parametrize("lobe_type", LOBE_TYPES)
def test_gradients_agree_with_finite_differences(lobe_type: LobeType) -> None:
    network = SpecularNetwork(lobe_type, 3, torch.Generator().manual_seed(0)).double()
    features = torch.randn(2, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    inputs = (features.requires_grad_(), unit(2).requires_grad_(), 1.3 * unit(2, seed=1))
    assert torch.autograd.gradcheck(network, inputs)


@pytest.mark.parametrize("lobe_type", LOBE_TYPES)
def test_a_highlight_is_learned_that_no_constant_can_show(lobe_type: LobeType) -> None:
    generator = torch.Generator().manual_seed(2)
    network = SpecularNetwork(lobe_type, 8, generator)
    features = torch.zeros(30, 8, requires_grad=True)
    normals = unit(30, seed=1).float().expand(20, -1, -1)
    light = unit(1, seed=2)[0].float()
    views = unit(20, 30, seed=3).float()
    views = torch.where((views * normals).sum(-1, keepdim=True) > 0, -views, views)
    cosine = (reflect(views, normals)[0] @ light).clamp(min=0.0)
    target = cosine.pow(8)[..., None].expand(-1, -1, 3)
    optimizer = torch.optim.Adam([features, *network.parameters()], lr=0.0025)
    for _ in range(150):
        optimizer.zero_grad()
        loss = (network(features, views, normals) - target).square().mean()
        loss.backward()
        optimizer.step()
    assert float(loss.detach()) < 0.05 * float(target.var())


def test_weights_depend_on_the_generator_alone() -> None:
    def draw(seed: int) -> dict[str, Tensor]:
        return SpecularNetwork("asg", 24, torch.Generator().manual_seed(seed)).state_dict()

    first, again, other = draw(0), draw(0), draw(1)
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["mlp.0.weight"], other["mlp.0.weight"])
    assert float(first["mlp.4.bias"].abs().max()) == 0.0
    assert float(first["mlp.2.weight"].abs().max()) <= 128**-0.5
    # A uniform law of this bound has the deviation of torch's default initialisation.
    assert float(first["mlp.2.weight"].std()) == pytest.approx((3 * 128) ** -0.5, rel=0.02)


def test_the_rate_starts_low_once_and_falls_linearly() -> None:
    config = SpecularConfig()
    assert specular_rate(2_499, config) == 0.0
    assert specular_rate(2_500, config) == 0.00025
    assert specular_rate(150_000, config) == pytest.approx(0.5 * (0.0025 + 0.000125))
    assert specular_rate(400_000, config) == pytest.approx(0.000125)


def test_impossible_settings_are_refused() -> None:
    with pytest.raises(ValueError, match="num_features and lr_steps must be at least 1"):
        SpecularConfig(num_features=0)
