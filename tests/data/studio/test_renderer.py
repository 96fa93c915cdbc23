"""Studio pictures of spheres and boxes against closed forms."""

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.nn.functional import normalize

from vultus.data.studio._materials import EYE_REFLECTANCE, EYE_ROUGHNESS, MIN_ROUGHNESS
from vultus.data.studio.frames import StudioFrame
from vultus.data.studio.renderer import StudioRenderer
from vultus.data.studio.tone_curve import inverse_tone_map, tone_map
from vultus.geometry.cameras import Camera, look_at, pixel_directions
from vultus.heads.appearance import HeadAppearance
from vultus.render.lighting.envmap import EnvironmentMap, envmap_directions
from vultus.render.lighting.lights import LightList, directional_lights, point_lights

RADIUS = 0.1
DISTANCE = 1.0
SHADOWS = ("baked_all", "baked_seen", "traced", "none")


def sphere(levels: int = 5, radius: float = RADIUS) -> tuple[Tensor, Tensor]:
    """A subdivided octahedron, counter-clockwise seen from outside."""
    signs = [(x, y, z) for x in (1, -1) for y in (1, -1) for z in (1, -1)]
    corners = torch.stack(
        [torch.diag(torch.tensor([x, y, z]).float())[[0, 1, 2][:: x * y * z]] for x, y, z in signs]
    )
    for _ in range(levels):
        a, b, c = corners.unbind(dim=1)
        ab, bc, ca = (normalize(p, dim=1) for p in (a + b, b + c, c + a))
        parts = ((a, ab, ca), (ab, b, bc), (ca, bc, c), (ab, bc, ca))
        corners = torch.cat([torch.stack(part, dim=1) for part in parts])
    vertices, index = torch.unique(corners.reshape(-1, 3), dim=0, return_inverse=True)
    return radius * vertices, index.reshape(-1, 3)


def square(size: float) -> tuple[Tensor, Tensor]:
    """A square in the xy plane that faces +z."""
    corners = torch.tensor([[-1.0, -1, 0], [1, -1, 0], [1, 1, 0], [-1, 1, 0]])
    return size * corners, torch.tensor([[0, 1, 2], [0, 2, 3]])


def merged(*meshes: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    offsets = torch.tensor([0, *(len(vertices) for vertices, _ in meshes)]).cumsum(dim=0)
    faces = [f + offset for (_, f), offset in zip(meshes, offsets, strict=False)]
    return torch.cat([vertices for vertices, _ in meshes]), torch.cat(faces)


def plain(num_faces: int, albedo: float = 0.5, specular: float = 0.0) -> HeadAppearance:
    """One color, no highlights, no wrapped light, a flat normal map."""
    return HeadAppearance(
        uv=torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]]),
        uv_faces=torch.tensor([[0, 1, 2]]).expand(num_faces, 3),
        albedo=torch.full((1, 1, 3), albedo),
        roughness=torch.full((1, 1), 0.5),
        specular=torch.full((1, 1), specular),
        scatter=torch.zeros(1, 1),
        normal_map=torch.tensor([0.5, 0.5, 1.0]).expand(1, 1, 3),
        eyeball_faces=torch.zeros(num_faces, dtype=torch.bool),
        face_labels=torch.zeros(num_faces, dtype=torch.int64),
        label_names=("skin",),
    )


def camera_at(eye: tuple[float, float, float], width: int = 64, height: int = 64) -> Camera:
    """Looks at the origin; the sphere fills about two thirds of the smaller side."""
    focal = 0.33 * min(width, height) * DISTANCE / RADIUS
    intrinsics = torch.tensor(
        [[focal, 0.0, 0.5 * width], [0.0, focal, 0.5 * height], [0.0, 0.0, 1.0]]
    )
    return Camera(look_at(torch.tensor([eye]), torch.zeros(3)), intrinsics[None], width, height)


FRONT = camera_at((0.0, 0.0, DISTANCE))


@pytest.fixture(scope="module")
def ball() -> tuple[Tensor, Tensor]:
    return sphere()


def studio(
    mesh: tuple[Tensor, Tensor], appearance: HeadAppearance | None = None, *, indirect: bool = True
) -> StudioRenderer:
    vertices, faces = mesh
    appearance = appearance or plain(len(faces))
    renderer = StudioRenderer(faces, appearance, threads=2, indirect=indirect)
    renderer.pose(vertices)
    return renderer


