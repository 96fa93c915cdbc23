"""Assets are checked before they are stored, and a missing one says how to get it."""

from __future__ import annotations

import hashlib
import io
import pickle
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.sparse
import torch

from tiny_onnx import write_mean_color_model
from vultus.core import asset_registry
from vultus.core.asset_registry import (
    ASSETS,
    assets_path,
    find_asset,
    has_asset,
    import_asset,
    list_assets,
)


@pytest.fixture(autouse=True)
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("VULTUS_ASSETS", str(tmp_path / "store"))
    return tmp_path / "store"


def _flame() -> dict[str, Any]:
    return {
        "v_template": np.zeros((5023, 3)),
        "shapedirs": np.zeros((5023, 3, 400), np.float16),
        "posedirs": np.zeros((5023, 3, 36), np.float16),
        "J_regressor": scipy.sparse.csc_matrix((5, 5023)),
        "weights": np.zeros((5023, 5)),
        "f": np.zeros((9976, 3), np.uint32),
        "kintree_table": np.zeros((2, 5), np.int64),
    }


def _masks() -> dict[str, Any]:
    regions = ("face", "neck", "scalp", "boundary", "left_eyeball", "right_eyeball")
    return {name: np.array([0, 5022]) for name in regions}


def _pickle(value: Any) -> Callable[[Path], object]:
    return lambda path: path.write_bytes(pickle.dumps(value, 2))


def _weights(*names: str) -> Callable[[Path], object]:
    return lambda path: torch.save({name: torch.ones(1) for name in names}, path)


def _arrays(*names: str) -> Callable[[Path], object]:
    arrays: dict[str, Any] = {name: np.ones(2) for name in names}
    return lambda path: np.savez(path, **arrays)


def _single_array() -> bytes:
    stream = io.BytesIO()
    np.save(stream, np.ones(2))
    return stream.getvalue()


_OBJ = "v 0 0 0\n" * 5023 + "vt 0 0\n" * 3 + "f 1/1 2/2 3/3\n" * 9976

_GOOD: dict[str, Callable[[Path], object]] = {
    "flame2020": _pickle(_flame()),
    "flame2023": _pickle(_flame()),
    "flame_masks": _pickle(_masks()),
    "flame_uv": lambda path: path.write_text(_OBJ),
    "ict_full": _arrays("neutral", "faces", "uv", "expression_q", "identity_q"),
    "ict_light": _arrays("neutral", "faces", "uv", "expression", "identity"),
    "lpips_alex": _weights("lin0.model.1.weight", "lin4.model.1.weight"),
    "lpips_vgg": _weights("lin0.model.1.weight", "lin4.model.1.weight"),
    "alexnet": _weights("features.0.weight", "features.10.weight"),
    "vgg16": _weights("features.0.weight", "features.28.weight"),
    "inception": _weights("Conv2d_1a_3x3.conv.weight", "fc.weight"),
    "face_recognition": write_mean_color_model,
}


@pytest.fixture
def any_digest(monkeypatch: pytest.MonkeyPatch) -> None:
    """Accept stand-ins for files whose real digest is known."""
    relaxed = {name: replace(spec, sha256=None) for name, spec in ASSETS.items()}
    monkeypatch.setattr(asset_registry, "ASSETS", relaxed)


@pytest.mark.parametrize("name", list(ASSETS))
@pytest.mark.usefixtures("any_digest")
def test_a_readable_file_is_stored_unchanged_under_its_published_name(
    name: str, tmp_path: Path, store: Path
) -> None:
    source = tmp_path / ASSETS[name].file_name
    _GOOD[name](source)
    source.chmod(0o444)
    stored = import_asset(name, source)
    assert stored == find_asset(name) == store / name / ASSETS[name].file_name
    assert stored.read_bytes() == source.read_bytes()
    assert [path.name for path in stored.parent.iterdir()] == [stored.name]
    import_asset(name, source)  # again, in its place


