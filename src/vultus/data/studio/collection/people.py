"""Random people: shape, skin, hair, eyes and clothes, from a seed and a number."""

from __future__ import annotations

import colorsys
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from vultus.core.seeding import derive_seed, numpy_generator
from vultus.data.head_files import open_head
from vultus.data.studio.collection.config import CollectionConfig
from vultus.data.studio.parsing import parsing_classes
from vultus.data.studio.subject import Subject
from vultus.heads.base import HeadModel
from vultus.heads.ict import IctHead
from vultus.heads.ict_appearance import IctLook, ict_appearance
from vultus.heads.procedural import (
    HAIR_STYLES,
    HairStyle,
    Look,
    ProceduralHead,
    paint_appearance,
    random_appearance,
    random_identity,
)

__all__ = ["Person", "check_heads", "draw_person", "plain_head"]

# Hair: relative thickness, length and movement of a cut, and how often a parting moves.
_THICKNESS, _LENGTH, _MOVEMENT = (0.7, 1.35), (0.55, 1.25), (0.5, 1.6)
_PARTING_SHARE, _PARTINGS = 0.35, (-32.0, 32.0)
# Of dyed hair, and of hue, saturation and brightness of hair and irises around the named colours.
_DYED_SHARE = 0.03
_HAIR_JITTER, _EYE_JITTER = (0.015, 0.15, 0.22), (0.02, 0.12, 0.15)
_FULL_BEARD_SHARE = 0.35
_ANY_CUT_SHARE = 0.12
"""How often a person wears a cut whatever the sex."""
_ICT_IDENTITY_SPREAD, _ICT_NUM_IDENTITY = 0.8, 40
_ICT_SKINS = ((0.90, 0.73, 0.65), (0.83, 0.64, 0.545), (0.66, 0.47, 0.37), (0.42, 0.28, 0.21))
"""From light to dark; people lie between two of them."""

_Color = tuple[float, float, float]


@dataclass(frozen=True)
class Person:
    """Someone in front of the cameras, and what is known about him or her."""

    subject: Subject
    """Its labels are the classes of ``parsing``."""
    facts: dict[str, Any]
    """For the records; plain JSON."""


def check_heads(config: CollectionConfig) -> None:
    """Open the head models that a config needs.

    Raises:
        FileNotFoundError: If a model's file is missing.
        ValueError: If it is damaged.
    """
    if config.head != "procedural":
        _ict_head(config.head_file)
    if config.head != "ict":
        _procedural_head()


def plain_head(config: CollectionConfig, name: str) -> HeadModel:
    """The head model of some people, without what makes a person of it."""
    return _procedural_head() if name == "procedural" else _ict_head(config.head_file)


def draw_person(config: CollectionConfig, number: int) -> Person:
    """Make a person; the same config and number give the same one."""
    rng = numpy_generator(config.seed, f"person {number}")
    is_ict = config.head == "ict" or (config.head == "mixed" and rng.random() < config.ict_share)
    person = _draw_ict(config, rng) if is_ict else _draw_procedural(config, number, rng)
    appearance = person.subject.appearance
    classes = parsing_classes(person.subject.head, appearance)
    labelled = replace(person.subject, appearance=replace(appearance, **classes))
    return replace(person, subject=labelled)


def _draw_procedural(config: CollectionConfig, number: int, rng: np.random.Generator) -> Person:
    seed = derive_seed(config.seed, f"look {number}")
    look = _vary_look(random_appearance(seed), rng)
    style = _vary_hair(HAIR_STYLES[look.hair_style], rng)
    identity = random_identity(seed, look)
    head = _procedural_head().with_hair(style, look.seed)
    appearance = paint_appearance(head, look, config.texture_size)
    facts = {"head": "procedural", "look": asdict(look), "hair": asdict(style)}
    return Person(Subject(head, identity, appearance), {**facts, "identity": _rounded(identity)})


