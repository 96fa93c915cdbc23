"""Golden values of GSHeadRelight's lights: display balls, expansions of maps, colours."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from vultus.geometry.spherical_harmonics import light_sh_rotation
from vultus.methods.gsheadrelight.gaussians import HeadGaussians
from vultus.methods.gsheadrelight.lights import lit_ball, turn_light
from vultus.methods.gsheadrelight.official_lights import (
    official_environment_light,
    official_expansion,
    official_small_map,
)
from vultus.methods.gsheadrelight.rendering import shade

EXACT, MAPS = 1e-6, 1e-4


@pytest.fixture(scope="module")
def golden(golden_dir: Path) -> dict[str, Tensor]:
    return load_file(golden_dir / "gsheadrelight" / "lighting.safetensors")


def assert_near(actual: Tensor, expected: Tensor, tolerance: float) -> None:
    assert actual.shape == expected.shape
    scale = max(1.0, float(expected.abs().max()))
    assert float((actual - expected).abs().max()) <= tolerance * scale


def test_maps_expand_as_published(golden: dict[str, Tensor]) -> None:
    envmap = golden["env_rand/env"].movedim(2, 0)
    assert_near(official_expansion(envmap).T, golden["env_rand/sh9_rgb"], EXACT)
    for (row, column), expected in zip(
        golden["env_onehot/pixels_rc"].long().tolist(), golden["env_onehot/sh9"], strict=True
    ):
        single = torch.zeros(1, 10, 20, dtype=expected.dtype)
        single[0, row, column] = 1.0
        assert_near(official_expansion(single)[:, 0], expected, EXACT)


def test_lights_turn_against_the_published_angles(golden: dict[str, Tensor]) -> None:
    light = golden["env_rand/sh9_rgb"].T
    for number in range(5):
        angles = torch.deg2rad(golden[f"env_rand/rot{number}_angles_deg"].double())
        first, middle, last = angles
        turn = _about_z(first) @ _about_y(middle) @ _about_z(last)
        turned = turn_light(light, turn.T)
        assert_near(turned.T, golden[f"env_rand/rot{number}_sh9"], EXACT)
    assert torch.allclose(light_sh_rotation(torch.eye(3).double(), 2), torch.eye(9).double())


def _about_z(angle: Tensor) -> Tensor:
    cosine, sine, zero, one = angle.cos(), angle.sin(), angle * 0, angle * 0 + 1
    return torch.stack([cosine, -sine, zero, sine, cosine, zero, zero, zero, one]).view(3, 3)


def _about_y(angle: Tensor) -> Tensor:
    cosine, sine, zero, one = angle.cos(), angle.sin(), angle * 0, angle * 0 + 1
    return torch.stack([cosine, zero, sine, zero, one, zero, -sine, zero, cosine]).view(3, 3)


def test_pictures_of_surroundings_become_the_published_lights(golden: dict[str, Tensor]) -> None:
    envmap = golden["envmap/env_64x32"].movedim(2, 0)
    assert_near(official_small_map(envmap).movedim(0, 2), golden["envmap/resized_20x10"], MAPS)
    light = official_environment_light(envmap)
    assert_near(light.T.double(), golden["envmap/sh9_rgb"].double(), MAPS)
    low = official_environment_light(envmap, is_low_range=True)
    assert_near(low.T.double(), golden["envmap/sh9_rgb_ldr"].double(), 1e-2)


def test_colors_under_light_are_the_published_ones(golden: dict[str, Tensor]) -> None:
    albedo, transfer = golden["shade/albedo_raw"], golden["shade/dc_rt"]
    unused = torch.zeros(1, len(albedo), 4, dtype=albedo.dtype)
    head = HeadGaussians(
        unused[..., :3], unused[..., :3], unused, unused[..., :1], albedo[None], transfer[None]
    )
    mono = shade(head, golden["shade/l_mono"][None, :, None], is_clamped=False)[0]
    assert_near(mono, golden["shade/color_mono"], EXACT)
    colored = shade(head, golden["shade/l_rgb_3x9"].T[None], is_clamped=False)[0]
    assert_near(colored, golden["shade/color_rgb"], EXACT)


def test_display_balls_are_the_published_ones(golden: dict[str, Tensor]) -> None:
    for channel, factor in enumerate((1.0, 0.8, 0.5)):
        light = factor * golden["dpr/sh9"].double()
        ball = lit_ball(light[:, None])[0, ::4, ::4]
        published = golden["dpr/render_ball_rgb_u8"][..., channel].double()
        # Bytes of the release are rounded down.
        assert float((255.0 * ball - published - 0.5).abs().max()) <= 0.51
