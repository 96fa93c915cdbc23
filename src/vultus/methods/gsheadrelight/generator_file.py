"""Generators of heads that can be lit in one file; see ``generator_bundles``."""

from __future__ import annotations

from vultus.methods import generator_bundles
from vultus.methods.generator_bundles import GeneratorFile
from vultus.methods.gsheadrelight.config import GeneratorConfig
from vultus.methods.gsheadrelight.generator import Generator
from vultus.methods.head_views import ViewRig

__all__ = ["FILE", "OFFICIAL_RIG", "SavedGenerator", "load_generator", "save_generator"]

OFFICIAL_RIG = ViewRig(target=(0.0, 0.0, 0.2))
"""Cameras that the release shows heads from."""
FILE = GeneratorFile("gsheadrelight", Generator, GeneratorConfig(), OFFICIAL_RIG)
SavedGenerator = generator_bundles.SavedGenerator[Generator]
load_generator, save_generator = FILE.load, FILE.save
