"""The benchmark of relit frames."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from tolerances import assert_close
from vultus.bench import relighting
from vultus.bench.relighting import FRAME, RelightBenchScene, bench_relighting
from vultus.cli.main import run

SMALL = RelightBenchScene(num=150, size=16, map_rows=2, num_expressions=2)


def test_frames_have_a_row_for_each_way_to_know_visibility() -> None:
    rows = bench_relighting(SMALL, 1)
    ways = ["traced live", "traced at half rate", "visibility known"]
    assert [row.implementation for row in rows] == [f"cpu, {way}" for way in ways]
    parts = ["blend", "pose", "visibility", "shade", "splat", FRAME]
    assert all(list(row.seconds) == parts for row in rows)
    live, half, known = (row.total.median for row in rows)
    assert half == pytest.approx((live + known) / 2)
    assert known < live
    assert rows[0].scene == "150 Gaussians, 16 x 16 pixels, 2 x 4 texels"


@torch.no_grad()
def test_traced_and_known_visibility_give_one_picture_of_the_head() -> None:
    frame = relighting._Frame(SMALL, torch.device("cpu"))
    calls = frame.calls()
    live, known = calls["live"](), calls["known"]()
    assert isinstance(live, torch.Tensor)
    assert isinstance(known, torch.Tensor)
    assert_close(live, known)
    middle, corner = live[0, :, 6:10, 6:10], live[0, :, :2, :2]
    assert middle.std() > 0
    assert not torch.allclose(middle.mean(), corner.mean(), atol=0.02)
    assert frame.num_probes > 10_000


@torch.no_grad()
def test_fewer_faces_that_hide_light_give_about_the_same_picture() -> None:
    all_faces, some = (
        relighting._Frame(replace(SMALL, occluder_faces=faces), torch.device("cpu"))
        for faces in (None, 14_000)
    )
    assert some.num_occluder_faces <= 14_000 < all_faces.num_occluder_faces
    whole, coarse = all_faces.calls()["live"](), some.calls()["live"]()
    assert isinstance(whole, torch.Tensor)
    assert isinstance(coarse, torch.Tensor)
    assert 0 < (coarse - whole).abs().mean() < 0.02


def test_rows_tell_how_few_faces_were_reached() -> None:
    row, *_ = bench_relighting(replace(SMALL, occluder_faces=1), 1)
    reached = int(row.facts["num_occluder_faces"])
    assert (row.facts["occluder_faces"], reached > 1) == (1, True)
    assert row.scene.endswith(f", {reached} faces hide light")


def test_the_command_prints_rows_of_the_cpu(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    few_faces = ["bench", "relighting", "--num", "1500", "--occluder-faces", "9000", "--dry-run"]
    assert run(few_faces) == 0
    assert "9000 faces hide light" in capsys.readouterr().out
    small = ["--num", "1500", "--size", "32", "--map-rows", "2", "--num-expressions", "2"]
    assert run(["bench", "relighting", *small, "--dry-run"]) == 0
    assert "would draw 150 Gaussians, 16 x 16 pixels" in capsys.readouterr().out
    assert run(["bench", "relighting", *small, "--repeats", "1"]) == 0
    printed = capsys.readouterr().out
    for word in ("half rate", "visibility", "splat"):
        assert word in printed
