"""``vultus evaluate-generator``: compare generated images with real ones."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import tyro

from vultus.cli.avatar_run import output_path
from vultus.cli.console import console, print_table
from vultus.cli.generator_options import open_generator
from vultus.core.devices import find_device
from vultus.core.files import write_json
from vultus.data.image_set import open_image_set
from vultus.engine.generator_quality import QualityConfig, measure_generator, quality_protocol
from vultus.methods.spherehead.random_images import RandomImages

__all__ = ["EvaluateGeneratorOptions", "main"]


@dataclass(frozen=True)
class EvaluateGeneratorOptions:
    """Measure FID, KID, inception score, precision and recall of a generator.

    Their networks are imported with vultus assets; without them there is
    random_feature_distance, which tells progress and compares with nothing else.
    """

    data: Path
    """Folder or zip archive of the real images with dataset.json."""
    weights: Path | None = None
    """Run folder of train, or file of convert-checkpoint; default: the built-in generator."""
    step: int | None = None
    """Checkpoint of a run folder, by its step; default: the last one."""
    quality: Annotated[QualityConfig, tyro.conf.arg(name="")] = field(default_factory=QualityConfig)
    seed: int = 0
    """Of people, cameras and subsets."""
    out: Path | None = None
    """File that also gets the numbers (.json)."""
    device: str = "cpu"
    """What computes: cpu, cuda, cuda:N, or auto, which takes a GPU if there is one."""
    dry_run: bool = False
    """Check everything, write nothing."""


def main(arguments: list[str]) -> None:
    """Check, measure, print."""
    options = tyro.cli(
        EvaluateGeneratorOptions,
        args=arguments,
        prog="vultus evaluate-generator",
        description=__doc__,
    )
    out = None if options.out is None else output_path(options.out, options.out, [".json"])
    device = find_device(options.device)
    images = open_image_set(options.data)
    saved = open_generator(options.weights, options.step, device)
    protocol = quality_protocol(options.quality)
    if options.dry_run:
        console.print(f"would measure {', '.join(options.quality.metrics)} by {protocol}")
        return
    frontal = saved.rig.label().to(device)
    results = measure_generator(
        RandomImages(saved.generator), images, frontal, options.quality, options.seed
    )
    rows = [[name, value] for name, value in results.items()]
    print_table("generated against real images", ["metric", "value"], rows, f"protocol {protocol}")
    if out is not None:
        facts = {"protocol": protocol, "data_id": images.fingerprint(), "seed": options.seed}
        write_json(out, {**facts, "results": results})
        console.print(f"written: {out}")
