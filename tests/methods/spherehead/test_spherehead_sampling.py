"""People of seeds, what lies between them, and cameras around them."""

from __future__ import annotations

import math
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from tiny_generators import TINY, tiny_generator
from tolerances import assert_close
from vultus.data.camera_labels import check_label
from vultus.methods.head_views import ViewRig, motion_labels, ring_labels, strip_labels
from vultus.methods.latents import (
    closed_slerp,
    closed_spline,
    latents_of_seeds,
    mix_styles,
    read_styles,
)
from vultus.methods.people import People, mixed_person
from vultus.methods.spherehead.sampling import HeadSampler, SamplingSettings

RIG = ViewRig()


def sampler(**settings: object) -> HeadSampler:
    return HeadSampler(tiny_generator(), RIG, SamplingSettings(**settings))  # pyright: ignore[reportArgumentType]


def published_center(h: float, v: float) -> list[float]:
    """Where the release puts a camera for its angles."""
    phi = math.acos(1.0 - 2.0 * v / math.pi)
    x, y, z = math.sin(phi) * math.cos(math.pi - h), math.cos(phi), math.sin(phi) * math.sin(h)
    return [2.7 * x, 2.7 * y, 2.7 * z]


def centers(labels: Tensor) -> Tensor:
    return labels[:, [3, 7, 11]]


def test_strips_have_the_published_cameras() -> None:
    half = math.pi / 2
    yaws = [0.0, -math.pi / 4, -half, -3 * math.pi / 4, -math.pi]
    wanted = torch.tensor([published_center(half + yaw, half - 0.2) for yaw in yaws])
    assert_close(centers(strip_labels(RIG)), wanted, looser=10.0, reason="angles in float32")


def test_orbits_have_the_published_cameras() -> None:
    turns = [2 * math.pi * k / 8 for k in range(8)]
    half = math.pi / 2
    wanted = [published_center(half + t, half - 0.05 + 0.5 * math.sin(t)) for t in turns]
    found = centers(motion_labels(RIG, "orbit", 8))
    assert_close(found, torch.tensor(wanted), looser=10.0, reason="angles in float32")


def test_rings_start_in_front_and_have_equal_steps() -> None:
    x, y, z = centers(ring_labels(RIG, 4)).unbind(dim=1)
    yaws = torch.atan2(x, z).rad2deg() % 360.0
    assert_close(yaws, torch.tensor([0.0, 90.0, 180.0, 270.0]), looser=50.0, reason="degrees")
    assert_close(y, y[:1].expand(4))


@pytest.mark.parametrize("motion", ["orbit", "front", "swing"])
def test_films_have_rigid_cameras_at_one_distance(motion: str) -> None:
    rig = ViewRig(distance=1.5, focal=2.0, target=(0.0, 0.1, 0.2))
    labels = motion_labels(rig, motion, 7)  # pyright: ignore[reportArgumentType]
    for label in labels:
        check_label(label, "label")
    assert_close(centers(labels).norm(dim=1), torch.full((7,), 1.5))
    assert (len(labels.unique(dim=0)) == 1) == (motion == "front")


def test_latents_are_those_of_the_published_programs() -> None:
    drawn = latents_of_seeds([3, 0], 5)
    wanted = np.random.RandomState(3).randn(1, 5)
    assert_close(drawn[:1], torch.from_numpy(wanted).float())


def test_the_spline_meets_its_keys_smoothly_and_closes() -> None:
    keys = torch.randn(3, 2, 4, generator=torch.Generator().manual_seed(0)).double()
    assert_close(closed_spline(keys, torch.arange(4.0)), keys[[0, 1, 2, 0]])
    step = 1e-4
    times = torch.tensor([0.0, step, 1.0 - step, 1.0, 1.0 + step, 3.0 - step], dtype=torch.float64)
    curve = closed_spline(keys, times)
    into, out = curve[3] - curve[2], curve[4] - curve[3]
    assert float((into - out).abs().max()) < 100 * step**2
    around, on = curve[0] - curve[5], curve[1] - curve[0]
    assert float((around - on).abs().max()) < 100 * step**2


