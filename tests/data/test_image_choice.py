"""What of an image set is used, how often, and in which order it comes."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch

from tiny_image_sets import labels_at, png, write_files, write_image_set
from vultus.data.camera_labels import label_angles, mirror_labels
from vultus.data.image_choice import (
    ChoiceConfig,
    ShuffledOrder,
    choose_entries,
    yaw_repeats,
)
from vultus.data.image_feed import ImageFeed, StorageChoice
from vultus.data.image_set import open_image_set
from vultus.data.semantics import PARSING_CLASSES

DEGREES = [0.0, 30.0, -80.0, 100.0, -170.0]
LABELS = labels_at([math.radians(angle) for angle in DEGREES])


def test_views_from_behind_are_repeated_and_all_are_mirrored() -> None:
    entries = choose_entries(LABELS, ChoiceConfig(back_repeat=3), seed=0)
    assert entries.rows.bincount().tolist() == [2, 2, 2, 6, 6]
    assert int(entries.is_mirrored.sum()) == len(entries.rows) // 2
    expected = torch.where(
        entries.is_mirrored[:, None], mirror_labels(LABELS[entries.rows]), LABELS[entries.rows]
    )
    assert torch.equal(entries.labels, expected)


def test_filters_keep_ranges_of_yaw_and_pitch() -> None:
    side = choose_entries(LABELS, ChoiceConfig(min_yaw=60.0, max_yaw=120.0, mirror=False), seed=0)
    assert side.rows.tolist() == [2, 3]
    assert side.is_mirrored.any().item() is False
    with pytest.raises(ValueError, match=r"no image has a yaw of 0\.0 to 180\.0 degrees"):
        choose_entries(LABELS, ChoiceConfig(max_pitch=1.0), seed=0)


def test_some_images_are_taken_by_the_seed() -> None:
    config = ChoiceConfig(max_images=3, mirror=False)
    first = choose_entries(LABELS, config, seed=0)
    assert len(first.rows) == 3
    assert torch.equal(first.rows, choose_entries(LABELS, config, seed=0).rows)
    others = [choose_entries(LABELS, config, seed=seed).rows.tolist() for seed in range(1, 6)]
    assert any(rows != first.rows.tolist() for rows in others)


def test_small_groups_of_views_are_repeated_until_they_are_large_enough() -> None:
    yaw = torch.tensor([1.0, 2.0, 3.0, 7.0, -180.0, 180.0])
    # Groups of 5 degrees: three, one, one and one (180 belongs to the last group).
    assert yaw_repeats(yaw, 5.0, 4).tolist() == [2, 2, 2, 4, 4, 4]
    generator = torch.Generator().manual_seed(0)
    many = 360.0 * torch.rand(2000, generator=generator) - 180.0
    repeats = yaw_repeats(many, 5.0, 20)
    totals = ((many + 180.0) / 5.0).floor().long().bincount(weights=repeats.double())
    assert float(totals[totals > 0].min()) >= 20.0
    assert int(repeats.min()) == 1
    balanced = choose_entries(LABELS, ChoiceConfig(least_per_group=4, mirror=False), seed=0)
    assert balanced.rows.bincount().tolist() == [4] * 5


def test_flipped_semantic_maps_exchange_left_and_right(tmp_path: Path) -> None:
    root = write_image_set(tmp_path / "set", LABELS[:1])
    eyes = torch.zeros(1, 16, 16, dtype=torch.uint8)
    left, right, nose = (PARSING_CLASSES.index(name) for name in ("l_eye", "r_eye", "nose"))
    # In a frontal picture the subject's left eye is to the right.
    eyes[0, 4, 3], eyes[0, 4, 12], eyes[0, 8, 6] = right, left, nose
    write_files(root / "parts", {"00000/img00000000.png": png(eyes)})
    images = open_image_set(root, needs_parts=True)
    entries = choose_entries(images.labels, ChoiceConfig(), seed=0)
    for storage in ("resident", "streamed"):
        feed = ImageFeed(images, entries, 0, storage=storage)
        batch = next(feed.batches([(0, 2)]))
        places = feed._order.take(0, 2)
        assert batch.parts is not None
        assert batch.masks is not None
        for row, is_mirrored in enumerate(entries.is_mirrored[places].tolist()):
            parts = batch.parts[row]
            found = (int(parts[4, 3]), int(parts[4, 12]), int(parts[8, 9 if is_mirrored else 6]))
            assert found == (right, left, nose)
            assert int((parts > 0).sum()) == 3
            expected = images.pixels(0)[3].flip(1) if is_mirrored else images.pixels(0)[3]
            assert torch.equal(batch.masks[row, 0], expected)


@pytest.mark.parametrize(
    "wrong", [{"min_yaw": 90.0, "max_yaw": 10.0}, {"back_repeat": 0}, {"max_images": 0}]
)
def test_contradictions_are_refused(wrong: dict) -> None:
    with pytest.raises(ValueError, match=r"must"):
        ChoiceConfig(**wrong)


def test_every_entry_comes_once_an_epoch_whatever_the_pieces() -> None:
    whole = ShuffledOrder(7, seed=3).take(0, 21)
    for epoch in whole.split(7):
        assert sorted(epoch.tolist()) == list(range(7))
    assert not torch.equal(whole[:7], whole[7:14])
    again = ShuffledOrder(7, seed=3)
    # Another process starts in the middle, with pieces that straddle epochs.
    pieces = [again.take(first, 4) for first in (12, 4, 8, 16, 0)]
    assert torch.equal(torch.cat([pieces[i] for i in (4, 1, 2, 0, 3)]), whole[:20])
    assert not torch.equal(ShuffledOrder(7, seed=4).take(0, 21), whole)


@pytest.mark.parametrize("storage", ["resident", "streamed"])
def test_batches_hold_images_as_they_are_or_flipped_with_their_cameras(
    tmp_path: Path, storage: StorageChoice
) -> None:
    # Threads read the archive at the same time.
    images = open_image_set(write_image_set(tmp_path, LABELS, suffix=".zip"))
    entries = choose_entries(images.labels, ChoiceConfig(), seed=0)
    feed = ImageFeed(images, entries, 5, storage=storage)
    order = ShuffledOrder(len(entries.rows), 5)
    batches = list(feed.batches([(0, 4), (8, 4), (4, 4)]))
    for batch, first in zip(batches, (0, 8, 4), strict=True):
        for place, entry in enumerate(order.take(first, 4).tolist()):
            pixels = images.pixels(int(entries.rows[entry]))
            if entries.is_mirrored[entry]:
                pixels = pixels.flip(2)
            assert torch.equal(batch.pixels[place], pixels)
            assert torch.equal(batch.labels[place], entries.labels[entry])


def test_lights_are_repeated_and_mirrored_with_their_images(tmp_path: Path) -> None:
    lights = torch.randn(len(LABELS), 9, generator=torch.Generator().manual_seed(1))
    entries = choose_entries(LABELS, ChoiceConfig(back_repeat=2), 0, lights)
    assert entries.lights is not None
    # Y, Z, YZ, ZZ and XX - YY are even in X, as is the constant.
    signs = torch.tensor([1.0, 1, 1, -1, -1, 1, 1, -1, 1])
    factor = torch.where(entries.is_mirrored[:, None], signs, 1.0)
    assert torch.equal(entries.lights, lights[entries.rows] * factor)
    images = open_image_set(write_image_set(tmp_path, LABELS))
    feed = ImageFeed(images, entries, 5)
    batches = list(feed.batches([(2, 4), (6, 4)]))
    known = feed.conditions_at(2, 8)
    assert known.lights is not None
    for first, batch in zip((0, 4), batches, strict=True):
        assert torch.equal(batch.labels, known.labels[first : first + 4])
        assert batch.conditions.lights is not None
        assert torch.equal(batch.conditions.lights, known.lights[first : first + 4])
    assert torch.equal(known.lights, entries.lights[ShuffledOrder(len(entries.rows), 5).take(2, 8)])


def test_drawn_cameras_are_distributed_as_the_entries(tmp_path: Path) -> None:
    images = open_image_set(write_image_set(tmp_path, LABELS))
    entries = choose_entries(images.labels, ChoiceConfig(back_repeat=4, mirror=False), seed=0)
    feed = ImageFeed(images, entries, 0)
    drawn = feed.draw_labels((400, 2), torch.Generator().manual_seed(0))
    assert drawn.shape == (400, 2, 25)
    turn = label_angles(drawn.flatten(0, 1))[:, 0].abs()
    # Two views of five are from behind, and appear four times.
    assert float((turn > math.pi / 2).float().mean()) == pytest.approx(8 / 11, abs=0.05)
