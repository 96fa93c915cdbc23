"""What generators tell of their images."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tiny_image_sets import labels_at, write_image_set
from vultus.data.image_facts import image_set_facts
from vultus.data.image_set import open_image_set
from vultus.data.studio.collection.config import COLLECTION_FORMAT

LABELS = labels_at([0.0, 1.0])


@pytest.mark.parametrize("suffix", ["", ".zip"])
def test_a_set_is_named_by_its_folder(tmp_path: Path, suffix: str) -> None:
    images = open_image_set(write_image_set(tmp_path / "people", LABELS, suffix=suffix))
    facts = image_set_facts(images)
    assert facts == {"name": "people", "images": 2, "size": 16, "id": images.fingerprint()}


def test_a_collection_says_how_it_was_made_but_not_where(tmp_path: Path) -> None:
    images = open_image_set(write_image_set(tmp_path / "people", LABELS))
    note = tmp_path / "people/collection.json"
    settings = {"seed": 3, "yaw_range": 0.9}
    content = {"format": COLLECTION_FORMAT, "config": {**settings, "head_file": "/heads/ict.npz"}}
    note.write_text(json.dumps(content))
    assert image_set_facts(images)["collection"] == settings
    for damage, message in (
        (json.dumps({"format": COLLECTION_FORMAT}), "must hold the settings"),
        (json.dumps(content)[:-5], "not JSON"),
    ):
        note.write_text(damage)
        with pytest.raises(ValueError, match=rf"collection\.json.* {message}"):
            image_set_facts(images)


@pytest.mark.parametrize("content", [{}, [], {"config": {"token": "secret"}}, {"format": "other"}])
def test_collection_notes_of_others_tell_nothing(tmp_path: Path, content: object) -> None:
    images = open_image_set(write_image_set(tmp_path / "people", LABELS))
    (tmp_path / "people/collection.json").write_text(json.dumps(content))
    assert "collection" not in image_set_facts(images)