def test_arcs_between_latents_keep_norm_and_speed() -> None:
    keys = torch.tensor([[2.0, 0.0], [0.0, 2.0]])
    found = closed_slerp(keys, torch.tensor([0.0, 1 / 3, 1.0, 1.5, 2.0]))
    angles = torch.tensor([0.0, 30.0, 90.0, 45.0, 0.0]).deg2rad()
    assert_close(found, 2.0 * torch.stack([angles.cos(), angles.sin()], dim=1))


def test_arcs_between_equal_latents_stand_still() -> None:
    keys = torch.tensor([[1.0, 2.0, 3.0]] * 2)
    assert_close(closed_slerp(keys, torch.tensor([0.25, 1.5])), keys)


def test_mixed_styles_come_from_both() -> None:
    coarse, fine = torch.zeros(1, 6, 2), torch.ones(1, 6, 2)
    assert mix_styles(coarse, fine, 2)[0, :, 0].tolist() == [0, 0, 1, 1, 1, 1]
    assert torch.equal(mix_styles(coarse, fine, 0), fine)
    assert torch.equal(mix_styles(coarse, fine, 6), coarse)
    with pytest.raises(ValueError, match="first_fine must be 0 to 6, got 7"):
        mix_styles(coarse, fine, 7)


def test_a_person_does_not_depend_on_who_else_is_generated() -> None:
    source = sampler(noise="random", camera_offset="own")
    together, alone = source.people((7, 3, 5)), source.people((3,))
    assert torch.equal(together[1].ws, alone.ws)
    assert torch.equal(together[1].offsets, alone.offsets)
    label = RIG.label(0.4)
    images = [source.view(source.head(person), label).image for person in (together[1], alone)]
    assert torch.equal(*images)
    other = source.view(source.head(together[0]), label).image
    assert not torch.allclose(other, images[0])


def test_random_noise_is_the_same_in_all_views_and_differs_between_seeds() -> None:
    generator = tiny_generator()
    for name, parameter in generator.named_parameters():
        if name.endswith("noise_strength"):
            parameter.fill_(0.5)
    source = HeadSampler(generator, RIG, SamplingSettings(noise="random"))
    person = source.people((1,))
    head, again = source.head(person), source.head(person)
    assert torch.equal(head.planes, again.planes)
    first = source.view(head, RIG.label(0.3)).image
    source.view(head, RIG.label(1.0))
    assert torch.equal(source.view(head, RIG.label(0.3)).image, first)
    other = source.head(replace(person, seeds=(2,)))
    assert not torch.allclose(other.planes, head.planes)


def test_truncation_moves_people_to_the_mean() -> None:
    mean = tiny_generator().backbone.mapping.mean_w
    full, half, none = (sampler(truncation=t).people((4,)).ws[0] for t in (1.0, 0.5, 0.0))
    assert_close(none, mean.expand_as(none))
    assert_close(half, 0.5 * (full + mean))
    some = sampler(truncation=0.0, cutoff=2).people((4,)).ws[0]
    assert_close(some[:2], none[:2])
    assert_close(some[2:], full[2:])


def test_the_conditioning_camera_changes_people() -> None:
    assert not torch.allclose(sampler().people((1,)).ws, sampler(condition_yaw=1.5).people((1,)).ws)


def test_cameras_of_views_do_not_change_who_is_seen() -> None:
    near = ViewRig(distance=2.0, focal=3.0)
    for offset in ("own", "mean"):
        settings = SamplingSettings(camera_offset=offset)
        usual = HeadSampler(tiny_generator(), RIG, settings).people((1,))
        close = HeadSampler(tiny_generator(), near, settings, RIG).people((1,))
        assert torch.equal(close.ws, usual.ws)
        assert torch.equal(close.offsets, usual.offsets)
    other = HeadSampler(tiny_generator(), near, settings).people((1,))
    assert not torch.allclose(other.ws, usual.ws)


def test_learned_offsets_move_cameras_as_in_training() -> None:
    source = sampler(camera_offset="own")
    person = source.people((2,))
    z, label = latents_of_seeds([2], TINY.z_dim), RIG.label()
    shifted, offset = source.generator.offset_labels(z, label)
    assert_close(person.offsets, offset)
    assert_close(source.seen_label(source.head(person), label), shifted)
    assert float(offset.abs().max()) > 1e-4
    mean = sampler(camera_offset="mean").people((2, 3)).offsets
    assert torch.equal(mean[0], mean[1])
    assert sampler().people((2,)).offsets.abs().max() == 0


