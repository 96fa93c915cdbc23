"""Environment maps as lights per texel."""

from __future__ import annotations

import math

import torch

from tolerances import assert_close
from vultus.kernels.env_shade import Materials, shade
from vultus.render.lighting.envmap import envmap_directions
from vultus.render.lighting.texels import texel_lights


def test_constant_light_arrives_from_everywhere() -> None:
    lights = texel_lights(torch.full((3, 8, 16), 0.5), torch.eye(3)[None])
    assert_close(lights.irradiances.sum(dim=0), torch.full((3,), 0.5 * 4 * math.pi))
    assert_close(lights.directions[0, 16 * 2 + 5], envmap_directions(8, 16)[2, 5])


def test_a_turn_by_a_column_is_the_map_moved_by_a_column() -> None:
    generator = torch.Generator().manual_seed(4)
    radiance = torch.rand(3, 8, 16, generator=generator)
    angle = 2 * math.pi / 16
    c, s = math.cos(angle), math.sin(angle)
    # x' = c x - s z, z' = s x + c z raises the azimuth.
    turn = torch.tensor([[[c, 0.0, -s], [0.0, 1.0, 0.0], [s, 0.0, c]]])
    normals = torch.nn.functional.normalize(torch.randn(1, 20, 3, generator=generator), dim=-1)
    materials = Materials(torch.rand(1, 20, 3), torch.full((1, 20), 0.5), torch.rand(1, 20, 3))
    views = normals.flip(1)
    turned = shade(normals, views, materials, texel_lights(radiance, turn))
    moved = shade(
        normals, views, materials, texel_lights(radiance.roll(1, dims=2), torch.eye(3)[None])
    )
    assert_close(turned.color, moved.color)