def radiance(frame: StudioFrame) -> Tensor:
    return inverse_tone_map(frame.rgb)


def analytic_sphere(camera: Camera) -> tuple[Tensor, Tensor, Tensor]:
    """Coverage, camera-z depth and world normals at the pixel centres."""
    center = camera.world_to_camera[0, :3, 3]
    directions = pixel_directions(camera)[0]
    a = (directions * directions).sum(dim=-1)
    b = (directions * center).sum(dim=-1)
    discriminant = b * b - a * (center @ center - RADIUS**2)
    depth = (b - discriminant.clamp(min=0).sqrt()) / a
    normals = (depth[..., None] * directions - center) / RADIUS
    return discriminant > 0, depth, normals @ camera.world_to_camera[0, :3, :3]


# ---- light -----------------------------------------------------------------------------------


@pytest.mark.parametrize("shadows", SHADOWS)
@pytest.mark.parametrize("scatter", [0.0, 1.0])
def test_white_light_from_everywhere_shows_the_albedo(ball, shadows, scatter: float) -> None:
    """Furnace: a convex body of albedo a under constant radiance L sends a L everywhere."""
    appearance = replace(plain(len(ball[1]), 0.6), scatter=torch.full((1, 1), scatter))
    renderer = studio(ball, appearance)
    renderer.set_light(EnvironmentMap.constant((0.3, 0.5, 0.9)), num_lights=256)
    frame = renderer.render(FRONT, shadows=shadows, background=None)
    inside = frame.alpha[0] == 1
    # Near the silhouette, lights between the true and the interpolated horizon count or do not.
    found = radiance(frame)[:, inside].median(dim=1).values
    expected = 0.6 * torch.tensor([0.3, 0.5, 0.9])
    torch.testing.assert_close(found, expected, rtol=0.02, atol=0)
    spread = (radiance(frame)[:, inside] / expected[:, None] - 1).abs()
    assert spread.quantile(0.9) < 0.06


@pytest.mark.parametrize("shadows", SHADOWS)
def test_one_distant_light_gives_lambert(ball, shadows) -> None:
    renderer = studio(ball)
    towards = normalize(torch.tensor([0.4, 0.5, 0.8]), dim=0)
    renderer.set_light(directional_lights(towards[None], torch.tensor([[1.0, 0.8, 0.6]])))
    frame = renderer.render(FRONT, samples=1, shadows=shadows, background=None)
    _, _, normals = analytic_sphere(FRONT)
    cosine = normals @ towards
    lit = (frame.alpha[0] == 1) & (cosine > 0.15)
    expected = 0.5 / math.pi * cosine[lit] * torch.tensor([[1.0], [0.8], [0.6]])
    torch.testing.assert_close(radiance(frame)[:, lit], expected, atol=3e-3, rtol=0)
    dark = (frame.alpha[0] == 1) & (cosine < -0.1)
    assert dark.sum() > 50
    assert float(radiance(frame)[:, dark].abs().max()) < 1e-6


def test_without_indirect_light_skin_answers_as_lambert_does(ball) -> None:
    towards = normalize(torch.tensor([0.4, 0.5, 0.8]), dim=0)
    _, _, normals = analytic_sphere(FRONT)
    cosine = normals @ towards
    expected = 0.5 / math.pi * cosine
    errors = {}
    for indirect in (True, False):
        skin = replace(plain(len(ball[1])), scatter=torch.ones(1, 1))
        renderer = studio(ball, skin, indirect=indirect)
        renderer.set_light(directional_lights(towards[None], torch.ones(1, 3)))
        frame = renderer.render(FRONT, samples=1, background=None)
        lit = (frame.alpha[0] == 1) & (cosine > 0.15)
        errors[indirect] = float((radiance(frame)[0] - expected)[lit].abs().max())
    assert errors[False] < 3e-3
    assert errors[True] > 5 * errors[False]


