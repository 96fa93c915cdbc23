"""Pictures, films, surfaces and mixed styles of generated people, and what the commands refuse."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from tiny_generators import tiny_generator, write_tiny_generator, write_tiny_run
from tiny_image_sets import labels_at
from tolerances import assert_close
from vultus.cli.generate import read_cameras
from vultus.cli.generator_options import parse_seeds
from vultus.cli.generator_weights import SPHERE_HEAD, SavedSource, open_saved
from vultus.cli.main import run
from vultus.core.config import config_to_data
from vultus.core.files import read_json, write_json
from vultus.core.image_io import image_size, read_image_bytes, to_bytes
from vultus.core.run_folder import RunFolder
from vultus.core.video_io import video_info
from vultus.data.label_files import label_table, read_label_file
from vultus.export.generator_pictures import picture_of_head
from vultus.export.mesh_files import read_mesh
from vultus.methods.head_views import ViewRig, mean_rig, ring_labels
from vultus.methods.spherehead.sampling import HeadSampler, SamplingSettings

Refuses = Callable[..., str]


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_generator(tmp_path_factory.mktemp("weights") / "tiny.safetensors")


@pytest.fixture(scope="module")
def trained_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_run(tmp_path_factory.mktemp("generator") / "run")


def command(name: str, weights: Path, out: Path, *more: str) -> list[str]:
    return [name, "spherehead", "--weights", str(weights), "--out", str(out), *more]


def test_sheets_have_a_row_for_each_output(
    weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    outputs = ["--outputs", "rgb", "depth", "mask"]
    assert run(command("generate", weights, tmp_path / "out", "--seeds", "1,4-5", *outputs)) == 0
    assert "15 views of 3 people" in capsys.readouterr().out
    sizes = {path.name: image_size(path) for path in (tmp_path / "out").iterdir()}
    size = (5 * 64 + 4 * 4, 3 * 64 + 2 * 4)
    assert set(sizes) == {"seed0001.png", "seed0004.png", "seed0005.png"}
    assert {tuple(sorted(found)) for found in sizes.values()} == {tuple(sorted(size))}


def test_a_picture_is_what_the_generator_makes_of_the_seed(weights: Path, tmp_path: Path) -> None:
    more = ["--seeds", "3", "--views", "front", "--truncation", "0.5"]
    assert run(command("generate", weights, tmp_path, *more)) == 0
    source = HeadSampler(tiny_generator(), ViewRig(), SamplingSettings(truncation=0.5))
    head = source.head(source.people((3,)))
    wanted = to_bytes(picture_of_head(source.look(head, ring_labels(source.rig, 1)), "rgb"))
    assert torch.equal(read_image_bytes(tmp_path / "seed0003.png"), wanted)


def test_single_images_come_with_their_cameras(weights: Path, tmp_path: Path) -> None:
    more = ["--seeds", "2-3", "--views", "orbit", "--count", "3", "--layout", "images"]
    more += ["--outputs", "rgb", "normals", "--distance", "2.5"]
    assert run(command("generate", weights, tmp_path / "set", *more)) == 0
    label_file = tmp_path / "set/rgb/dataset.json"
    table = label_table(read_label_file(label_file.read_bytes(), ""), "labels", "")
    names = [f"seed000{seed}_00{view}.png" for seed in (2, 3) for view in range(3)]
    assert list(table) == names
    assert all((tmp_path / "set/rgb" / name).is_file() for name in names)
    assert (tmp_path / "set/normals/seed0003_002.npy").is_file()
    labels = read_cameras(label_file)
    assert_close(labels, ring_labels(ViewRig(distance=2.5), 3).repeat(2, 1))
    # The same cameras from the file give the same pictures.
    again = ["--seeds", "2", "--layout", "images", "--cameras", str(label_file)]
    assert run(command("generate", weights, tmp_path / "again", *again)) == 0
    images = [tmp_path / folder / "rgb/seed0002_001.png" for folder in ("set", "again")]
    assert torch.equal(*(read_image_bytes(path) for path in images))


def test_a_contact_sheet_has_a_column_for_each_person(weights: Path, tmp_path: Path) -> None:
    more = ["--seeds", "1,4-5", "--yaws", "0", "90", "180", "--outputs", "rgb", "mask"]
    sheet = command("generate", weights, tmp_path / "sheet", *more, "--layout", "contact")
    assert run(sheet) == 0
    assert [path.name for path in (tmp_path / "sheet").iterdir()] == ["contact.png"]
    picture = read_image_bytes(tmp_path / "sheet/contact.png")
    assert picture.shape == (3, 6 * 64 + 5 * 4, 3 * 64 + 2 * 4)
    # Every tile is the single picture of that person, output and camera.
    assert run(command("generate", weights, tmp_path, *more, "--layout", "images")) == 0
    labels = read_cameras(tmp_path / "rgb/dataset.json")[:3]
    # In front of the face, at the subject's left, behind.
    expected = torch.tensor([[0.0, 0.0, 2.7], [2.7, 0.0, 0.0], [0.0, 0.0, -2.7]])
    assert_close(labels[:, [3, 7, 11]], expected)
    for column, seed in enumerate((1, 4, 5)):
        for row in range(6):
            path = tmp_path / ("rgb", "mask")[row // 3] / f"seed{seed:04d}_{row % 3:03d}.png"
            tile = picture[:, 68 * row :, 68 * column :][:, :64, :64]
            assert torch.equal(tile, read_image_bytes(path))


def test_a_film_of_a_grid_is_written(
    weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "film.mp4"
    more = ["--seeds", "0-3", "--grid", "2", "1", "--frames", "3", "--between", "z"]
    more += ["--motion", "swing", "--outputs", "rgb", "depth", "--fps", "6"]
    assert run(command("generate-video", weights, out, *more)) == 0
    assert "(6 frames)" in capsys.readouterr().out
    info = video_info(out)
    assert (info.width, info.height, info.duration) == (256, 64, 1.0)


def test_surfaces_are_written_in_every_format(weights: Path, tmp_path: Path) -> None:
    more = ["--seeds", "1-2", "--resolution", "24", "--level", "0", "--length", "0.7"]
    more += ["--formats", "ply", "obj", "glb", "mrc"]
    assert run(command("generate-mesh", weights, tmp_path / "mesh", *more)) == 0
    meshes = [read_mesh(tmp_path / f"mesh/seed0001.{kind}") for kind in ("ply", "obj", "glb")]
    for mesh in meshes:
        assert_close(mesh.vertices, meshes[0].vertices, looser=10.0, reason="text has six digits")
        assert torch.equal(mesh.faces, meshes[0].faces)
        assert mesh.colors is not None
        assert float(mesh.vertices.abs().max()) <= 0.35 + 0.7 / 23
    assert (tmp_path / "mesh/seed0002.mrc").stat().st_size == 1024 + 4 * 24**3
    assert not torch.equal(read_mesh(tmp_path / "mesh/seed0002.ply").faces, meshes[0].faces)


def test_styles_are_mixed_into_matrices(weights: Path, tmp_path: Path) -> None:
    more = ["--coarse", "0-1", "--fine", "2-4", "--layers", "0", "6", "--yaws", "0", "-90"]
    assert run(command("mix-styles", weights, tmp_path / "mix", *more)) == 0
    names = {path.name for path in (tmp_path / "mix").iterdir()}
    assert names == {
        f"layer{layer:02d}_yaw{yaw}.png" for layer in (0, 6) for yaw in ("+000", "-090")
    }
    first, last = (
        read_image_bytes(tmp_path / f"mix/layer{layer:02d}_yaw+000.png") for layer in (0, 6)
    )
    assert first.shape == (3, 3 * 64 + 8, 4 * 64 + 12)
    # From layer 0 on everything is fine: rows equal the first one.
    assert torch.equal(first[:, 68:132, 68:], first[:, :64, 68:])
    assert not torch.equal(last[:, 68:132, 68:], last[:, :64, 68:])


@pytest.mark.parametrize("name", ["generate", "generate-video", "generate-mesh", "mix-styles"])
def test_a_dry_run_writes_nothing(
    weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    out = tmp_path / ("film.mp4" if name == "generate-video" else "out")
    assert run(command(name, weights, out, "--dry-run")) == 0
    text = capsys.readouterr().out
    assert text.startswith("would ")
    assert "dual_sphere generator of 64 pixels" in text
    assert not out.exists()


def test_a_run_gives_its_average_at_every_kept_step(trained_run: Path, tmp_path: Path) -> None:
    run_folder = RunFolder(trained_run)
    steps = run_folder.checkpoint_steps()
    assert steps == [2, 4]
    for step in steps:
        saved = open_saved(SPHERE_HEAD, SavedSource(trained_run, step))
        stored = run_folder.load_checkpoint(step).weights
        for name, tensor in saved.generator.state_dict().items():
            assert torch.equal(tensor, stored[f"average.{name}"])
        # The side of feature images that the schedule has reached.
        assert saved.generator.config.neural_size == {2: 14, 4: 12}[step]
        assert saved.origin["images_seen"] == 4 * step
    more = ["--seeds", "1", "--views", "front", "--step", "2"]
    assert run(command("generate", trained_run, tmp_path / "a", *more)) == 0
    packed = tmp_path / "packed.safetensors"
    convert = ["convert-checkpoint", str(trained_run), "--source", "generator_run"]
    assert run([*convert, "--iteration", "2", "--out", str(packed)]) == 0
    assert run(command("generate", packed, tmp_path / "b", *more[:-2])) == 0
    images = [read_image_bytes(tmp_path / folder / "seed0001.png") for folder in "ab"]
    assert torch.equal(*images)


def test_cameras_of_a_run_are_those_of_its_images(tmp_path: Path) -> None:
    source = SavedSource(write_tiny_run(tmp_path / "run"))
    assert open_saved(SPHERE_HEAD, source).rig == ViewRig()  # As before runs told.
    rig = mean_rig(torch.cat([ViewRig(2.0, 3.0).label(0.4), ViewRig(3.0, 4.0).label(1.0, 0.2)]))
    RunFolder(tmp_path / "run").update_card(rig=config_to_data(rig))
    found = open_saved(SPHERE_HEAD, source).rig
    assert found == rig
    assert_close(torch.tensor([found.distance, found.focal]), torch.tensor([2.5, 3.5]))
    RunFolder(tmp_path / "run").update_card(rig={"distance": -1.0})
    with pytest.raises(ValueError, match=r"card\.json: rig"):
        open_saved(SPHERE_HEAD, source)


def test_facts_of_a_run_that_are_of_another_kind_are_named(tmp_path: Path) -> None:
    source = SavedSource(write_tiny_run(tmp_path / "run"))
    run = RunFolder(tmp_path / "run")
    for name in ("versions", "hardware", "timings"):
        card = run.read_card()
        run.update_card(**{name: 3})
        with pytest.raises(ValueError, match=rf"card\.json: {name} must be an object, got 3"):
            open_saved(SPHERE_HEAD, source)
        run.update_card(**card)
    config = read_json(run.config_path)
    write_json(run.config_path, config | {"start": 1.5})
    with pytest.raises(ValueError, match=r"config\.json: start must be a path or null, got 1\.5"):
        open_saved(SPHERE_HEAD, source)


def test_seeds_are_numbers_and_ranges() -> None:
    assert parse_seeds("1,4-6, 9") == (1, 4, 5, 6, 9)
    assert parse_seeds("4-4") == (4,)


@pytest.mark.parametrize(
    "text", ["", "a", "1,,2", "3-", "6-4", "-1", "1.5", "4294967296", "0-2000000"]
)
def test_other_texts_are_no_seeds(text: str) -> None:
    with pytest.raises(ValueError, match="--seeds"):
        parse_seeds(text)


def test_found_styles_are_seen_filmed_and_carved(
    weights: Path, tmp_path: Path, refuses: Refuses
) -> None:
    source = HeadSampler(tiny_generator(), ViewRig(), SamplingSettings(truncation=1.0))
    person = source.people((7,))
    styles = tmp_path / "projected_w.npz"
    np.savez(styles, w=person.ws.numpy())
    more = ["--styles", str(styles), str(styles), "--seeds", "7", "--views", "front"]
    assert run(command("generate", weights, tmp_path / "out", *more, "--truncation", "1")) == 0
    names = ["seed0007.png", "styles0000.png", "styles0001.png"]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == names
    images = [read_image_bytes(tmp_path / "out" / name) for name in names]
    assert torch.equal(images[0], images[1])
    mesh = command("generate-mesh", weights, tmp_path / "mesh", "--styles", str(styles))
    assert run([*mesh, "--resolution", "16", "--level", "0"]) == 0
    assert [path.name for path in (tmp_path / "mesh").iterdir()] == ["styles0000.ply"]
    film = command("generate-video", weights, tmp_path / "film.mp4", "--styles", str(styles))
    assert run([*film, "--frames", "2"]) == 0
    np.savez(styles, w=person.ws[:, 1:].numpy())
    refuses(film, "must hold 6 styles of 8 numbers, as this generator has them, got 5 of 8")


def test_the_method_comes_first(refuses: Refuses) -> None:
    refuses(["generate", "--out", "x"], "the method comes first: vultus generate METHOD")
    refuses(["generate-mesh"], "the method comes first", "known: spherehead, gsheadrelight")
    known = "method must be one of spherehead, gsheadrelight, got 'surfhead'"
    refuses(["mix-styles", "surfhead"], known)


REFUSALS: dict[str, tuple[list[str], str]] = {
    "seeds": (["--seeds", "1-x"], "--seeds must be numbers and ranges such as 1,4-6, got '1-x'"),
    "truncation": (["--truncation", "3"], "truncation must be in [0, 2], got 3.0"),
    "odd": (["--neural-size", "33"], "neural_size must be an even number from 8 to 1024, got 33"),
    "cutoff": (["--cutoff", "99"], "--cutoff must be 0 to 6, got 99"),
    "count": (["--views", "orbit", "--count", "0"], "--count must be positive, got 0"),
    "step": (["--step", "3"], "--step needs a run folder"),
    "yaws": (["--yaws"], "--yaws must name at least one"),
    "infinite": (["--yaws", "0", "inf"], "--yaws must be finite, got (0.0, inf)"),
    "views": (["--yaws", "0", "--views", "strip"], "--views and --yaws must not be given together"),
    "outputs": (["--outputs"], "--outputs must name at least one"),
    "cameras": (["--cameras", "none.json"], "--cameras: none.json does not exist"),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_unfit_options_are_refused_before_anything_is_written(
    weights: Path, tmp_path: Path, refuses: Refuses, case: str
) -> None:
    more, message = REFUSALS[case]
    refuses(command("generate", weights, tmp_path / "out", *more), message)
    assert not (tmp_path / "out").exists()


def test_cameras_that_are_no_rotations_are_refused_by_name(
    weights: Path, tmp_path: Path, refuses: Refuses
) -> None:
    label = labels_at([0.5])[0].tolist()
    path = tmp_path / "dataset.json"
    for labels, message in (
        ([["a.png", [2.0 * label[0], *label[1:]]]], "a.png: camera_to_world must be"),
        ([["a.png", label[:24]]], "a.png must have 25 numbers, got 24"),
        ([], "must hold at least one label"),
    ):
        path.write_text(json.dumps({"labels": labels}))
        arguments = command("generate", weights, tmp_path / "out", "--cameras", str(path))
        refuses(arguments, "dataset.json", message)
    assert not (tmp_path / "out").exists()


def test_weights_that_are_none_are_refused(
    trained_run: Path, tmp_path: Path, refuses: Refuses
) -> None:
    out = tmp_path / "out"
    refuses(command("generate", tmp_path / "no", out), "no does not exist")
    refuses(command("generate", tmp_path, out), "holds no run: config.json is missing")
    refuses(command("generate", trained_run, out, "--step", "3"), "no checkpoint of step 3")
    pickle = tmp_path / "network.pkl"
    pickle.write_bytes(b"")
    refuses(command("generate", pickle, out), "is a pickle", "vultus convert-checkpoint")
    (tmp_path / "other").mkdir()
    config = json.loads((trained_run / "config.json").read_text())
    (tmp_path / "other/config.json").write_text(json.dumps({**config, "method": "surfhead"}))
    refuses(command("generate", tmp_path / "other", out), "method must be spherehead, got 'surfh")
    config["config"]["generator"]["w_dim"] = 16
    (tmp_path / "other/config.json").write_text(json.dumps(config))
    (tmp_path / "other/checkpoints").symlink_to(trained_run / "checkpoints")
    refuses(command("generate", tmp_path / "other", out), "average does not fit the configuration")
    offset = ["--camera-offset", "own"]
    refuses(command("generate", trained_run, out, *offset), "has learned no offset")
    assert not out.exists()


def test_places_that_cannot_be_written_are_refused(
    weights: Path, tmp_path: Path, refuses: Refuses
) -> None:
    (tmp_path / "file").write_text("")
    refuses(command("generate", weights, tmp_path / "file"), "--out", "must be a folder")
    refuses(command("generate-mesh", weights, tmp_path / "a/b"), "a does not exist")
    refuses(command("generate-video", weights, tmp_path / "film.avi"), "--out must end in .mp4")
    film = tmp_path / "film.mp4"
    refuses(
        command("generate-video", weights, film, "--seeds", "0-2", "--grid", "2", "1"),
        "people must be a multiple of the 2 tiles of the grid, got 3",
    )
    refuses(command("generate-video", weights, film, "--fps", "0"), "--fps must be positive")
    refuses(
        command("mix-styles", weights, tmp_path / "m", "--layers", "7"), "--layers must be 0 to 6"
    )
    refuses(command("mix-styles", weights, tmp_path / "m", "--fine", "x"), "--fine must be numbers")
    refuses(
        command("generate-mesh", weights, tmp_path / "m", "--resolution", "1"),
        "resolution must be 2 to 1024, got 1",
    )
    mesh = command("generate-mesh", weights, tmp_path / "m")
    refuses([*mesh, "--formats"], "--formats must name at least one")
    refuses(command("mix-styles", weights, tmp_path / "m", "--yaws"), "--layers and --yaws must")
    assert not film.exists()
    assert not (tmp_path / "m").exists()


def test_a_surface_that_is_not_there_names_the_person(
    weights: Path, tmp_path: Path, refuses: Refuses
) -> None:
    more = ["--resolution", "8", "--level", "1e6"]
    refuses(command("generate-mesh", weights, tmp_path / "m", *more), "seed0000: level must be a")
