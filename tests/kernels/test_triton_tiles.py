"""What captured calls note of their counters."""

from __future__ import annotations

import pytest
import torch

from triton_support import triton_device

pytestmark = pytest.mark.triton


def test_peaks_only_rise_and_problems_gather():
    from vultus.kernels.triton_runtime import launch
    from vultus.kernels.triton_tiles import (
        COUNT_LONGEST,
        COUNT_PROBLEMS,
        NUM_COUNTERS,
        note_counters,
    )

    device = triton_device()
    peaks = torch.tensor([300, 7, 0], device=device)
    flag = torch.zeros(1, dtype=torch.int32, device=device)
    seen = []
    for longest, bits in ((512, 1), (0, 4), (513, 1), (400, 0)):
        counts = torch.full((NUM_COUNTERS.value,), 9999, dtype=torch.int32, device=device)
        counts[COUNT_LONGEST.value], counts[COUNT_PROBLEMS.value] = longest, bits
        launch(note_counters, (1,), counts, peaks, flag, 512)
        seen.append([*peaks.tolist(), int(flag)])
    assert seen == [[512, 7, 1, 0], [512, 7, 5, 0], [513, 7, 5, 1], [513, 7, 5, 1]]