def test_a_point_light_falls_off_with_the_squared_distance() -> None:
    renderer = studio(square(0.5), plain(2, albedo=0.8))
    position = torch.tensor([0.02, -0.01, 0.3])
    renderer.set_light(point_lights(position[None], torch.full((1, 3), 0.05)))
    frame = renderer.render(FRONT, samples=1, shadows="traced", background=None)
    points = pixel_directions(FRONT)[0] * torch.tensor([1.0, -1.0, 0.0])
    offset = position - points * DISTANCE
    squared = (offset * offset).sum(dim=-1)
    expected = 0.8 / math.pi * 0.05 / squared * (offset[..., 2] / squared.sqrt())
    torch.testing.assert_close(radiance(frame)[0], expected, rtol=2e-3, atol=0)


def test_light_from_the_left_of_the_subject_lights_its_left_side(ball) -> None:
    """The camera sees the face, so that the subject's left (+x) is at the right of the picture."""
    cosine = envmap_directions(16, 32) @ torch.tensor([1.0, 0.0, 0.0])
    light = EnvironmentMap((8.0 * (cosine - 1)).exp().expand(3, -1, -1).contiguous())
    renderer = studio(ball)
    renderer.set_light(light, num_lights=32)
    picture = radiance(renderer.render(FRONT, background=None))[0]
    left, right = picture[:, :32].sum(), picture[:, 32:].sum()
    assert right > 5 * left


@pytest.mark.parametrize("direction", [(0.3, 0.5, 0.8), (-0.6, -0.2, 0.5), (1.0, 0.1, 0.0)])
def test_a_mirroring_eye_shows_the_surroundings(ball, direction) -> None:
    """The spot of light appears where the surface normal halves light and view."""
    towards = normalize(torch.tensor(direction), dim=0)
    cosine = envmap_directions(64, 128) @ towards
    light = EnvironmentMap((200.0 * (cosine - 1)).exp().expand(3, -1, -1).contiguous())
    appearance = plain(len(ball[1]), albedo=0.0)
    is_eye = torch.ones_like(appearance.eyeball_faces)
    renderer = studio(ball, replace(appearance, eyeball_faces=is_eye))
    renderer.set_light(light, num_lights=32, max_radiance_ratio=None)
    frame = renderer.render(FRONT, background=None)
    brightest = int(radiance(frame)[0].argmax())
    expected = normalize(towards + torch.tensor([0.0, 0.0, 1.0]), dim=0)
    found = frame.normals.flatten(1)[:, brightest]
    assert float(found @ expected) > math.cos(math.radians(5))


def test_a_highlight_stands_between_light_and_eye(ball) -> None:
    towards = normalize(torch.tensor([0.5, 0.3, 0.8]), dim=0)
    light = directional_lights(towards[None], torch.ones(1, 3))
    renderer = studio(ball, plain(len(ball[1]), albedo=0.0, specular=1.0))
    renderer.set_light(light)
    frame = renderer.render(FRONT, background=None)
    brightest = frame.normals.flatten(1)[:, int(radiance(frame)[0].argmax())]
    assert float(brightest @ normalize(towards + FRONT_DIRECTION, dim=0)) > 0.99


FRONT_DIRECTION = torch.tensor([0.0, 0.0, 1.0])


def test_exposure_scales_radiance_and_is_reported(ball) -> None:
    renderer = studio(ball)
    pictures = []
    for exposure in (1.0, 2.0):
        renderer.set_light(EnvironmentMap.constant((0.2, 0.2, 0.2)), 16, exposure)
        assert renderer.environment is not None
        assert renderer.environment.radiance.max() == pytest.approx(0.2 * exposure)
        pictures.append(radiance(renderer.render(FRONT, background=None)))
    torch.testing.assert_close(pictures[1], 2 * pictures[0], rtol=1e-3, atol=1e-6)


# ---- shadows ---------------------------------------------------------------------------------


