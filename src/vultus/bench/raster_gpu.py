"""Time of the rasterizers on a GPU: eager calls, and calls captured into a CUDA graph."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict
from inspect import signature
from types import ModuleType

import torch

from vultus.bench.gpu_timing import allocated_memory, captured, peak_memory, time_on_gpu
from vultus.bench.peers import PeerName, peer_calls
from vultus.bench.prototypes import gpu_prototype_calls
from vultus.bench.raster import ALL_OUTPUTS, PROTOTYPE_OUTPUTS, Calls, kernel_calls
from vultus.bench.results import BOTH, FORWARD, Row
from vultus.bench.scenes import RasterScene

__all__ = ["GRID", "bench_on_gpu"]

GRID = {
    "num": (30_000, 100_000, 300_000),
    "size": (512, 1024),
    "channels": (3, 16, 32),
    "batch": (1, 8),
}
"""Scenes of the full table."""
_RGB = 3
_WHOLE_BIN = (8, 8)


def bench_on_gpu(
    scene: RasterScene,
    repeats: int,
    *,
    prototype: ModuleType | None = None,
    peers: Mapping[PeerName, ModuleType] | None = None,
    all_outputs: bool = True,
) -> list[Row]:
    """Time forward, and forward and backward passes; all implementations take turns.

    Args:
        scene: What to render, other primitives in every frame.
        repeats: Timed calls of each implementation.
        prototype: A module with ``pack_cam``, ``planar`` and a rasterizer of these primitives. Has
            no rows beside features, or where its lists, whose length is fixed, are too short; and
            rows for whole bins if the Gaussians' takes ``tile``.
        peers: Imported peers, by name; those without such a rasterizer have no rows. They wait for
            the GPU and so have no rows of graphs.
        all_outputs: Add rows with every output that there is.

    Raises:
        ValueError: If a peer renders another image.
    """
    makers = _makers(scene, prototype, peers or {}, all_outputs)
    calls: dict[str, Calls] = {}
    memory: dict[str, int] = {}
    for name, make in makers.items():
        before = allocated_memory()
        made = make()
        if made is not None:
            calls[name] = made
            memory[name] = peak_memory(made[1]) - before
    graphs = {name: pair for name, pair in calls.items() if name not in (peers or {})}
    times = {
        "eager": [time_on_gpu({n: c[k] for n, c in calls.items()}, repeats) for k in range(2)],
        "eager, one thread": [
            time_on_gpu({n: _in_one_thread(c[k]) for n, c in calls.items()}, repeats)
            for k in range(2)
        ],
        "graph": [
            time_on_gpu({n: captured(c[k]) for n, c in graphs.items()}, repeats) for k in range(2)
        ],
    }
    return [
        Row(
            str(scene),
            name,
            mode,
            {FORWARD: forward[name], BOTH: both_passes[name]},
            memory[name],
            asdict(scene),
        )
        for mode, (forward, both_passes) in times.items()
        for name in forward
    ]


def _in_one_thread(call: Callable[[], object]) -> Callable[[], object]:
    """Gradients by the caller's thread, as trainings run theirs (``optim.backward``)."""

    def run() -> None:
        with torch.autograd.set_multithreading_enabled(False):
            call()

    return run


def _makers(
    scene: RasterScene,
    prototype: ModuleType | None,
    peers: Mapping[PeerName, ModuleType],
    all_outputs: bool,
) -> dict[str, Callable[[], Calls | None]]:
    """Functions that allocate what an implementation works on; None if it cannot."""
    inputs = scene.build("cuda")
    makers: dict[str, Callable[[], Calls | None]] = {
        "gpu": lambda: kernel_calls(
            scene, inputs, PROTOTYPE_OUTPUTS[scene.primitive], backend="gpu"
        )
    }
    if all_outputs:
        makers["gpu, all outputs"] = lambda: kernel_calls(
            scene, inputs, ALL_OUTPUTS[scene.primitive], backend="gpu"
        )
    if prototype is not None and scene.channels == _RGB:
        makers["prototype"] = lambda: gpu_prototype_calls(prototype, scene, inputs)
        if scene.primitive == "gaussians" and "tile" in signature(prototype.Raster3D).parameters:
            # Faster forward, slower backward: its tiles are whole bins, as ours are for drawing.
            makers["prototype, whole bins"] = lambda: gpu_prototype_calls(
                prototype, scene, inputs, tile=_WHOLE_BIN
            )
    for name, module in peers.items():
        makers[name] = lambda name=name, module=module: peer_calls(name, module, scene, inputs)
    return makers
