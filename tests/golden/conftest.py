"""Golden tests run once per file that their pattern finds.

``@pytest.mark.golden("surfhead/rig_*.safetensors")`` on a test that takes ``golden`` (the tensors
by name) makes one case of every such file in ``golden_dir``, so a folder with the same layout and
other numbers (``--golden DIR``) is tested without a change here.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from safetensors.torch import load_file
from torch import Tensor

from folders import find_golden


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "golden(pattern): run once per golden file of the pattern")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    marker = metafunc.definition.get_closest_marker("golden")
    if marker is None or "golden" not in metafunc.fixturenames:
        return
    (pattern,) = marker.args
    paths = sorted(find_golden(metafunc.config).glob(pattern))
    missing = pytest.param(None, marks=pytest.mark.skip(f"no golden fixture is named {pattern}"))
    metafunc.parametrize("golden", paths or [missing], ids=lambda p: p and p.stem, indirect=True)


@pytest.fixture
def golden(request: pytest.FixtureRequest) -> dict[str, Tensor]:
    """The tensors of one golden file."""
    path: Path = request.param
    return load_file(path)
