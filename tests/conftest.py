"""Where the suite finds golden fixtures and sample data; tests without them skip with the reason.

``golden_dir`` is, in this order: ``--golden DIR``, ``$VULTUS_GOLDEN``, ``../shared/golden`` beside
the repository, and the small copies in ``tests/golden/data``. ``data_dir`` is ``--data DIR``,
``$VULTUS_DATA`` or ``../shared/data``. Any folder with the same layout will do.
"""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path

import pytest
import torch

from folders import GOLDEN_COPIES, chosen_folder, find_golden


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--golden", metavar="DIR", help="folder of golden fixtures")
    parser.addoption("--data", metavar="DIR", help="folder of sample data")


@pytest.fixture(scope="session")
def golden_dir(request: pytest.FixtureRequest) -> Path:
    """Golden fixtures, as ``<system>/<name>.safetensors``."""
    return find_golden(request.config)


@pytest.fixture(scope="session")
def data_dir(request: pytest.FixtureRequest) -> Path:
    """Sample data of real captures."""
    folder = chosen_folder(request.config, "data")
    if folder is None:
        pytest.skip("sample data not found: pass --data DIR or set VULTUS_DATA")
    return folder


@pytest.fixture(scope="module")
def one_thread() -> Generator[None]:
    """Tiny networks gain nothing from PyTorch's threads, and lose much where cores are busy."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def exact_convolutions(monkeypatch: pytest.MonkeyPatch) -> None:
    """Convolve in float32 on a GPU as well, so that results compare with those of the CPU.

    By default cuDNN rounds what it multiplies to TF32's 10 bits, an error of about 1e-3.
    """
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Report a golden file that the small copies leave out as skipped.

    A folder that the user named gets no such mercy: there, a missing file is a failure.
    """
    report = yield
    error = call.excinfo.value if call.excinfo else None
    is_left_out = isinstance(error, FileNotFoundError) and str(GOLDEN_COPIES) in str(error)
    if is_left_out and find_golden(item.config) == GOLDEN_COPIES:
        report.outcome = "skipped"
        path, line, _ = item.location
        report.longrepr = (path, line or 0, f"needs --golden DIR or VULTUS_GOLDEN: {error}")
    return report