@pytest.mark.parametrize("shadows", ["baked_all", "baked_seen", "traced"])
def test_a_ball_casts_its_shadow_on_the_ground(shadows) -> None:
    """Ground of 1.6 cm squares under a ball; the light falls at 45 degrees."""
    cells = torch.linspace(-0.4, 0.4, 51)
    y, x = torch.meshgrid(cells, cells, indexing="ij")
    ground = torch.stack([x, y, torch.zeros_like(x)], dim=-1).reshape(-1, 3)
    corner = (torch.arange(50)[:, None] * 51 + torch.arange(50)).reshape(-1, 1)
    faces = torch.cat([corner + torch.tensor([0, 1, 52]), corner + torch.tensor([0, 52, 51])])
    vertices, ball_faces = sphere(3, radius=0.05)
    mesh = merged((ground, faces), (vertices + torch.tensor([0.0, 0.0, 0.2]), ball_faces))
    renderer = studio(mesh)
    towards = normalize(torch.tensor([1.0, 0.0, 1.0]), dim=0)
    renderer.set_light(directional_lights(towards[None], torch.ones(1, 3)))
    camera = camera_at((0.0, 0.0, 2.0), 128, 128)
    frame = renderer.render(camera, shadows=shadows, background=None)
    lit = 0.5 / math.pi * math.sqrt(0.5)
    is_ground = frame.normals[2] > 0.9999
    # The shadow is centred at x = -0.2: an ellipse with half axes 0.05 sqrt 2 and 0.05.
    points = pixel_directions(camera)[0] * torch.tensor([2.0, -2.0, 0.0])
    extent = ((points[..., 0] + 0.2) / (0.05 * math.sqrt(2))) ** 2 + (points[..., 1] / 0.05) ** 2
    brightness = radiance(frame)[0]
    # Baked shadows are as sharp as the grid: one cell of 1.6 cm. The ball covers 5.6 cm.
    inside = is_ground & (extent < 0.3)
    outside = is_ground & (extent > 2.5) & (points.norm(dim=-1) > 0.065)
    assert inside.sum() > 10
    assert float(brightness[inside].max()) < 0.02 * lit
    torch.testing.assert_close(
        brightness[outside], torch.full_like(brightness[outside], lit), rtol=0.02, atol=0
    )
    bright = renderer.render(camera, shadows="none", background=None)
    assert float(radiance(bright)[0][inside].min()) > 0.98 * lit


@pytest.mark.parametrize("albedo", [0.3, 0.8])
def test_without_indirect_light_a_ball_takes_its_share_of_the_sky_away(albedo: float) -> None:
    """Right below a ball of radius r, at distance d of its centre, 1 - (r / d)^2 is left."""
    ball, ball_faces = sphere(4, radius=0.1)
    floor, floor_faces = square(0.3)
    mesh = merged((floor, floor_faces), (ball + torch.tensor([0.0, 0.0, 0.15]), ball_faces))
    camera = camera_at((0.0, -1.0, 0.2), 65, 65)
    found = {}
    for indirect in (True, False):
        renderer = studio(mesh, plain(len(mesh[1]), albedo), indirect=indirect)
        renderer.set_light(EnvironmentMap.constant((1.0, 1.0, 1.0), 32), num_lights=800)
        frame = renderer.render(camera, samples=1, shadows="traced", background=None)
        found[indirect] = float(radiance(frame)[0, 32, 32]) / albedo
    assert found[False] == pytest.approx(1 - (0.1 / 0.15) ** 2, rel=0.03)
    assert found[True] > (1.05 if albedo < 0.5 else 1.3) * found[False]


def test_baking_the_seen_vertices_gives_the_picture_of_all(ball) -> None:
    renderer = studio(ball)
    generator = torch.Generator().manual_seed(0)
    renderer.set_light(EnvironmentMap(torch.rand(3, 8, 16, generator=generator)), num_lights=16)
    everything = renderer.render(FRONT, shadows="baked_all")
    seen = renderer.render(FRONT, shadows="baked_seen")
    assert torch.equal(everything.rgb, seen.rgb)


def test_a_new_pose_or_light_forgets_the_baked_visibility(ball) -> None:
    vertices, faces = ball
    renderer = studio(ball)
    generator = torch.Generator().manual_seed(0)
    lights = [EnvironmentMap(torch.rand(3, 8, 16, generator=generator)) for _ in range(2)]
    moved = vertices * torch.tensor([1.2, 0.7, 1.0]) + 0.01
    for light, shape in ((lights[0], vertices), (lights[1], vertices), (lights[1], moved)):
        renderer.set_light(light, num_lights=16)
        renderer.pose(shape)
        again = renderer.render(FRONT)
        fresh = studio((shape, faces))
        fresh.set_light(light, num_lights=16)
        torch.testing.assert_close(again.rgb, fresh.render(FRONT).rgb, atol=1e-5, rtol=0)


