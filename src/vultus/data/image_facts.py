"""What files of generators tell about the images that they were trained on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from vultus.core.files import read_json
from vultus.data.image_set import IMAGE_FOLDER, ImageSet
from vultus.data.studio.collection.config import COLLECTION_FORMAT, COLLECTION_NOTE

__all__ = ["image_set_facts"]


def image_set_facts(images: ImageSet) -> dict[str, Any]:
    """Describe a set in JSON facts without paths; collections of the studio say how they were made.

    Files of others under the name of a collection's note tell nothing.

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
    note_path = root / COLLECTION_NOTE
    note = read_json(note_path) if note_path.is_file() else None
    if isinstance(note, dict) and note.get("format") == COLLECTION_FORMAT:
        facts["collection"] = _collection_settings(note_path, note.get("config"))
    return facts


def _collection_settings(path: Path, settings: object) -> dict[str, Any]:
    if not isinstance(settings, dict):
        raise ValueError(f"{path} must hold the settings of a collection")
    return {name: value for name, value in settings.items() if not name.endswith("_file")}
