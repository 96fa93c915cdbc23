"""Studio pictures of the GPU backend against those of the CPU, on a GPU or in the interpreter."""

from contextlib import nullcontext
from dataclasses import fields

import pytest
import torch
from torch import Tensor
from torch.nn.functional import normalize

from fakes import FakeHead
from triton_support import compile_launch, is_interpreting, triton_device
from vultus.core.image_io import to_bytes
from vultus.data.studio.frames import StudioFrame
from vultus.data.studio.renderer import Shadows, StudioRenderer
from vultus.data.studio.shading import PackedLight, PackedSurface, SurfaceSamples, shade
from vultus.geometry.cameras import Camera, look_at
from vultus.heads.appearance import HeadAppearance
from vultus.heads.base import HeadPose
from vultus.render.lighting.envmap import EnvironmentMap, cluster_lights
from vultus.render.lighting.lights import LightList, directional_lights, point_lights
from waits import refusing_to_wait

triton_test = pytest.mark.triton
GREY_LEVELS = 2


@pytest.fixture
def device() -> torch.device:
    return triton_device()


@pytest.fixture(scope="module")
def head() -> FakeHead:
    return FakeHead(rings=6, segments=9)


def rough_appearance(head: FakeHead, seed: int = 0, size: int = 16) -> HeadAppearance:
    """Random textures in all maps; a third of the faces mirror like eyes."""
    generator = torch.Generator().manual_seed(seed)

    def noise(*shape: int) -> Tensor:
        return torch.rand(*shape, generator=generator)

    num_faces = len(head.topology.faces)
    bumps = normalize(torch.cat([noise(size, size, 2) - 0.5, noise(size, size, 1) + 0.5], 2), dim=2)
    return HeadAppearance(
        uv=noise(len(head.neutral), 2),
        uv_faces=head.topology.faces,
        albedo=0.1 + 0.8 * noise(size, size, 3),
        roughness=noise(size, size),
        specular=noise(size, size),
        scatter=noise(size, size),
        normal_map=0.5 + 0.5 * bumps,
        eyeball_faces=torch.arange(num_faces) % 3 == 0,
        face_labels=torch.arange(num_faces) % 5,
        label_names=("a", "b", "c", "d", "e"),
    )


def random_map(seed: int) -> EnvironmentMap:
    return EnvironmentMap(torch.rand(3, 8, 16, generator=torch.Generator().manual_seed(seed)))


def lamps() -> LightList:
    """Near, far and wide lights."""
    near = point_lights(torch.tensor([[0.2, 0.3, 0.3]]), torch.full((1, 3), 0.1))
    far = directional_lights(torch.tensor([[-1.0, 0.2, 0.5]]), torch.tensor([[0.5, 0.4, 0.3]]))
    return LightList.cat([near, far, cluster_lights(random_map(3), 3)])


def camera_at(eye: tuple[float, float, float], width: int, height: int) -> Camera:
    focal = 2.6 * min(width, height)
    intrinsics = torch.tensor([[focal, 0, width / 2], [0, focal, height / 2], [0, 0, 1.0]])
    return Camera(look_at(torch.tensor([eye]), torch.zeros(3)), intrinsics[None], width, height)


def open_studios(
    head: FakeHead,
    light: EnvironmentMap | LightList,
    device: torch.device,
    *,
    indirect: bool = True,
) -> tuple[StudioRenderer, StudioRenderer]:
    """The same studio on the CPU and on the GPU."""
    appearance = rough_appearance(head)
    faces = head.topology.faces
    studios = (
        StudioRenderer(faces, appearance, threads=1, indirect=indirect),
        StudioRenderer(faces, appearance, device=device, backend="gpu", indirect=indirect),
    )
    centre = head.neutral.mean(dim=0)
    moved = head.neutral - centre
    for studio in studios:
        studio.set_light(light, num_lights=6)
        studio.pose(moved, moved + 0.01 * torch.sin(90 * moved.flip(1)))
    return studios


def assert_same(frame: StudioFrame, expected: StudioFrame) -> None:
    """Up to a few pixels at silhouettes, where rounding decides whether a ray hits."""
    frame = StudioFrame(**{f.name: getattr(frame, f.name).cpu() for f in fields(frame)})
    assert torch.equal((frame.alpha > 0).cpu(), expected.alpha > 0)
    for name in ("rgb", "alpha", "albedo", "roughness", "specular"):
        levels = to_bytes(getattr(frame, name)).int() - to_bytes(getattr(expected, name)).int()
        wrong = (levels.abs() > GREY_LEVELS).float().mean()
        assert wrong < 2e-3, f"{name}: {float(wrong):.4f} of the values differ"
    assert float((frame.labels != expected.labels).float().mean()) < 2e-3
    same = frame.labels == expected.labels
    assert 0.2 < float((expected.labels > 0).float().mean()) < 0.9
    for name in ("depth", "normals"):
        actual, wanted = getattr(frame, name)[:, same], getattr(expected, name)[:, same]
        torch.testing.assert_close(actual, wanted, atol=1e-4, rtol=0)


