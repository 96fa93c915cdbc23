"""Binding, shading and encoding of Gaussians on a mesh."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.nn.functional import normalize

from tolerances import assert_close
from vultus.core.srgb import linear_to_srgb
from vultus.data.studio.tone_curve import tone_map
from vultus.geometry.mesh_sampling import sample_surface
from vultus.geometry.meshes import subdivide, vertex_normals
from vultus.kernels.env_shade import Materials
from vultus.methods.relightable_blendshapes.mesh_binding import MeshBinding, bind_to_mesh
from vultus.methods.relightable_blendshapes.shading import (
    Tonemap,
    Visibility,
    encode_radiance,
    put_over_color,
    put_over_light,
    shade_gaussians,
    to_display,
)
from vultus.render.lighting.texels import TexelGrid

OCTAHEDRON = torch.cat([torch.eye(3), -torch.eye(3)]).double()
FACES = torch.tensor(
    [[0, 1, 2], [1, 3, 2], [3, 4, 2], [4, 0, 2], [1, 0, 5], [3, 1, 5], [4, 3, 5], [0, 4, 5]]
)


def ball() -> tuple[Tensor, Tensor]:
    vertices, faces = OCTAHEDRON, FACES
    for _ in range(2):
        vertices, faces = subdivide(vertices, faces)
    return normalize(vertices, dim=1), faces


def scene(num: int = 40) -> tuple[Tensor, MeshBinding, Tensor, Materials]:
    """Centres above a ball, their binding, normals of vertices, materials."""
    generator = torch.Generator().manual_seed(5)
    vertices, faces = ball()
    means = 1.02 * sample_surface(vertices, faces, num, generator).points
    materials = Materials(
        torch.rand(1, num, 3, generator=generator).double(),
        0.3 + 0.7 * torch.rand(1, num, generator=generator).double(),
        torch.rand(1, num, 3, generator=generator).double(),
    )
    binding = bind_to_mesh(means, vertices, faces)
    return means[None], binding, vertex_normals(vertices, faces)[None], materials


CENTER = torch.tensor([[0.3, 0.5, 4.0]], dtype=torch.float64)
UPRIGHT = torch.eye(3, dtype=torch.float64)[None]


def shade_map(radiance: Tensor, turn: Tensor = UPRIGHT, words: Tensor | None = None):
    means, binding, normals, materials = scene()
    lights = TexelGrid.build(*radiance.shape[1:], dtype=torch.float64).lights(radiance, turn)
    visibility = None if words is None else Visibility(words)
    return shade_gaussians(means, CENTER, binding, normals, materials, lights, visibility)[0]


def random_map(height: int = 8) -> Tensor:
    generator = torch.Generator().manual_seed(height)
    return torch.rand(3, height, 2 * height, generator=generator, dtype=torch.float64) ** 3


def test_normals_of_a_ball_point_outwards() -> None:
    means, binding, normals, _ = scene()
    found = binding.normals(normals)
    assert_close(found.norm(dim=-1), torch.ones(1, 40).double())
    assert bool(((found * normalize(means, dim=-1)).sum(dim=-1) > 0.98).all())


def test_probes_are_the_vertices_of_bound_faces_each_once() -> None:
    _, binding, _, _ = scene(6)
    vertices, _ = ball()
    probes = binding.probes(vertices)
    assert len(probes) < len(vertices)
    assert probes.sort().values.tolist() == sorted(set(binding.corners.flatten().tolist()))


def test_recomputed_barycentrics_are_those_of_the_binding_and_have_gradients() -> None:
    means, binding, _, _ = scene(6)
    vertices, _ = ball()
    leaf = means[0].clone().requires_grad_()
    followed = binding.following(leaf, vertices)
    assert_close(followed.barycentrics, binding.barycentrics)
    assert torch.autograd.gradcheck(
        lambda x: binding.following(x, vertices).barycentrics, [leaf], atol=1e-6
    )


def test_bindings_are_chosen_and_joined_by_rows() -> None:
    _, binding, normals, _ = scene()
    order = torch.randperm(40, generator=torch.Generator().manual_seed(0))
    joined = MeshBinding.cat([binding[order[:15]], binding[order[15:]]])
    assert torch.equal(joined.normals(normals), binding.normals(normals)[:, order])


@pytest.mark.parametrize(("height", "low", "high"), [(8, 0.981, 1.02), (16, 0.9954, 1.0049)])
def test_constant_light_leaves_a_white_surface_as_it_came(height, low, high) -> None:
    diffuse = shade_map(torch.full((3, height, 2 * height), 2.5).double()).diffuse / 2.5
    assert low <= diffuse.min()
    assert diffuse.max() <= high


def test_without_visibility_of_anything_all_is_black() -> None:
    words = torch.zeros(1, ball()[0].shape[0], 4, dtype=torch.int32)
    shading = shade_map(random_map(), words=words)
    assert not shading.color.any()
    assert not shading.diffuse.any()


def test_seeing_everything_is_no_visibility_at_all() -> None:
    words = torch.full((1, ball()[0].shape[0], 4), -1, dtype=torch.int32)
    assert_close(shade_map(random_map(), words=words).color, shade_map(random_map()).color)


def test_a_turn_of_the_light_is_the_map_moved_by_columns() -> None:
    angle = 3 * 2 * math.pi / 16
    c, s = math.cos(angle), math.sin(angle)
    # x' = c x - s z, z' = s x + c z raises the azimuth.
    turn = torch.tensor([[[c, 0.0, -s], [0.0, 1.0, 0.0], [s, 0.0, c]]], dtype=torch.float64)
    moved = shade_map(random_map().roll(3, dims=2)).color
    torch.testing.assert_close(shade_map(random_map(), turn).color, moved, rtol=0, atol=1e-14)


def test_lights_add_up() -> None:
    first, second = random_map(), random_map().flip(1)
    together = shade_map(2.0 * first + second).color
    assert_close(together, 2.0 * shade_map(first).color + shade_map(second).color)


def test_gradients_reach_centres_by_barycentrics_and_views() -> None:
    means, binding, normals, materials = scene(4)
    vertices, _ = ball()
    lights = TexelGrid.build(4, 8, torch.float64).lights(random_map(4), UPRIGHT)

    def color(x: Tensor) -> Tensor:
        bound = binding.following(x[0], vertices)
        return shade_gaussians(x, CENTER, bound, normals, materials, lights)[0].color

    assert torch.autograd.gradcheck(color, [means.clone().requires_grad_()], atol=1e-5)


def test_encoding_keeps_gradients_of_burnt_highlights_while_training() -> None:
    linear = torch.tensor([0.0, 0.5, 3.0], requires_grad=True)
    assert_close(encode_radiance(linear), linear_to_srgb(linear.clamp(max=1)))
    assert encode_radiance(linear)[2].item() == pytest.approx(1.0)
    trained = encode_radiance(linear, keeps_gradients=True)
    (gradient,) = torch.autograd.grad(trained.sum(), linear)
    assert gradient[0].item() == pytest.approx(12.92)
    assert 0 < gradient[2] < 0.01


def test_light_of_surroundings_passes_where_nothing_is() -> None:
    drawn, alpha = torch.full((1, 3, 1, 2), 0.2), torch.tensor([[[[0.0, 1.0]]]])
    light = torch.full((1, 3, 1, 2), 0.5)
    linear = put_over_light(drawn, alpha, light, "none")
    assert_close(linear[0, 0, 0], torch.tensor([0.7, 0.2]))
    assert_close(put_over_light(drawn, alpha, light, "srgb"), linear_to_srgb(linear))
    assert_close(put_over_light(drawn, alpha, light, "studio"), tone_map(linear))
    encoded = put_over_light(drawn, alpha, light, "gaussian")[0, 0, 0]
    assert_close(encoded, torch.tensor([0.2 + linear_to_srgb(light[0, 0, 0, 0]).item(), 0.2]))


@pytest.mark.parametrize("tonemap", ["srgb", "studio", "gaussian", "none"])
def test_a_plain_background_is_shown_as_it_is(tonemap: Tonemap) -> None:
    nothing, alpha = torch.zeros(1, 3, 1, 2), torch.zeros(1, 1, 1, 2)
    color = torch.tensor([1.0, 0.3, 0.0])[None, :, None, None]
    shown = put_over_color(nothing, alpha, color, tonemap)
    assert_close(shown, color.expand(1, 3, 1, 2))
    drawn = torch.full((1, 3, 1, 2), 0.3)
    opaque = put_over_color(drawn, 1 - alpha, color, tonemap)
    assert_close(opaque, to_display(drawn, tonemap))