# ---- geometry --------------------------------------------------------------------------------

SIZES = [(64, 64, 2), (37, 50, 3), (50, 21, 1)]


@pytest.mark.parametrize(("width", "height", "samples"), SIZES)
def test_depth_and_normals_are_those_of_a_sphere(ball, width: int, height: int, samples) -> None:
    camera = camera_at((0.5, 0.3, 0.8), width, height)
    shifted = camera.intrinsics.clone()
    shifted[0, :2, 2] += torch.tensor([2.3, -1.7])
    shifted[0, 1, 1] *= 1.1
    camera = replace(camera, intrinsics=shifted)
    renderer = studio(ball)
    renderer.set_light(EnvironmentMap.constant((0.5, 0.5, 0.5)), num_lights=16)
    frame = renderer.render(camera, samples)
    covered, depth, normals = analytic_sphere(camera)
    # Facets of the mesh lie up to 0.1 mm inside the sphere.
    rays = pixel_directions(camera)[0] @ camera.world_to_camera[0, :3, :3]
    facing = -(normals * normalize(rays, dim=-1)).sum(dim=-1)
    inside = covered & (facing > 0.3)
    assert inside.sum() > 0.25 * covered.sum()
    torch.testing.assert_close(frame.depth[0][inside], depth[inside], atol=5e-4, rtol=0)
    cosine = (frame.normals.permute(1, 2, 0)[inside] * normals[inside]).sum(dim=-1)
    assert float(cosine.min()) > 0.9995
    assert float(frame.depth[0][~covered].abs().max()) == 0
    torch.testing.assert_close(frame.normals[:, inside].norm(dim=0), torch.ones(int(inside.sum())))


@pytest.mark.parametrize(("width", "height", "samples"), SIZES)
def test_alpha_is_the_covered_share_of_each_pixel(ball, width: int, height: int, samples) -> None:
    camera = camera_at((0.0, 0.0, DISTANCE), width, height)
    renderer = studio(ball)
    renderer.set_light(EnvironmentMap.constant((0.5, 0.5, 0.5)), num_lights=16)
    alpha = renderer.render(camera, samples).alpha[0]
    fine = analytic_sphere(camera.resized(width * samples, height * samples))[0].float()
    expected = fine.view(height, samples, width, samples).mean(dim=(1, 3))
    assert (alpha - expected).abs().mean() < 2e-3
    if samples > 1:
        edge = (alpha > 0) & (alpha < 1)
        assert edge.sum() > 20
        assert set((alpha * samples**2).round().unique().tolist()) <= set(range(samples**2 + 1))


def test_pictures_are_composited_after_encoding(ball) -> None:
    renderer = studio(ball)
    renderer.set_light(EnvironmentMap.constant((0.5, 0.5, 0.5)), num_lights=16)
    bare = renderer.render(FRONT, background=None)
    color = (0.1, 0.6, 0.9)
    frame = renderer.render(FRONT, background=color)
    behind = torch.tensor(color)[:, None, None]
    expected = bare.alpha * bare.rgb + (1 - bare.alpha) * behind
    torch.testing.assert_close(frame.rgb, expected)
    assert float(bare.rgb[:, bare.alpha[0] == 0].abs().max()) == 0
    assert torch.equal(frame.rgb[:, 0, 0], torch.tensor(color))


