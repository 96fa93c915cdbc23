"""Pictures on their way from a head to the CPU."""

from dataclasses import fields, replace

import pytest
import torch

from fakes import FakeHead
from triton_support import triton_device
from vultus.core.image_io import to_bytes
from vultus.data.studio.config import StudioConfig
from vultus.data.studio.frames import StudioFrame, fetch_frames
from vultus.data.studio.scene import Scene, Shooting, build_scene
from vultus.data.studio.subject import Subject, plain_appearance

TINY = StudioConfig(frames=20, cameras=2, size=24, samples=2, num_lights=16, test_share=0.0)


@pytest.fixture(scope="module")
def scene() -> Scene:
    head = FakeHead(rings=12, segments=18)
    return build_scene(TINY, Subject(head, torch.tensor([[0.4]]), plain_appearance(head, 0, 64)))


def grey_frame(value: int, device: torch.device) -> StudioFrame:
    one, three = torch.full((2, 1, 5, 7), float(value)), torch.full((3, 3, 5, 7), float(value))
    labels = torch.full((5, 7), value, dtype=torch.uint8)
    frame = StudioFrame(three[0], one[0], one[1], three[1], three[2], labels, one[0], one[1])
    return StudioFrame(**{f.name: getattr(frame, f.name).to(device) for f in fields(frame)})


def test_pictures_on_the_cpu_are_passed_on_at_once() -> None:
    taken = []

    def take():
        for key in range(5):
            taken.append(key)
            yield key, grey_frame(key, torch.device("cpu"))

    arriving = fetch_frames(take())
    for key in range(5):
        assert next(arriving)[0] == key
        assert taken == list(range(key + 1))


@pytest.mark.gpu
@pytest.mark.parametrize("count", [0, 2, 9])
def test_pictures_of_a_gpu_arrive_complete_and_in_order(count: int) -> None:
    device = triton_device()
    frames = ((key, grey_frame(key, device)) for key in range(count))
    arrived = list(fetch_frames(frames))
    assert [key for key, _ in arrived] == list(range(count))
    for key, frame in arrived:
        assert frame.rgb.device.type == "cpu"
        for field in fields(frame):
            assert bool((getattr(frame, field.name) == key).all())


def test_wanted_pictures_come_with_moment_and_camera(scene) -> None:
    taken = dict(Shooting(scene, TINY, threads=1).take({7: [1], 2: [0, 1]}))
    assert list(taken) == [(7, 1), (2, 0), (2, 1)]
    alone = dict(Shooting(scene, TINY, threads=1).take({2: [1]}))
    assert torch.equal(alone[2, 1].rgb, taken[2, 1].rgb)
    assert not torch.equal(alone[2, 1].rgb, taken[2, 0].rgb)


def test_a_head_that_is_not_finite_is_refused(scene) -> None:
    translation = torch.zeros(20, 3)
    translation[3, 1] = torch.nan
    broken = replace(scene, pose=scene.pose.replace(translation=translation))
    pictures = Shooting(broken, TINY, threads=1).take({0: [0], 3: [0]})
    assert next(pictures)[0] == (0, 0)
    with pytest.raises(ValueError, match=r"head must be finite, but is not in moments \[3\]"):
        next(pictures)


@pytest.mark.gpu
def test_a_gpu_films_what_the_cpu_films(scene) -> None:
    """More moments than are posed at once."""
    wanted = {moment: [moment % 2] for moment in range(20)}
    expected = Shooting(scene, TINY, threads=1).take(wanted)
    taken = Shooting(scene, TINY, device=triton_device()).take(wanted)
    for (key, frame), (wanted_key, wanted_frame) in zip(taken, expected, strict=True):
        assert key == wanted_key
        levels = to_bytes(frame.rgb).int() - to_bytes(wanted_frame.rgb).int()
        assert float((levels.abs() > 2).float().mean()) < 2e-3
