"""Settings of GSHeadRelight survive a run folder."""

from __future__ import annotations

import json

import pytest

from vultus.core.config import config_from_data, config_to_data
from vultus.methods.gsheadrelight.config import PRESETS, GSHeadRelightConfig, scale_schedule


@pytest.mark.parametrize("name", PRESETS)
def test_presets_come_back_from_json(name: str) -> None:
    data = json.loads(json.dumps(config_to_data(PRESETS[name])))
    assert config_from_data(GSHeadRelightConfig, data, "config") == PRESETS[name]


def test_a_shorter_training_has_shorter_fades() -> None:
    half = scale_schedule(PRESETS["ffhq512"], 0.5)
    assert half.training.images == 6_000_000
    assert (half.objective.blur_fade, half.objective.pose_swap_fade) == (100_000, 500_000)
    assert scale_schedule(PRESETS["ffhq512"], 1e-9).training.images == 32
    with pytest.raises(ValueError, match="schedule must be positive, got 0"):
        scale_schedule(half, 0.0)
