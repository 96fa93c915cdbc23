"""Files of torch.save are read as torch reads them, and refused where they are not data."""

from __future__ import annotations

import collections
import io
import os
import pickle
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch._utils import _rebuild_tensor_v2

from vultus.core.bundles import load_bundle
from vultus.core.safe_pickle import PickledObject
from vultus.core.torch_pickle import load_state_dict_file, load_torch_file

_DTYPES = [
    torch.float32,
    torch.float16,
    torch.bfloat16,
    torch.float64,
    torch.int64,
    torch.int32,
    torch.int16,
    torch.int8,
    torch.uint8,
    torch.bool,
    torch.complex64,
]


def _save(path: Path, value: Any, is_zip: bool) -> None:
    torch.save(value, path, _use_new_zipfile_serialization=is_zip)


def _checkpoint() -> Any:
    base = torch.arange(24.0).reshape(4, 6)
    model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4))
    optimizer = torch.optim.Adam(model.parameters())
    model(torch.rand(5, 3)).sum().backward()
    optimizer.step()
    return {
        "dtypes": [torch.ones(2, 3).to(dtype) for dtype in _DTYPES],
        "views": (base, base.T, base[1:, ::2], base[0, 3], base[:, :0]),
        "expanded": torch.ones(1).expand(5, 2),
        "parameter": torch.nn.Parameter(torch.rand(3)),
        "state": model.state_dict(),
        "optimizer": optimizer.state_dict(),
        "size": torch.Size([1, 2]),
        "array": np.arange(3.0),
        "step": 7,
    }


def _assert_equal(read: Any, value: Any) -> None:
    if isinstance(value, torch.Tensor):
        assert read.dtype == value.dtype
        assert torch.equal(read, value.detach())
    elif isinstance(value, dict):
        assert list(read) == list(value)
        for key in value:
            _assert_equal(read[key], value[key])
    elif isinstance(value, (list, tuple)):
        assert len(read) == len(value)
        for a, b in zip(read, value, strict=True):
            _assert_equal(a, b)
    else:
        assert np.array_equal(read, value)


@pytest.mark.parametrize("is_zip", [True, False])
def test_checkpoints_come_back_equal(is_zip: bool, tmp_path: Path) -> None:
    value = _checkpoint()
    _save(tmp_path / "a.pth", value, is_zip)
    read = load_torch_file(tmp_path / "a.pth")
    _assert_equal(read, value)
    assert (
        read["views"][0].untyped_storage().data_ptr()
        == read["views"][1].untyped_storage().data_ptr()
    )
    assert not read["parameter"].requires_grad


@pytest.mark.parametrize("protocol", [2, 4])
def test_tensors_inside_a_plain_pickle_are_read(protocol: int, tmp_path: Path) -> None:
    value = _checkpoint()
    (tmp_path / "a.pkl").write_bytes(pickle.dumps(value, protocol))
    _assert_equal(load_torch_file(tmp_path / "a.pkl"), value)


class _Network(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.arange(3.0))


def test_modules_come_back_as_descriptions_when_declared_inert(tmp_path: Path) -> None:
    torch.save(_Network(), tmp_path / "a.pth")
    name = f"{_Network.__module__}._Network"
    with pytest.raises(
        ValueError, match=r"a\.pth: not a readable pickle: .*_Network' is not allowed"
    ):
        load_torch_file(tmp_path / "a.pth")
    read = load_torch_file(tmp_path / "a.pth", inert=[name])
    assert isinstance(read, PickledObject)
    assert torch.equal(read.state["_parameters"]["weight"], torch.arange(3.0))


class _Hostile:
    def __init__(self, marker: Path) -> None:
        self._marker = marker

    def __reduce__(self) -> Any:
        return os.system, (f"touch {self._marker}",)


@pytest.mark.parametrize("is_zip", [True, False])
def test_hostile_checkpoints_are_refused_and_nothing_runs(is_zip: bool, tmp_path: Path) -> None:
    marker = tmp_path / "ran"
    _save(tmp_path / "a.pth", {"w": torch.ones(2), "x": [_Hostile(marker)]}, is_zip)
    with pytest.raises(ValueError, match=r"a\.pth: not a readable .*system' is not allowed"):
        load_torch_file(tmp_path / "a.pth")
    assert not marker.exists()


def test_a_storage_that_hides_a_hostile_pickle_is_refused(tmp_path: Path) -> None:
    marker = tmp_path / "ran"
    inner = io.BytesIO()
    torch.save(_Hostile(marker), inner, _use_new_zipfile_serialization=False)

    class Embedded:
        def __reduce__(self) -> Any:
            return torch.storage._load_from_bytes, (inner.getvalue(),)

    (tmp_path / "a.pkl").write_bytes(pickle.dumps(Embedded()))
    with pytest.raises(ValueError, match=r"a\.pkl: .*system' is not allowed"):
        load_torch_file(tmp_path / "a.pkl")
    assert not marker.exists()


