"""Settings of GSHeadRelight survive a run folder."""

from __future__ import annotations

import json
import math
import re

import pytest

from vultus.core.config import config_from_data, config_to_data
from vultus.methods.gsheadrelight.config import (
    DiscriminatorConfig,
    GeneratorConfig,
    GSHeadRelightConfig,
    ObjectiveConfig,
    ViewConfig,
)
from vultus.methods.gsheadrelight.presets import PRESETS, scale_schedule


@pytest.mark.parametrize("name", PRESETS)
def test_presets_come_back_from_json(name: str) -> None:
    data = json.loads(json.dumps(config_to_data(PRESETS[name])))
    assert config_from_data(GSHeadRelightConfig, data, "config") == PRESETS[name]


def test_cats_are_seen_with_their_backgrounds_after_a_while() -> None:
    config = PRESETS["afhq512"]
    assert (config.objective.background, config.objective.scenery_start) == ("scenery", 50_000)
    assert (config.needs_masks, config.alpha) == (False, "ignored")
    assert (PRESETS["ffhq512"].needs_masks, PRESETS["ffhq512"].alpha) == (True, "mask")


@pytest.mark.parametrize(
    ("part", "name", "value", "rule"),
    [
        (GeneratorConfig, "attention_heads", 7, "must divide the first of channels, 512, got 7"),
        (GeneratorConfig, "detail", 0, "must be positive, got 0"),
        (GeneratorConfig, "label_dim", 24, "must be 25, got 24"),
        (DiscriminatorConfig, "label_dim", 26, "must be 25, got 26"),
        (DiscriminatorConfig, "group_size", 0, "must be positive, got 0"),
        (ObjectiveConfig, "blur_sigma", -1.0, "must be at least 0 and finite, got -1"),
        (ObjectiveConfig, "blur_sigma", math.inf, "must be at least 0 and finite, got inf"),
        (ObjectiveConfig, "blur_fade", -5, "must be at least 0 and finite, got -5"),
        (ObjectiveConfig, "r1_weight", math.nan, "must be at least 0 and finite, got nan"),
        (ObjectiveConfig, "pose_swap", 1.5, "must be 0 to 1, got 1.5"),
        (ObjectiveConfig, "compactness_neighbors", 0, "must be positive, got 0"),
        (ViewConfig, "random_share", -0.1, "must be 0 to 1, got -0.1"),
        (ViewConfig, "yaw_deviation", -1.0, "must be at least 0 and finite, got -1"),
        (ViewConfig, "height_range", 91.0, "must be 0 to 90, got 91"),
        (ViewConfig, "height_center", 80.0, "must be -67.6787 to 67.6787, got 80"),
        (ViewConfig, "distance", 0.0, "must be positive, got 0"),
        (ViewConfig, "light_turn", 181.0, "must be 0 to 180, got 181"),
        (ViewConfig, "light_gain", -0.5, "must be at least 0 and finite, got -0.5"),
        (ViewConfig, "light_tint", -0.5, "must be at least 0 and finite, got -0.5"),
    ],
)
def test_values_that_cannot_be_are_refused(part: type, name: str, value: float, rule: str) -> None:
    with pytest.raises(ValueError, match=re.escape(f"{name} {rule}")):
        part(**{name: value})


def test_a_shorter_training_has_shorter_fades() -> None:
    half = scale_schedule(PRESETS["ffhq512"], 0.5)
    assert half.training.images == 6_000_000
    assert (half.objective.blur_fade, half.objective.pose_swap_fade) == (100_000, 500_000)
    assert scale_schedule(PRESETS["ffhq512"], 1e-9).training.images == 32
    with pytest.raises(ValueError, match="schedule must be positive, got 0"):
        scale_schedule(half, 0.0)