def test_the_way_between_people_meets_them() -> None:
    source = sampler(truncation=1.0)
    keys = source.people((1, 2, 3))
    for between in ("w", "z"):
        way = source.way(keys, torch.tensor([0.0, 0.5, 1.0, 2.0]), between)
        assert_close(way.ws[[0, 2, 3]], keys.ws, looser=10.0, reason="norms are taken apart")
        assert not torch.allclose(way.ws[1], way.ws[0])
    still = source.way(keys[0], torch.tensor([0.0, 0.7]))
    assert torch.equal(still.ws[0], still.ws[1])


def test_people_of_styles_have_no_way_along_latents() -> None:
    source = sampler(camera_offset="mean", truncation=0.0)
    ws = torch.randn(2, source.generator.num_ws, TINY.w_dim)
    people = source.people_of_styles(ws)
    assert torch.equal(people.ws, ws)
    assert torch.equal(people.offsets[0], source.people((1,)).offsets[0])
    assert_close(source.way(people, torch.tensor([1.0])).ws[0], ws[1])
    with pytest.raises(ValueError, match="between must be 'w' for people of styles"):
        source.way(people, torch.tensor([0.5]), "z")
    with pytest.raises(ValueError, match="camera_offset must not be 'own' for styles"):
        sampler(camera_offset="own").people_of_styles(ws)


def test_people_are_taken_apart_and_joined() -> None:
    people = sampler().people((4, 5, 6))
    again = People.join([people[:2], people[-1]])
    assert again.seeds == (4, 5, 6)
    assert torch.equal(again.ws, people.ws)
    assert again.z is not None
    assert torch.equal(again.z, latents_of_seeds((4, 5, 6), TINY.z_dim))
    assert People.join([people[0], replace(people[1], z=None)]).z is None
    assert [person.seeds for person in people] == [(4,), (5,), (6,)]
    with pytest.raises(IndexError):
        people[3]


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"v": np.zeros((1, 2, 3))}, "array 'w' is missing"),
        ({"w": np.zeros((2, 3))}, "w must hold floats of the shape"),
        ({"w": np.zeros((1, 2, 3), np.int64)}, "w must hold floats of the shape"),
        ({"w": np.array([{}], dtype=object)}, "not a readable .npz file"),
    ],
)
def test_files_without_styles_are_refused(
    tmp_path: Path, arrays: dict[str, np.ndarray], message: str
) -> None:
    np.savez(tmp_path / "w.npz", **arrays)  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match=re.escape(message)):
        read_styles(tmp_path / "w.npz")


def test_a_mixed_person_keeps_the_camera_of_the_coarse_one() -> None:
    people = sampler(camera_offset="own").people((1, 2))
    mixed = mixed_person(people[0], people[1], 3)
    assert torch.equal(mixed.ws[:, 3:], people[1].ws[:, 3:])
    assert torch.equal(mixed.offsets, people[0].offsets)


def test_more_samples_and_larger_feature_images_are_rendered() -> None:
    source = sampler(sample_factor=2.0, neural_size=24)
    assert source.volume.coarse_samples == 2 * TINY.volume.coarse_samples
    images = source.view(source.head(source.people((1,))), RIG.label())
    assert images.raw_image is not None
    assert images.raw_image.shape == (1, 3, 24, 24)
    assert images.image.shape == (1, 3, 64, 64)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"truncation": 2.5}, r"truncation must be in \[0, 2\], got 2.5"),
        ({"truncation": math.nan}, "truncation must be"),
        ({"neural_size": 33}, "neural_size must be an even number from 8 to 1024, got 33"),
        ({"cutoff": -1}, "cutoff must not be negative"),
        ({"sample_factor": 0.0}, "sample_factor must be in"),
    ],
)
def test_settings_that_make_no_heads_are_refused(settings: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SamplingSettings(**settings)  # pyright: ignore[reportArgumentType]


def test_cameras_that_see_nothing_are_refused() -> None:
    with pytest.raises(ValueError, match="distance must be positive, got 0"):
        ViewRig(distance=0.0)