def test_labels_and_albedo_come_from_the_face_in_view() -> None:
    far, faces = square(0.05)
    near = far * 0.5 + torch.tensor([0.0, 0.0, 0.1])
    textures = torch.tensor([[[0.2, 0.4, 0.6], [0.8, 0.1, 0.3]]])
    appearance = replace(
        plain(4),
        uv=torch.tensor([[0.0, 0.5], [1.0, 0.5]]),
        uv_faces=torch.tensor([[0, 0, 0]] * 2 + [[1, 1, 1]] * 2),
        albedo=textures,
        roughness=torch.tensor([[0.1, 0.7]]),
        specular=torch.tensor([[0.9, 0.2]]),
        scatter=torch.zeros(1, 2),
        normal_map=torch.tensor([0.5, 0.5, 1.0]).expand(1, 2, 3),
        face_labels=torch.tensor([3, 3, 7, 7]),
    )
    renderer = studio(merged((far, faces), (near, faces)), appearance)
    renderer.set_light(EnvironmentMap.constant((0.5, 0.5, 0.5)), num_lights=16)
    frame = renderer.render(camera_at((0.0, 0.0, DISTANCE)))
    assert frame.labels.dtype == torch.uint8
    assert frame.labels[32, 32] == 8
    assert frame.labels[32, 23] == 4
    assert frame.labels[0, 0] == 0
    assert set(frame.labels.unique().tolist()) == {0, 4, 8}
    torch.testing.assert_close(frame.albedo[:, 32, 32], textures[0, 1])
    torch.testing.assert_close(frame.albedo[:, 32, 23], textures[0, 0])
    assert float(frame.albedo[:, 0, 0].abs().max()) == 0
    assert float(frame.roughness[0, 32, 32]) == pytest.approx(0.7)
    assert float(frame.roughness[0, 32, 23]) == pytest.approx(MIN_ROUGHNESS)
    assert float(frame.specular[0, 32, 32]) == pytest.approx(0.2)
    assert float(frame.specular[0, 32, 23]) == pytest.approx(0.9)
    assert float(frame.roughness[0, 0, 0]) == float(frame.specular[0, 0, 0]) == 0


def test_eyes_report_the_surface_that_they_are_shaded_with(ball):
    appearance = plain(len(ball[1]), specular=1.0)
    eyeball = replace(appearance, eyeball_faces=torch.ones(len(ball[1]), dtype=torch.bool))
    renderer = studio(ball, eyeball)
    renderer.set_light(EnvironmentMap.constant((0.5, 0.5, 0.5)), num_lights=16)
    frame = renderer.render(FRONT)
    assert float(frame.roughness[0, 32, 32]) == pytest.approx(EYE_ROUGHNESS)
    assert 0.08 * float(frame.specular[0, 32, 32]) == pytest.approx(EYE_REFLECTANCE)


def test_textures_have_row_0_at_the_top() -> None:
    """A square with its texture upright: the upper half of the picture shows row 0."""
    vertices, faces = square(0.08)
    red, blue = torch.tensor([0.9, 0.1, 0.1]), torch.tensor([0.1, 0.1, 0.9])
    albedo = torch.stack([red, red, blue, blue])[:, None].repeat(1, 4, 1)
    albedo[:, 3, 1] = 0.7  # and u = 1 at the right (+x) of the square
    appearance = replace(
        plain(2),
        uv=torch.tensor([[0.0, 0.0], [1.0, 0.0], [1.0, 1.0], [0.0, 1.0]]),
        uv_faces=faces,
        albedo=albedo,
        roughness=torch.full((4, 4), 0.5),
        specular=torch.zeros(4, 4),
        scatter=torch.zeros(4, 4),
        normal_map=torch.tensor([0.5, 0.5, 1.0]).expand(4, 4, 3),
    )
    renderer = studio((vertices, faces), appearance)
    renderer.set_light(EnvironmentMap.constant((0.5, 0.5, 0.5)), num_lights=16)
    picture = renderer.render(FRONT).albedo
    torch.testing.assert_close(picture[:, 17, 24], red, atol=1e-3, rtol=0)
    torch.testing.assert_close(picture[:, 46, 24], blue, atol=1e-3, rtol=0)
    assert picture[1, 32, 47] == pytest.approx(0.7, abs=1e-3)


@pytest.mark.parametrize(("bend", "brighter"), [((0.3, 0.0), "right"), ((0.0, 0.3), "top")])
def test_normal_maps_bend_towards_u_and_v(bend, brighter: str) -> None:
    """A positive x (y) of the map leans the normal to growing u (v), here right (up)."""
    vertices, faces = square(0.08)
    encoded = torch.tensor([0.5 + 0.5 * bend[0], 0.5 + 0.5 * bend[1], 1.0])
    corners = torch.tensor([[0.0, 0.0], [1.0, 0.0], [1.0, 1.0], [0.0, 1.0]])
    appearance = replace(plain(2), uv=corners, uv_faces=faces, normal_map=encoded.expand(1, 1, 3))
    renderer = studio((vertices, faces), appearance)
    sides = {"right": (1.0, 0, 1), "left": (-1.0, 0, 1), "top": (0, 1.0, 1), "bottom": (0, -1.0, 1)}
    brightness = {}
    for name, towards in sides.items():
        renderer.set_light(directional_lights(torch.tensor([towards]).float(), torch.ones(1, 3)))
        brightness[name] = float(radiance(renderer.render(FRONT, background=None))[0, 32, 32])
    assert max(brightness, key=brightness.__getitem__) == brighter


