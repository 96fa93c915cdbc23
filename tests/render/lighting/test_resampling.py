"""Environment maps in other sizes, blurred and turned."""

from __future__ import annotations

import math

import pytest
import torch

from tolerances import assert_close
from vultus.render.lighting.envmap import (
    envmap_directions,
    envmap_solid_angles,
    rotate_envmap,
    sample_envmap,
)
from vultus.render.lighting.resampling import blur_envmap, resize_envmap, turn_envmap


def random_maps(height: int, width: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(2, 3, height, width, generator=generator, dtype=torch.float64) ** 4


def light_of(maps: torch.Tensor) -> torch.Tensor:
    """What arrives from everywhere."""
    height, width = maps.shape[2:]
    return (maps * envmap_solid_angles(height, width, maps.dtype)).sum(dim=(2, 3))


@pytest.mark.parametrize("size", [(16, 32), (7, 9), (1, 1), (40, 90)])
def test_resizing_keeps_the_light(size: tuple[int, int]) -> None:
    maps = random_maps(20, 45)
    assert_close(light_of(resize_envmap(maps, *size)), light_of(maps))


def test_halving_is_the_mean_weighted_by_solid_angles() -> None:
    maps = random_maps(8, 16)
    angles = envmap_solid_angles(8, 16, torch.float64)

    def blocks(values: torch.Tensor) -> torch.Tensor:
        return values.unflatten(-2, (4, 2)).unflatten(-1, (8, 2)).sum(dim=(-3, -1))

    assert_close(resize_envmap(maps, 4, 8), blocks(maps * angles) / blocks(angles))


def test_refining_repeats_texels_and_comes_back() -> None:
    maps = random_maps(5, 6)
    fine = resize_envmap(maps, 15, 12)
    assert_close(fine, maps.repeat_interleave(3, dim=2).repeat_interleave(2, dim=3))
    assert_close(resize_envmap(fine, 5, 6), maps)


def test_a_size_that_stays_mixes_no_texels() -> None:
    maps = random_maps(5, 6)
    maps[:, :, 2, 3] = math.inf  # a texel that counts with weight 0 would become NaN
    assert torch.equal(resize_envmap(maps, 5, 6), maps)
    assert resize_envmap(maps, 5, 3)[:, :, [0, 1, 3, 4]].isfinite().all()
    assert resize_envmap(maps, 10, 6)[..., [0, 1, 2, 4, 5]].isfinite().all()


def test_a_lobe_of_no_width_looks_centres_up() -> None:
    maps = random_maps(8, 16)
    directions = envmap_directions(4, 8, torch.float64).flatten(0, 1)[None].expand(2, -1, -1)
    expected = sample_envmap(maps, directions).mT.unflatten(2, (4, 8))
    assert_close(blur_envmap(maps, 4, 8, 0.0), expected)


def test_a_constant_map_stays_constant() -> None:
    maps = torch.full((1, 3, 8, 16), 0.7, dtype=torch.float64)
    axes = torch.randn(3, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    turned = turn_envmap(maps, torch.linalg.qr(axes).Q)
    for result in (blur_envmap(maps, 8, 16, 0.5), turned):
        assert_close(result, maps)


def test_a_lobe_weighs_a_map_by_the_density_of_its_angles() -> None:
    # A map that is the height of its directions, looked at along +x: heights cancel, and squared
    # heights are half of the mean of sin^2.
    lobe, fine = 0.4, envmap_directions(256, 512, torch.float64)[..., 1].square()
    blurred = blur_envmap(fine.expand(1, 3, -1, -1), 255, 2, lobe, num_samples=4096)
    # Column 0 of two looks along +z at the middle row; sin^2 = tan^2 / (1 + tan^2).
    u = (torch.arange(200_000, dtype=torch.float64) + 0.5) / 200_000
    tangent = lobe**2 * u / (1 - u)
    expected = 0.5 * (tangent / (1 + tangent)).mean().item()
    assert blurred[0, 0, 127, 0].item() == pytest.approx(expected, rel=2e-3)


def test_a_turn_about_the_vertical_is_a_rotation_of_columns() -> None:
    directions = envmap_directions(32, 64, torch.float64)
    toward = torch.tensor([0.6, 0.0, 0.8], dtype=torch.float64)
    maps = (2.0 * (directions @ toward - 1.0)).exp().expand(1, 3, -1, -1)
    angle = 5 * 2 * math.pi / 64
    c, s = math.cos(angle), math.sin(angle)
    rotation = torch.tensor([[c, 0.0, s], [0.0, 1.0, 0.0], [-s, 0.0, c]])
    expected = rotate_envmap(maps, angle)
    torch.testing.assert_close(turn_envmap(maps, rotation), expected, atol=0.01, rtol=0)


def test_light_from_a_direction_comes_from_the_turned_direction() -> None:
    directions = envmap_directions(16, 32, torch.float64)
    toward = torch.tensor([0.36, 0.48, 0.8], dtype=torch.float64)
    maps = (20.0 * (directions @ toward - 1.0)).exp().expand(1, 3, -1, -1)
    axes = torch.randn(3, 3, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    rotation = torch.linalg.qr(axes).Q
    turned = turn_envmap(maps, rotation)[0, 0] * envmap_solid_angles(16, 32, torch.float64)
    centroid = torch.nn.functional.normalize((turned[..., None] * directions).sum((0, 1)), dim=0)
    assert centroid @ (rotation @ toward) > 0.999


def test_sizes_and_lobes_that_mean_nothing_are_refused() -> None:
    maps = random_maps(4, 8)
    with pytest.raises(ValueError, match="must have texels, got 0 x 4"):
        resize_envmap(maps, 0, 4)
    with pytest.raises(ValueError, match="must not be negative, got -1"):
        blur_envmap(maps, 4, 8, -1.0)
    with pytest.raises(ValueError, match="supersampling must be positive"):
        turn_envmap(maps, torch.eye(3), 0)
