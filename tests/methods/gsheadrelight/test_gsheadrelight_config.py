"""Settings of GSHeadRelight survive a run folder."""

from __future__ import annotations

import json

import pytest

from vultus.core.config import config_from_data, config_to_data
from vultus.methods.gsheadrelight.config import PRESETS, GSHeadRelightConfig


@pytest.mark.parametrize("name", PRESETS)
def test_presets_come_back_from_json(name: str) -> None:
    data = json.loads(json.dumps(config_to_data(PRESETS[name])))
    assert config_from_data(GSHeadRelightConfig, data, "config") == PRESETS[name]
