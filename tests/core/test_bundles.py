"""Bundles keep tensors exactly, and every error names file and key."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from vultus.core import bundles
from vultus.core.bundles import Bundle, load_bundle, save_bundle


def test_tensors_and_metadata_come_back_exactly(tmp_path: Path) -> None:
    tensors = {
        "f": torch.tensor([0.1, float("nan"), float("inf"), -0.0]),
        "h": torch.rand(2, 3).half(),
        "b": torch.rand(4).bfloat16(),
        "i": torch.tensor([[2**62, -1]]),
        "bool": torch.tensor([True, False]),
        "scalar": torch.tensor(2.5, dtype=torch.float64),
        "empty": torch.zeros(0, 3),
    }
    metadata = {"version": 2, "names": ["a", "ä"], "nested": {"x": None, "y": 0.1}}
    save_bundle(tmp_path / "a.safetensors", tensors, metadata)
    read = load_bundle(tmp_path / "a.safetensors")
    assert read.metadata == metadata
    assert set(read.tensors) == set(tensors)
    for key, tensor in tensors.items():
        assert read.tensors[key].dtype == tensor.dtype
        torch.testing.assert_close(read.tensors[key], tensor, rtol=0, atol=0, equal_nan=True)


def test_views_tied_weights_and_parameters_can_be_saved(tmp_path: Path) -> None:
    base = torch.arange(12.0).reshape(3, 4)
    tensors = {
        "base": base,
        "tied": base,
        "transposed": base.T,
        "row": base[1],
        "expanded": torch.ones(1).expand(5),
        "parameter": torch.nn.Parameter(torch.ones(2)),
    }
    save_bundle(tmp_path / "a.safetensors", tensors)
    read = load_bundle(tmp_path / "a.safetensors").tensors
    assert all(torch.equal(read[key], tensor) for key, tensor in tensors.items())


def test_files_of_other_programs_are_read_with_their_own_metadata(tmp_path: Path) -> None:
    save_file({"w": torch.ones(2)}, tmp_path / "a.safetensors", {"format": "pt"})
    assert load_bundle(tmp_path / "a.safetensors").metadata == {"format": "pt"}


def test_what_cannot_be_saved_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    with pytest.raises(ValueError, match=r"a\.safetensors: 's' must be a dense tensor"):
        save_bundle(path, {"s": torch.eye(2).to_sparse()})
    with pytest.raises(ValueError, match=r"a\.safetensors: metadata are not expressible as JSON"):
        save_bundle(path, {}, {"x": object()})
    assert list(tmp_path.iterdir()) == []


def test_every_truncation_is_refused_with_the_file_name(tmp_path: Path) -> None:
    save_bundle(tmp_path / "whole.safetensors", {"w": torch.arange(5.0)}, {"a": 1})
    data = (tmp_path / "whole.safetensors").read_bytes()
    cut = tmp_path / "cut.safetensors"
    for length in range(len(data)):
        cut.write_bytes(data[:length])
        with pytest.raises(ValueError, match=r"cut\.safetensors: not a complete safetensors file"):
            load_bundle(cut)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", ":1: not JSON"),
        ("{", ":1: not JSON"),
        ("[" * 100_000, ": not JSON: nested too deeply"),
        ('{"a": ' + "9" * 400 + "}", ": whole numbers must fit 64 bits"),
        ("[1]", " must be an object, got list"),
        ("NaN", " must be an object, got float"),
    ],
)
def test_foreign_metadata_under_our_key_are_refused(text: str, reason: str, tmp_path: Path) -> None:
    save_file({"w": torch.ones(2)}, tmp_path / "a.safetensors", {"vultus": text})
    with pytest.raises(ValueError, match=rf"a\.safetensors: the metadata{reason}") as caught:
        load_bundle(tmp_path / "a.safetensors")
    assert "\n" not in str(caught.value)


def test_a_header_whose_texts_have_line_breaks_is_refused_in_one_line(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    header = b'{"w": {"dtype": "a\\nb", "shape": [1], "data_offsets": [0, 4]}}'
    path.write_bytes(len(header).to_bytes(8, "little") + header + bytes(4))
    with pytest.raises(ValueError, match=r"a\.safetensors: not a complete safet") as caught:
        load_bundle(path)
    assert "\n" not in str(caught.value)


def test_a_gpu_without_memory_is_not_called_a_damaged_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise torch.OutOfMemoryError("no memory is left")

    save_bundle(tmp_path / "a.safetensors", {"x": torch.zeros(1)}, {})
    monkeypatch.setattr(bundles, "safe_open", refuse)
    with pytest.raises(torch.OutOfMemoryError):
        load_bundle(tmp_path / "a.safetensors")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"a\.safetensors does not exist"):
        load_bundle(tmp_path / "a.safetensors")


def test_a_tensor_is_checked_when_it_is_taken() -> None:
    bundle = Bundle(Path("a.safetensors"), {"w": torch.ones(2, 3)}, {})
    assert bundle.tensor("w", (None, 3)) is bundle.tensors["w"]
    with pytest.raises(ValueError, match=r"a\.safetensors: tensor 'v' is missing"):
        bundle.tensor("v")
    for shape in ((2,), (3, None), (2, 3, 1)):
        with pytest.raises(ValueError, match=r"'w' must have shape .* got \(2, 3\)"):
            bundle.tensor("w", shape)


def test_files_may_be_read_by_those_who_may_read_any_new_file(tmp_path: Path) -> None:
    plain = tmp_path / "plain"
    plain.touch()
    save_bundle(tmp_path / "b.safetensors", {"x": torch.zeros(1)})
    assert (tmp_path / "b.safetensors").stat().st_mode == plain.stat().st_mode


def test_shapes_beyond_64_bits_are_refused_in_one_line(tmp_path: Path) -> None:
    header = b'{"a":{"dtype":"F32","shape":[9223372036854775808,0],"data_offsets":[0,0]}}'
    path = tmp_path / "a.safetensors"
    path.write_bytes(len(header).to_bytes(8, "little") + header)
    with pytest.raises(ValueError, match=r"a\.safetensors: not a complete safetensors") as caught:
        load_bundle(path)
    assert "\n" not in str(caught.value)
