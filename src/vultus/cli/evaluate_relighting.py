"""``vultus evaluate-relighting``: measure an avatar under known lights that are new to it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from vultus.cli.avatar_run import open_run
from vultus.cli.console import console, print_table
from vultus.cli.occluder_faces import check_occluder_faces, print_occluder_faces
from vultus.cli.option_parser import parse_arguments
from vultus.core.files import write_json
from vultus.data.readers import read_relight_truth
from vultus.data.sequence import Split
from vultus.methods.relightable_blendshapes.material_evaluation import (
    MEASURED,
    Comparison,
    RelightingScores,
    evaluate_relighting,
)
from vultus.methods.relightable_blendshapes.material_relighting import material_appearance
from vultus.methods.relightable_blendshapes.model import RelightableBlendshapes
from vultus.methods.relightable_blendshapes.relighting_measurement import relighting_facts

__all__ = ["EvaluateRelightingOptions", "main"]


@dataclass(frozen=True)
class EvaluateRelightingOptions:
    """Compare an avatar with pictures under other lights, where the capture has them.

    Scores go to RUN/relighting.json; with --split, --occluder-faces or --step to a file of its own
    beside it, such as relighting_val_8000_faces.json.
    """

    run: Path
    """Folder that train wrote, of relightable_blendshapes with model.appearance pbr."""
    split: Split = "test"
    """Frames whose pictures exist under several lights."""
    occluder_faces: int | None = None
    """Decimate the mesh that hides light to so many faces, or as few as its borders and topology
    allow; default: all of them."""
    data: Path | None = None
    """Where the capture lies now, if it was moved."""
    step: int | None = None
    """Checkpoint to load, by its step; default: the last one."""
    device: str = "cpu"
    """What renders: cpu, cuda, cuda:N, or auto, which takes a GPU if there is one."""
    dry_run: bool = False
    """Check everything, write nothing."""

    @property
    def file_name(self) -> str:
        """Where scores go in the run: other settings never replace those of the default ones."""
        parts = ["relighting"]
        if self.split != "test":
            parts.append(self.split)
        if self.occluder_faces is not None:
            parts.append(f"{self.occluder_faces}_faces")
        if self.step is not None:
            parts.append(f"step_{self.step}")
        return "_".join(parts) + ".json"


def main(arguments: list[str]) -> None:
    """Measure, print, write RUN/relighting.json, or a file named by the settings."""
    prog = "vultus evaluate-relighting"
    options = parse_arguments(EvaluateRelightingOptions, arguments, prog=prog, description=__doc__)
    opened = open_run(options.run, options.data, options.device, options.step)
    appearance = material_appearance(opened.avatar)
    check_occluder_faces(appearance, options.occluder_faces)
    assert isinstance(opened.avatar, RelightableBlendshapes)
    truth = read_relight_truth(opened.sequence)
    if truth is None:
        raise ValueError(f"{opened.sequence.root}: the capture does not tell its lights")
    records = opened.sequence.split(options.split)
    Comparison.of(appearance.config.tonemap, opened.sequence, truth, records)
    path = opened.folder.path / options.file_name
    if options.dry_run:
        console.print(
            f"would compare {len(records)} frames under {1 + len(truth.test_lights)} lights: {path}"
        )
        return
    scores = evaluate_relighting(
        opened.avatar, opened.sequence, truth, records, options.occluder_faces
    )
    _print(scores)
    print_occluder_faces(options.occluder_faces, scores.num_occluder_faces)
    write_json(path, relighting_facts(scores, opened.step, options.split, options.occluder_faces))
    console.print(f"written: {path}")


def _print(scores: RelightingScores) -> None:
    measured = next(iter(scores.lights.values()))
    columns = [
        f"{name}{suffix}"
        for name in MEASURED
        for suffix in ("", "_aligned")
        if f"{name}{suffix}" in measured
    ]
    rows = [
        [name, *(values[column] for column in columns)] for name, values in scores.lights.items()
    ]
    title = "Foreground under known lights; the first one was trained on"
    print_table(title, ["light", *columns], rows)
    if "lpips" not in measured:
        console.print("lpips is not measured: its weights are not imported")
    console.print(f"radiance is aligned by {', '.join(f'{value:.3f}' for value in scores.scale)}")
    for name, value in scores.surface.items():
        console.print(f"{name} {value:.3f}")
