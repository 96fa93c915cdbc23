"""Relighting as a measurement that follows every training where the capture tells its lights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from statistics import fmean
from typing import Any

from vultus.data.readers import read_relight_truth
from vultus.data.sequence import HeadSequence, Split
from vultus.methods.base import ReconstructionMethod
from vultus.methods.relightable_blendshapes.config import RelightableBlendshapesConfig
from vultus.methods.relightable_blendshapes.material_evaluation import (
    Comparison,
    RelightingScores,
    evaluate_relighting,
)
from vultus.methods.relightable_blendshapes.model import RelightableBlendshapes

__all__ = ["MEASUREMENT", "RelightingMeasurement", "relighting_facts"]

_SPLIT: Split = "test"


def relighting_facts(
    scores: RelightingScores, step: int, split: Split, occluder_faces: int | None
) -> dict[str, Any]:
    """What the file of scores holds."""
    facts = {"step": step, "split": split, "occluder_faces": occluder_faces}
    return {**facts, **asdict(scores)}


class RelightingMeasurement:
    """Satisfies ``base.FurtherMeasurement``: held-out moments under all known lights."""

    file_name = "relighting.json"

    def applies(self, config: RelightableBlendshapesConfig, sequence: HeadSequence) -> bool:
        """Whether there are materials, known lights and held-out moments.

        Raises:
            ValueError: If there are, but they do not compare; see ``Comparison.of``.
            FileNotFoundError: If a map or pictures are missing.
        """
        if config.model.appearance != "pbr":
            return False
        truth, records = read_relight_truth(sequence), sequence.splits.get(_SPLIT, ())
        if truth is None or truth.train_light is None or len(records) == 0:
            return False
        Comparison.of(config.materials.tonemap, sequence, truth, sequence.split(_SPLIT))
        return True

    def measure(
        self, avatar: ReconstructionMethod, sequence: HeadSequence, step: int
    ) -> dict[str, Any]:
        """See ``material_evaluation.evaluate_relighting``.

        Raises:
            ValueError: Likewise.
        """
        truth = read_relight_truth(sequence)
        assert truth is not None
        assert isinstance(avatar, RelightableBlendshapes)
        scores = evaluate_relighting(avatar, sequence, truth, sequence.split(_SPLIT))
        return relighting_facts(scores, step, _SPLIT, None)

    def tables(self, facts: Mapping[str, Any]) -> dict[str, dict[str, float]]:
        """One by light, the training light first, then the mean of all others, and the surface."""
        (first, *others) = facts["lights"]
        tables = {f"training light {first}": dict(facts["lights"][first])}
        found = [facts["lights"][name] for name in others]
        tables |= {f"light {name}": dict(facts["lights"][name]) for name in others}
        if found:
            mean = {name: fmean(light[name] for light in found) for name in found[0]}
            tables["mean of the lights that are new to it"] = mean
        return tables | {"surface and found light": dict(facts["surface"])}


MEASUREMENT = RelightingMeasurement()
"""What the registry names."""
