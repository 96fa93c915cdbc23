"""Generators of SphereHead in one file; see ``generator_bundles``."""

from __future__ import annotations

from vultus.methods import generator_bundles
from vultus.methods.generator_bundles import GeneratorFile
from vultus.methods.head_views import ViewRig
from vultus.methods.spherehead.config import GeneratorConfig
from vultus.methods.spherehead.generator import Generator

__all__ = ["FILE", "SavedGenerator", "load_generator", "save_generator"]

FILE = GeneratorFile("spherehead", Generator, GeneratorConfig(), ViewRig())
SavedGenerator = generator_bundles.SavedGenerator[Generator]
load_generator, save_generator = FILE.load, FILE.save
