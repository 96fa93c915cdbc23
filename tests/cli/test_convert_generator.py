"""Published generators through the command line: read, converted, refused."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from official_generators import GRIDS, PLANES, SPHERES, as_published, write_official_pickle
from tiny_generators import tiny_generator
from vultus.cli.main import run
from vultus.data.camera_labels import look_at_labels
from vultus.methods.head_views import ViewRig
from vultus.methods.spherehead.config import GeneratorConfig, with_parity
from vultus.methods.spherehead.generator_file import load_generator
from vultus.methods.spherehead.sampling import HeadSampler, SamplingSettings

Refuses = Callable[..., str]

FAMILIES: dict[str, GeneratorConfig] = {"spherehead": SPHERES, "panohead": GRIDS, "eg3d": PLANES}


def write_pickle(path: Path, config: GeneratorConfig) -> Path:
    network = as_published(config, tiny_generator(config))
    network.attributes["rendering_kwargs"] |= {
        "avg_camera_radius": 2.6,
        "avg_camera_pivot": [0, 0, 0.2],
    }
    networks = {"G_ema": network}
    if config is PLANES:  # The smallest: reading takes its time where types are checked.
        networks = {"G": as_published(config), **networks}
    return write_official_pickle(path, networks)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_published_generator_becomes_a_file_that_generates(
    tmp_path: Path, family: str, capsys: pytest.CaptureFixture[str]
) -> None:
    config = FAMILIES[family]
    model, out = write_pickle(tmp_path / "network.pkl", config), tmp_path / "g.safetensors"
    command = ["convert-checkpoint", str(model), "--source", family, "--out", str(out)]
    assert run(command) == 0
    text = capsys.readouterr().out
    assert "256 pixels, rendered at 64" in text
    assert config.volume.representation in text
    saved = load_generator(out)
    assert saved.generator.config == with_parity(config, "official")
    wanted = tiny_generator(config).state_dict()
    assert all(torch.equal(t, wanted[n]) for n, t in saved.generator.state_dict().items())
    # Films of EG3D look at the pivot of its training.
    assert saved.rig == ViewRig(
        2.6, target=(0.0, 0.0, 0.2) if family == "eg3d" else (0.0, 0.0, 0.0)
    )


def test_a_converted_generator_makes_the_images_of_the_original(tmp_path: Path) -> None:
    config = replace(GRIDS, channel_base=512)
    model, out = write_pickle(tmp_path / "network.pkl", config), tmp_path / "g.safetensors"
    assert run(["convert-checkpoint", str(model), "--source", "panohead", "--out", str(out)]) == 0
    original = tiny_generator(with_parity(config, "official"))
    settings, images = SamplingSettings(neural_size=16), []
    for generator in (load_generator(out).generator, original):
        source = HeadSampler(generator, ViewRig(), settings)
        head = source.head(source.people((1,)))
        yaw = torch.tensor([0.5])
        label = look_at_labels(yaw, torch.zeros(1), target=torch.zeros(3), radius=2.7, focal=4.2647)
        images.append(source.view(head, label).image)
    assert torch.equal(*images)


def test_a_dry_run_reads_and_writes_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model, out = write_pickle(tmp_path / "network.pkl", PLANES), tmp_path / "g.safetensors"
    command = ["convert-checkpoint", str(model), "--source", "eg3d", "--out", str(out)]
    assert run([*command, "--dry-run"]) == 0
    assert f"would write {out}" in capsys.readouterr().out
    assert not out.exists()


def test_a_hostile_pickle_is_refused_and_nothing_runs(tmp_path: Path, refuses: Refuses) -> None:
    trace, path, out = tmp_path / "trace", tmp_path / "network.pkl", tmp_path / "g.safetensors"

    class Hostile:
        def __reduce__(self) -> tuple[object, ...]:
            return Path.touch, (trace,)

    network = as_published(PLANES)
    network.attributes["rendering_kwargs"] = Hostile()
    write_official_pickle(path, {"G_ema": network})
    command = ["convert-checkpoint", str(path), "--source", "eg3d", "--out", str(out)]
    refuses(command, "network.pkl", "not allowed")
    path.write_bytes(pickle.dumps({"G_ema": Hostile()}))
    refuses(command, "network.pkl", "not allowed")
    assert not trace.exists()
    assert not out.exists()


def test_models_that_are_not_what_is_said_are_refused(tmp_path: Path, refuses: Refuses) -> None:
    out = ["--out", str(tmp_path / "g.safetensors")]
    model = write_pickle(tmp_path / "network.pkl", PLANES)
    command = ["convert-checkpoint", str(model), *out, "--source"]
    refuses([*command, "spherehead"], "holds a generator of eg3d, got --source spherehead")
    refuses([*command, "eg3d", "--iteration", "3"], "a pickle of eg3d holds one model, got 3")
    refuses([*command, "eg3d", "--to", "run"], "--source eg3d needs --to generator, got run")
    for option in (["--half"], ["--license", "MIT"], ["--note", "mine"]):
        refuses([*command, "gaussianhead", *option], f"{option[0]} is of generators, got --source")
    refuses([*command, "generator_run"], "is a pickle: --source must be the program that wrote it")
    empty = ["convert-checkpoint", str(tmp_path), *out, "--source", "generator_run"]
    refuses(empty, "holds no run")
    refuses(["convert-checkpoint", str(tmp_path / "no"), *out, "--source", "eg3d"], "no does not")
    other = ["--out", str(tmp_path / "g.pkl"), "--source", "eg3d"]
    refuses(["convert-checkpoint", str(model), *other], "--out must end in .safetensors")
    network = as_published(PLANES)
    network.weights["backbone.synthesis.b4.const"] = torch.zeros(3, 4, 4)
    write_official_pickle(model, {"G_ema": network})
    refuses([*command, "eg3d"], "network.pkl: weights of TriPlaneGenerator do not fit")
    write_official_pickle(model, {"D": network})
    refuses([*command, "eg3d"], "must hold one of G_ema, G, got D")
    model.write_bytes(b"not a pickle")
    refuses([*command, "eg3d"], "network.pkl")
    assert not (tmp_path / "g.safetensors").exists()
