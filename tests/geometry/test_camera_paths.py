from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tolerances import assert_close
from vultus.geometry import camera_paths as P
from vultus.geometry.cameras import Camera, camera_centers, opencv_to_opengl, project_points

CENTER = torch.tensor([0.1, 0.2, 0.3])
LENS = (torch.tensor([[80.0, 0, 32], [0, 80, 24], [0, 0, 1]]), 64, 48)

PATHS = {
    "orbit": lambda: P.orbit(CENTER, 2.0, 12, 2 * math.pi, *LENS, pitch=0.3),
    "arc": lambda: P.orbit(CENTER, 2.0, 5, 1.0, *LENS),
    "dome": lambda: P.dome(CENTER, 2.0, 3, 6, *LENS),
    "grid": lambda: P.yaw_pitch_grid(CENTER, 2.0, (-1.0, 1.0), (-0.5, 0.5), 5, 3, *LENS),
    "lemniscate": lambda: P.lemniscate(CENTER, 2.0, 16, *LENS),
    "swing": lambda: P.yaw_swing(CENTER, 2.0, 16, *LENS, period=16),
}


@pytest.mark.parametrize("name", PATHS)
def test_every_camera_sees_the_center_in_the_middle_at_the_radius(name: str) -> None:
    cameras = PATHS[name]()
    pixels, depth = project_points(CENTER.expand(len(cameras), 1, 3), cameras)
    assert_close(pixels[:, 0], torch.tensor([32.0, 24.0]).expand(len(cameras), 2))
    assert_close(depth, torch.full((len(cameras), 1), 2.0))
    higher = CENTER + torch.tensor([0, 0.1, 0])
    above, _ = project_points(higher.expand(len(cameras), 1, 3), cameras)
    assert bool((above[..., 1] < 24).all())
    assert (cameras.width, cameras.height) == (64, 48)


@pytest.mark.parametrize("name", PATHS)
def test_no_two_cameras_of_a_path_coincide(name: str) -> None:
    centers = camera_centers(PATHS[name]())
    apart = torch.cdist(centers, centers) + 10 * torch.eye(len(centers))
    minimum = 0.0 if name == "lemniscate" else 1e-3  # a figure of eight crosses itself
    assert float(apart.min()) >= minimum


def directions(cameras: Camera) -> torch.Tensor:
    return (camera_centers(cameras) - CENTER) / 2.0


def test_the_swing_is_the_published_one(golden_dir: Path) -> None:
    """Poses of the novel views at frames 0, 10, 37, 99 and 100, camera-to-world in OpenGL axes."""
    golden = load_file(golden_dir / "gaussianhead/lr_camera_loss.safetensors")["c2w_input"][5:]
    radius = float(golden[0, :3, 3].norm())
    cameras = P.yaw_swing(torch.zeros(3, dtype=torch.float64), radius, 101, *LENS)
    chosen = opencv_to_opengl(cameras.camera_to_world)[[0, 10, 37, 99, 100]]
    assert_close(chosen.float(), golden.float())


def test_a_swing_goes_from_left_to_right_and_jumps_back() -> None:
    centers = directions(P.yaw_swing(CENTER, 2.0, 101, *LENS))
    yaws = torch.rad2deg(torch.atan2(centers[:, 0], centers[:, 2]))
    assert [round(float(yaws[i]), 3) for i in (0, 50, 99, 100)] == [15.0, 0.0, -14.7, 15.0]
    with pytest.raises(ValueError, match="period must be positive, got 0"):
        P.yaw_swing(CENTER, 2.0, 4, *LENS, period=0)


def test_yaw_turns_to_the_subjects_left_and_pitch_up() -> None:
    cameras = P.cameras_at_angles(
        CENTER, 2.0, torch.tensor([0, 0.5 * math.pi, 0]), torch.tensor([0, 0, 0.5]), *LENS
    )
    expected = torch.tensor([[0, 0, 1], [1, 0, 0], [0, math.sin(0.5), math.cos(0.5)]])
    assert_close(directions(cameras), expected)


def test_a_turntable_closes_without_repeating_its_start() -> None:
    yaws = torch.atan2(*directions(P.orbit(CENTER, 2.0, 8, 2 * math.pi, *LENS))[:, [0, 2]].T)
    steps = torch.remainder(yaws.roll(-1) - yaws, 2 * math.pi)
    assert_close(steps, torch.full((8,), math.pi / 4))
    assert float(yaws[0]) == pytest.approx(0, abs=1e-6)


def test_an_arc_has_both_ends_and_is_centred_on_the_front() -> None:
    yaws = torch.atan2(*directions(P.orbit(CENTER, 2.0, 5, 1.0, *LENS))[:, [0, 2]].T)
    assert_close(yaws, torch.linspace(-0.5, 0.5, 5))
    alone = directions(P.orbit(CENTER, 2.0, 1, 1.0, *LENS))
    assert_close(alone, torch.tensor([[0.0, 0, 1]]))


def test_interpolation_passes_through_its_keys() -> None:
    keys = PATHS["arc"]()
    path = P.interpolate_cameras(keys, 17)
    assert_close(path[torch.arange(0, 17, 4)].world_to_camera, keys.world_to_camera)
    loop = P.interpolate_cameras(PATHS["orbit"](), 36, is_loop=True)
    assert_close(loop[torch.arange(0, 36, 3)].world_to_camera, PATHS["orbit"]().world_to_camera)


def test_interpolation_between_cameras_of_an_orbit_stays_near_it() -> None:
    loop = P.interpolate_cameras(PATHS["orbit"](), 120, is_loop=True)
    rotations = loop.world_to_camera[:, :3, :3]
    assert_close(rotations @ rotations.mT, torch.eye(3).expand(120, 3, 3))
    radii = (camera_centers(loop) - CENTER).norm(dim=1)
    assert float((radii - 2).abs().max()) < 4e-3
    pixels, _ = project_points(CENTER.expand(120, 1, 3), loop)
    assert float((pixels - torch.tensor([32.0, 24.0])).abs().max()) < 0.5


def test_interpolation_blends_intrinsics() -> None:
    keys = PATHS["arc"]()[torch.tensor([0, 4])]
    zoomed = Camera(
        keys.world_to_camera, keys.intrinsics * torch.tensor([[[1.0]], [[2.0]]]), 64, 48
    )
    assert_close(P.interpolate_cameras(zoomed, 3).intrinsics[1], 1.5 * LENS[0])


def test_paths_that_cannot_be_are_rejected() -> None:
    with pytest.raises(ValueError, match="radius must be positive, got 0"):
        P.orbit(CENTER, 0.0, 3, 1.0, *LENS)
    with pytest.raises(ValueError, match="must not look along up"):
        P.orbit(CENTER, 1.0, 3, 1.0, *LENS, pitch=math.pi / 2)
    with pytest.raises(ValueError, match="at least 2 cameras, got 1"):
        P.interpolate_cameras(PATHS["arc"]()[0], 5)
