"""Pictures and films of generated heads."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from tiny_generators import tiny_generator
from tolerances import assert_close
from vultus.core.image_io import read_image, to_bytes
from vultus.data.camera_labels import labels_to_camera
from vultus.export.generator_films import GeneratorFilm, film_people
from vultus.export.generator_pictures import (
    mixing_sheet,
    picture_of_head,
    save_outputs,
    view_sheet,
)
from vultus.export.mesh_pictures import mesh_picture
from vultus.methods.generated_heads import HeadView
from vultus.methods.head_views import ViewRig, motion_labels
from vultus.methods.spherehead.density import DensitySettings, head_mesh
from vultus.methods.spherehead.sampling import HeadSampler, SamplingSettings

RIG = ViewRig()
FILM = GeneratorFilm((2, 1), frames_per_person=3)


def sampler() -> HeadSampler:
    return HeadSampler(tiny_generator(), RIG, SamplingSettings(truncation=1.0))


def wall(z: float, yaw: float = 0.0) -> HeadView:
    """A flat wall through the world that faces a camera, at a depth."""
    mask = torch.ones(1, 8, 8)
    mask[..., :4] = 0.0
    image = torch.linspace(-0.25, 1.25, 16 * 16).clamp(0, 1).view(1, 16, 16).expand(3, 16, 16)
    camera = labels_to_camera(RIG.label(yaw), 8)
    return HeadView(image, mask, torch.full((1, 8, 8), z), camera, raw=image[..., ::2, ::2])


def test_depth_becomes_normals_of_the_world() -> None:
    normals = wall(2.5).normals()[:, 1:-1, 1:-1]
    wanted = torch.tensor([0.0, 0.0, 1.0])[:, None, None].expand_as(normals)
    assert_close(normals, wanted, looser=50.0, reason="differences of depth")
    side = wall(2.5, torch.pi / 2).normals()[:, 4, 4]
    assert_close(side, torch.tensor([1.0, 0.0, 0.0]), looser=50.0, reason="differences of depth")


def test_surfaces_cover_what_images_show() -> None:
    settings = SamplingSettings(truncation=1.0, neural_size=32, sample_factor=6.0)
    source = HeadSampler(tiny_generator(), RIG, settings)
    head = source.head(source.people((0,)))
    density = DensitySettings(resolution=64, level=4.0, only_largest=False)
    mesh = head_mesh(source.generator, head, density)
    label = RIG.label(0.7, 0.2)
    mask = source.look(head, label).alpha[0] > 0.5
    _, cover = mesh_picture(mesh.vertices, mesh.faces, labels_to_camera(label, 32))

    def overlap(cover: Tensor) -> float:
        return float((mask & cover).sum() / (mask | cover).sum())

    assert overlap(cover[0] > 0.5) > 0.9
    assert overlap(cover[0].flip(1) > 0.5) < 0.5
    assert overlap(cover[0].flip(0) > 0.5) < 0.9


def test_outputs_are_pictures_of_the_final_size() -> None:
    seen = wall(2.5)
    ramp = picture_of_head(seen, "rgb")
    assert ramp.shape == (3, 16, 16)
    assert float(ramp.min()) == 0.0
    assert float(ramp.max()) == 1.0
    assert torch.equal(picture_of_head(seen, "raw")[:, ::2, ::2], ramp[:, ::2, ::2])
    mask = picture_of_head(seen, "mask")
    assert mask[:, :, :8].abs().max() == 0
    assert mask[:, :, 8:].min() == 1
    normals = picture_of_head(seen, "normals")
    assert torch.equal(normals[:, 8, 2], torch.ones(3))  # What is not head is white.
    assert torch.equal(normals[:, 0, 12], torch.ones(3))  # So is the border.
    assert_close(normals[:, 8, 10], torch.tensor([0.5, 0.5, 1.0]), looser=50.0, reason="slopes")
    near, far = (picture_of_head(wall(z), "depth", (2.0, 3.0)) for z in (2.1, 2.9))
    assert near[0, 8, 12] > near[2, 8, 12]  # Near is red, far is blue.
    assert far[0, 8, 12] < far[2, 8, 12]


def test_a_sheet_has_a_row_for_each_output_and_common_depth_colours() -> None:
    sheet = view_sheet([wall(2.2), wall(2.8)], ("rgb", "depth"))
    assert sheet.shape == (3, 16 + 4 + 16, 16 + 4 + 16)
    left, right = sheet[:, 20 + 8, 12], sheet[:, 20 + 8, 20 + 12]
    assert float((left - right).abs().max()) > 0.2


def test_outputs_are_saved_one_by_one_with_their_numbers(tmp_path: Path) -> None:
    seen = wall(2.5)
    save_outputs(seen, tmp_path, "seed0001_000", ("rgb", "depth"))
    saved = read_image(tmp_path / "rgb/seed0001_000.png")
    assert torch.equal(to_bytes(saved), to_bytes(picture_of_head(seen, "rgb")))
    depth = np.load(tmp_path / "depth/seed0001_000.npy")
    assert_close(torch.from_numpy(depth), seen.depth)
    assert not (tmp_path / "rgb/seed0001_000.npy").exists()


def test_mixed_people_stand_beside_coarse_and_under_fine_ones() -> None:
    def shade(value: float) -> Tensor:
        return torch.full((3, 4, 4), value)

    mixed = [[shade(0.3), shade(0.4), shade(0.5)], [shade(0.6), shade(0.7), shade(0.8)]]
    sheet = mixing_sheet([shade(0.1), shade(0.2)], [shade(0.9)] * 3, mixed)
    assert_close(
        sheet[0, 2::8, 2::8],
        torch.tensor([[1.0, 0.9, 0.9, 0.9], [0.1, 0.3, 0.4, 0.5], [0.2, 0.6, 0.7, 0.8]]),
    )


def test_films_meet_their_people_from_the_cameras_of_the_path() -> None:
    source = sampler()
    people = source.people((1, 2, 3, 4))
    frames = list(film_people(source, people, FILM))
    assert len(frames) == FILM.num_frames(4) == 6
    assert frames[0].shape == (3, 64, 128)
    labels = motion_labels(RIG, "orbit", 6)
    for index, (left, right) in ((0, (0, 2)), (3, (1, 3))):
        label = labels[index : index + 1]
        shown = [source.look(source.head(people[row]), label) for row in (left, right)]
        wanted = torch.cat([picture_of_head(seen, "rgb") for seen in shown], dim=2)
        assert_close(frames[index], wanted, looser=1e3, reason="the spline rounds styles")


def test_films_of_one_person_and_of_several_outputs() -> None:
    source = sampler()
    film = GeneratorFilm(frames_per_person=3, outputs=("rgb", "mask"), motion="front")
    frames = list(film_people(source, source.people((5,)), film))
    assert len(frames) == 3
    assert frames[0].shape == (3, 64, 128)
    assert torch.equal(frames[0], frames[2])
    column = replace(film, grid=(1, 2), outputs=("rgb",))
    assert next(film_people(source, source.people((5, 6)), column)).shape == (3, 128, 64)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"grid": (0, 1)}, "grid must have at least 1 column and row, got 0 x 1"),
        ({"frames_per_person": 0}, "frames_per_person must be positive, got 0"),
        ({"outputs": ()}, "outputs must name at least one"),
    ],
)
def test_films_that_show_nothing_are_refused(change: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(FILM, **change)  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize("count", [0, 1, 3])
def test_people_whom_tiles_cannot_share_are_refused(count: int) -> None:
    with pytest.raises(ValueError, match=f"a multiple of the 2 tiles of the grid, got {count}"):
        FILM.num_frames(count)
