"""Wrong input to the commands: one line that names file and field, exit code 2, nothing written."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from vultus.core.image_io import write_image

Refuses = Callable[..., str]


class Hostile:
    """Makes a file when it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return (open, (str(self.marker), "w"))


def edit_json(path: Path, change: Callable[[Any], None]) -> None:
    data = json.loads(path.read_text())
    change(data)
    path.write_text(json.dumps(data))


def edit_rig(path: Path, **changes: np.ndarray) -> None:
    with np.load(path) as file:
        arrays = dict(file)
    np.savez(path, allow_pickle=False, **{**arrays, **changes})


def _missing_frame(root: Path) -> None:
    (root / "images" / "00001_00.png").unlink()


def _mask_of_another_size(root: Path) -> None:
    write_image(root / "fg_masks" / "00001_00.png", torch.ones(1, 40, 39))


def _mask_of_another_size_in_a_held_out_frame(root: Path) -> None:
    write_image(root / "fg_masks" / "00004_00.png", torch.ones(1, 40, 39))


def _camera_that_is_not_rigid(root: Path) -> None:
    def stretch(data: Any) -> None:
        data["frames"][2]["transform_matrix"][1][1] += 0.5

    edit_json(root / "transforms_train.json", stretch)


def _not_a_number_in_the_rig(root: Path) -> None:
    edit_rig(root / "rig_param" / "00002.npz", jaw_pose=np.array([[0, np.nan, 0]], np.float32))


def _rig_of_another_size(root: Path) -> None:
    edit_rig(root / "rig_param" / "00002.npz", expression_coeffs=np.zeros((1, 50), np.float32))


def _no_training_frame(root: Path) -> None:
    edit_json(root / "transforms_train.json", lambda data: data.update(frames=[]))


def _identity_of_another_head(root: Path) -> None:
    edit_json(root / "rig.json", lambda data: data["identity"].pop())


def _unknown_head(root: Path) -> None:
    edit_json(root / "rig.json", lambda data: data.update(name="cactus"))


DAMAGES: list[tuple[Callable[[Path], None], str]] = [
    (_missing_frame, "00001_00.png does not exist"),
    (_mask_of_another_size, "00001_00.png: must have the camera's size 40 x 40, got 39 x 40"),
    (_mask_of_another_size_in_a_held_out_frame, "00004_00.png: must have the camera's size"),
    (_camera_that_is_not_rigid, "transforms_train.json: frames[2].transform_matrix must be rigid"),
    (_not_a_number_in_the_rig, "00002.npz: jaw_pose must be finite"),
    (_rig_of_another_size, "00002.npz: expression_coeffs must have size"),
    (_no_training_frame, "transforms_train.json: split 'train' is empty"),
    (_identity_of_another_head, "identity_coeffs must have size"),
    (_unknown_head, "cactus"),
]


@pytest.mark.parametrize(("damage", "message"), DAMAGES)
def test_training_refuses_a_damaged_capture_before_it_writes(
    own_capture: Path,
    tmp_path: Path,
    refuses: Refuses,
    damage: Callable[[Path], None],
    message: str,
) -> None:
    damage(own_capture)
    out = tmp_path / "run"
    refuses(["train", "surfhead", "--data", str(own_capture), "--out", str(out)], message)
    assert not out.exists()


def test_hostile_files_of_a_capture_are_not_run(
    own_capture: Path, tmp_path: Path, refuses: Refuses
) -> None:
    marker = tmp_path / "was_here"
    path = own_capture / "rig_param" / "00002.npz"
    np.savez(path, allow_pickle=True, jaw_pose=np.array([Hostile(marker)], object))
    arguments = ["train", "surfhead", "--data", str(own_capture), "--out", str(tmp_path / "run")]
    refuses(arguments, "00002.npz: not a readable .npz file")
    assert not marker.exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            ["--protocol", "best"],
            "--protocol must be one of demo-v1, held-out-v1",
        ),
        (["--protocol", "demo-v1"], "demo-v1 measures 256 x 256 images"),
        (["--preset", "best"], "--preset must be one of paper, "),
        (["--format", "nerf"], "format must be auto, gaussian_avatars"),
        (["--options", "light", "noon"], "option 'light' is not known"),
        (["--options", "background", "black"], "surfhead-v1 measures over the background"),
        (["--steps", "0"], "steps must be at least 1, got 0"),
    ],
)
def test_training_refuses_wrong_choices_before_it_writes(
    capture: Path, tmp_path: Path, refuses: Refuses, options: list[str], message: str
) -> None:
    out = tmp_path / "run"
    refuses(["train", "surfhead", "--data", str(capture), "--out", str(out), *options], message)
    assert not out.exists()


