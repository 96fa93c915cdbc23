"""One tiny capture for all tests of the method, and settings that learn it in seconds."""

from __future__ import annotations

import pytest

from tiny_captures import film_fake_head
from vultus.data.sequence import HeadSequence


@pytest.fixture(scope="session")
def sequence(tmp_path_factory: pytest.TempPathFactory) -> HeadSequence:
    return film_fake_head(tmp_path_factory.mktemp("gaussianhead") / "capture")