@pytest.mark.parametrize(
    ("offset", "size", "stride"),
    [(0, (5,), (1,)), (4, (1,), (1,)), (0, (2, 2), (3, 1)), (-1, (2,), (1,)), (0, (2,), (-1,))],
)
def test_tensors_that_reach_beyond_their_storage_are_refused(
    offset: int, size: tuple[int, ...], stride: tuple[int, ...], tmp_path: Path
) -> None:
    storage = torch.arange(4.0).untyped_storage()

    class Tensor:
        def __reduce__(self) -> Any:
            typed = torch.storage.TypedStorage(
                wrap_storage=storage, dtype=torch.float32, _internal=True
            )
            arguments = (typed, offset, size, stride, False, collections.OrderedDict())
            return _rebuild_tensor_v2, arguments

    torch.save({"t": Tensor()}, tmp_path / "a.pth")
    with pytest.raises(ValueError, match=r"a\.pth: not a readable pickle: .*(storage|stride)"):
        load_torch_file(tmp_path / "a.pth")


@pytest.mark.parametrize("is_zip", [True, False])
def test_truncations_are_refused_with_the_file_name(is_zip: bool, tmp_path: Path) -> None:
    _save(tmp_path / "whole.pth", {"w": torch.arange(50.0), "b": torch.ones(3)}, is_zip)
    data = (tmp_path / "whole.pth").read_bytes()
    cut = tmp_path / "cut.pth"
    for length in range(0, len(data) - 1, 5):
        cut.write_bytes(data[:length])
        with pytest.raises(ValueError, match=r"cut\.pth: not a ") as caught:
            load_torch_file(cut)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("is_zip", [True, False])
def test_damaged_files_are_read_or_refused_but_nothing_else(is_zip: bool, tmp_path: Path) -> None:
    path = tmp_path / "a.pth"
    _save(path, {"w": torch.arange(20.0), "b": torch.ones(3).long()}, is_zip)
    data = path.read_bytes()
    generator = np.random.default_rng(0)
    for _ in range(150):
        copy = bytearray(data)
        for position in generator.integers(0, len(data), 3):
            copy[position] = generator.integers(0, 256)
        path.write_bytes(copy)
        try:
            load_torch_file(path)
        except ValueError as error:
            message = str(error)
            assert message.startswith(str(path))


def test_archives_that_torch_does_not_write_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.pth"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a/data.pkl", pickle.dumps({}))
    with pytest.raises(ValueError, match=r"a\.pth: .*compressed members"):
        load_torch_file(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a/data.pkl", pickle.dumps({}))
        archive.writestr("a/code/x.py", "")
    with pytest.raises(ValueError, match=r"a\.pth is a TorchScript program"):
        load_torch_file(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a/data.pkl", pickle.dumps({}))
        archive.writestr("a/byteorder", "big")
    with pytest.raises(ValueError, match=r"a\.pth was written on a big-endian machine"):
        load_torch_file(path)


def test_a_state_dict_is_checked_to_be_one(tmp_path: Path) -> None:
    torch.save({"model": {"w": torch.ones(2)}, "step": 3}, tmp_path / "a.pth")
    assert torch.equal(load_state_dict_file(tmp_path / "a.pth", "model")["w"], torch.ones(2))
    with pytest.raises(ValueError, match=r"a\.pth: 'model' must be a tensor, got dict"):
        load_state_dict_file(tmp_path / "a.pth")
    with pytest.raises(ValueError, match=r"a\.pth: 'generator' is missing"):
        load_state_dict_file(tmp_path / "a.pth", "generator")
    with pytest.raises(FileNotFoundError, match=r"b\.pth does not exist"):
        load_state_dict_file(tmp_path / "b.pth")


def test_official_state_dicts_are_read_as_torch_reads_them(golden_dir: Path) -> None:
    folder = golden_dir / "gaussianhead" / "official_ckpt"
    if not folder.is_dir():
        pytest.skip(f"{folder} is not there; it is not among the small fixtures")
    paths = sorted(folder.rglob("*.pth"))
    assert len(paths) == 3
    for path in paths:
        expected = torch.load(path, weights_only=True)
        _assert_equal(load_state_dict_file(path), dict(expected))


# What a pickle of an official generator names besides tensors and containers.
_PERSISTENT = "torch_utils.persistence._reconstruct_persistent_obj"
_OFFICIAL_NAMES = (
    _PERSISTENT,
    "dnnlib.util.EasyDict",
    "torch.nn.modules.container.Sequential",
    "torch.nn.modules.activation.Softplus",
    "training.volumetric_rendering.ray_sampler.RaySampler",
)


def _collect_tensors(module: PickledObject, prefix: str, found: dict[str, torch.Tensor]) -> None:
    state = module.arguments[0]["state"] if module.name == _PERSISTENT else module.state
    tensors = dict(state.get("_parameters", {})) | dict(state.get("_buffers", {}))
    found.update({prefix + name: tensor for name, tensor in tensors.items() if tensor is not None})
    for name, child in state.get("_modules", {}).items():
        _collect_tensors(child, f"{prefix}{name}.", found)


def test_an_official_generator_pickle_is_read_without_its_code(golden_dir: Path) -> None:
    folder = golden_dir / "spherehead"
    read = load_torch_file(folder / "h_checkpoint_layout.pkl", inert=_OFFICIAL_NAMES)
    found: dict[str, torch.Tensor] = {}
    for key in ("G", "D"):
        _collect_tensors(read[key], f"{key}.", found)
    expected = load_bundle(folder / "h_checkpoint_layout.expected.safetensors").tensors
    assert set(found) == set(expected)
    _assert_equal({name: found[name] for name in expected}, expected)