def test_the_picture_does_not_depend_on_threads_or_the_tree(ball) -> None:
    vertices, faces = ball
    light = EnvironmentMap.constant((0.5, 0.4, 0.3))
    frames = []
    for threads, rest in ((1, None), (2, None), (2, vertices.flip(1))):
        renderer = StudioRenderer(faces, plain(len(faces)), threads=threads)
        renderer.set_light(light, num_lights=32)
        renderer.pose(vertices, rest)
        frames.append(renderer.render(FRONT))
    assert torch.equal(frames[0].rgb, frames[1].rgb)
    torch.testing.assert_close(frames[0].rgb, frames[2].rgb, atol=2e-3, rtol=0)


# ---- film and errors -------------------------------------------------------------------------


def test_the_tone_curve_is_undone_by_its_inverse() -> None:
    radiances = torch.linspace(0, 3, 400, dtype=torch.float64)
    encoded = tone_map(radiances)
    torch.testing.assert_close(inverse_tone_map(encoded), radiances, atol=1e-9, rtol=1e-7)
    assert bool((encoded.diff() > 0).all())
    assert float(encoded.max()) < 1
    # Plain sRGB below the shoulder.
    assert float(tone_map(torch.tensor([0.214041])).item()) == pytest.approx(0.5, abs=1e-5)


def test_mistakes_are_named(ball) -> None:
    vertices, faces = ball
    renderer = StudioRenderer(faces, plain(len(faces)))
    with pytest.raises(ValueError, match="call pose before render"):
        renderer.render(FRONT)
    renderer.pose(vertices)
    with pytest.raises(ValueError, match="call set_light before render"):
        renderer.render(FRONT)
    renderer.set_light(EnvironmentMap.constant((1.0, 1.0, 1.0)), num_lights=16)
    with pytest.raises(ValueError, match="one camera, got 2"):
        renderer.render(Camera.stack([FRONT, FRONT]))
    with pytest.raises(ValueError, match="samples must be at least 1"):
        renderer.render(FRONT, samples=0)
    lost = FRONT.world_to_camera.clone()
    lost[0, 1, 3] = torch.nan
    with pytest.raises(ValueError, match="camera must be finite"):
        renderer.render(replace(FRONT, world_to_camera=lost))
    with pytest.raises(ValueError, match=r"direction \(0, 0, 0\)"):
        renderer.set_light(LightList(torch.zeros(1, 4), torch.ones(1, 3), torch.zeros(1)))
    with pytest.raises(ValueError, match="exposure must be positive"):
        renderer.set_light(EnvironmentMap.constant((1.0, 1.0, 1.0)), exposure=0.0)
    with pytest.raises(ValueError, match="uv_faces must have one row per face"):
        StudioRenderer(faces, plain(3))
    uneven = plain(len(faces))
    object.__setattr__(uneven, "scatter", torch.zeros(2, 2))  # past the shape checker
    with pytest.raises(ValueError, match="share one size"):
        StudioRenderer(faces, uneven)
    labels = torch.full((len(faces),), 255)
    with pytest.raises(ValueError, match="face_labels must lie in"):
        StudioRenderer(faces, replace(plain(len(faces)), face_labels=labels))


def test_an_empty_view_shows_the_background(ball) -> None:
    vertices, faces = ball
    renderer = studio((vertices + 5.0, faces))
    renderer.set_light(EnvironmentMap.constant((1.0, 1.0, 1.0)), num_lights=16)
    for shadows in SHADOWS:
        frame = renderer.render(FRONT, shadows=shadows)
        assert float(frame.alpha.max()) == 0
        assert bool((frame.rgb == 1).all())
