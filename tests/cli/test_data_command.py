import shutil
from pathlib import Path

import pytest

from vultus.cli.main import run
from vultus.core.image_io import image_size

TINY = ["--frames", "2", "--cameras", "3", "--size", "48", "--texture-size", "128"]


@pytest.fixture(scope="module")
def filmed(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("cli") / "capture"
    assert run(["data", "studio", "--out", str(out), *TINY, "--test-share", "0.5"]) == 0
    return out


def test_studio_films_and_check_accepts(filmed, tmp_path, capsys):
    sheet = tmp_path / "sheet.png"
    assert run(["data", "check", str(filmed), "--sheet", str(sheet)]) == 0
    text = capsys.readouterr().out
    assert "no errors" in text
    assert image_size(sheet)[0] == 1280


def test_studio_films_test_frames_under_other_lights(tmp_path, capsys):
    out = str(tmp_path / "capture")
    film = ["data", "studio", "--out", out, *TINY[:2], "--rig", "monocular", "--cameras", "1"]
    film += [*TINY[4:], "--test-share", "0.5", "--test-lights", "left", "sky"]
    assert run(film) == 0
    assert "4 pictures, 4 of them new" in " ".join(capsys.readouterr().out.split())
    assert run(["data", "check", out, "--dry-run"]) == 0
    facts = " ".join(capsys.readouterr().out.split())
    assert "test lights left, sky" in facts
    assert "semantics skin" in facts
    assert run([*film[:-1], "moon"]) == 2
    assert "moon does not exist; a light is a file or one of left" in " ".join(
        capsys.readouterr().err.split()
    )


def test_check_exits_with_2_and_names_the_file(filmed, tmp_path, capsys):
    broken = tmp_path / "broken"
    shutil.copytree(filmed, broken)
    (broken / "images/00000_01.png").write_bytes(b"broken")
    assert run(["data", "check", str(broken), "--dry-run"]) == 2
    assert "images/00000_01.png: not a readable PNG or JPEG" in capsys.readouterr().err


def test_dry_run_films_nothing(tmp_path, capsys):
    out = tmp_path / "capture"
    assert run(["data", "studio", "--out", str(out), *TINY, "--dry-run"]) == 0
    assert "6 of 6" in capsys.readouterr().out
    assert not out.exists()


def test_help_lists_every_option_with_the_defaults_of_the_preset(capsys):
    assert run(["data", "studio", "--preset", "reference", "--help"]) == 0
    text = " ".join(capsys.readouterr().out.split())
    for option in ("--track", "--light", "--held-out-cameras", "--head-file", "--dry-run"):
        assert option in text
    assert "traced" in text
    assert "(default: 512)" in text


def test_wrong_choices_are_one_line(tmp_path, capsys):
    out = str(tmp_path / "capture")
    assert run(["data", "studio", "--out", out, "--preset", "best"]) == 2
    assert "--preset must be one of demo, standard, reference" in capsys.readouterr().err
    assert run(["data", "studio", "--out", out, "--light", str(tmp_path / "sun.exr")]) == 2
    assert "sun.exr does not exist" in capsys.readouterr().err
    assert run(["data", "studio", "--out", out, "--device", "tpu"]) == 2
    assert "device must be auto, cpu, cuda or cuda:N, got 'tpu'" in capsys.readouterr().err


def test_unknown_subcommands_list_the_known_ones(capsys):
    assert run(["data", "invent"]) == 2
    assert "check" in capsys.readouterr().err


def test_fit_writes_a_pose_that_the_reader_takes(data_dir, tmp_path, capsys):
    scan, out = str(data_dir / "lps_multiview"), tmp_path / "fit.npz"
    options = ["--options", "head_file", str(data_dir / "ict_face/ict_face_light.npz")]
    options += ["resolution", "4"]
    steps = ["--fit.rigid-steps", "20", "--fit.identity-steps", "0"]
    assert run(["data", "fit", scan, *options, *steps, "--out", str(out), "--dry-run"]) == 0
    assert not out.exists()
    assert run(["data", "fit", scan, *options, *steps, "--out", str(out)]) == 0
    assert "28 views" in capsys.readouterr().out
    check = ["data", "check", scan, *options, "fit", str(out), "--dry-run"]
    assert run(check) == 0


def test_fit_refuses_moving_heads_and_other_suffixes(filmed, tmp_path, capsys):
    assert run(["data", "fit", str(filmed), "--out", str(tmp_path / "fit.json")]) == 2
    assert "--out must end in .npz" in capsys.readouterr().err
    assert run(["data", "fit", str(filmed), "--out", str(tmp_path / "no" / "fit.npz")]) == 2
    assert "no does not exist" in capsys.readouterr().err