@pytest.mark.parametrize("name", list(ASSETS))
@pytest.mark.usefixtures("any_digest")
def test_garbage_and_truncated_files_are_refused_and_not_stored(name: str, tmp_path: Path) -> None:
    whole, source = tmp_path / ASSETS[name].file_name, tmp_path / f"cut{ASSETS[name].file_name}"
    _GOOD[name](whole)
    data = whole.read_bytes()
    for content in (b"", b"\xff\xfegarbage\n" * 50, data[: len(data) // 2]):
        source.write_bytes(content)
        with pytest.raises(ValueError, match=source.name) as caught:
            import_asset(name, source)
        assert "\n" not in str(caught.value)
        assert not has_asset(name)


@pytest.mark.parametrize("name", list(ASSETS))
def test_a_missing_asset_says_what_it_enables_and_how_to_get_it(name: str) -> None:
    spec = ASSETS[name]
    with pytest.raises(FileNotFoundError) as caught:
        find_asset(name)
    message = str(caught.value)
    for part in (name, spec.enables, spec.published, f"vultus assets import {name} FILE"):
        assert part in message
    assert "\n" not in message


def test_a_hostile_model_is_refused_and_nothing_runs(tmp_path: Path) -> None:
    class Hostile:
        def __reduce__(self) -> Any:
            return Path.touch, (tmp_path / "ran",)

    _pickle(_flame() | {"f": Hostile()})(tmp_path / "a.pkl")
    with pytest.raises(ValueError, match="is not allowed"):
        import_asset("flame2020", tmp_path / "a.pkl")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("name", "write", "reason"),
    [
        ("flame2020", _pickle([1]), "must hold a dictionary, got list"),
        ("flame2020", _pickle({"v_template": np.zeros((5023, 3))}), "'shapedirs' is missing"),
        ("flame2020", _pickle({"v_template": np.zeros((6890, 3))}), r"got \(6890, 3\)"),
        ("flame_masks", _pickle({"face": np.array([5023])}), "'face' must list vertices"),
        ("flame_masks", _pickle({"face": np.array([0.5])}), "'face' must list vertices"),
        ("flame_masks", _pickle({"face": np.array([1])}), "'neck' is missing"),
        ("flame_uv", lambda p: p.write_text("v 0 0 0\n"), "must have 5023 lines 'v', got 1"),
        ("flame_uv", lambda p: p.write_text("f 1 2 3\n"), "no texture corner"),
        ("ict_full", _arrays("neutral"), "array 'faces' is missing"),
        ("ict_full", lambda p: p.write_bytes(_single_array()), "it holds a single array"),
        ("inception", _weights("fc.weight"), "tensor 'Conv2d_1a_3x3.conv.weight' is missing"),
        ("vgg16", _weights("features.0.weight"), "SHA-256 must start with 397923af"),
        ("face_recognition", lambda p: p.write_bytes(b"\x08\x08"), "it has no graph"),
        ("face_recognition", lambda p: p.write_bytes(b"\x3a\x00"), "it has no version"),
        ("face_recognition", lambda p: p.write_bytes(b"\x08" + b"\xff" * 20), "no number ends"),
    ],
)
def test_a_file_of_another_kind_is_refused_with_the_reason(
    name: str, write: Callable[[Path], object], reason: str, tmp_path: Path
) -> None:
    suffix = Path(ASSETS[name].file_name).suffix
    write(tmp_path / f"a{suffix}")
    with pytest.raises(ValueError, match=rf"a\{suffix}: .*{reason}"):
        import_asset(name, tmp_path / f"a{suffix}")


def test_a_file_with_the_published_digest_is_accepted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _GOOD["vgg16"](tmp_path / "a.pth")
    digest = hashlib.sha256((tmp_path / "a.pth").read_bytes()).hexdigest()
    monkeypatch.setitem(ASSETS, "vgg16", replace(ASSETS["vgg16"], sha256=digest[:8]))
    assert import_asset("vgg16", tmp_path / "a.pth").is_file()


def test_the_list_tells_which_assets_are_here(tmp_path: Path) -> None:
    assert all(status.path is None for status in list_assets())
    _GOOD["ict_light"](tmp_path / "a.npz")
    import_asset("ict_light", tmp_path / "a.npz")
    assert [status.spec.name for status in list_assets() if status.path] == ["ict_light"]


def test_an_unknown_name_lists_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="unknown asset 'flame'; known: flame2020, flame2023"):
        find_asset("flame")
    with pytest.raises(FileNotFoundError, match="nowhere does not exist"):
        import_asset("flame2020", tmp_path / "nowhere")


def test_without_a_choice_the_store_lies_in_the_platforms_place(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("VULTUS_ASSETS")
    monkeypatch.setenv("XDG_DATA_HOME", "/data/home")
    monkeypatch.setattr("sys.platform", "linux")
    assert assets_path() == Path("/data/home/vultus/assets")
    monkeypatch.delenv("XDG_DATA_HOME")
    assert assets_path() == Path.home() / ".local" / "share" / "vultus" / "assets"


def test_the_packed_heads_are_accepted(data_dir: Path) -> None:
    for name in ("ict_light", "ict_full"):
        assert import_asset(name, data_dir / "ict_face" / ASSETS[name].file_name).is_file()