def test_unknown_names_list_the_known_ones(refuses: Refuses, tmp_path: Path) -> None:
    refuses(
        ["train", "surfhed", "--data", "x"],
        "method must be one of surfhead, gaussianhead",
    )
    refuses(["assets", "where", "flame1999"], "unknown asset 'flame1999'; known: ")
    (tmp_path / "file").write_bytes(b"")
    refuses(["assets", "import", "flame1999", str(tmp_path / "file")], "unknown asset 'flame1999'")
    missing = str(tmp_path / "nowhere")
    refuses(["train", "surfhead", "--data", missing, "--out", missing], "nowhere: no such folder")


def test_a_hostile_model_is_not_run_when_it_is_imported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refuses: Refuses
) -> None:
    monkeypatch.setenv("VULTUS_ASSETS", str(tmp_path / "store"))
    marker, model = tmp_path / "was_here", tmp_path / "generic_model.pkl"
    model.write_bytes(pickle.dumps({"v_template": Hostile(marker)}))
    refuses(["assets", "import", "flame2023", str(model)], "generic_model.pkl")
    assert not marker.exists()
    assert not list((tmp_path / "store").rglob("*.pkl"))


def test_a_run_of_other_settings_is_left_alone(
    trained: Path, capture: Path, refuses: Refuses, files_of: Callable[[Path], Any]
) -> None:
    before = files_of(trained)
    command = ["train", "surfhead", "--data", str(capture), "--out", str(trained)]
    same = ["--preset", "demo", "--checkpoint-every", "4", "--log-every", "2"]
    refuses([*command, *same, "--steps", "9"], "other settings (config.steps: 6 there, 9 here)")
    refuses([*command, *same, "--steps", "6", "--seed", "5"], "(seed: 0 there, 5 here)")
    refuses([*command, *same, "--steps", "6", "--no-resume"], "already holds a run")
    assert files_of(trained) == before


@pytest.mark.parametrize("command", ["evaluate", "render", "mesh", "export"])
def test_a_folder_without_a_run_is_named(command: str, tmp_path: Path, refuses: Refuses) -> None:
    refuses([command, "--run", str(tmp_path)], f"{tmp_path} holds no run: config.json is missing")
    assert list(tmp_path.iterdir()) == []


def _no_checkpoint(run: Path) -> None:
    for path in (run / "checkpoints").glob("step_*/state.json"):
        path.unlink()


def _truncated_checkpoint(run: Path) -> None:
    path = run / "checkpoints" / "step_6" / "weights.safetensors"
    path.write_bytes(path.read_bytes()[:5000])


def _checkpoint_state_of_another_kind(run: Path) -> None:
    (run / "checkpoints" / "step_6" / "state.json").write_text("[]")


def _config_cut_short(run: Path) -> None:
    path = run / "config.json"
    path.write_text(path.read_text()[:100])


def _config_of_an_unknown_method(run: Path) -> None:
    edit_json(run / "config.json", lambda data: data.update(method="surfhed"))


def _config_with_a_list_for_the_method(run: Path) -> None:
    edit_json(run / "config.json", lambda data: data.update(method=["surfhead"]))


def _config_without_a_seed(run: Path) -> None:
    edit_json(run / "config.json", lambda data: data.pop("seed"))


def _config_with_a_text_for_a_number(run: Path) -> None:
    edit_json(run / "config.json", lambda data: data["config"]["model"].update(sh_degree="two"))


