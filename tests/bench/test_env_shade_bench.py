"""The benchmark of shading."""

from __future__ import annotations

import pytest
import torch

from vultus.bench import env_shade
from vultus.bench.env_shade import TRACING, ShadeBenchScene, bench_shading, bench_tracing
from vultus.bench.results import BOTH, FORWARD
from vultus.cli.main import run

SMALL = ShadeBenchScene(num=40, height=4, num_faces=60)


def test_backends_have_rows_with_both_passes() -> None:
    rows = bench_shading(SMALL, 1, has_reference=True)
    assert [row.implementation for row in rows] == ["cpu", "cpu, no shadows", "ref"]
    assert all(list(row.seconds) == [FORWARD, BOTH] for row in rows)
    assert rows[0].scene == "40 Gaussians, 4 x 8 texels"
    assert rows[0].facts["num_faces"] == 60


def test_tracing_has_a_row() -> None:
    (row,) = bench_tracing(SMALL, 1)
    assert list(row.seconds) == [TRACING]
    assert row.scene.endswith("probes x 32 texels, 64 faces")


def test_gaussians_lie_on_the_mesh_and_see_some_of_the_light() -> None:
    inputs = env_shade._Inputs.build(SMALL, "cpu")
    normals, views = inputs.trained[:2]
    unit = torch.ones(1, 40)
    assert torch.allclose(normals.norm(dim=-1), unit)
    assert torch.allclose(views.norm(dim=-1), unit)
    forward, _ = inputs.calls("cpu", True)
    bright, _ = inputs.calls("cpu", False)
    shaded, lit = forward()[0], bright()[0]  # pyright: ignore[reportIndexIssue]
    assert bool((shaded <= lit + 1e-6).all())
    assert bool((shaded > 0).any())


def test_the_command_prints_rows_of_the_cpu(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    small = ["--num", "100", "--height", "4", "--num-faces", "60", "--repeats", "1"]
    assert run(["bench", "shading", *small, "--dry-run"]) == 0
    assert "would shade 10 Gaussians, 4 x 8 texels" in capsys.readouterr().out
    assert run(["bench", "shading", *small]) == 0
    printed = capsys.readouterr().out
    assert "no shadows" in printed
    assert "refit" in printed
