"""Commands that generate and relight people of GSHeadRelight."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from relight_heads import TINY, visible, write_relightable
from vultus.cli import envmap_light
from vultus.cli.generator_options import GENERATOR_OPTIONS
from vultus.cli.invert_methods import INVERSIONS, SEARCHES
from vultus.cli.main import run
from vultus.core.image_io import (
    image_size,
    read_image_bytes,
    read_radiance,
    to_bytes,
    write_image,
    write_radiance,
)
from vultus.core.video_io import video_info
from vultus.export.mesh_files import read_mesh
from vultus.export.relit_people import light_picture
from vultus.gaussians.splat_files import Splats, read_splats
from vultus.methods.gsheadrelight.generator_file import OFFICIAL_RIG
from vultus.methods.gsheadrelight.light_files import read_light
from vultus.methods.gsheadrelight.light_sources import LightSettings, LightSource, open_light
from vultus.methods.gsheadrelight.official_lights import official_environment_light
from vultus.methods.gsheadrelight.rendering import SH_C0, shade
from vultus.methods.gsheadrelight.sampling import RelightableSampler, SamplingSettings
from vultus.methods.head_views import ring_labels
from vultus.methods.registry import GENERATORS

Refuses = Callable[..., str]


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_relightable(tmp_path_factory.mktemp("weights") / "tiny.safetensors")


@pytest.fixture(scope="module")
def envmap(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("maps") / "sky.hdr"
    radiance = torch.rand(3, 8, 16, generator=torch.Generator().manual_seed(0))
    write_radiance(path, radiance)
    return path


def command(name: str, weights: Path, out: Path, *more: str) -> list[str]:
    return [name, "gsheadrelight", "--weights", str(weights), "--out", str(out), *more]


def test_every_generator_has_options_for_the_commands() -> None:
    assert set(GENERATOR_OPTIONS) == set(GENERATORS) == set(SEARCHES) == set(INVERSIONS)


@pytest.mark.parametrize("name", ["generate", "generate-mesh", "invert"])
def test_help_without_a_method_names_the_others(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run([name, "--help"]) == 0
    text = " ".join(capsys.readouterr().out.split())
    assert "These are the options of spherehead; METHOD may also be gsheadrelight." in text


def test_a_picture_is_the_seed_in_the_light(weights: Path, envmap: Path, tmp_path: Path) -> None:
    more = ["--seeds", "3", "--views", "front", "--envmap", str(envmap), "--yaw", "30"]
    assert run(command("generate", weights, tmp_path, *more)) == 0
    light = open_light(str(envmap), LightSettings(yaw=30.0)).light
    source = RelightableSampler(visible(), OFFICIAL_RIG, SamplingSettings(light=light))
    wanted = source.look(source.head(source.people((3,))), ring_labels(OFFICIAL_RIG, 1)).rgb
    assert torch.equal(read_image_bytes(tmp_path / "seed0003.png"), to_bytes(wanted))


def test_sheets_show_faces_with_albedo_and_shading(weights: Path, tmp_path: Path) -> None:
    outputs = ["--outputs", "rgb", "albedo", "shading", "depth", "mask", "normals"]
    assert run(command("generate", weights, tmp_path, "--size", "24", *outputs)) == 0
    assert image_size(tmp_path / "seed0000.png") == (5 * 24 + 4 * 4, 6 * 24 + 5 * 4)


def test_light_changes_the_picture_but_not_the_albedo(weights: Path, tmp_path: Path) -> None:
    for name in ("front", "below"):
        more = ["--views", "front", "--layout", "images", "--outputs", "rgb", "albedo"]
        assert run(command("generate", weights, tmp_path / name, *more, "--light", name)) == 0

    def same(output: str) -> bool:
        front, below = (
            read_image_bytes(tmp_path / name / output / "seed0000_000.png")
            for name in ("front", "below")
        )
        return torch.equal(front, below)

    assert same("albedo")
    assert not same("rgb")


def test_films_and_mixed_styles_are_those_of_faces(weights: Path, tmp_path: Path) -> None:
    film = command("generate-video", weights, tmp_path / "film.mp4", "--frames", "3")
    assert run([*film, "--outputs", "rgb", "shading", "--light", "left"]) == 0
    assert (video_info(tmp_path / "film.mp4").width, video_info(tmp_path / "film.mp4").height) == (
        64,
        32,
    )
    mixed = command("mix-styles", weights, tmp_path / "mix", "--coarse", "0", "--fine", "1")
    assert run([*mixed, "--layers", "2"]) == 0
    assert {path.name for path in (tmp_path / "mix").iterdir()} == {
        "layer02_yaw+000.png",
        "layer02_yaw+030.png",
    }


def test_relit_films_and_sheets_are_written(
    weights: Path, envmap: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lights = ["--lights", "albedo", "left", str(envmap), "--seeds", "0-1"]
    film = command("generate-relit", weights, tmp_path / "film.mp4", *lights)
    assert run([*film, "--frames", "2", "--show", "background"]) == 0
    info = video_info(tmp_path / "film.mp4")
    assert (info.width, info.height) == (96, 64)
    sequence = command("generate-relit", weights, tmp_path / "all.mp4", *lights)
    assert run([*sequence, "--frames", "2", "--arrange", "sequence", "--motion", "face"]) == 0
    assert "(6 frames)" in capsys.readouterr().out
    sheet = command("generate-relit", weights, tmp_path / "sheet.png", *lights)
    assert run([*sheet, "--show", "inset"]) == 0
    assert image_size(tmp_path / "sheet.png") == (3 * 32 + 8, 3 * 32 + 8)


def test_a_sheet_shows_light_on_its_way(
    weights: Path, envmap: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lights = ["--lights", str(envmap), "left", "--turns", "-1", "--columns", "4"]
    sheet = command("generate-relit", weights, tmp_path / "sheet.png", *lights)
    assert run([*sheet, "--dry-run"]) == 0
    assert "in 8 lights" in " ".join(capsys.readouterr().out.split())
    assert not (tmp_path / "sheet.png").exists()
    assert run(sheet) == 0
    found = read_image_bytes(tmp_path / "sheet.png")
    assert found.shape == (3, 2 * 32 + 4, 8 * 32 + 7 * 4)
    source = RelightableSampler(visible(), OFFICIAL_RIG, SamplingSettings())
    head = source.head(source.people((0,)))
    sky, left = (open_light(name, LightSettings()) for name in (str(envmap), "left"))
    for column, (light, turn) in enumerate((light, k) for light in (sky, left) for k in range(4)):
        turned = light.turned(-0.5 * math.pi * turn)
        ((picture, _),) = source.relit(head, [turned], OFFICIAL_RIG.label())
        tile = found[:, 36:, 36 * column :][:, :, :32]
        assert torch.equal(tile, to_bytes(picture.clamp(0.0, 1.0)))


def test_splats_hold_the_colours_of_each_light(weights: Path, tmp_path: Path) -> None:
    more = ["--lights", "left", "right", "albedo", "--truncation", "1"]
    assert run(command("generate-splats", weights, tmp_path / "splats", *more)) == 0
    source = RelightableSampler(visible(), OFFICIAL_RIG, SamplingSettings(truncation=1.0))
    gaussians = source.head(source.people((0,))).gaussians
    for name in ("left", "right", "albedo"):
        light = open_light(name, LightSettings())
        splats = read_splats(tmp_path / f"splats/seed0000_{name}.ply")
        wanted = shade(gaussians, light.light[None], light.mode)[0]
        torch.testing.assert_close(0.5 + SH_C0 * splats.sh_dc[:, 0], wanted)
        assert torch.equal(splats.means, gaussians.means[0])


def test_splats_may_be_fewer_and_those_of_nodes(weights: Path, tmp_path: Path) -> None:
    def splats(*more: str) -> Splats:
        assert run(command("generate-splats", weights, tmp_path, *more)) == 0
        return read_splats(tmp_path / "seed0000_front.ply")

    whole, coarse = splats(), splats("--levels", "0", "1", "--opaque")
    assert len(whole) == 1700
    assert torch.equal(coarse.means, whole.means[:100])
    assert float(coarse.opacity_logits.min()) == 16.0
    limit = float(whole.opacity_logits.median().sigmoid())
    culled = splats("--cull-below", str(limit))
    assert torch.equal(culled.means, whole.means[whole.opacity_logits.sigmoid() >= limit])
    assert len(splats("--nodes")) == 420


def test_pictures_and_films_show_what_is_chosen(weights: Path, tmp_path: Path) -> None:
    def picture(*more: str) -> torch.Tensor:
        assert run(command("generate", weights, tmp_path, "--views", "front", *more)) == 0
        return read_image_bytes(tmp_path / "seed0000.png")

    whole, dots = picture(), picture("--grow", "-3", "--branch", "2", "--branch-near", "1")
    assert int((dots > 0).sum()) < int((whole > 0).sum())
    sheets = []
    for name, more in (("a.png", []), ("b.png", ["--nodes"])):
        assert run(command("generate-relit", weights, tmp_path / name, *more)) == 0
        sheets.append(read_image_bytes(tmp_path / name))
    assert not torch.equal(*sheets)


def test_surfaces_have_the_colours_of_the_light(weights: Path, tmp_path: Path) -> None:
    more = ["--resolution", "20", "--level", "0.5", "--formats", "ply", "mrc"]
    for name in ("front", "below"):
        out = tmp_path / name
        assert run(command("generate-mesh", weights, out, *more, "--light", name)) == 0
    front, below = (read_mesh(tmp_path / name / "seed0000.ply") for name in ("front", "below"))
    assert torch.equal(front.vertices, below.vertices)
    assert front.colors is not None
    assert below.colors is not None
    assert not torch.equal(front.colors, below.colors)
    assert float(front.vertices.abs().max()) <= 0.7 + 1.4 / 19
    assert (tmp_path / "front/seed0000.mrc").stat().st_size == 1024 + 4 * 20**3


def test_surfaces_have_at_most_so_many_faces(
    weights: Path, tmp_path: Path, refuses: Refuses
) -> None:
    more = ["--resolution", "20", "--level", "0.5"]
    carve = command("generate-mesh", weights, tmp_path, *more)
    assert run(carve) == 0
    whole = read_mesh(tmp_path / "seed0000.ply")
    assert run([*carve, "--max-faces", "100"]) == 0
    coarse = read_mesh(tmp_path / "seed0000.ply")
    assert len(coarse.faces) <= 100 < len(whole.faces)
    assert coarse.colors is not None
    places = [{tuple(row) for row in mesh.vertices.tolist()} for mesh in (coarse, whole)]
    assert places[0] < places[1]
    refuses([*carve, "--max-faces", "3"], "--max-faces must be at least 4, got 3")
    refuses([*carve, "--max-faces", "9", "--formats", "mrc"], "--max-faces needs a format with a")


def test_a_map_becomes_coefficients_with_a_picture(
    weights: Path, envmap: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "sky.json"
    make = ["envmap-light", str(envmap), "--out", str(out), "--picture-size", "64"]
    assert run([*make, "--exposure", "0.5", "--yaw", "-20"]) == 0
    assert "XX-YY" in capsys.readouterr().out
    source = open_light(str(envmap), LightSettings(exposure=0.5, yaw=-20.0))
    torch.testing.assert_close(read_light(out), source.light)
    picture = to_bytes(light_picture(source, 64))
    assert torch.equal(read_image_bytes(tmp_path / "sky.png"), picture)
    assert run([*make, "--gray"]) == 0
    assert read_light(out).shape == (9, 1)
    assert run([*make, "--map-light", "official", "--map-layout", "mirrored"]) == 0
    published = official_environment_light(read_radiance(envmap))
    torch.testing.assert_close(read_light(out), published)
    # Coefficients light people as their map does.
    for name, light in (("a", ["--light", str(out)]), ("b", ["--envmap", str(envmap)])):
        more = ["--views", "front", *light]
        assert run(command("generate", weights, tmp_path / name, *more)) == 0


def test_coefficients_are_written_only_with_their_picture(
    envmap: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refuses: Refuses
) -> None:
    def fails(source: LightSource, size: int) -> torch.Tensor:
        raise ValueError(f"no picture of {size} pixels")

    monkeypatch.setattr(envmap_light, "light_picture", fails)
    refuses(["envmap-light", str(envmap), "--out", str(tmp_path / "a.json")], "no picture of 256")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "name", ["generate", "generate-video", "generate-mesh", "generate-splats", "generate-relit"]
)
def test_a_dry_run_writes_nothing(
    weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    out = tmp_path / ("film.mp4" if name in ("generate-video", "generate-relit") else "out")
    assert run(command(name, weights, out, "--dry-run")) == 0
    text = capsys.readouterr().out
    assert text.startswith("would ")
    assert "generator of 1700 relightable Gaussians" in " ".join(text.split())
    assert not out.exists()


REFUSALS: dict[str, tuple[list[str], str]] = {
    "two lights": (["--light", "left", "--envmap", "x.hdr"], "must not both be given"),
    "no light beside one": (["--light", "left", "--albedo"], "must not both be given"),
    "no light beside a map": (["--envmap", "x.hdr", "--albedo"], "must not both be given"),
    "no light": (["--light", "sun"], "a light must be one of front, left"),
    "no map": (["--envmap", "none.exr"], "none.exr does not exist"),
    "no map to read": (
        ["--light", "left", "--map-light", "official"],
        "map_light official needs a map of surroundings (.exr, .hdr)",
    ),
    "no map to turn": (["--map-layout", "mirrored"], "map_layout mirrored needs a map"),
    "exposure": (["--exposure", "-1"], "exposure must be positive, got -1.0"),
    "raw": (["--outputs", "raw"], "--outputs must be some of rgb, albedo"),
    "size": (["--size", "0"], "size must be positive, got 0"),
    "levels": (["--levels", "7"], "levels must be 0 to 3, as this generator has Gaussians"),
    "branches": (["--branch-near", "7"], "branch_near needs branch, got 7 without"),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_unfit_options_are_refused_before_anything_is_written(
    weights: Path, tmp_path: Path, refuses: Refuses, case: str
) -> None:
    more, message = REFUSALS[case]
    refuses(command("generate", weights, tmp_path / "out", *more), message)
    assert not (tmp_path / "out").exists()


def test_what_relighting_cannot_do_is_refused(
    weights: Path, envmap: Path, tmp_path: Path, refuses: Refuses
) -> None:
    relit = command("generate-relit", weights, tmp_path / "film.mp4")
    refuses([*relit, "--lights"], "--lights must name at least one")
    refuses([*relit, "--lights", "left", "--map-light", "official"], "map_light official needs a")
    refuses([*relit, "--frames", "0"], "frames must be positive, got 0")
    refuses([*relit, "--fps", "0"], "--fps must be positive")
    refuses(command("generate-relit", weights, tmp_path / "a.gif"), "--out must end in .mp4, .png")
    refuses(["generate-relit", "spherehead"], "method must be one of gsheadrelight, got 'spherehe")
    for option, value in {"frames": "2", "turns": "0", "motion": "face", "fps": "5"}.items():
        sheet = command("generate-relit", weights, tmp_path / "a.png", f"--{option}", value)
        refuses(sheet, f"--{option} needs a film (.mp4)", "got --out")
    refuses([*relit, "--columns", "2"], "--columns needs a sheet (.png, .jpg), got --out")
    for columns in ("0", "361"):
        refuses([*relit, "--columns", columns], f"--columns must be 1 to 360, got {columns}")
    splats = command("generate-splats", weights, tmp_path / "s", "--lights", "left", "left")
    refuses(splats, "--lights must have different names")
    refuses(
        ["envmap-light", str(envmap), "--out", str(tmp_path / "x.json"), "--picture-size", "3"],
        "--picture-size must be even and positive, got 3",
    )
    bare = write_relightable(tmp_path / "bare.safetensors", replace(TINY, background_points=0))
    refuses(command("generate", bare, tmp_path / "s", "--scenery"), "has learned nothing behind")
    official = write_relightable(tmp_path / "official.st", replace(TINY, parity="official"))
    refuses(command("generate", official, tmp_path / "s", "--focal", "3"), "--focal: this gener")
    assert not (tmp_path / "s").exists()


@pytest.mark.parametrize("name", ["generate-splats", "generate-mesh"])
def test_commands_that_see_nobody_have_no_cameras(
    weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    assert run(command(name, weights, tmp_path / "out", "--distance", "3")) == 2
    assert "Unrecognized" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_generators_of_the_other_method_are_refused(
    weights: Path, tmp_path: Path, refuses: Refuses
) -> None:
    arguments = ["generate", "spherehead", "--weights", str(weights), "--out", str(tmp_path / "o")]
    refuses(arguments, "must be a generator of spherehead, got one of 'gsheadrelight'")


def test_a_photo_is_inverted_and_relit(weights: Path, tmp_path: Path) -> None:
    light = open_light("left", LightSettings()).light
    source = RelightableSampler(visible(), OFFICIAL_RIG, SamplingSettings(light=light))
    label = OFFICIAL_RIG.label(0.2)
    write_image(tmp_path / "me.png", source.look(source.head(source.people((4,))), label).rgb)
    (tmp_path / "label.json").write_text(json.dumps(label[0].tolist()))
    out = tmp_path / "run"
    invert = command("invert", weights, out, "--photo", str(tmp_path / "me.png"))
    invert += ["--label", str(tmp_path / "label.json"), "--steps", "6", "--tuning-steps", "2"]
    invert += ["--mean-samples", "20", "--frames", "2", "--distance", "pyramid"]
    assert run([*invert, "--first-light", "even", "--colored-light"]) == 0
    # What is not asked for is the projector's of the method, not SphereHead's.
    used = json.loads((out / "config.json").read_text())["config"]
    known = {"learning_rate": 0.01, "pixel_weight": 0.0, "style_weight": 0.0, "mean_samples": 20}
    assert used.items() >= known.items()
    found = read_light(out / "light.json")
    assert found.shape == (9, 3)
    even = open_light("even", LightSettings()).light
    assert not torch.allclose(found, even.expand(-1, 3))
    assert image_size(out / "media/relit.png") == (6 * 32 + 5 * 4, 2 * 32 + 4)
    assert set(json.loads((out / "results.json").read_text())["tuned"]) == {"psnr", "distance"}
    # The head and its light go on to the other commands.
    more = ["--styles", str(out / "projected_w.npz"), "--lights", str(out / "light.json"), "left"]
    relit = command("generate-relit", out / "generator.safetensors", tmp_path / "relit.png", *more)
    assert run(relit) == 0
    assert image_size(tmp_path / "relit.png") == (2 * 32 + 4, 2 * 32 + 4)