RUN_DAMAGES: list[tuple[Callable[[Path], None], tuple[str, ...]]] = [
    (_no_checkpoint, ("checkpoints: no checkpoint; complete steps: none",)),
    (_truncated_checkpoint, ("step_6/weights.safetensors",)),
    (_checkpoint_state_of_another_kind, ("step_6/state.json must hold step and data",)),
    (_config_cut_short, ("config.json:", "not JSON")),
    (_config_of_an_unknown_method, ("config.json: method must be one of surfhead", "'surfhed'")),
    (_config_with_a_list_for_the_method, ("config.json: method must be one of surfhead",)),
    (_config_without_a_seed, ("config.json: config.seed is missing",)),
    (_config_with_a_text_for_a_number, ("config.json: config.config.model.sh_degree must be int",)),
]


@pytest.mark.parametrize(("damage", "parts"), RUN_DAMAGES)
def test_a_damaged_run_is_refused_and_nothing_is_written(
    own_run: Path,
    refuses: Refuses,
    files_of: Callable[[Path], Any],
    damage: Callable[[Path], None],
    parts: tuple[str, ...],
) -> None:
    damage(own_run)
    before = files_of(own_run)
    refuses(["render", "--run", str(own_run), "--frames", "2"], *parts)
    assert files_of(own_run) == before


def test_weights_that_are_a_hostile_pickle_are_not_run(
    own_run: Path, tmp_path: Path, refuses: Refuses
) -> None:
    marker = tmp_path / "was_here"
    weights = own_run / "checkpoints" / "step_6" / "weights.safetensors"
    weights.write_bytes(pickle.dumps(Hostile(marker)))
    refuses(["export", "--run", str(own_run)], "step_6/weights.safetensors")
    assert not marker.exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["render", "--timestep", "5"], "--timestep must be 0 to 4, got 5"),
        (["render", "--timestep", "-1"], "--timestep must be 0 to 4, got -1"),
        (["render", "--frames", "0"], "a camera path needs at least 1 frame, got 0"),
        (["render", "--out", "film.avi"], "--out must end in .mp4, got film.avi"),
        (["render", "--out", "nowhere/film.mp4"], "--out: the folder nowhere does not exist"),
        (["render", "--fps", "0"], "fps must be positive"),
        (["render", "--size", "0", "8"], "width and height must be positive"),
        (["render", "--views", "truth"], "--views truth needs --path dataset, got turntable"),
        (["reenact", "--track", "talking", "--views", "mask"], "--views mask needs images"),
        (["mesh", "--views", "-1"], "--views must not be negative, got -1"),
        (["mesh", "--random-views", "-2"], "--random-views must not be negative, got -2"),
        (["mesh", "--voxel-size", "0"], "voxel_size must be positive, got 0.0"),
        (["mesh", "--out", "mesh.stl"], "--out must end in .ply, .obj, .glb, got mesh.stl"),
        (["mesh", "--out", "nowhere/mesh.ply"], "--out: the folder nowhere does not exist"),
        (["mesh", "--timestep", "5"], "--timestep must be 0 to 4, got 5"),
        (["mesh", "--resolution", "1"], "resolution must be at least 2"),
        (["export", "--out", "avatar.txt"], "--out must end in .ply, got avatar.txt"),
        (["export", "--timestep", "5"], "--timestep must be 0 to 4, got 5"),
        (["reenact", "--track", "talkin"], "talkin: no ARKit sequence here"),
        (["reenact", "--track", "talking", "--camera", "7"], "--camera must be one of 0, 1, 2"),
        (["reenact", "--track", "talking", "--frames", "0"], "frames must be positive, got 0"),
        (["evaluate", "--protocol", "best"], "--protocol must be one of demo-v1, held-out-v1"),
        (["evaluate", "--protocol", "demo-v1"], "demo-v1 measures 256 x 256 images"),
    ],
    ids=lambda value: "_".join(value) if isinstance(value, list) else "",
)
def test_wrong_options_after_training_are_refused(
    trained: Path,
    refuses: Refuses,
    files_of: Callable[[Path], Any],
    arguments: list[str],
    message: str,
) -> None:
    before = files_of(trained)
    command, *options = arguments
    refuses([command, "--run", str(trained), *options], message)
    assert files_of(trained) == before
