"""OpenEXR files: values exact in their precision, damage refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from vultus.core.exr_io import read_exr, read_exr_channels, write_exr, write_exr_channels


def _radiance(seed: int = 0) -> Tensor:
    return torch.randn(3, 9, 14, generator=torch.Generator().manual_seed(seed)) * 10


def test_half_files_hold_the_nearest_half_floats(tmp_path: Path) -> None:
    write_exr(tmp_path / "a.exr", _radiance())
    assert torch.equal(read_exr(tmp_path / "a.exr"), _radiance().half().float())


def test_float_files_are_exact_also_for_infinity_and_not_a_number(tmp_path: Path) -> None:
    radiance = _radiance()
    radiance[0, 0, :3] = torch.tensor([float("inf"), float("nan"), 1e30])
    write_exr(tmp_path / "a.exr", radiance, half=False)
    read = read_exr(tmp_path / "a.exr")
    torch.testing.assert_close(read, radiance, rtol=0, atol=0, equal_nan=True)


def test_channels_are_not_swapped(tmp_path: Path) -> None:
    radiance = torch.tensor([1.0, 2.0, 3.0])[:, None, None].expand(3, 2, 5)
    write_exr(tmp_path / "a.exr", radiance)
    assert torch.equal(read_exr(tmp_path / "a.exr"), radiance)


def test_named_channels_come_back_under_their_names(tmp_path: Path) -> None:
    channels = {"depth.Z": _radiance()[0], "normal.X": _radiance()[1]}
    write_exr_channels(tmp_path / "a.exr", channels, half=False)
    read = read_exr_channels(tmp_path / "a.exr")
    assert set(read) == set(channels)
    assert all(torch.equal(read[name], channels[name]) for name in channels)
    with pytest.raises(ValueError, match=r"a\.exr: channel R is missing; it has .*depth\.Z"):
        read_exr(tmp_path / "a.exr")


def test_a_lone_luminance_is_repeated(tmp_path: Path) -> None:
    write_exr_channels(tmp_path / "a.exr", {"Y": _radiance()[0]}, half=False)
    assert torch.equal(read_exr(tmp_path / "a.exr"), _radiance()[:1].expand(3, -1, -1))


def test_light_that_half_floats_cannot_hold_is_refused(tmp_path: Path) -> None:
    radiance = _radiance()
    radiance[1, 2, 3] = 7e4
    with pytest.raises(ValueError, match=r"a\.exr: channel G reaches 70000, beyond the largest"):
        write_exr(tmp_path / "a.exr", radiance)
    assert list(tmp_path.iterdir()) == []


def test_garbage_and_truncations_are_refused_with_the_file_name(tmp_path: Path) -> None:
    write_exr(tmp_path / "whole.exr", _radiance())
    data = (tmp_path / "whole.exr").read_bytes()
    generator = np.random.default_rng(0)
    contents = [b"", b"\x76\x2f\x31\x01", generator.bytes(2000), data[:4] + generator.bytes(500)]
    contents += [data[:length] for length in range(0, len(data) - 1, 17)]
    cut = tmp_path / "cut.exr"
    for content in contents:
        cut.write_bytes(content)
        with pytest.raises(ValueError, match=r"cut\.exr: not a readable EXR file") as caught:
            read_exr(cut)
        assert "\n" not in str(caught.value)


def test_the_published_map_equals_its_array_copy(data_dir: Path) -> None:
    folder = data_dir / "envmaps"
    radiance = read_exr(folder / "kloppenheim_06_256x128.exr")
    array = np.load(folder / "kloppenheim_06_256x128.npz")["rgb"]
    assert np.array_equal(radiance.permute(1, 2, 0).numpy(), array.astype(np.float32))
