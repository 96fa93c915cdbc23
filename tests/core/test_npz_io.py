"""Arrays in files of others."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from vultus.core.npz_io import read_npz_array


def test_an_array_is_found_by_its_name(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", w=np.arange(3), other=np.zeros(2))
    assert read_npz_array(tmp_path / "a.npz", "w").tolist() == [0, 1, 2]


def test_what_is_no_such_file_is_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    with pytest.raises(FileNotFoundError, match=r"a\.npz does not exist"):
        read_npz_array(path, "w")
    with path.open("wb") as file:
        np.save(file, np.zeros(9))
    refusal = r"a\.npz must be an \.npz file with an array w: "
    with pytest.raises(ValueError, match=refusal + "it holds a single array"):
        read_npz_array(path, "w")
    np.savez(path, other=np.zeros(2))
    with pytest.raises(ValueError, match=refusal):
        read_npz_array(path, "w")
    np.savez(path, w=np.array([{}], dtype=object))
    with pytest.raises(ValueError, match=refusal):
        read_npz_array(path, "w")
    for data in (b"", b"text", path.read_bytes()[:40]):
        path.write_bytes(data)
        with pytest.raises(ValueError, match=refusal):
            read_npz_array(path, "w")
