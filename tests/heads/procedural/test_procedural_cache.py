"""The disk cache of built arrays."""

from __future__ import annotations

import logging
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from vultus.heads.procedural.basis import _build_basis
from vultus.heads.procedural.cache import cache_directory, cached_arrays


@pytest.fixture
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("VULTUS_CACHE", str(tmp_path))
    return tmp_path


def _example() -> dict[str, np.ndarray]:
    return {"a": np.arange(12.0).reshape(3, 4)[:, ::2], "b": np.array([1, 2, 3])}


def _never() -> dict[str, np.ndarray]:
    raise AssertionError("the cache should have been used")


def _cached_file(directory: Path) -> Path:
    (path,) = directory.rglob("*.safetensors")
    return path


def test_the_directory_is_chosen_by_the_environment(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert cache_directory() == directory
    monkeypatch.delenv("VULTUS_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", "/somewhere")
    assert cache_directory() == Path("/somewhere/vultus")


def test_loaded_arrays_equal_built_ones(directory: Path) -> None:
    built = cached_arrays("example", _example, 1)
    loaded = cached_arrays("example", _never, 1)
    assert loaded.keys() == built.keys()
    for name, value in built.items():
        assert loaded[name].dtype == value.dtype
        np.testing.assert_array_equal(loaded[name], value)


def test_other_details_build_again(directory: Path) -> None:
    cached_arrays("example", _example, 1)
    with pytest.raises(AssertionError, match="should have been used"):
        cached_arrays("example", _never, 2)


@pytest.mark.parametrize("damage", ["truncated", "flipped", "garbage"])
def test_damaged_files_are_rebuilt(
    directory: Path, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    cached_arrays("example", _example)
    path = _cached_file(directory)
    data = bytearray(path.read_bytes())
    if damage == "truncated":
        data = data[:-5]
    elif damage == "flipped":
        data[-3] ^= 1
    else:
        data = bytearray(b"not a tensor file")
    path.write_bytes(data)
    with caplog.at_level(logging.WARNING):
        arrays = cached_arrays("example", _example)
    assert "rebuilding" in caplog.text
    np.testing.assert_array_equal(arrays["a"], _example()["a"])
    np.testing.assert_array_equal(cached_arrays("example", _never)["a"], _example()["a"])


def test_an_unwritable_cache_is_reported_and_not_needed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("in the way")
    monkeypatch.setenv("VULTUS_CACHE", str(blocked))
    with caplog.at_level(logging.WARNING):
        arrays = cached_arrays("example", _example)
    assert "cannot cache" in caplog.text
    np.testing.assert_array_equal(arrays["b"], [1, 2, 3])


def test_concurrent_writers_see_whole_files(directory: Path) -> None:
    expected = np.arange(200_000.0)

    def write_and_read(_: int) -> bool:
        arrays = cached_arrays("race", lambda: {"a": expected})
        return bool((arrays["a"] == expected).all())

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(write_and_read, range(16)))
    assert [path.suffix for path in directory.rglob("*") if path.is_file()] == [".safetensors"]


def test_the_cached_basis_equals_a_fresh_one(directory: Path) -> None:
    fresh = _build_basis()
    cached_arrays("basis", lambda: fresh)
    loaded = cached_arrays("basis", _never)
    for name, value in fresh.items():
        assert loaded[name].tobytes() == value.tobytes(), name
