"""The built-in head: mesh, rig, shapes and textures made of code alone."""

from vultus.heads.procedural.appearance import build_appearance, paint_appearance
from vultus.heads.procedural.hair import HAIR_STYLES, HairStyle
from vultus.heads.procedural.identity import IDENTITY_NAMES
from vultus.heads.procedural.look import (
    DEFAULT_LOOK,
    Look,
    default_identity,
    random_appearance,
    random_identity,
)
from vultus.heads.procedural.model import ProceduralHead, named_expressions

__all__ = [
    "DEFAULT_LOOK",
    "HAIR_STYLES",
    "IDENTITY_NAMES",
    "HairStyle",
    "Look",
    "ProceduralHead",
    "build_appearance",
    "default_identity",
    "named_expressions",
    "paint_appearance",
    "random_appearance",
    "random_identity",
]
