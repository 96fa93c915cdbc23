from __future__ import annotations

import dataclasses

import pytest
import torch

from synthetic_flame import synthetic_flame
from triton_support import triton_device
from vultus.core.bundles import save_bundle
from vultus.heads import blendshapes, skinning
from vultus.heads.base import HeadModel, HeadPose, RiggedHead
from vultus.heads.flame import FLAME_ARRAYS, FLAME_FORMAT, FlameHead, pad_offsets, read_flame


@pytest.fixture(scope="module")
def data():
    return synthetic_flame()


@pytest.fixture(scope="module")
def head(data):
    return FlameHead(data)


def full_pose(head, batch=2, seed=0):
    generator = torch.Generator().manual_seed(seed)
    values = {
        spec.name: 0.3 * torch.randn(batch, spec.size, generator=generator)
        for spec in head.parameters_spec
    }
    values["static_offset"] = 0.01 * values["static_offset"].reshape(batch, -1, 3)
    return HeadPose(**values)


def test_teeth_come_behind_all_other_vertices_and_faces(data, head):
    assert isinstance(head, HeadModel)
    assert head.neutral.shape == (5143, 3)
    assert len(head.topology.faces) == len(data.faces) + 168
    assert torch.equal(head.neutral[:5023], data.template)
    teeth = head.topology.face_region("teeth")
    assert teeth.nonzero().flatten().tolist() == list(range(len(data.faces), len(teeth)))
    assert int(head.topology.uv_faces.max()) == len(head.topology.uv) - 1
    torch.testing.assert_close(head.skinning_weights.sum(dim=1), torch.ones(5143))


def test_zero_pose_is_the_canonical_mesh(head):
    pose = full_pose(head).replace(
        expression_coeffs=None, global_rotation=None, neck_pose=None, jaw_pose=None, eye_pose=None
    )
    torch.testing.assert_close(head.vertices(pose), head.canonical_vertices(pose))


def test_the_jaw_carries_the_lower_teeth_only(head):
    opened = head.vertices(HeadPose(jaw_pose=torch.tensor([[0.3, 0.0, 0.0]])))[0]
    # The pose correctives do not touch the teeth.
    moved = (opened - head.neutral)[5023:].norm(dim=1).reshape(8, 15).amax(dim=1) > 1e-5
    assert moved.tolist() == [False, True, False, True, False, False, True, True]


def test_rows_of_a_batch_do_not_mix(head):
    pose = full_pose(head)
    together = head.vertices(pose)
    apart = torch.cat([head.vertices(pose[i]) for i in range(2)])
    torch.testing.assert_close(together, apart)


def test_every_parameter_gets_a_gradient_as_finite_differences_give_it():
    head = FlameHead(synthetic_flame(num_vertices=300), teeth="none").double()
    pose = full_pose(head, batch=1).map(lambda t: t.double())
    names = [spec.name for spec in head.parameters_spec if spec.name != "static_offset"]
    values = [pose.tensors()[name].clone().requires_grad_() for name in names]

    def some_vertices(*tensors):
        return head.vertices(HeadPose(**dict(zip(names, tensors, strict=True))))[:, ::50]

    assert torch.autograd.gradcheck(some_vertices, values)


def test_a_subject_shaped_once_is_posed_as_one_that_is_shaped_each_time(head):
    pose = full_pose(head)
    assert isinstance(head, RiggedHead)
    static = {"identity_coeffs": None, "static_offset": None}
    posed = head.pose_subject(head.subject_rest(pose), pose.replace(**static))
    assert torch.equal(posed, head.vertices(pose))
    joints = head.joint_regressor @ (head.vertices(HeadPose(expression_coeffs=torch.ones(1, 4))))
    moved = head.subject_rest(HeadPose()).joints + head.joint_expression_basis.sum(dim=0)
    torch.testing.assert_close(moved, joints, atol=1e-5, rtol=1e-5)


@pytest.mark.triton
def test_the_kernels_pose_the_head_as_pytorch_does(monkeypatch):
    device = triton_device()
    exact_head = FlameHead(synthetic_flame(num_vertices=300), teeth="none").double()
    exact = full_pose(exact_head).map(lambda t: t.double().requires_grad_())
    expected = exact_head.vertices(exact)
    monkeypatch.setattr(skinning, "are_for_kernels", lambda *tensors: True)
    monkeypatch.setattr(blendshapes, "_is_fused", lambda *tensors: True)
    head = FlameHead(synthetic_flame(num_vertices=300), teeth="none").to(device)
    pose = exact.map(lambda t: t.detach().float().to(device).requires_grad_())
    posed = head.vertices(pose)
    torch.testing.assert_close(posed.cpu().double(), expected, atol=1e-5, rtol=1e-5)
    weights = torch.rand_like(expected)
    (expected * weights).sum().backward()
    (posed * weights.to(posed)).sum().backward()
    for name, value in exact.tensors().items():
        found, wanted = pose.tensors()[name].grad, value.grad
        assert found is not None
        assert wanted is not None
        assert (found.cpu().double() - wanted).abs().max() < 1e-5 * wanted.abs().max(), name


def test_offsets_without_teeth_are_padded_with_zeros():
    padded = pad_offsets(torch.ones(1, 5023, 3), 5143)
    assert padded.shape == (1, 5143, 3)
    assert padded[:, 5023:].abs().sum() == 0
    with pytest.raises(ValueError, match="at most 4 vertices, got 5"):
        pad_offsets(torch.ones(1, 5, 3), 4)


def test_a_wrong_parameter_size_names_file_field_and_sizes(data):
    head = FlameHead(dataclasses.replace(data, source="model.safetensors"))
    message = r"^model.safetensors: identity_coeffs must have size 5 per frame, got 300$"
    with pytest.raises(ValueError, match=message):
        head.vertices(HeadPose(identity_coeffs=torch.zeros(1, 300)))
    with pytest.raises(ValueError, match="identity_basis must have at least 6 shapes, got 5"):
        FlameHead(data, num_identity=6)


def test_a_file_gives_the_same_head(tmp_path, data, head):
    tensors = {name: getattr(data, name) for name in FLAME_ARRAYS}
    tensors |= {f"masks.{name}": ids for name, ids in data.masks.items()}
    path = tmp_path / "flame.safetensors"
    save_bundle(path, tensors, {"format": FLAME_FORMAT, "version": "synthetic"})
    loaded = FlameHead.from_file(path, **head.options)
    pose = full_pose(head)
    assert torch.equal(loaded.vertices(pose), head.vertices(pose))


def test_absent_and_foreign_files_are_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="no converted FLAME model"):
        read_flame(tmp_path / "none.safetensors")
    path = tmp_path / "other.safetensors"
    save_bundle(path, {"x": torch.zeros(1)}, {"format": "other"})
    with pytest.raises(ValueError, match="format must be vultus-flame-1, got other"):
        read_flame(path)
