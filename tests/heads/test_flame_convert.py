from __future__ import annotations

import pickle
import re

import numpy as np
import pytest
import torch

from synthetic_flame import write_published_flame
from vultus.heads.flame import FlameHead, read_flame
from vultus.heads.flame_convert import convert_flame, read_obj_uv

NUM_VERTICES, NUM_FACES = 5023, 9976


class Hostile:
    """What a pickle from a stranger may contain: a call of any function."""

    def __reduce__(self):
        return (print, ("this must never be printed",))


@pytest.fixture
def download(tmp_path):
    """The three published files of a made-up model, and the dictionary behind the first."""
    files = ("model.pkl", "masks.pkl", "template.obj")
    return tmp_path, write_published_flame(*(tmp_path / name for name in files))


def convert(folder):
    paths = (folder / "model.pkl", folder / "masks.pkl", folder / "template.obj")
    convert_flame(*paths, folder / "flame.safetensors", "2020")


def rewrite(folder, model, **changes):
    (folder / "model.pkl").write_bytes(pickle.dumps({**model, **changes}, protocol=2))


def test_the_converted_file_holds_the_published_numbers(download):
    folder, model = download
    convert(folder)
    data = read_flame(folder / "flame.safetensors")
    assert data.version == "2020"
    np.testing.assert_allclose(data.template.numpy(), model["v_template"], atol=1e-7)
    shapes = torch.cat([data.identity_basis, data.expression_basis]).permute(1, 2, 0)
    np.testing.assert_array_equal(shapes.numpy(), model["shapedirs"])
    np.testing.assert_allclose(
        data.joint_regressor.numpy(), model["J_regressor"].toarray(), atol=1e-7
    )
    np.testing.assert_array_equal(data.faces.numpy(), model["f"])
    assert data.uv_faces[0].tolist() == [0, 1, 2]
    head = FlameHead.from_file(folder / "flame.safetensors")
    sizes = {spec.name: spec.size for spec in head.parameters_spec}
    assert (sizes["identity_coeffs"], sizes["expression_coeffs"]) == (100, 50)


def test_a_pickle_that_calls_functions_is_refused_unrun(download, capsys):
    folder, model = download
    rewrite(folder, model, extra=Hostile())
    with pytest.raises(ValueError, match=r"model.pkl: .*print.* is not allowed"):
        convert(folder)
    assert capsys.readouterr().out == ""
    assert not (folder / "flame.safetensors").exists()


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("v_template", np.zeros((10, 3)), "v_template must have shape (5023, 3), got (10, 3)"),
        ("weights", np.zeros((NUM_VERTICES, 5)), "rows of weights must sum to 1, off by 1"),
        ("f", np.full((NUM_FACES, 3), 6000), "f must lie in [0, 5023), got 6000 to 6000"),
        ("posedirs", "text", "posedirs must be an array of numbers, got str"),
        (
            "kintree_table",
            np.zeros((2, 5), dtype=np.int64),
            "parents must be (0, 1, 1, 1), got (0, 0, 0, 0)",
        ),
    ],
)
def test_wrong_arrays_are_named_with_file_field_and_rule(download, field, value, message):
    folder, model = download
    rewrite(folder, model, **{field: value})
    with pytest.raises(ValueError, match=re.escape(message)):
        convert(folder)


def test_an_obj_of_another_mesh_is_refused(download):
    folder, _ = download
    (folder / "template.obj").write_text("vt 0 0\nf 1/1 2/1 3/1\n")
    with pytest.raises(ValueError, match=r"faces must equal those of model\.pkl"):
        convert(folder)
    (folder / "template.obj").write_text("vt 0 0\nf 1/1 2/1 3/1 4/1\n")
    with pytest.raises(ValueError, match=r"template.obj:2: faces must be triangles"):
        read_obj_uv(folder / "template.obj")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("vt 0 x\n", ":1: vt must be two numbers, got 'vt 0 x'"),
        ("vt 0 nan\n", ":1: vt must be two numbers"),
        ("vt 0\n", ":1: vt must be two numbers"),
        ("vt 0 0\nf 1/1 2/1 3/1/x\n", ":2: faces must be triangles v/vt"),
        ("vt 0 0\nf 1/1 2/1 0/1\n", ":2: faces must be triangles v/vt"),
        ("vt 0 0\nf 1/1 2/1 3/2\n", ": faces need 2 vt, got 1"),
    ],
)
def test_wrong_lines_of_an_obj_are_named(tmp_path, text, message):
    path = tmp_path / "template.obj"
    path.write_text(text)
    with pytest.raises(ValueError, match=re.escape(f"template.obj{message}")):
        read_obj_uv(path)


def test_numbers_and_normals_of_an_obj_are_read(tmp_path):
    (tmp_path / "a.obj").write_text("vt .5 -1e-3 0\nvt 1 2.\nf 3/1/1 2/2/1 1/1/2\n")
    uv, faces, uv_faces = read_obj_uv(tmp_path / "a.obj")
    torch.testing.assert_close(uv, torch.tensor([[0.5, -1e-3], [1.0, 2.0]]))
    assert faces.tolist() == [[2, 1, 0]]
    assert uv_faces.tolist() == [[0, 1, 0]]


def test_missing_files_masks_and_fields_are_named(download):
    folder, model = download
    (folder / "masks.pkl").write_bytes(pickle.dumps({"face": np.arange(3)}))
    with pytest.raises(ValueError, match=r"masks.pkl: FLAME masks must contain 'neck'"):
        convert(folder)
    (folder / "masks.pkl").unlink()
    with pytest.raises(FileNotFoundError, match=r"masks\.pkl"):
        convert(folder)
    (folder / "masks.pkl").write_bytes(pickle.dumps([1]))
    del model["weights"]
    rewrite(folder, model)
    with pytest.raises(ValueError, match="field 'weights' is missing"):
        convert(folder)
