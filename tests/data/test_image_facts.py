"""What generators tell of their images."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tiny_image_sets import labels_at, write_image_set
from vultus.data.image_facts import image_set_facts
from vultus.data.image_set import open_image_set

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
    note.write_text(json.dumps({"config": {**settings, "head_file": "/heads/ict.npz"}}))
    assert image_set_facts(images)["collection"] == settings
    note.write_text("{}")
    with pytest.raises(ValueError, match=r"collection\.json must hold the settings"):
        image_set_facts(images)
