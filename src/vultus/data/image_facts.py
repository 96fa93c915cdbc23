"""What files of generators tell about the images that they were trained on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from vultus.core.files import read_json
from vultus.data.image_set import IMAGE_FOLDER, ImageSet

__all__ = ["image_set_facts"]

_COLLECTION_NOTE = "collection.json"


def image_set_facts(images: ImageSet) -> dict[str, Any]:
    """Describe a set in JSON facts without paths; collections of the studio say how they were made.

    Raises:
        ValueError: If the note of a collection is damaged.
    """
    path = images.path.resolve()
    root = path.parent if path.stem == IMAGE_FOLDER else path
    facts: dict[str, Any] = {
        "name": root.name,
        "images": len(images),
        "size": images.size,
        "id": images.fingerprint(),
    }
    note = root / _COLLECTION_NOTE
    if note.is_file():
        facts["collection"] = _collection_settings(note)
    return facts


def _collection_settings(path: Path) -> dict[str, Any]:
    note = read_json(path)
    settings = note.get("config") if isinstance(note, dict) else None
    if not isinstance(settings, dict):
        raise ValueError(f"{path} must hold the settings of a collection")
    return {name: value for name, value in settings.items() if not name.endswith("_file")}
