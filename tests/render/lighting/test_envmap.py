"""Environment maps: orientation, integrals and the lights that stand in for them."""

import math

import pytest
import torch
from safetensors.torch import load_file

from vultus.render.lighting.envmap import (
    EnvironmentMap,
    cluster_lights,
    envmap_directions,
    envmap_solid_angles,
    from_front_centered,
    rotate_envmap,
    sample_envmap,
    to_front_centered,
)

LEFT, UP, FRONT = torch.eye(3)


def random_map(height: int = 16, seed: int = 0) -> EnvironmentMap:
    generator = torch.Generator().manual_seed(seed)
    return EnvironmentMap(torch.rand(3, height, 2 * height, generator=generator) ** 4)


def map_with_light_from(direction: torch.Tensor, height: int = 32) -> EnvironmentMap:
    cosine = envmap_directions(height, 2 * height) @ direction
    return EnvironmentMap((40.0 * (cosine - 1.0)).exp().expand(3, -1, -1).contiguous())


def brightest(environment: EnvironmentMap) -> torch.Tensor:
    height, width = environment.radiance.shape[1:]
    index = int(environment.radiance.sum(dim=0).argmax())
    return envmap_directions(height, width).reshape(-1, 3)[index]


def test_directions_and_solid_angles_are_the_golden_ones(golden_dir) -> None:
    golden = load_file(golden_dir / "relightable_blendshapes" / "envshade.safetensors")
    height, width = golden["in.envmap"].shape[1:]
    directions = envmap_directions(height, width).reshape(-1, 3).double()
    torch.testing.assert_close(directions, golden["aux.light_dirs_obj0"], atol=1e-6, rtol=0)
    angles = envmap_solid_angles(height, width).reshape(-1).double()
    torch.testing.assert_close(angles, golden["aux.solid_angles"], atol=1e-7, rtol=0)


@pytest.mark.parametrize("height", [1, 5, 64])
def test_solid_angles_cover_the_sphere(height: int) -> None:
    angles = envmap_solid_angles(height, 2 * height + 1)
    assert angles.sum().item() == pytest.approx(4 * math.pi, rel=1e-5)
    assert bool((angles > 0).all())


def test_texel_centres_look_up_their_own_texel() -> None:
    environment = random_map()
    directions = envmap_directions(16, 32).reshape(1, -1, 3) * 3.0
    found = sample_envmap(environment.radiance[None], directions)[0]
    expected = environment.radiance.flatten(1).T
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=0)


def test_look_up_is_continuous_across_the_seam_and_defined_at_the_poles() -> None:
    radiance = random_map().radiance[None]
    near_seam = torch.tensor([[[1.0, 0.2, 1e-6], [1.0, 0.2, -1e-6]]])
    above, below = sample_envmap(radiance, near_seam)[0]
    torch.testing.assert_close(above, below, atol=1e-4, rtol=0)
    poles = sample_envmap(radiance, torch.stack([UP, -UP])[None])[0]
    assert bool((poles[0] <= radiance[0, :, 0].amax(dim=1) + 1e-6).all())
    assert bool((poles[1] <= radiance[0, :, -1].amax(dim=1) + 1e-6).all())


def test_light_before_the_face_turns_to_the_subjects_left() -> None:
    front = map_with_light_from(FRONT)
    assert brightest(front) @ FRONT > 0.99
    assert brightest(front.rotated(math.pi / 2)) @ LEFT > 0.99
    assert brightest(front.rotated(math.pi)) @ FRONT < -0.99


def test_rotation_equals_looking_up_in_the_turned_direction() -> None:
    environment = map_with_light_from(torch.tensor([0.6, 0.0, 0.8]))
    angle = 0.37
    rotation = torch.tensor(
        [
            [math.cos(angle), 0.0, math.sin(angle)],
            [0.0, 1.0, 0.0],
            [-math.sin(angle), 0.0, math.cos(angle)],
        ]
    )
    directions = torch.randn(200, 3, generator=torch.Generator().manual_seed(1))
    turned = sample_envmap(
        environment.rotated(angle).radiance[None], (directions @ rotation.T)[None]
    )
    expected = sample_envmap(environment.radiance[None], directions[None])
    # Linear interpolation twice; the light is 13 texels wide.
    torch.testing.assert_close(turned, expected, atol=0.03, rtol=0)


def test_rotation_by_whole_columns_is_exact_and_composes() -> None:
    radiance = random_map().radiance[None]
    column = 2 * math.pi / 32
    assert torch.equal(rotate_envmap(radiance, 32 * column), radiance)
    twice = rotate_envmap(rotate_envmap(radiance, 3 * column), -10 * column)
    assert torch.equal(twice, rotate_envmap(radiance, -7 * column))


