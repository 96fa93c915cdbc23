"""Fusing depth of known surfaces: place, colours, masks and parts."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.nn.functional import normalize

from tiny_captures import film_fake_head, tiny_surfhead
from vultus.data.sequence import HeadSequence
from vultus.export.avatar_mesh import FusionSettings, fuse_mesh
from vultus.geometry.camera_paths import orbit
from vultus.geometry.cameras import Camera, camera_centers, pixel_directions
from vultus.heads.base import HeadPose
from vultus.methods.surfhead.model import SurfHead
from vultus.render.output import RenderOutput

RADIUS, SMALL = 0.08, 0.012
BESIDE = torch.tensor([0.085, 0.085, 0.0])


class TwoBalls(SurfHead):
    """Renders a ball in the origin and a small one beside it, coloured by direction."""

    def render(self, pose: HeadPose, camera: Camera, step: int | None = None) -> RenderOutput:
        output = super().render(pose, camera, step)
        origin = camera_centers(camera)[0]
        rays = pixel_directions(camera)[0] @ camera.camera_to_world[0, :3, :3].T
        depth = torch.full(rays.shape[:2], torch.inf)
        for center, radius in ((torch.zeros(3), RADIUS), (BESIDE, SMALL)):
            depth = torch.minimum(depth, _ball_depth(origin - center, rays, radius))
        points = origin + rays * depth[..., None]
        seen = depth.isfinite()
        color = 0.5 + 0.4 * normalize(torch.where(seen[..., None], points, 1.0), dim=-1)
        return replace(
            output,
            image=color.permute(2, 0, 1)[None],
            alpha=seen[None, None].float(),
            median_depth=torch.where(seen, depth, 0.0)[None, None],
            depth=torch.where(seen, depth + 0.01, 0.0)[None, None],
        )


def _ball_depth(origin: Tensor, rays: Tensor, radius: float) -> Tensor:
    """Camera z of the first hit: rays have z = 1."""
    square, middle = rays.square().sum(dim=-1), rays @ origin
    inside = middle.square() - square * (origin @ origin - radius**2)
    return torch.where(inside > 0, (-middle - inside.clamp(min=0).sqrt()) / square, torch.inf)


@pytest.fixture(scope="module")
def sequence(tmp_path_factory: pytest.TempPathFactory) -> HeadSequence:
    return film_fake_head(tmp_path_factory.mktemp("fusing") / "capture")


@pytest.fixture(scope="module")
def avatar(sequence: HeadSequence) -> TwoBalls:
    return TwoBalls(tiny_surfhead(), sequence, 0)


@pytest.fixture(scope="module")
def cameras() -> Camera:
    intrinsics = torch.tensor([[200.0, 0, 32], [0, 200.0, 32], [0, 0, 1]])
    return orbit(torch.zeros(3), 0.7, 10, 6.2832, intrinsics, 64, 64)


SETTINGS = FusionSettings(resolution=56, truncation=0.009)


def test_the_largest_part_is_the_ball_and_has_its_colours(
    avatar: TwoBalls, cameras: Camera
) -> None:
    mesh = fuse_mesh(avatar, avatar.track[0], cameras, SETTINGS)
    distance = mesh.vertices.norm(dim=1)
    assert float((distance - RADIUS).abs().max()) < 0.006
    assert mesh.colors is not None
    expected = 0.5 + 0.4 * normalize(mesh.vertices, dim=1)
    assert float((mesh.colors - expected).abs().median()) < 0.02


def test_other_parts_are_kept_on_request(avatar: TwoBalls, cameras: Camera) -> None:
    pose = avatar.track[0]
    both = fuse_mesh(avatar, pose, cameras, replace(SETTINGS, parts=2, min_part_faces=10))
    assert float((both.vertices - BESIDE).norm(dim=1).min()) < SMALL + 0.006
    every = fuse_mesh(avatar, pose, cameras, replace(SETTINGS, parts=0))
    assert len(every.faces) >= len(both.faces)
    large = fuse_mesh(avatar, pose, cameras, replace(SETTINGS, parts=2, min_part_faces=2000))
    assert float((large.vertices - BESIDE).norm(dim=1).min()) > 1.5 * SMALL


def test_the_expected_depth_lies_where_it_was_rendered(avatar: TwoBalls, cameras: Camera) -> None:
    back = cameras[5:6]
    axis = back.camera_to_world[0, :3, 2]
    reached = []
    for depth in ("median", "expected"):
        mesh = fuse_mesh(avatar, avatar.track[0], back, replace(SETTINGS, depth=depth))
        along = mesh.vertices @ axis
        is_central = (mesh.vertices - along[:, None] * axis).norm(dim=1) < 0.02
        reached.append(float(along[is_central].mean()))
    assert reached[1] - reached[0] == pytest.approx(0.01, abs=0.001)


def test_masks_cut_what_their_views_add(avatar: TwoBalls, cameras: Camera) -> None:
    pose, front = avatar.track[0], cameras[:1]
    left = torch.zeros(1, 64, 64)
    left[..., :32] = 1.0
    whole = fuse_mesh(avatar, pose, front, SETTINGS).vertices
    half = fuse_mesh(avatar, pose, front, SETTINGS, [left]).vertices
    right = torch.linalg.inv(front.camera_to_world[0])[0, :3]
    assert float((whole @ right).max()) > 0.05
    assert float((half @ right).max()) < 0.006
    assert float((half @ right).min()) < -0.05
    with pytest.raises(ValueError, match="no surface was seen"):
        fuse_mesh(avatar, pose, front, SETTINGS, [torch.zeros(1, 64, 64)])
    with pytest.raises(ValueError, match="masks must be 1, one per camera, got 2"):
        fuse_mesh(avatar, pose, front, SETTINGS, [left, left])


def test_a_voxel_size_decides_instead_of_the_resolution(avatar: TwoBalls, cameras: Camera) -> None:
    pose = avatar.track[0]
    edge = 1.2 * 2 * float(avatar.head.vertices(pose)[0].abs().max())
    by_size = fuse_mesh(avatar, pose, cameras, FusionSettings(voxel_size=edge / 40))
    by_count = fuse_mesh(avatar, pose, cameras, FusionSettings(resolution=42))
    assert len(by_size.faces) == pytest.approx(len(by_count.faces), rel=0.15)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"resolution": 1}, "resolution must be at least 2, got 1"),
        ({"voxel_size": -1.0}, r"voxel_size must be positive, got -1\.0"),
        ({"truncation": 0.0}, "truncation must be positive"),
        ({"parts": -1}, "must not be negative, got -1 and 50"),
    ],
)
def test_settings_without_a_surface_are_refused(changes: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(SETTINGS, **changes)
