"""Views of renderings: what they show, and what is written of them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity

from fakes import FakeHead
from tiny_captures import film_fake_head, tiny_surfhead
from vultus.core.image_io import read_image
from vultus.data.readers import load_frame
from vultus.data.sequence import HeadSequence
from vultus.export.films import film_of
from vultus.export.mesh_pictures import mesh_overlay, mesh_picture
from vultus.export.pictures import side_by_side
from vultus.export.shots import (
    ALL_VIEWS,
    CAPTURE_VIEWS,
    Shot,
    View,
    can_show,
    frame_shots,
    path_shots,
    picture_of,
    save_views,
)
from vultus.geometry.cameras import Camera, camera_centers, look_at, pixel_directions
from vultus.methods.surfhead.model import SurfHead


@pytest.fixture(scope="module")
def sequence(tmp_path_factory: pytest.TempPathFactory) -> HeadSequence:
    return film_fake_head(tmp_path_factory.mktemp("shots") / "capture")


@pytest.fixture(scope="module")
def avatar(sequence: HeadSequence) -> SurfHead:
    return SurfHead(tiny_surfhead(), sequence, 0)


@pytest.fixture(scope="module")
def shot(avatar: SurfHead, sequence: HeadSequence) -> Shot:
    return next(iter(frame_shots(avatar, sequence, sequence.split("test")[1:2])))


def sphere_seen_from(camera: Camera, radius: float) -> tuple[Tensor, Tensor]:
    """Cosine at the first hit of every pixel's ray with a sphere in the origin; where it hits."""
    origin = camera_centers(camera)[0].double()
    rotation = camera.camera_to_world[0, :3, :3].double()
    rays = torch.nn.functional.normalize(pixel_directions(camera)[0].double() @ rotation.T, dim=-1)
    middle = rays @ origin
    gap = middle.square() - origin @ origin + radius**2
    points = origin + rays * (-middle - gap.clamp(min=0).sqrt())[..., None]
    return -(points * rays).sum(dim=-1) / radius, gap > 0


def test_a_mesh_is_shaded_by_its_angle_to_the_ray() -> None:
    head = FakeHead(rings=48, segments=72)
    vertices, faces = head.neutral, head.topology.faces
    camera = Camera(
        look_at(torch.tensor([[0.3, 0.2, 0.5]]), torch.zeros(3)),
        torch.tensor([[[90.0, 0, 32], [0, 90, 24], [0, 0, 1]]]),
        64,
        48,
    )
    shade, is_seen = mesh_picture(vertices, faces, camera)
    cosine, is_hit = sphere_seen_from(camera, 0.1)
    # Flat triangles lie a little inside the sphere: pixels of the outline may differ.
    assert int(((is_seen[0] > 0) != is_hit).sum()) <= 12
    inside = is_hit & (cosine > 0.3)
    expected = 0.25 + 0.75 * cosine[inside]
    torch.testing.assert_close(shade[0][inside].double(), expected, atol=0.02, rtol=0)
    image = torch.full((3, 48, 64), 0.2)
    drawn = mesh_overlay(image, vertices, faces, camera, opacity=0.5)
    outside = is_seen[0] == 0
    assert torch.equal(drawn[:, outside], image[:, outside])
    torch.testing.assert_close(drawn[1][~outside], 0.1 + 0.5 * shade[0][~outside])


def test_every_view_is_a_picture_of_the_size_of_the_image(shot: Shot) -> None:
    for view in ALL_VIEWS:
        picture = picture_of(shot, view)
        assert picture.shape == (3, 40, 40)
        assert float(picture.min()) >= 0
        assert float(picture.max()) <= 1
        assert float(picture.std()) > 0.01


def test_truth_is_what_the_capture_holds(shot: Shot, sequence: HeadSequence) -> None:
    frame = load_frame(sequence, sequence.split("test")[1])
    assert frame.mask is not None
    assert torch.equal(picture_of(shot, "truth"), frame.rgb[0])
    assert torch.equal(picture_of(shot, "mask"), frame.mask[0].expand(3, -1, -1))
    assert frame.normals is not None
    known = frame.normals[0].norm(dim=0) > 0.5
    shown = 2 * picture_of(shot, "true_normals") - 1
    torch.testing.assert_close(shown[:, known], frame.normals[0][:, known], atol=1e-5, rtol=0)


def test_normals_of_the_depth_are_those_of_the_surfels_inside_the_head(shot: Shot) -> None:
    of_depth, of_surfels = shot.array("depth_normals"), shot.array("normals")
    cosine = cosine_similarity(of_depth, of_surfels, dim=0)
    inside = -torch.nn.functional.max_pool2d(-shot.output.alpha, 9, stride=1, padding=4) > 0.9
    assert int(inside.sum()) > 50
    assert float(cosine[inside[0, 0]].median()) > 0.95
    made = replace(shot.output, depth_normals=of_depth[None])
    assert torch.equal(replace(shot, output=made).array("depth_normals"), of_depth)


