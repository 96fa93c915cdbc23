"""The literal table of methods."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from types import ModuleType
from typing import Any

import torch

from vultus.data.image_feed import Conditions
from vultus.data.sequence import HeadSequence
from vultus.methods.adversarial import AdversarialMethod
from vultus.methods.base import FurtherMeasurement, ReconstructionMethod

__all__ = [
    "GENERATORS",
    "METHODS",
    "MethodEntry",
    "build_generator",
    "build_method",
    "further_measurement",
    "method_presets",
    "scale_schedule",
]


@dataclass(frozen=True)
class MethodEntry:
    """Where a method lives and what it is."""

    module: str
    """Package with the class (``model``) and the settings (``config``)."""
    class_name: str
    description: str
    paper: str
    needs_mesh: bool = False
    """Whether it binds primitives to the faces of a head."""
    ablation: tuple[str, ...] = ()
    """Presets that differ in what the paper claims; what ``vultus ablate`` compares by default."""
    presets: str = "config"
    """Module of the package with ``PRESETS`` and ``scale_schedule``."""
    measurement: str = ""
    """Module of the package with ``MEASUREMENT``, a ``base.FurtherMeasurement``; empty: nothing is
    measured beside the metrics of protocols."""


METHODS: dict[str, MethodEntry] = {
    "surfhead": MethodEntry(
        "vultus.methods.surfhead",
        "SurfHead",
        "surfels bound to a rig by deformation gradients: sharp pictures and true geometry",
        "SurFhead, ICLR 2025, arXiv 2410.11682",
        needs_mesh=True,
        ablation=("vanilla", "vanilla-jacobian", "vanilla-jacobian-jbs", "paper"),
    ),
    "gaussianhead": MethodEntry(
        "vultus.methods.gaussianhead",
        "GaussianHead",
        "a cloud of Gaussians that a network moves and a tri-plane colours; needs no mesh",
        "GaussianHead, TVCG 2025, arXiv 2312.01632",
        ablation=("video", "video-official", "video-no-derivation"),
    ),
    "relightable_blendshapes": MethodEntry(
        "vultus.methods.relightable_blendshapes",
        "RelightableBlendshapes",
        "Gaussians that expressions blend and joints carry: driven at no cost, on any rig",
        "Relightable Gaussian Blendshapes; base: Gaussian Blendshapes, SIGGRAPH 2024",
        needs_mesh=True,
        ablation=("small", "small-pbr", "small-pbr-no-visibility", "small-pbr-fixed-materials"),
        measurement="relighting_measurement",
    ),
}
"""Reconstruction methods: name -> where it is implemented."""

GENERATORS: dict[str, MethodEntry] = {
    "spherehead": MethodEntry(
        "vultus.methods.spherehead",
        "SphereHead",
        "a generator of full heads from single images: features on planes of two spheres",
        "SphereHead, ECCV 2024, arXiv 2404.05680",
        presets="presets",
    ),
    "gsheadrelight": MethodEntry(
        "vultus.methods.gsheadrelight",
        "GSHeadRelight",
        "a generator of heads that can be lit, from single images with known light: Gaussians",
        "GSHeadRelight, SIGGRAPH 2025, doi 10.1145/3721238.3730614",
        presets="presets",
    ),
}
"""Generative methods, trained on image sets: name -> where it is implemented."""


def method_presets(name: str) -> Mapping[str, Any]:
    """The named configs of a method; the first is the default.

    Raises:
        ValueError: If the method is unknown; lists the known ones.
    """
    return _presets_module(name).PRESETS


def scale_schedule(name: str, config: Any, factor: float) -> Any:
    """Multiply every number of steps in a method's config.

    Raises:
        ValueError: If the factor is not positive.
    """
    return _presets_module(name).scale_schedule(config, factor)


def further_measurement(name: str) -> FurtherMeasurement | None:
    """What a method measures beside the metrics of protocols, if anything.

    Raises:
        ValueError: If the method is unknown; lists the known ones.
    """
    entry = _entry(name)
    if not entry.measurement:
        return None
    return import_module(f"{entry.module}.{entry.measurement}").MEASUREMENT


def build_method(
    name: str,
    config: Any,
    sequence: HeadSequence,
    seed: int,
    device: torch.device | str = "cpu",
) -> ReconstructionMethod:
    """Initialise a method for a sequence."""
    entry = _entry(name)
    factory = getattr(import_module(f"{entry.module}.model"), entry.class_name)
    return factory(config, sequence, seed, torch.device(device))


def build_generator(
    name: str,
    config: Any,
    conditions: Conditions,
    seed: int,
    device: torch.device | str = "cpu",
) -> AdversarialMethod:
    """Initialise a generative method.

    Args:
        name: In ``GENERATORS``.
        config: Of the method.
        conditions: Cameras and lights to generate heads for.
        seed: Decides the weights.
        device: Where the networks go.
    """
    entry = _entry(name)
    factory = getattr(import_module(f"{entry.module}.model"), entry.class_name)
    return factory(config, conditions, seed, torch.device(device))


def _presets_module(name: str) -> ModuleType:
    entry = _entry(name)
    return import_module(f"{entry.module}.{entry.presets}")


def _entry(name: str) -> MethodEntry:
    known = {**METHODS, **GENERATORS}
    if name not in known:
        raise ValueError(f"method must be one of {', '.join(known)}, got {name!r}")
    return known[name]
