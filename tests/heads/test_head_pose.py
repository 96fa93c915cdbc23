"""Poses as batches of frames."""

from __future__ import annotations

import pytest
import torch

from triton_support import triton_device
from vultus.heads import base
from vultus.heads.base import HeadPose

INDICES = {
    "number": 3,
    "last": -1,
    "slice": slice(1, 4, 2),
    "numbers": torch.tensor([4, 0, 4]),
    "from-the-end": torch.tensor([-2, 1]),
    "mask": torch.tensor([True, False, False, True, True]),
}


def track() -> HeadPose:
    generator = torch.Generator().manual_seed(0)
    return HeadPose(
        identity_coeffs=torch.randn(1, 4, generator=generator),
        expression_coeffs=torch.randn(5, 7, generator=generator).requires_grad_(),
        jaw_pose=torch.randn(5, 3, generator=generator).requires_grad_(),
        static_offset=torch.randn(5, 6, 3, generator=generator),
    )


@pytest.mark.parametrize("kind", INDICES)
def test_selected_frames_are_rows_of_the_fields_and_shared_fields_stay(kind):
    pose, index = track(), INDICES[kind]
    selected = pose[index]
    rows = [index] if isinstance(index, int) else index
    assert selected.identity_coeffs is pose.identity_coeffs
    for name in ("expression_coeffs", "jaw_pose", "static_offset"):
        assert torch.equal(getattr(selected, name), getattr(pose, name)[rows]), name
    assert selected.neck_pose is None


def test_frames_of_a_single_pose_are_all_its_fields():
    pose = HeadPose(jaw_pose=torch.ones(1, 3), translation=torch.zeros(1, 3))
    twice = pose[torch.tensor([0, 0])]
    assert {name: rows.tolist() for name, rows in twice.tensors().items()} == {
        "jaw_pose": [[1.0, 1.0, 1.0]] * 2,
        "translation": [[0.0, 0.0, 0.0]] * 2,
    }
    assert len(pose[torch.tensor([False])]) == 0


@pytest.mark.triton
@pytest.mark.parametrize("kind", ["numbers", "from-the-end"])
def test_the_kernel_selects_the_same_frames_and_passes_the_same_gradients(kind, monkeypatch):
    device = triton_device()
    poses = [track().map(lambda t: t.detach().to(device).requires_grad_()) for _ in range(2)]
    index = INDICES[kind].to(device)
    found = poses[0].map(lambda t: t.requires_grad_())
    with monkeypatch.context() as patch:
        patch.setattr(base, "_is_fused", lambda index, fields: True)
        selected = found[index]
    with monkeypatch.context() as patch:
        patch.setattr(base, "_is_fused", lambda index, fields: False)
        expected = poses[1][index]
    for name, value in expected.tensors().items():
        actual = getattr(selected, name)
        assert torch.equal(actual, value), name
        if name == "identity_coeffs":
            continue
        weights = torch.rand_like(value)
        (actual * weights).sum().backward(retain_graph=True)
        (value * weights).sum().backward(retain_graph=True)
        torch.testing.assert_close(getattr(poses[0], name).grad, getattr(poses[1], name).grad)