def test_near_is_warmer_than_far_and_the_colours_of_a_film_stay(
    avatar: SurfHead, sequence: HeadSequence
) -> None:
    camera = sequence.split("train")[0].camera
    cameras = camera[torch.zeros(2, dtype=torch.int64)]
    back = cameras.world_to_camera.clone()
    back[1, 2, 3] += 0.05
    moved = replace(cameras, world_to_camera=back)
    first, second = path_shots(avatar, avatar.track[0], moved)
    depth, inside = first.array("depth")[0], first.output.alpha[0, 0] > 0.99
    picture = picture_of(first, "depth")
    warmth = picture[0] - picture[2]
    near, far = (depth < depth[inside].quantile(0.2)), (depth > depth[inside].quantile(0.8))
    assert float(warmth[near & inside].mean()) > 0.3 + float(warmth[far & inside].mean())
    assert first.depth_bounds == second.depth_bounds
    # Five centimetres farther away, all of it is colder.
    center = picture_of(second, "depth")[:, 18:22, 18:22].mean(dim=(1, 2))
    before = picture[:, 18:22, 18:22].mean(dim=(1, 2))
    assert float(center[0] - center[2]) < float(before[0] - before[2]) - 0.1


def test_views_are_written_as_pictures_and_numbers(shot: Shot, tmp_path: Path) -> None:
    save_views(shot, tmp_path, ALL_VIEWS)
    names = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*.*")}
    pictures = {f"{view}/00004_01.png" for view in ALL_VIEWS}
    numbers = {"depth", "normals", "depth_normals", "true_normals"}
    assert names == pictures | {f"{view}/00004_01.npy" for view in numbers}
    for view in ("depth", "normals"):
        stored = np.load(tmp_path / view / "00004_01.npy")
        assert np.array_equal(stored, shot.array(view).numpy())
    written = read_image(tmp_path / "normals" / "00004_01.png")
    torch.testing.assert_close(written, picture_of(shot, "normals"), atol=0.51 / 255, rtol=0)


def test_truth_that_is_not_there_is_refused(shot: Shot) -> None:
    alone = replace(shot, frame=None)
    assert [view for view in ALL_VIEWS if not can_show(None, view)] == list(CAPTURE_VIEWS)
    for view in CAPTURE_VIEWS:
        with pytest.raises(ValueError, match=f"view '{view}' needs an image of the capture"):
            picture_of(alone, view)
    assert shot.frame is not None
    blind = replace(shot.frame, mask=None, normals=None)
    assert [v for v in ALL_VIEWS if not can_show(blind, v)] == ["mask", "true_normals"]
    with pytest.raises(ValueError, match="'true_normals' needs"):
        replace(shot, frame=blind).array("true_normals")
    with pytest.raises(ValueError, match="to have numbers, got 'rgb'"):
        shot.array("rgb")


def test_what_an_avatar_does_not_render_is_not_there(shot: Shot) -> None:
    assert all(shot.has(view) for view in ALL_VIEWS)
    none = dict.fromkeys(("depth", "median_depth", "depth_normals", "normals"))
    flat = replace(shot.output, **none)
    missing: list[View] = [view for view in ALL_VIEWS if not replace(shot, output=flat).has(view)]
    assert missing == ["depth", "normals", "depth_normals"]
    for view in missing:
        with pytest.raises(ValueError, match="ask the renderer for it"):
            picture_of(replace(shot, output=flat), view)


def test_films_leave_out_what_cannot_be_shown_only_if_told_so(shot: Shot) -> None:
    flat = replace(shot, output=replace(shot.output, normals=None))
    (picture,) = film_of([flat], ("truth", "rgb", "normals"), leave_out=True)
    assert torch.equal(picture, side_by_side([picture_of(shot, v) for v in ("truth", "rgb")]))
    with pytest.raises(ValueError, match="holds no normals"):
        next(film_of([flat], ("truth", "rgb", "normals")))
    with pytest.raises(ValueError, match="none of the views normals can be made"):
        next(film_of([flat], ("normals",), leave_out=True))


def test_poses_and_cameras_must_match(avatar: SurfHead, sequence: HeadSequence) -> None:
    cameras = sequence.split("train")[0].camera[torch.zeros(3, dtype=torch.int64)]
    with pytest.raises(ValueError, match="pose must have 1 or 3 frames, got 2"):
        next(path_shots(avatar, avatar.track[torch.arange(2)], cameras))