@triton_test
@pytest.mark.parametrize(
    ("shadows", "use_map", "indirect"),
    [("traced", True, True), ("baked_all", False, True), ("baked_all", True, False)],
)
def test_pictures_of_gpu_and_cpu_agree(
    head, device, shadows: Shadows, use_map: bool, indirect: bool
) -> None:
    light = random_map(1) if use_map else lamps()
    on_cpu, on_gpu = open_studios(head, light, device, indirect=indirect)
    camera = camera_at((0.3, 0.2, 0.5), 11, 7)
    expected = on_cpu.render(camera, 2, shadows, (0.2, 0.4, 0.9))
    assert_same(on_gpu.render(camera, 2, shadows, (0.2, 0.4, 0.9)), expected)


@pytest.mark.gpu
@pytest.mark.parametrize("use_map", [True, False])
@pytest.mark.parametrize("shadows", ["baked_all", "baked_seen", "traced", "none"])
def test_large_pictures_of_gpu_and_cpu_agree(device, shadows: Shadows, use_map: bool) -> None:
    light = random_map(2) if use_map else lamps()
    on_cpu, on_gpu = open_studios(FakeHead(rings=30, segments=44), light, device)
    camera = camera_at((-0.2, 0.3, 0.5), 222, 171)
    expected = on_cpu.render(camera, 3, shadows, background=None)
    assert_same(on_gpu.render(camera, 3, shadows, background=None), expected)


@pytest.mark.gpu
def test_a_gpu_studio_takes_several_moments_and_cameras(head, device) -> None:
    """Nothing of an earlier pose, light or camera is left in a picture."""
    on_cpu, on_gpu = open_studios(head, random_map(1), device)
    moved = 1.1 * (head.neutral - head.neutral.mean(dim=0))
    for vertices, light, eye in (
        (moved, random_map(1), (0.0, 0.1, 0.6)),
        (0.8 * moved, lamps(), (0.5, 0.0, -0.3)),
    ):
        frames = []
        for studio in (on_cpu, on_gpu):
            studio.render(camera_at((0.0, 0.0, 0.7), 48, 32), 1)
            studio.set_light(light, num_lights=4, exposure=1.5)
            studio.pose(vertices)
            frames.append(studio.render(camera_at(eye, 48, 32), 2, background=None))
        assert_same(frames[1], frames[0])


@triton_test
def test_an_empty_view_of_a_gpu_shows_the_background(head, device) -> None:
    _, studio = open_studios(head, lamps(), device)
    studio.pose(head.neutral + 5.0)
    frame = studio.render(camera_at((0.3, 0.2, 0.5), 5, 3), 1, "traced")
    assert float(frame.alpha.max()) == 0
    assert bool((frame.rgb == 1).all())
    for name in ("depth", "normals", "albedo", "labels"):
        assert float(getattr(frame, name).abs().max()) == 0


@pytest.mark.gpu
def test_gpu_pictures_repeat_bit_by_bit(head, device) -> None:
    _, studio = open_studios(head, random_map(1), device)
    camera = camera_at((0.3, 0.2, 0.5), 64, 48)
    first = studio.render(camera, 2, "traced")
    for _ in range(3):
        studio.pose(head.neutral)
        studio.pose(head.neutral - head.neutral.mean(dim=0))
        again = studio.render(camera, 2, "traced")
        for field in fields(first):
            assert torch.equal(getattr(first, field.name), getattr(again, field.name)), field.name


@pytest.mark.gpu
def test_poses_and_pictures_do_not_wait_for_the_gpu(head, device) -> None:
    _, studio = open_studios(head, random_map(1), device)
    camera = camera_at((0.3, 0.2, 0.5), 64, 48)
    vertices = head.vertices(HeadPose()).to(device)[0]
    # The first round compiles and fills caches.
    for guard in (nullcontext(), refusing_to_wait(device)):
        with guard:
            for shadows in ("baked_all", "traced"):
                studio.pose(vertices)
                studio.render(camera, 2, shadows)


@pytest.mark.parametrize("capability", [80, 90])
def test_the_shading_kernel_compiles_without_spilling(head, capability: int) -> None:
    pytest.importorskip("triton")
    if is_interpreting():
        pytest.skip("interpreted functions cannot be compiled")
    from vultus.kernels.triton_runtime import recorded_launches

    surface = PackedSurface.pack(head.topology.faces, rough_appearance(head))
    samples = SurfaceSamples(torch.zeros(50, dtype=torch.int64), *torch.zeros(2, 50, 3))
    environment = random_map(1)
    lights = cluster_lights(environment, 6)
    with recorded_launches() as launches:
        for mirrored in (environment, None):
            light = PackedLight.pack(lights, mirrored)
            for rows in (len(head.neutral), 50):
                visible = torch.zeros(rows, 6, dtype=torch.uint8)
                mesh = (head.neutral, head.neutral)
                shade(surface, *mesh, samples, light, visible, 1, "gpu")
    assert [launch.kernel.fn.__name__ for launch in launches] == 4 * ["shade_lanes"]
    for launch in launches:
        assert compile_launch(launch, capability).stack == 0
