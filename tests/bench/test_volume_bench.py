"""The benchmark of the volume renderer."""

from __future__ import annotations

import pytest
import torch

from vultus.bench import volume
from vultus.bench.results import BOTH, FORWARD
from vultus.bench.volume import VolumeScene, bench_volume
from vultus.cli.main import run

SMALL = VolumeScene(batch=2, size=4, plane_size=16)


def test_backends_have_rows_with_both_passes() -> None:
    rows = bench_volume(SMALL, 1)
    assert [row.implementation for row in rows] == ["cpu", "ref"]
    assert all(list(row.seconds) == [FORWARD, BOTH] for row in rows)
    assert rows[0].scene == "2 x 4 x 4 rays, planes 16 x 16, decoder none"
    assert rows[0].facts["plane_size"] == 16


def test_cameras_stand_around_the_head_and_look_at_it() -> None:
    inputs = volume._Inputs.build(SMALL, "cpu")
    center = inputs.directions.unflatten(1, (4, 4))[:, 1:3, 1:3].mean(dim=(1, 2))
    assert torch.allclose(inputs.origins[0, 0], torch.tensor([0.0, 0.0, 2.7]))
    assert torch.allclose(inputs.origins[1, 0], torch.tensor([0.0, 0.0, -2.7]), atol=1e-6)
    towards = -inputs.origins[:, 0] / 2.7
    assert torch.allclose(torch.linalg.vecdot(center, towards), torch.ones(2), atol=0.01)
    # Channels lie side by side, as the generator's convolutions may write them.
    assert inputs.planes.stride(3) == 1


def test_the_command_prints_rows_of_the_cpu(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    small = ["--size", "8", "--plane-size", "16", "--repeats", "1"]
    assert run(["bench", "volume", *small, "--dry-run"]) == 0
    assert "would render 1 x 4 x 4 rays" in capsys.readouterr().out
    assert run(["bench", "volume", *small]) == 0
    assert "forward + backward" in capsys.readouterr().out