def test_front_centered_maps_are_read_as_their_source_describes() -> None:
    """Every texel's light must come from the direction that the source's formula gives."""
    height, width = 8, 16
    u = (torch.arange(width) + 0.5) / width
    v = (torch.arange(height) + 0.5) / height
    v, u = torch.meshgrid(v, u, indexing="ij")
    ring = (math.pi * v).sin()
    source = torch.stack(
        [(2 * math.pi * u).sin() * ring, (math.pi * v).cos(), -(2 * math.pi * u).cos() * ring]
    )
    converted = from_front_centered(source[None])
    expected = envmap_directions(height, width).permute(2, 0, 1)[None]
    torch.testing.assert_close(converted, expected, atol=1e-6, rtol=0)
    assert torch.equal(to_front_centered(converted), source[None])
    with pytest.raises(ValueError, match="multiple of 4"):
        from_front_centered(torch.zeros(1, 3, 3, 6))


@pytest.mark.parametrize("count", [2, 16, 128])
def test_clustering_keeps_the_energy(count: int) -> None:
    environment = random_map()
    lights = cluster_lights(environment, count)
    assert len(lights) == count
    expected = environment.mean() * 4 * math.pi
    torch.testing.assert_close(lights.intensity.sum(dim=0), expected, rtol=1e-5, atol=0)
    torch.testing.assert_close(lights.positions[:, :3].norm(dim=1), torch.ones(count))
    assert bool((lights.positions[:, 3] == 0).all())


def irradiance_from_lights(lights, normals: torch.Tensor) -> torch.Tensor:
    cosine = (normals @ lights.positions[:, :3].T).clamp(min=0)
    return cosine @ lights.intensity


def test_clusters_light_a_surface_as_the_map_does() -> None:
    environment = map_with_light_from(torch.tensor([0.48, 0.6, 0.64]))
    normals = torch.nn.functional.normalize(
        torch.randn(50, 3, generator=torch.Generator().manual_seed(2)), dim=1
    )
    directions = envmap_directions(32, 64).reshape(-1, 3)
    energy = (environment.radiance * envmap_solid_angles(32, 64)).flatten(1).T
    expected = (normals @ directions.T).clamp(min=0) @ energy
    found = irradiance_from_lights(cluster_lights(environment, 64), normals)
    torch.testing.assert_close(found, expected, atol=0.02 * float(expected.max()), rtol=0)


def test_constant_light_gives_pi_times_its_radiance() -> None:
    lights = cluster_lights(EnvironmentMap.constant((0.5, 1.0, 2.0)), 128)
    normals = torch.stack([LEFT, UP, FRONT, -UP])
    expected = math.pi * torch.tensor([0.5, 1.0, 2.0]).expand(4, 3)
    torch.testing.assert_close(irradiance_from_lights(lights, normals), expected, rtol=0.02, atol=0)


def test_a_dark_map_gives_dark_lights() -> None:
    lights = cluster_lights(EnvironmentMap.constant((0.0, 0.0, 0.0)), 8)
    assert bool((lights.intensity == 0).all())


def test_limiting_cuts_the_sun_and_nothing_else() -> None:
    environment = random_map()
    environment.radiance[:, 3, 4] = 1000.0
    limit = 5.0 * float(environment.mean().max())
    limited = environment.limited(5.0).radiance
    assert limited.max().item() == pytest.approx(limit)
    below = environment.radiance <= limit
    assert torch.equal(limited[below], environment.radiance[below])


def test_maps_that_are_not_light_are_refused() -> None:
    with pytest.raises(ValueError, match="must be finite"):
        EnvironmentMap(torch.full((3, 2, 4), math.nan))
    with pytest.raises(ValueError, match="must not be negative"):
        EnvironmentMap(torch.full((3, 2, 4), -1.0))
    with pytest.raises(ValueError, match="at least 2"):
        cluster_lights(random_map(), 1)


def test_a_map_in_other_axes_shows_the_same_light_where_they_see_it():
    """A lamp in a direction that no symmetry of the axes keeps."""
    directions = envmap_directions(64, 128)
    lamp = torch.nn.functional.normalize(torch.tensor([0.3, 0.5, -0.8]), dim=0)
    light = EnvironmentMap((directions @ lamp).clamp(min=0).pow(40).expand(3, -1, -1).contiguous())
    # Other axes that stand a quarter turn about y, then a third of one about x.
    quarter = torch.tensor([[0.0, 0.0, 1.0], [0.0, 1.0, 0.0], [-1.0, 0.0, 0.0]])
    c, s = math.cos(math.pi / 6), math.sin(math.pi / 6)
    axes = quarter @ torch.tensor([[1.0, 0.0, 0.0], [0.0, c, -s], [0.0, s, c]])
    turned = light.turned(axes)
    seen = directions.reshape(-1, 3)[turned.radiance[0].flatten().argmax()]
    assert float(axes @ seen @ lamp) > 0.998
    assert float(seen @ (axes @ lamp)) < 0.9
    torch.testing.assert_close(turned.mean(), light.mean(), rtol=2e-3, atol=0)
