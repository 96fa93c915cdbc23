"""Published generators of heads that can be lit, through the command line."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from official_generators import write_official_pickle
from relight_heads import TINY, built
from vultus.cli.main import run
from vultus.methods.gsheadrelight.generator_file import load_generator
from vultus.methods.gsheadrelight.official import to_official_generator
from vultus.nets.stylegan2.official_pickle import OfficialNetwork

CONFIG = replace(TINY, attention_heads=8, parity="official", detail=32)


def write_pickle(path: Path) -> Path:
    weights = to_official_generator(built(CONFIG).state_dict(), CONFIG)
    network = OfficialNetwork("GSGenerator", weights, {}, {"img_resolution": CONFIG.image_size})
    return write_official_pickle(path, {"G_ema": network})


def test_a_pickle_becomes_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model, out = write_pickle(tmp_path / "network.pkl"), tmp_path / "heads.safetensors"
    command = ["convert-checkpoint", str(model), "--source", "gsheadrelight", "--out", str(out)]
    assert run([*command, "--dry-run"]) == 0
    assert not out.exists()
    assert run(command) == 0
    assert "1700 in 4 levels, and 30 behind the head" in capsys.readouterr().out
    saved = load_generator(out)
    assert saved.generator.config == CONFIG
    assert saved.origin == {"pickle": "network.pkl"}
    wanted = built(CONFIG).state_dict()
    assert all(torch.equal(t, wanted[n]) for n, t in saved.generator.state_dict().items())


def test_pickles_of_other_programs_are_refused(tmp_path: Path, refuses: Callable[..., str]) -> None:
    model, out = write_pickle(tmp_path / "network.pkl"), ["--out", str(tmp_path / "g.safetensors")]
    command = ["convert-checkpoint", str(model), *out, "--source"]
    refuses([*command, "spherehead"], "is no generator of heads: it has no planes")
    refuses([*command, "gsheadrelight", "--iteration", "3"], "holds one model, got 3")
