"""Volumes as MRC files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from vultus.export.mrc import write_mrc
from vultus.geometry.isosurface import grid_points

# Words of the header, counted from 1 as in the definition of the format.
_INTEGERS = {
    "size": (1, 3),
    "mode": (4, 4),
    "intervals": (8, 10),
    "axes": (17, 19),
    "group": (23, 23),
}
_FLOATS = {
    "cell": (11, 13),
    "angles": (14, 16),
    "range": (20, 22),
    "origin": (50, 52),
    "rms": (55, 55),
}


def test_the_header_places_the_volume_in_the_world(tmp_path: Path) -> None:
    points = grid_points(5, 0.8).double()
    volume = (points @ torch.tensor([1.0, 10.0, 100.0]).double()).view(5, 5, 5).float()
    path = tmp_path / "head.mrc"
    write_mrc(path, volume, 0.8)
    data = path.read_bytes()
    integers, floats = np.frombuffer(data[:1024], "<i4"), np.frombuffer(data[:1024], "<f4")
    header = {n: integers[a - 1 : b].tolist() for n, (a, b) in _INTEGERS.items()}
    header |= {n: pytest.approx(floats[a - 1 : b].tolist()) for n, (a, b) in _FLOATS.items()}
    assert header == {
        "size": [5, 5, 5],
        "mode": [2],
        "intervals": [5, 5, 5],
        "axes": [1, 2, 3],
        "group": [1],
        "cell": [1.0, 1.0, 1.0],
        "angles": [90.0, 90.0, 90.0],
        "range": [float(volume.min()), float(volume.max()), float(volume.mean())],
        "origin": [-0.4, -0.4, -0.4],
        "rms": [float(volume.double().std(correction=0))],
    }
    assert data[208:214] == b"MAP \x44\x44"
    values = np.frombuffer(data[1024:], "<f4")
    assert len(values) == 125
    # The first axis of the format changes fastest: a step in x is 0.2, in y 2, in z 20.
    assert values[1] - values[0] == pytest.approx(0.2, rel=1e-4)
    assert values[5] - values[0] == pytest.approx(2.0, rel=1e-4)
    assert values[25] - values[0] == pytest.approx(20.0, rel=1e-4)


def test_another_suffix_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"suffix must be \.mrc"):
        write_mrc(tmp_path / "head.map", torch.zeros(2, 2, 2), 1.0)
