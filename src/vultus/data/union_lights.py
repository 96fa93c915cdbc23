"""What several sequences of one subject tell about their lights, as one card."""

from __future__ import annotations

import filecmp
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from vultus.core.files import atomic_path
from vultus.data.light_card import CARD_NAME, LightCard, find_test_map

__all__ = ["UnionLights", "join_lights"]


@dataclass(frozen=True)
class UnionLights:
    """Lights that hold for a whole union; checked but not written."""

    card: LightCard | None
    """``None`` where no sequence has one."""
    maps: Mapping[str, Path]
    """Files to copy, by their paths below the union."""
    notes: tuple[str, ...]
    """What was left out."""

    def write(self, root: Path) -> None:
        """Copy the maps, then write the card; without one, remove that of an earlier union."""
        if self.card is None:
            (root / CARD_NAME).unlink(missing_ok=True)
            return
        for name, source in self.maps.items():
            (root / name).parent.mkdir(exist_ok=True)
            with atomic_path(root / name) as temporary:
                shutil.copyfile(source, temporary)
        self.card.save(root / CARD_NAME, {})


@dataclass(frozen=True)
class _Light:
    map: Path
    exposure: float

    def equals(self, other: _Light) -> bool:
        same_map = filecmp.cmp(self.map, other.map, shallow=False)
        return same_map and self.exposure == other.exposure


def join_lights(sequences: Sequence[Path]) -> UnionLights:
    """Find the lights that sequences agree on.

    The training light is kept if all sequences were taken under it, and a test light if all that
    have one of its name have the same. How pictures are encoded and where lights stand must agree.

    Raises:
        FileNotFoundError: If a card names a map that does not exist.
        ValueError: If a card is wrong, or does not agree with the first one.
    """
    if not any((folder / CARD_NAME).is_file() for folder in sequences):
        return UnionLights(None, {}, ())
    cards = {folder: _card_of(folder) for folder in sequences}
    first_folder, first = next(iter(cards.items()))
    for folder, card in cards.items():
        for name in ("space", "color_space"):
            found, wanted = getattr(card, name), getattr(first, name)
            if found != wanted:
                raise ValueError(
                    f"{folder / CARD_NAME}: {name} must be {wanted} as in {first_folder}, got "
                    f"{found}"
                )
    joined, maps, notes = LightCard(None, 1.0, {}, first.space, first.color_space), {}, []
    lights = [_training_light(folder, card) for folder, card in cards.items()]
    train, known = lights[0], [light for light in lights if light is not None]
    if train is not None and len(known) == len(lights) and all(map(train.equals, known)):
        name = f"light{train.map.suffix}"
        joined, maps[name] = replace(joined, train_env=name, exposure=train.exposure), train.map
    elif known:
        notes.append("the training light is unknown: sequences were taken under different ones")
    exposures: dict[str, float] = {}
    for name in dict.fromkeys(name for card in cards.values() for name in card.test_exposures):
        same_name = [
            _Light(find_test_map(folder, name), card.test_exposures[name])
            for folder, card in cards.items()
            if name in card.test_exposures
        ]
        if all(map(same_name[0].equals, same_name)):
            exposures[name] = same_name[0].exposure
            maps[f"envs/{name}{same_name[0].map.suffix}"] = same_name[0].map
        else:
            notes.append(f"test light {name!r} is left out: it differs between sequences")
    return UnionLights(replace(joined, test_exposures=exposures), maps, tuple(notes))


def _card_of(folder: Path) -> LightCard:
    path = folder / CARD_NAME
    return LightCard.load(path) if path.is_file() else LightCard(None, 1.0)


def _training_light(folder: Path, card: LightCard) -> _Light | None:
    if card.train_env is None:
        return None
    path = folder / card.train_env
    if not path.is_file():
        raise FileNotFoundError(f"{folder / CARD_NAME}: train_env: {path} does not exist")
    return _Light(path, card.exposure)