def _vary_look(look: Look, rng: np.random.Generator) -> Look:
    """Colours around the named ones, now and then dyed hair, and fuller beards."""
    hair = _jittered(look.hair_rgb, _HAIR_JITTER, rng)
    if rng.random() < _DYED_SHARE:
        hair = colorsys.hsv_to_rgb(rng.random(), rng.uniform(0.4, 0.75), rng.uniform(0.25, 0.7))
    eyes = _jittered(look.eye_rgb, _EYE_JITTER, rng)
    garment = colorsys.hsv_to_rgb(rng.random(), rng.uniform(0, 0.6), rng.uniform(0.06, 0.85))
    beard = look.beard
    if beard > 0 and rng.random() < _FULL_BEARD_SHARE:
        beard = rng.uniform(0.85, 1.0)
    style = look.hair_style
    if rng.random() < _ANY_CUT_SHARE:
        style = str(rng.choice(list(HAIR_STYLES)))
    return replace(
        look,
        hair_color=hair,
        eye_color=eyes,
        hair_style=style,
        garment_color=garment,
        beard=float(beard),
    )


def _vary_hair(style: HairStyle, rng: np.random.Generator) -> HairStyle:
    """Thicker or thinner, longer or shorter, sleeker or wilder; the parting may change sides."""
    thickness, length = rng.uniform(*_THICKNESS), rng.uniform(*_LENGTH)
    movement = rng.uniform(*_MOVEMENT)
    part = style.part
    if rng.random() < _PARTING_SHARE:
        part = rng.uniform(*_PARTINGS)
    return replace(
        style,
        top=style.top * thickness * rng.uniform(0.85, 1.15),
        side=style.side * thickness,
        back=style.back * thickness * rng.uniform(0.85, 1.15),
        drop=tuple((azimuth, mm * length) for azimuth, mm in style.drop),
        flare=style.flare * movement,
        wave=style.wave * rng.uniform(*_MOVEMENT),
        clump=style.clump * movement,
        jag=style.jag * rng.uniform(*_MOVEMENT),
        part=part,
        quiff=style.quiff * rng.uniform(0.4, 1.5),
    )


def _draw_ict(config: CollectionConfig, rng: np.random.Generator) -> Person:
    head = _ict_head(config.head_file)
    size = next(s.size for s in head.parameters_spec if s.name == "identity_coeffs")
    drawn = min(size, _ICT_NUM_IDENTITY)
    identity = torch.zeros(1, size)
    coeffs = rng.normal(0, _ICT_IDENTITY_SPREAD, drawn).clip(-2, 2)
    identity[0, :drawn] = torch.from_numpy(coeffs).float()
    tone = rng.uniform(0, len(_ICT_SKINS) - 1)
    skin = np.array(_ICT_SKINS)
    skin = skin[int(tone)] + (tone % 1) * (skin[int(tone) + 1] - skin[int(tone)])
    named = random_appearance(int(rng.integers(2**31)))
    look = IctLook(
        skin=_color(skin),
        lips=_color(skin * (0.86, 0.66, 0.70) * rng.uniform(0.92, 1.08, 3)),
        hair=_jittered(named.hair_rgb, _HAIR_JITTER, rng),
        iris=_jittered(named.eye_rgb, _EYE_JITTER, rng),
        beard=float((rng.random() < 0.5) * rng.uniform(0.05, 0.7)),
        seed=int(rng.integers(2**31)),
    )
    appearance = ict_appearance(head, look, config.texture_size)
    facts = {"head": "ict", "look": asdict(look), "identity": _rounded(identity)}
    return Person(Subject(head, identity, appearance), facts)


def _jittered(color: _Color, spread: _Color, rng: np.random.Generator) -> _Color:
    """A colour near a named one: hue shifted, saturation and brightness scaled."""
    hue, saturation, value = colorsys.rgb_to_hsv(*color)
    shift, more, brighter = rng.normal(0, spread)
    saturation = min(saturation * np.exp(more), 1.0)
    value = min(value * np.exp(brighter), 0.95)
    return _color(np.array(colorsys.hsv_to_rgb((hue + shift) % 1.0, saturation, value)))


def _color(rgb: Float[np.ndarray, " 3"]) -> _Color:
    red, green, blue = np.clip(rgb, 0.0, 1.0).tolist()
    return red, green, blue


def _rounded(values: Float[Tensor, "1 s"]) -> list[float]:
    return [round(value, 4) for value in values[0].tolist()]


@lru_cache(maxsize=1)
def _procedural_head() -> ProceduralHead:
    return ProceduralHead()


@lru_cache(maxsize=2)
def _ict_head(head_file: Path | None) -> IctHead:
    head: HeadModel = open_head("ict", head_file)
    return cast(IctHead, head)
