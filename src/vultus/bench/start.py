"""Time of a rasterizer's first pass in a new process, with an empty and a filled Numba cache."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time

from vultus.bench.raster import ALL_OUTPUTS, kernel_calls
from vultus.bench.results import Row
from vultus.bench.scenes import Primitive, RasterScene
from vultus.bench.timing import Timing

__all__ = ["bench_start", "first_pass"]

_SCENE_SIZE = 64
_SCENE_NUM = 500
_CODE = (
    "import json, sys; from vultus.bench.start import first_pass; "
    "sys.stdout.write(json.dumps(first_pass({primitive!r})))"
)


def bench_start(primitive: Primitive, repeats: int) -> list[Row]:
    """Start processes that render once, forward and backward, with every output.

    Args:
        primitive: Which rasterizer.
        repeats: Processes with an empty cache, each followed by one that finds it filled.
    """
    cold, warm = [], []
    for _ in range(repeats):
        with tempfile.TemporaryDirectory() as folder:
            cold.append(_run(primitive, folder))
            warm.append(_run(primitive, folder))
    scene = f"first pass of {_SCENE_NUM} {primitive}, {_SCENE_SIZE} x {_SCENE_SIZE}"
    facts = {"bench": "start", "primitive": primitive}
    return [
        Row(
            scene,
            "cpu",
            mode,
            {
                "whole process": _timing([total for total, _ in times]),
                "first forward + backward": _timing([first for _, first in times]),
            },
            facts=facts,
        )
        for mode, times in (("empty cache", cold), ("filled cache", warm))
    ]


def first_pass(primitive: Primitive) -> float:
    """Seconds of the first pass in this process; imports and compiles what has not been yet."""
    scene = RasterScene(primitive, _SCENE_NUM, _SCENE_SIZE)
    inputs = scene.build()
    start = time.perf_counter()
    _, both = kernel_calls(scene, inputs, ALL_OUTPUTS[primitive], backend="cpu")
    both()
    return time.perf_counter() - start


def _run(primitive: Primitive, cache: str) -> tuple[float, float]:
    """Seconds of a process, and of the pass within."""
    environment = {**os.environ, "NUMBA_CACHE_DIR": cache}
    command = [sys.executable, "-c", _CODE.format(primitive=primitive)]
    start = time.perf_counter()
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    return time.perf_counter() - start, float(json.loads(done.stdout))


def _timing(seconds: list[float]) -> Timing:
    return Timing(statistics.median(seconds), min(seconds))
